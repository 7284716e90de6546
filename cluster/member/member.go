// Package member is this host as a member of its cluster: it agrees with the others on networks, says what this host has, and
// remembers what they have said.
//
// Fabric and ipam do the work; what of it may take a while, or fail since the cluster is away, is here.
package member

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fabric/vtep"
	"github.com/tapestry-net/tapestry/tunnel"
)

const (
	saveEvery    = 5 * time.Second // what the others say is written down: it is for a start while the cluster is away
	confirmEvery = 5 * time.Second
	watchEvery   = time.Second
)

// ErrMoved ends Run when this host's address has changed, by DHCP or since the default route uses another link. The other hosts know this one by the
// address that it began with, and the engine's sockets have it: this host has to begin anew, as after a restart.
var ErrMoved = errors.New("this host's address has changed")

// Config is read once by New.
type Config struct {
	Cluster string // its name
	Engine  cluster.Engine
	Dir     string         // state directory
	Name    string         // of this host; "": the kernel's
	VTEP    netip.AddrPort // where the others send VXLAN to; without an address: that of the default route
	Log     *slog.Logger
}

// Member is this host's part in a cluster.
type Member struct {
	Directory *cluster.Directory
	Self      cluster.Host

	cfg     Config
	dir     state.Dir
	log     *slog.Logger
	dirty   atomic.Bool // Directory has changed since it was written
	moved   atomic.Bool // what this or another host has was changed since the last logProblems
	said    said
	toldNow atomic.Pointer[[]cluster.Name] // said.told, for who must not wait for its lock
}

// New reads what was known of the cluster, with a new epoch. The engine is not started.
func New(cfg Config) (*Member, error) {
	m := &Member{cfg: cfg, dir: state.Dir(cfg.Dir), log: cfg.Log, said: said{changed: make(map[string]uint64), news: make(chan struct{})}}
	s, err := m.dir.LoadCluster()
	if err == nil {
		err = m.dir.Prepare()
	}
	if err != nil {
		return nil, err
	}
	if s.ID == "" {
		var id [8]byte
		_, _ = rand.Read(id[:]) // never fails
		s.ID = cluster.HostID(hex.EncodeToString(id[:]))
	}
	if s.Name != cfg.Cluster { // what was known is of another cluster
		s.Name, s.Entries = cfg.Cluster, nil
	}
	s.Epoch++
	if err := m.dir.SaveCluster(s); err != nil {
		return nil, err
	}
	m.Self = cluster.Host{ID: s.ID, Epoch: s.Epoch, Name: cfg.Name, VTEP: cfg.VTEP}
	if cfg.Name == "" {
		if m.Self.Name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("find this host's name: %w", err)
		}
	}
	if !cfg.VTEP.Addr().IsValid() {
		a, err := tunnel.DefaultAddr()
		if err != nil {
			return nil, fmt.Errorf("this host's address for the cluster: %w: start tapestry with --vtep", err)
		}
		m.Self.VTEP = netip.AddrPortFrom(a, cfg.VTEP.Port())
	}
	if err := m.Self.Check(); err != nil {
		return nil, err
	}
	m.Directory = cluster.NewDirectory(s.ID)
	m.Directory.Apply(cluster.Update{Full: true, Entries: s.Entries})
	return m, nil
}

// Fabric is what a fabric.Fabric needs of the cluster. blocks are this host's of a network.
func (m *Member) Fabric(blocks func(key string) []netip.Prefix) *fabric.Cluster {
	return &fabric.Cluster{Directory: m.Directory, Blocks: blocks, Publish: m.publishFabric}
}

// Info is what the cluster's engine can do.
func (m *Member) Info() cluster.Info { return m.cfg.Engine.Info() }

// Status is how the engine is doing.
func (m *Member) Status() cluster.Status { return m.cfg.Engine.Status() }

// Forget removes a host that is gone, with all that it owns.
func (m *Member) Forget(ctx context.Context, id cluster.HostID) error {
	return m.cfg.Engine.Forget(ctx, id)
}

// Cluster is the cluster's name.
func (m *Member) Cluster() string { return m.cfg.Cluster }

// Own is what this host has said last.
func (m *Member) Own() cluster.Record {
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	return cluster.Record{Host: m.Self, Members: m.said.members, Stations: m.said.stations, Names: m.said.names}
}

// Others are the other hosts, by name.
func (m *Member) Others() []cluster.Entry { return m.Directory.Hosts() }

// Problems are contradictions between what hosts say, this one included, in words.
func (m *Member) Problems() []string {
	own := m.Own()
	m.said.mu.Lock()
	own.Stations = m.said.all
	m.said.mu.Unlock()
	return m.Directory.Problems(&own)
}

// logProblems logs each problem once that lasts, and that it has ended. seen are those of the last call, by whether they were logged.
func (m *Member) logProblems(seen map[string]bool) map[string]bool {
	if !m.moved.Swap(false) && !slices.Contains(slices.Collect(maps.Values(seen)), false) {
		return seen
	}
	now := make(map[string]bool)
	for _, p := range m.Problems() {
		logged, lasts := seen[p]
		if lasts && !logged {
			m.log.Warn("problem of the cluster", "problem", p)
		}
		now[p] = lasts
	}
	for p, logged := range seen {
		if _, still := now[p]; logged && !still {
			m.log.Info("problem of the cluster has ended", "problem", p)
		}
	}
	return now
}

// Run starts the engine and hands on to f what it says, until ctx ends; then it leaves the cluster. It ends with ErrMoved too, and does not leave then.
func (m *Member) Run(ctx context.Context, f *fabric.Fabric) error {
	err := m.cfg.Engine.Start(m.Self, func(u cluster.Update) {
		if changed := m.Directory.Apply(u); len(changed) > 0 {
			f.ClusterChanged(changed)
			m.namesChanged(changed)
		}
		m.dirty.Store(true)
		m.moved.Store(true)
	})
	if err != nil {
		return fmt.Errorf("--cluster: %w", err)
	}
	m.log.Info("member of the cluster", "name", m.cfg.Cluster, "host", m.Self.ID, "vtep", m.Self.VTEP)
	save, confirm, look := time.NewTicker(saveEvery), time.NewTicker(confirmEvery), time.NewTicker(watchEvery)
	defer save.Stop()
	defer confirm.Stop()
	defer look.Stop()
	confirmed := make(map[string]bool)
	var problems map[string]bool
	var watch vtep.Watch
	for ctx.Err() == nil && err == nil {
		select {
		case <-ctx.Done():
		case <-look.C:
			if m.cfg.VTEP.Addr().IsValid() {
				continue // it was named, and stays
			}
			own := m.Self.VTEP.Addr()
			_, down := tunnel.Underlay(own)
			if to, better := watch.Elsewhere(own, down); better {
				m.log.Warn("this host's address has changed: the daemon begins anew, and tells the cluster", "vtep", to, "was", own, "err", down)
				err = ErrMoved
			}
		case <-save.C:
			if err := m.save(); err != nil {
				m.log.Warn("what the other hosts of the cluster say is not on the disk; tried again", "err", err)
			}
		case <-confirm.C:
			m.confirm(ctx, f, confirmed)
			problems = m.logProblems(problems)
			m.endNames(time.Now())
		}
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), cluster.StrongLimit)
	defer cancel()
	if err != nil {
		cancel() // it comes back at once
	}
	return errors.Join(err, m.cfg.Engine.Close(leave), m.save())
}

// save writes down what the other hosts have said, if that has changed.
func (m *Member) save() error {
	if !m.dirty.Swap(false) {
		return nil
	}
	err := m.dir.SaveCluster(state.Cluster{ID: m.Self.ID, Epoch: m.Self.Epoch, Name: m.cfg.Cluster, Entries: m.Directory.Hosts()})
	if err != nil {
		m.dirty.Store(true)
	}
	return err
}

// confirm agrees anew on networks that were not made by this process: the cluster may have lost them, or another host may have
// made them in the meantime. What runs goes on as it was.
func (m *Member) confirm(ctx context.Context, f *fabric.Fabric, confirmed map[string]bool) {
	for _, n := range f.Shared() {
		if confirmed[n.ID] {
			continue
		}
		_, err := m.cfg.Engine.Network(ctx, n.Spec())
		var differs *cluster.Conflict
		if errors.As(err, &differs) {
			m.log.Warn("the cluster has another network by this key now: this host's goes on as it was", "network", n.ID, "key", n.Key, "err", err)
			err = nil
		}
		if err != nil {
			m.log.Debug("the cluster was not asked for a network yet", "network", n.ID, "key", n.Key, "err", err)
			return // it is away
		}
		confirmed[n.ID] = true
	}
}

// Driver is a Fabric as Docker's driver needs it: the networks that it creates are agreed on before.
type Driver struct {
	*fabric.Fabric
	Member *Member // nil: this host is in no cluster
}

// CreateNetwork is Fabric.CreateNetwork for a network that all hosts agree on. Fabric's lock is not held while they are asked.
func (d Driver) CreateNetwork(ctx context.Context, n fabric.Network) error {
	if n.Key != "" && d.Member != nil {
		s, err := d.Member.cfg.Engine.Network(ctx, n.Spec())
		var differs *cluster.Conflict
		switch {
		case errors.As(err, &differs):
			return fmt.Errorf("%w: all hosts must name it with the same options", err)
		case err != nil:
			return fmt.Errorf("network %s: %w", n.Key, err)
		}
		n.VNI = s.VNI
	}
	return d.Fabric.CreateNetwork(ctx, n)
}
