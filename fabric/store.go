package fabric

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// store is the state directory: one JSON file a network, readable with cat, written whole.
//
//	DIR/networks/ID.json  {"version": 1, "sum": "sha256 of record", "record": {…}}
//	DIR/swarm.json        the same, of what Docker has told of its Swarm
type store struct{ dir string }

const stateVersion = 1

// record is one network with all that has to come back after a crash.
type record struct {
	Network   Network          `json:"network"`
	Peers     []netip.AddrPort `json:"peers"` // in force; null: the daemon's
	Endpoints []endpointRecord `json:"endpoints"`
}

type endpointRecord struct {
	Endpoint
	MTU     int    `json:"mtu"`
	Sandbox string `json:"sandbox,omitempty"`

	Groups []netip.Prefix `json:"groups,omitempty"` // routes that Join gave the container, where they cannot be seen
}

type stateFile struct {
	Version int             `json:"version"`
	Sum     string          `json:"sum"` // hex SHA-256 of record without white space
	Record  json.RawMessage `json:"record"`
}

func (s store) networks() string      { return filepath.Join(s.dir, "networks") }
func (s store) swarm() string         { return filepath.Join(s.dir, "swarm.json") }
func (s store) path(id string) string { return filepath.Join(s.networks(), id+".json") }

// save writes a network's record; when it returns, the record outlives a power cut.
func (s store) save(r record) error {
	b, err := encode(r)
	if err != nil {
		return fmt.Errorf("write state of network %s: %w", r.Network.ID, err)
	}
	if err := renameio.WriteFile(s.path(r.Network.ID), b, 0o600, renameio.WithTempDir(s.networks())); err != nil {
		return fmt.Errorf("write the state of network %s to %s: %w", short(r.Network.ID), s.networks(), explain(err))
	}
	return syncDir(s.networks())
}

// saveSwarm writes what Docker has told of its Swarm, as save does.
func (s store) saveSwarm(w swarm) error {
	b, err := encode(w)
	if err == nil {
		err = renameio.WriteFile(s.swarm(), b, 0o600, renameio.WithTempDir(s.networks()))
	}
	if err != nil {
		return fmt.Errorf("write what is known of the Swarm to %s: %w", s.swarm(), explain(err))
	}
	return syncDir(s.dir)
}

// loadSwarm reads that; nothing if there is no file.
func (s store) loadSwarm() (w swarm, err error) {
	b, err := os.ReadFile(s.swarm())
	if errors.Is(err, fs.ErrNotExist) {
		return swarm{}, nil
	}
	if err == nil {
		err = decode(b, &w)
	}
	if err != nil {
		return swarm{}, fmt.Errorf("state file %s: %w", s.swarm(), err)
	}
	for id, p := range w.Parked {
		p.Record.Network.Swarm = OfSwarm(id)
		w.Parked[id] = p
	}
	return w, nil
}

// explain says what to do about an error of the disk's, with the kernel's own word behind it.
func explain(err error) error {
	for errno, text := range map[syscall.Errno]string{
		syscall.ENOSPC: "no room is left there: make some (df -h, df -i), or move the directory and name it with --state-dir",
		syscall.EDQUOT: "the quota there is used up: raise it, or move the directory and name it with --state-dir",
		syscall.EROFS:  "the file system is read-only there: mount -o remount,rw, after a look at dmesg for why",
		syscall.EACCES: "this process may not write there: see the directory's owner and mode, ReadWritePaths= and StateDirectory= of a systemd unit, SELinux and AppArmor",
		syscall.EPERM:  "this process may not change what is there: see lsattr, SELinux and AppArmor",
		syscall.ENOENT: "the directory is gone: start tapestry again, which makes it",
		syscall.EIO:    "the disk fails: see dmesg",
		syscall.EMFILE: "this process has as many files open as it may: raise ulimit -n, in a systemd unit LimitNOFILE=",
		syscall.ENFILE: "this host has as many files open as it may: raise sysctl fs.file-max",
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%s (%w)", text, errno)
		}
	}
	return err
}

// prepare makes the directory, and removes what a crash left of unfinished files.
func (s store) prepare() error {
	if err := os.MkdirAll(s.networks(), 0o700); err != nil {
		return fmt.Errorf("make the state directory %s: %w", s.networks(), explain(err))
	}
	unfinished, err := filepath.Glob(filepath.Join(s.networks(), ".*.json*"))
	if err != nil {
		return fmt.Errorf("look for unfinished state files: %w", err)
	}
	for _, path := range unfinished {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the unfinished state file %s: %w", path, explain(err))
		}
	}
	return errors.Join(syncDir(s.networks()), syncDir(s.dir))
}

func (s store) remove(id string) error {
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the state file %s: %w", s.path(id), explain(err))
	}
	return syncDir(s.networks())
}

// syncDir makes renames and removals lasting: fsync(2) of a file does not cover its directory's entry.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the state directory %s: %w", path, explain(err))
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write the state directory %s to the disk: %w", path, explain(err))
	}
	return nil
}

// load reads every record. Any that is torn, changed or from a newer tapestry is an error that names
// its file; nothing is written or removed.
func (s store) load() ([]record, error) {
	names, err := os.ReadDir(s.networks())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state directory: %w", err)
	}
	var records []record
	for _, e := range names {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(id, ".") {
			continue // renameio's unfinished file: the one it would have replaced is whole
		}
		path := s.path(id)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read state file: %w", err)
		}
		r, err := decodeRecord(b)
		r.Network.Swarm = OfSwarm(r.Network.ID)
		if err == nil && r.Network.ID != id {
			err = fmt.Errorf("it is the record of network %q", r.Network.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("state file %s: %w; it was left as it is: mend it, or move it away to go on without this network", path, err)
		}
		records = append(records, r)
	}
	return records, nil
}

func encode(record any) ([]byte, error) {
	body, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(stateFile{stateVersion, sum(body), body}, "", "  ")
	return append(b, '\n'), err
}

func decodeRecord(b []byte) (r record, err error) { return r, decode(b, &r) }

// decode reads a state file's record.
func decode(b []byte, record any) error {
	var f stateFile
	if err := json.Unmarshal(b, &f); err != nil { // not strictly: a newer version may have more
		return fmt.Errorf("not whole: %w", err)
	}
	if f.Version != stateVersion {
		return fmt.Errorf("it is of version %d and this tapestry reads version %d, so %w", f.Version, stateVersion, ErrVersion)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, f.Record); err != nil {
		return fmt.Errorf("its record: %w", err)
	}
	if got := sum(body.Bytes()); got != f.Sum {
		return fmt.Errorf("its content has changed since it was written (sha256 %.12s…, noted %.12s…)", got, f.Sum)
	}
	return strictly(f.Record, record)
}

// strictly reads one JSON value with known fields only, and nothing after it.
func strictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("not whole: %w", err)
	}
	if d.More() {
		return errors.New("not whole: something follows its end")
	}
	return nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
