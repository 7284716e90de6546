// Package swarm is Docker's Swarm as a cluster that is only read: Docker tells a node which others there are, and gives out VNIs, addresses
// and names itself.
//
// Docker names nodes by their address, so that is a host's name, and its ID follows from it. A node that has left, Docker says, is
// Suspect; nobody says that one is gone: after a day without a word it is forgotten. Hosts say nothing here.
package swarm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
)

// Kind is what this kind of cluster is called.
const Kind = "swarm"

// ID is the id of the host that has an address in the Swarm.
func ID(addr netip.Addr) cluster.HostID {
	h := sha256.Sum256([]byte("swarm\x00" + addr.String()))
	return cluster.HostID(hex.EncodeToString(h[:8]))
}

// Engine is a cluster.Engine that says what Tell was called with last. It waits for nothing.
type Engine struct {
	port uint16

	mu    sync.Mutex // guards what follows; held while sink is called
	nodes map[cluster.HostID]cluster.Entry
	self  cluster.HostID
	sink  func(cluster.Update) // nil: not started, or closed
	since time.Time
}

var _ cluster.Engine = (*Engine)(nil)

// New is an engine that has been told nothing. port is where all nodes receive VXLAN.
func New(port uint16) *Engine {
	return &Engine{port: port, nodes: make(map[cluster.HostID]cluster.Entry)}
}

// Tell takes all nodes that Docker has told of, and whether they have left, as it says, in place of those told before.
func (e *Engine) Tell(left map[netip.Addr]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var u cluster.Update
	before := e.nodes
	e.nodes = make(map[cluster.HostID]cluster.Entry)
	for addr, gone := range left {
		h := cluster.Host{ID: ID(addr), Name: addr.String(), VTEP: netip.AddrPortFrom(addr, e.port)}
		if h.ID == e.self {
			continue
		}
		now := cluster.Entry{Record: cluster.Record{Host: h}}
		if gone {
			now.State = cluster.Suspect
		}
		e.nodes[h.ID] = now
		if old, known := before[h.ID]; !known || old.State != now.State {
			u.Entries = append(u.Entries, now)
		}
	}
	for id := range before {
		if _, still := e.nodes[id]; !still {
			u.Removed = append(u.Removed, id)
		}
	}
	if e.sink != nil && len(u.Entries)+len(u.Removed) > 0 {
		e.sink(u)
	}
}

// Info says what a Swarm can do. It never tells that a host is Gone.
func (e *Engine) Info() cluster.Info {
	return cluster.Info{Name: Kind, Consistency: cluster.Strong}
}

// Start begins to tell sink. Of self, which nobody is told of, only the ID matters: that of its address, as the others see it.
func (e *Engine) Start(self cluster.Host, sink func(cluster.Update)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.nodes, self.ID)
	e.self, e.sink, e.since = self.ID, sink, time.Now()
	u := cluster.Update{Full: true}
	for _, n := range e.nodes {
		u.Entries = append(u.Entries, n)
	}
	sink(u)
	return nil
}

// Network is the network as it is: Docker hands it to a node with the VNI that the leading manager gave it, and that is the whole Swarm's.
func (e *Engine) Network(_ context.Context, s cluster.Spec) (cluster.Spec, error) {
	if err := s.Check(); err != nil {
		return cluster.Spec{}, err
	}
	if s.VNI == 0 {
		return cluster.Spec{}, fmt.Errorf("network %s has no VNI: in a Swarm the leading manager gives it one, when docker network create --scope swarm makes it", s.Key)
	}
	return s, nil
}

// Claim chooses nothing: the manager gives out single addresses, for all nodes.
func (e *Engine) Claim(context.Context, string, cluster.Want) (netip.Prefix, error) {
	return netip.Prefix{}, cluster.ErrNoChoice
}

// Free has nothing to give back.
func (e *Engine) Free(context.Context, string, netip.Prefix) error { return nil }

// Publish says nothing: a Swarm carries no word of a driver's.
func (e *Engine) Publish([]cluster.Member, []cluster.Station, []cluster.Name) {}

var errOwnsNothing = errors.New("a node of a Swarm owns nothing that others could have: one that left is forgotten after a day without a word of it")

// Forget removes nobody.
func (e *Engine) Forget(_ context.Context, id cluster.HostID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.nodes[id]; !ok {
		return cluster.ErrNoHost
	}
	return errOwnsNothing
}

// Status is that of one who asks nobody.
func (e *Engine) Status() cluster.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cluster.Status{Since: e.since}
}

// Close ends what sink is told.
func (e *Engine) Close(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sink = nil
	return nil
}
