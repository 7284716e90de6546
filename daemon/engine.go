package daemon

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/etcd"
	"github.com/tapestry-net/tapestry/cluster/gossip"
	"github.com/tapestry-net/tapestry/cluster/static"
)

// Kinds of cluster.
const (
	KindEtcd   = "etcd"
	KindGossip = "gossip"
	KindStatic = "static"
)

// GossipPort is where --cluster gossip listens if no other port is named.
const GossipPort = gossip.DefaultPort

// CheckClusterName refuses what cannot be a cluster's name: it is written as a network's key.
func CheckClusterName(name string) error { return cluster.CheckKey(name) }

// ClusterConfig are the flags of tapestry run that name the cluster to join.
type ClusterConfig struct {
	Kind string // KindEtcd, KindGossip or KindStatic; "": none
	Name string

	Join    []string       // of gossip: names or addresses of other hosts
	Bind    netip.AddrPort // of gossip: where it listens; no address: the VTEP's
	KeyFile string         // of gossip

	Etcd         etcd.Config
	PasswordFile string // of Etcd.User
}

// engine makes what connects this host to its cluster; nil: it is in none.
func (c ClusterConfig) engine(log *slog.Logger) (cluster.Engine, error) {
	switch c.Kind {
	case "":
		return nil, nil
	case KindGossip:
		g := gossip.Config{Cluster: c.Name, Bind: c.Bind, Join: c.Join, Log: log}
		if c.KeyFile != "" {
			text, err := readSecret(c.KeyFile)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(text) {
				key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
				if err != nil || !slices.Contains([]int{16, 24, 32}, len(key)) {
					return nil, fmt.Errorf("%s: want a key on each line, 16, 24 or 32 bytes in base64, as tapestry cluster key new makes them", c.KeyFile)
				}
				g.Keys = append(g.Keys, key)
			}
		}
		return gossip.New(g), nil
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
	case KindStatic:
		return static.New(c.Name), nil
	}
	return nil, fmt.Errorf("cluster %q: want %s, %s or %s", c.Kind, KindGossip, KindEtcd, KindStatic)
}

// readSecret reads a file that only its owner may read.
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
