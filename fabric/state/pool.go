package state

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Pool is one pool of addresses that this host gives out (package ipam).
type Pool struct {
	ID      string         `json:"id"`
	Key     string         `json:"key,omitempty"`    // the network's key in the cluster; "": this host's own
	Global  bool           `json:"global,omitempty"` // Docker asked for it in the address space of networks that span hosts
	Swarm   bool           `json:"swarm,omitempty"`  // the leading manager of Docker's Swarm asked for it: the addresses are those of all nodes
	Subnet  netip.Prefix   `json:"subnet"`           //
	Range   netip.Prefix   `json:"range,omitzero"`   // the part of it that this host gives out; zero: see Blocks
	Gateway netip.Addr     `json:"gateway,omitzero"` // never given to a container
	Blocks  []netip.Prefix `json:"blocks,omitempty"` // what the cluster has given to this host, in that order; single addresses too
	Used    []netip.Addr   `json:"used,omitempty"`   // in ascending order
	Freed   []netip.Addr   `json:"freed,omitempty"`  // given back, the oldest first
}

// Pools is the path of the directory that holds the pools' files.
func (d Dir) Pools() string { return filepath.Join(string(d), "pools") }

// pool is the path of a pool's file: an id has characters that a file's name may not have.
func (d Dir) pool(id string) string {
	return filepath.Join(d.Pools(), strings.NewReplacer("/", "_", ":", "-").Replace(id)+".json")
}

// SavePool writes a pool, as lasting as Save.
func (d Dir) SavePool(p Pool) error {
	b, err := encode(p)
	if err == nil {
		err = os.MkdirAll(d.Pools(), 0o700)
	}
	if err == nil {
		err = d.write(d.pool(p.ID), b)
	}
	if err != nil {
		return fmt.Errorf("write the pool %s to %s: %w", p.Subnet, d.Pools(), explain(err))
	}
	return syncDir(d.Pools())
}

// RemovePool removes a pool. One that is not there is fine.
func (d Dir) RemovePool(id string) error {
	if err := os.Remove(d.pool(id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("remove the pool's file %s: %w", d.pool(id), explain(err))
	}
	return syncDir(d.Pools())
}

// LoadPools reads every pool, as strictly as Load.
func (d Dir) LoadPools() ([]Pool, error) {
	names, err := os.ReadDir(d.Pools())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the directory of pools: %w", err)
	}
	var pools []Pool
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(d.Pools(), e.Name())
		var p Pool
		b, err := os.ReadFile(path)
		if err == nil {
			err = decode(b, &p)
		}
		if err == nil && d.pool(p.ID) != path {
			err = fmt.Errorf("it is the record of pool %q", p.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("state file %s: %w; it was left as it is: fix it, or move it away to go on without this pool", path, err)
		}
		pools = append(pools, p)
	}
	return pools, nil
}
