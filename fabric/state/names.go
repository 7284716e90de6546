package state

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// Names is the path of the file with the addresses that peers' DNS names had last.
func (d Dir) Names() string { return filepath.Join(string(d), "names.json") }

// SaveNames writes the addresses of names, as lasting as Save.
func (d Dir) SaveNames(last map[string][]netip.Addr) error {
	b, err := encode(last)
	if err == nil {
		err = d.write(d.Names(), b)
	}
	if err != nil {
		return fmt.Errorf("write the addresses of peers' names to %s: %w", d.Names(), explain(err))
	}
	return syncDir(string(d))
}

// LoadNames reads them; none if there is no file.
func (d Dir) LoadNames() (last map[string][]netip.Addr, err error) {
	b, err := os.ReadFile(d.Names())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = decode(b, &last)
	}
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", d.Names(), err)
	}
	return last, nil
}
