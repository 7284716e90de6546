package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tapestry-net/tapestry/cluster"
)

// Cluster is what this host is in its cluster, and what the others have said last.
type Cluster struct {
	ID      cluster.HostID  `json:"id"`
	Epoch   uint64          `json:"epoch"` // how often the daemon has started
	Name    string          `json:"name"`  // of the cluster that the entries are of
	Entries []cluster.Entry `json:"entries"`
}

// Cluster is the path of the cluster's file.
func (d Dir) Cluster() string { return filepath.Join(string(d), "cluster.json") }

// SaveCluster writes what is known of the cluster, as lasting as Save.
func (d Dir) SaveCluster(c Cluster) error {
	b, err := encode(c)
	if err == nil {
		err = d.write(d.Cluster(), b)
	}
	if err != nil {
		return fmt.Errorf("write what is known of the cluster to %s: %w", d.Cluster(), explain(err))
	}
	return syncDir(string(d))
}

// LoadCluster reads it; the zero Cluster if there is no file.
func (d Dir) LoadCluster() (c Cluster, err error) {
	b, err := os.ReadFile(d.Cluster())
	if errors.Is(err, fs.ErrNotExist) {
		return Cluster{}, nil
	}
	if err == nil {
		err = decode(b, &c)
	}
	if err != nil {
		return Cluster{}, fmt.Errorf("state file %s: %w; it was left as it is: fix it, or move it away, which makes this host a new one to the others", d.Cluster(), err)
	}
	return c, nil
}
