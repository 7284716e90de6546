// Package state is what tapestry keeps on the disk: a record of each network, and what Docker has told of its Swarm.
//
//	DIR/networks/ID.json  {"version": 1, "sum": "sha256 of record", "record": {…}}
//	DIR/swarm.json        the same, with a Swarm as its record
//
// Each file is readable with cat and written as a whole: to a temporary file, fsync, rename, fsync of the directory. So after
// a crash or a power cut a file has either its old or its new content, and one that reads as neither was changed by somebody
// else: it is an error that names the file, and the file stays as it is. The package holds nothing in memory, takes no lock,
// and decides nothing about networks: that is fabric.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// Dir is the path of a state directory. Its methods must not run at the same time, but for Check.
type Dir string

// Networks is the path of the directory that holds the networks' files.
func (d Dir) Networks() string { return filepath.Join(string(d), "networks") }

// Network is the path of a network's file.
func (d Dir) Network(id string) string { return filepath.Join(d.Networks(), id+".json") }

// Swarm is the path of the Swarm's file.
func (d Dir) Swarm() string { return filepath.Join(string(d), "swarm.json") }

// Prepare makes the directory, and removes the unfinished files that a crash left.
func (d Dir) Prepare() error {
	if err := os.MkdirAll(d.Networks(), 0o700); err != nil {
		return fmt.Errorf("make the state directory %s: %w", d.Networks(), explain(err))
	}
	unfinished, err := filepath.Glob(filepath.Join(d.Networks(), ".*.json*"))
	if err != nil {
		return fmt.Errorf("look for unfinished state files: %w", err)
	}
	for _, path := range unfinished {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the unfinished state file %s: %w", path, explain(err))
		}
	}
	return errors.Join(syncDir(d.Networks()), syncDir(string(d)))
}

// Save writes a network's record; when it returns, the record outlives a power cut.
func (d Dir) Save(r Record) error {
	b, err := encode(r)
	if err != nil {
		return fmt.Errorf("write state of network %s: %w", r.Network.ID, err)
	}
	if err := d.write(d.Network(r.Network.ID), b); err != nil {
		return fmt.Errorf("write the state of network %.12s to %s: %w", r.Network.ID, d.Networks(), explain(err))
	}
	return syncDir(d.Networks())
}

// SaveSwarm writes what Docker has told of its Swarm, as lasting as Save.
func (d Dir) SaveSwarm(w Swarm) error {
	b, err := encode(w)
	if err == nil {
		err = d.write(d.Swarm(), b)
	}
	if err != nil {
		return fmt.Errorf("write what is known of the Swarm to %s: %w", d.Swarm(), explain(err))
	}
	return syncDir(string(d))
}

// write replaces a file; its temporary file is one that Prepare finds.
func (d Dir) write(path string, b []byte) error {
	return renameio.WriteFile(path, b, 0o600, renameio.WithTempDir(d.Networks()))
}

// Remove removes a network's record. One that is not there is fine.
func (d Dir) Remove(id string) error {
	if err := os.Remove(d.Network(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the state file %s: %w", d.Network(id), explain(err))
	}
	return syncDir(d.Networks())
}

// SetSwarmAside renames a Swarm's file that cannot be read, so that a new one can be written and this one is not lost.
func (d Dir) SetSwarmAside() error {
	if err := os.Rename(d.Swarm(), d.Swarm()+".damaged"); err != nil {
		return fmt.Errorf("put %s aside: %w", d.Swarm(), explain(err))
	}
	return nil
}

// Load reads the record of every network. A file that is truncated, changed or of another version of tapestry is an error
// that names it. It writes and removes nothing.
func (d Dir) Load() ([]Record, error) {
	names, err := os.ReadDir(d.Networks())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state directory: %w", err)
	}
	var records []Record
	for _, e := range names {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(id, ".") {
			continue // renameio's unfinished file: the one it would have replaced is intact
		}
		path := d.Network(id)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read state file: %w", err)
		}
		r, err := decodeRecord(b)
		r.Network.Swarm = IsSwarmID(r.Network.ID)
		if err == nil && r.Network.ID != id {
			err = fmt.Errorf("it is the record of network %q", r.Network.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("state file %s: %w; it was left as it is: fix it, or move it away to go on without this network", path, err)
		}
		records = append(records, r)
	}
	return records, nil
}

// LoadSwarm reads what Docker has told of its Swarm; the zero Swarm if there is no file.
func (d Dir) LoadSwarm() (w Swarm, err error) {
	b, err := os.ReadFile(d.Swarm())
	if errors.Is(err, fs.ErrNotExist) {
		return Swarm{}, nil
	}
	if err == nil {
		err = decode(b, &w)
	}
	if err != nil {
		return Swarm{}, fmt.Errorf("state file %s: %w", d.Swarm(), err)
	}
	for id, p := range w.Parked {
		p.Record.Network.Swarm = IsSwarmID(id)
		w.Parked[id] = p
	}
	return w, nil
}

// Check reads every file as Load and LoadSwarm do, and gives the number of networks. It changes nothing, and a daemon may be
// running on the directory.
func (d Dir) Check() (networks int, err error) {
	for range 10 {
		var records []Record
		records, err = d.Load()
		networks = len(records)
		if !errors.Is(err, fs.ErrNotExist) { // else a daemon removed one between its listing and its reading
			break
		}
	}
	if err == nil {
		_, err = d.LoadSwarm()
	}
	return networks, err
}

// syncDir makes renames and removals lasting: fsync(2) of a file does not cover its directory's entry.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the state directory %s: %w", path, explain(err))
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the state directory %s to the disk: %w", path, explain(err))
	}
	return nil
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
