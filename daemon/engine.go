package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/etcd"
)

// Kinds of cluster.
const (
	KindEtcd   = "etcd"
	KindGossip = "gossip"
)

// ClusterConfig are the flags of tapestry run that name the cluster to join.
type ClusterConfig struct {
	Kind string // KindEtcd or KindGossip; "": none
	Name string

	Etcd         etcd.Config
	PasswordFile string // of Etcd.User
}

// engine makes what connects this host to its cluster; nil: it is in none.
func (c ClusterConfig) engine(log *slog.Logger) (cluster.Engine, error) {
	switch c.Kind {
	case "":
		return nil, nil
	case KindEtcd:
		e := c.Etcd
		e.Cluster, e.Log = c.Name, log
		if c.PasswordFile != "" {
			var err error
			if e.Password, err = readSecret(c.PasswordFile); err != nil {
				return nil, err
			}
		}
		return etcd.New(e)
	}
	return nil, fmt.Errorf("cluster %q: want %s or %s", c.Kind, KindGossip, KindEtcd)
}

// readSecret reads a file with one secret line, which only its owner may read.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others than its owner: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", errors.New(path + " is empty")
	}
	return s, nil
}
