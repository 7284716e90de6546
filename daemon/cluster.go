package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/fabric"
	disk "github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/tunnel"
)

// saveEvery is how often what the other hosts say is written down, at most: it is for a start while the cluster is away.
const saveEvery = 5 * time.Second

// Cluster connects this host's networks and addresses to its cluster.
type Cluster struct {
	Name      string // of the cluster
	Engine    cluster.Engine
	Directory *cluster.Directory
	Self      cluster.Host

	dir disk.Dir
	log *slog.Logger

	mu    sync.Mutex // guards what follows
	dirty bool       // Directory has changed since it was written
}

// openCluster makes this host a member: it reads what was known of the cluster, with a new epoch. The engine is not started.
func openCluster(name string, e cluster.Engine, cfg *fabric.Config, log *slog.Logger) (*Cluster, error) {
	c := &Cluster{Name: name, Engine: e, dir: disk.Dir(cfg.Dir), log: log}
	s, err := c.dir.LoadCluster()
	if err == nil {
		err = c.dir.Prepare()
	}
	if err != nil {
		return nil, err
	}
	if s.ID == "" {
		var id [8]byte
		_, _ = rand.Read(id[:]) // never fails
		s.ID = cluster.HostID(hex.EncodeToString(id[:]))
	}
	if s.Name != name { // what was known is of another cluster
		s.Name, s.Entries = name, nil
	}
	s.Epoch++
	if err := c.dir.SaveCluster(s); err != nil {
		return nil, err
	}
	c.Self = cluster.Host{ID: s.ID, Epoch: s.Epoch}
	if c.Self.Name, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("find this host's name: %w", err)
	}
	vtep := cfg.VTEP
	if !vtep.IsValid() {
		if vtep, err = tunnel.DefaultAddr(); err != nil {
			return nil, fmt.Errorf("this host's address for the cluster: %w: start tapestry with --vtep", err)
		}
		cfg.VTEP = vtep // the one that the others are told stays the tunnel's
	}
	c.Self.VTEP = netip.AddrPortFrom(vtep, cfg.Port)
	c.Directory = cluster.NewDirectory(s.ID)
	c.Directory.Apply(cluster.Update{Full: true, Entries: s.Entries})
	return c, nil
}

// run starts the engine and hands on what it says, until ctx ends; then it leaves the cluster.
func (c *Cluster) run(ctx context.Context, f *fabric.Fabric) error {
	err := c.Engine.Start(c.Self, func(u cluster.Update) {
		if changed := c.Directory.Apply(u); len(changed) > 0 {
			f.ClusterChanged(changed)
		}
		c.mu.Lock()
		c.dirty = true
		c.mu.Unlock()
	})
	if err != nil {
		return fmt.Errorf("--cluster: %w", err)
	}
	c.log.Info("member of the cluster", "name", c.Name, "host", c.Self.ID, "vtep", c.Self.VTEP)
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	for open := true; open; {
		select {
		case <-ctx.Done():
			open = false
		case <-t.C:
		}
		if err := c.save(); err != nil {
			c.log.Warn("what the other hosts of the cluster say is not on the disk; tried again", "err", err)
		}
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), cluster.StrongLimit)
	defer cancel()
	return errors.Join(c.Engine.Close(leave), c.save())
}

// save writes down what the other hosts have said, if that has changed.
func (c *Cluster) save() error {
	c.mu.Lock()
	dirty := c.dirty
	c.dirty = false
	c.mu.Unlock()
	if !dirty {
		return nil
	}
	err := c.dir.SaveCluster(disk.Cluster{ID: c.Self.ID, Epoch: c.Self.Epoch, Name: c.Name, Entries: c.Directory.Hosts()})
	if err != nil {
		c.mu.Lock()
		c.dirty = true
		c.mu.Unlock()
	}
	return err
}
