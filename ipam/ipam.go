// Package ipam gives out addresses of containers: Docker's IPAM driver, but for its protocol, which is package plugin's.
//
// A pool is a subnet as Docker asked for it. A network that is named in the cluster (tapestry.network) has a pool out of
// which each host gives only addresses of its own blocks, which the cluster gives to one host each; any other pool is this
// host's alone. What is given out is on the disk before Docker gets the answer. Docker says nothing of addresses that its
// death frees; so an address that no endpoint has may be given out again (Evidence).
//
// In Docker's Swarm the leading manager asks its plugin for the addresses of all nodes, and each node its own for those of its containers: two
// pools. What other managers have done while they led is not known, but one that begins to lead repeats all that is in use.
package ipam

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/fabric/state"
)

// Evidence is what the networks of this host show of addresses. It must not call back.
type Evidence interface {
	HasSubnet(key string, subnet netip.Prefix) bool             // a network of that key, which may be "", has the subnet
	HasAddr(key string, subnet netip.Prefix, a netip.Addr) bool // an endpoint of such a network has the address
}

// startGrace is how long an address may be given out without an endpoint that has it: Docker creates the endpoint next.
const startGrace = time.Minute

// Config is read once by Open.
type Config struct {
	Dir      string         // state directory
	Engine   cluster.Engine // nil: this host is in no cluster
	Evidence Evidence
	Changed  func(key string) // called with the lock held when this host's blocks of a network have changed; nil: nobody wants to know
	Log      *slog.Logger
}

// Manager holds the pools of this host. Its methods may be called by several goroutines.
type Manager struct {
	cfg Config
	dir state.Dir
	log *slog.Logger
	now func() time.Time

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup // claims in the background

	blocks sync.Map // by key, []netip.Prefix: what pools has, for who may not wait for the lock

	lock  chan struct{} // a mutex that acquire can give up waiting for: holds one token. It guards pools and what is in them, and began
	pools map[string]*pool
	began uint64 // how often Docker has begun to ask this process
}

// Open reads the pools of a state directory.
func Open(cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, dir: state.Dir(cfg.Dir), log: cfg.Log, now: time.Now, pools: make(map[string]*pool), lock: make(chan struct{}, 1)}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	pools, err := m.dir.LoadPools()
	if err != nil {
		return nil, err
	}
	for _, s := range pools {
		m.pools[s.ID] = newPool(s)
	}
	for _, p := range m.pools {
		m.noteBlocks(p.Key)
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.lock <- struct{}{}
	return m, nil
}

// Close ends the work in the background.
func (m *Manager) Close() {
	m.stop()
	m.work.Wait()
}

// acquire takes the lock, or gives up when ctx ends.
func (m *Manager) acquire(ctx context.Context) error {
	select {
	case <-m.lock:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another request to end: %w", ctx.Err())
	}
}

func (m *Manager) release() { m.lock <- struct{}{} }

// Begin is called when a part of Docker begins to ask for pools: dockerd, or a manager that begins to lead its Swarm.
func (m *Manager) Begin() {
	_ = m.acquire(context.Background())
	defer m.release()
	m.began++
}

// A Request asks for a pool.
type Request struct {
	Key    string       // of the network in the cluster; "": none
	Global bool         // of networks that span hosts, those of Docker's Swarm
	Subnet netip.Prefix // zero: any
	Range  netip.Prefix // the part that this host gives out; zero: no wish
	V6     bool         // of which family any is
}

// A Pool is what Docker is told of one.
type Pool struct {
	ID      string
	Subnet  netip.Prefix
	Gateway netip.Addr // reserved without being asked for; zero: none
}

// RequestPool opens a pool. A repeated request gives the same one, if no network has it yet.
func (m *Manager) RequestPool(ctx context.Context, r Request) (Pool, error) {
	if err := m.check(&r); err != nil {
		return Pool{}, err
	}
	if err := m.acquire(ctx); err != nil {
		return Pool{}, err
	}
	defer m.release()
	if !r.Subnet.IsValid() {
		var err error
		if r.Subnet, err = m.anySubnet(r.V6); err != nil {
			return Pool{}, err
		}
	}
	s := state.Pool{ID: poolID(r), Key: r.Key, Global: r.Global, Subnet: r.Subnet, Range: r.Range}
	if s.Key != "" && s.Subnet.Bits() < s.Subnet.Addr().BitLen()-1 {
		s.Gateway = s.Subnet.Addr().Next() // the same on all hosts, so that no container gets it
	}
	if old := m.pools[s.ID]; old != nil {
		switch {
		case old.Swarm && old.asked < m.began: // a manager that begins to lead repeats all networks, and then all addresses that are in use
			old.asked = m.began
			old.releaseAll()
		case old.Swarm:
			return Pool{}, fmt.Errorf("%s belongs to another network of the Swarm already: take another --subnet", r.Subnet)
		case m.cfg.Evidence.HasSubnet(r.Key, r.Subnet): // else Docker forgot it, or asks again since it was restarted
			return Pool{}, fmt.Errorf("%s belongs to another network of this host already: take another --subnet", r.Subnet)
		}
		return Pool{old.ID, old.Subnet, old.Gateway}, nil
	}
	for _, other := range m.pools {
		if r.Key == "" && other.Key == "" && other.Global == r.Global && overlap(other.Pool, s) {
			// A Swarm's pool that Docker has not repeated belonged to a network that was removed while another manager led.
			if other.Swarm && other.asked == m.began || !other.Swarm && (m.cfg.Evidence.HasSubnet("", other.Subnet) || len(other.used) > 0) {
				return Pool{}, fmt.Errorf("%s overlaps %s of another network of this host: take another --subnet, or an --ip-range of each", r.Subnet, other.Subnet)
			}
		}
	}
	p := newPool(s)
	if s.Key != "" {
		if err := m.claimFirst(ctx, p); err != nil {
			return Pool{}, err
		}
	}
	if err := m.dir.SavePool(p.record()); err != nil {
		return Pool{}, err
	}
	m.pools[p.ID] = p
	m.changed(p)
	m.log.Info("pool opened", "pool", p.ID, "blocks", p.Blocks)
	return Pool{p.ID, p.Subnet, p.Gateway}, nil
}

// check refuses what no pool can be.
func (m *Manager) check(r *Request) error {
	if r.Key != "" {
		if err := cluster.CheckKey(r.Key); err != nil {
			return err
		}
		if m.cfg.Engine == nil {
			return fmt.Errorf("network %s is to be shared with other hosts, but this host is in no cluster: start tapestry with --cluster, or leave tapestry.network away", r.Key)
		}
		if !r.Subnet.IsValid() {
			return fmt.Errorf("network %s: give its --subnet, the same one on every host", r.Key)
		}
	}
	if !r.Subnet.IsValid() {
		if r.Range.IsValid() {
			return fmt.Errorf("--ip-range %s without a --subnet", r.Range)
		}
		return nil
	}
	r.Subnet = r.Subnet.Masked()
	if r.Range.IsValid() {
		r.Range = r.Range.Masked()
		if r.Range.Bits() < r.Subnet.Bits() || !r.Subnet.Contains(r.Range.Addr()) {
			return fmt.Errorf("--ip-range %s is no part of --subnet %s", r.Range, r.Subnet)
		}
	}
	return nil
}

// poolID is a pool's id: what it is, so that a repeated request finds it.
func poolID(r Request) string {
	words := []string{"local"}
	if r.Global {
		words[0] = "global"
	}
	if r.Key != "" {
		words = append(words, r.Key)
	}
	words = append(words, r.Subnet.String())
	if r.Range.IsValid() && r.Key == "" {
		words = append(words, r.Range.String())
	}
	return strings.Join(words, "|")
}

// overlap tells whether two pools of this host alone would give out the same addresses.
func overlap(a, b state.Pool) bool {
	part := func(p state.Pool) netip.Prefix {
		if p.Range.IsValid() {
			return p.Range
		}
		return p.Subnet
	}
	return part(a).Overlaps(part(b))
}

// anySubnet chooses a subnet as Docker's own IPAM does: private ones (RFC 1918) that no pool of this host has. Docker asks again,
// with this one held, if the host has a route there.
func (m *Manager) anySubnet(v6 bool) (netip.Prefix, error) {
	if v6 {
		return netip.Prefix{}, errors.New("give an IPv6 --subnet, such as fd00:db8::/64")
	}
	taken := func(s netip.Prefix) bool {
		for _, p := range m.pools {
			if p.Subnet.Overlaps(s) {
				return true
			}
		}
		return false
	}
	for _, from := range []struct {
		space netip.Prefix
		bits  int
	}{{netip.MustParsePrefix("172.16.0.0/12"), 16}, {netip.MustParsePrefix("192.168.0.0/16"), 20}, {netip.MustParsePrefix("10.0.0.0/8"), 16}} {
		for s := range cluster.Blocks(from.space, from.bits) {
			if !taken(s) {
				return s, nil
			}
		}
	}
	return netip.Prefix{}, errors.New("every private subnet is taken: give a --subnet")
}

// ReleasePool closes a pool, and gives its blocks back to the cluster. An unknown one is no error.
func (m *Manager) ReleasePool(ctx context.Context, id string) error {
	if err := m.acquire(ctx); err != nil {
		return err
	}
	defer m.release()
	p := m.pools[id]
	if p == nil {
		return nil
	}
	for _, b := range p.Blocks {
		if err := m.cfg.Engine.Free(ctx, p.Key, b); err != nil { // it stays this host's own; a new pool of the network claims it again
			m.log.Warn("a block of addresses stays this host's", "network", p.Key, "block", b, "err", err)
		}
	}
	if err := m.dir.RemovePool(id); err != nil {
		return err
	}
	delete(m.pools, id)
	m.changed(p)
	m.log.Info("pool closed", "pool", id)
	return nil
}

// changed tells that the blocks of a pool's network have changed.
func (m *Manager) changed(p *pool) {
	if p.Key == "" {
		return
	}
	m.noteBlocks(p.Key)
	if m.cfg.Changed != nil {
		m.cfg.Changed(p.Key)
	}
}

func (m *Manager) noteBlocks(key string) {
	var all []netip.Prefix
	for _, id := range slices.Sorted(maps.Keys(m.pools)) {
		if p := m.pools[id]; p.Key == key {
			all = append(all, p.Blocks...)
		}
	}
	m.blocks.Store(key, all)
}

// Blocks are this host's blocks of a network, in the order in which they were claimed. It waits for nothing.
func (m *Manager) Blocks(key string) []netip.Prefix {
	all, _ := m.blocks.Load(key)
	blocks, _ := all.([]netip.Prefix)
	return blocks
}

// Used is how many addresses of a block of a network are in use.
func (m *Manager) Used(key string, block netip.Prefix) (n int) {
	_ = m.acquire(context.Background())
	defer m.release()
	for _, p := range m.pools {
		if p.Key != key {
			continue
		}
		for a := range p.used {
			if block.Contains(a) {
				n++
			}
		}
	}
	return n
}

// Pools are the pools, by id.
func (m *Manager) Pools() []state.Pool {
	_ = m.acquire(context.Background())
	defer m.release()
	var all []state.Pool
	for _, id := range slices.Sorted(maps.Keys(m.pools)) {
		all = append(all, m.pools[id].record())
	}
	return all
}
