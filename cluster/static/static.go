// Package static is the cluster of hosts that are listed by hand: each host's peers are those of its --peer flags, and a network's VNI
// follows from the names of cluster and network, so that all hosts choose the same one. Nothing is sent, so nobody is told of another
// host's networks, blocks and names, or that it is gone.
package static

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
)

// An Engine is what one host agrees on with itself. It implements cluster.Engine.
type Engine struct {
	name string

	mu    sync.Mutex // guards what follows
	since time.Time
}

// New is the engine of a host in the cluster of that name.
func New(name string) *Engine { return &Engine{name: name} }

// Info says that nobody else is asked.
func (e *Engine) Info() cluster.Info { return cluster.Info{Name: "static", Consistency: cluster.None} }

// Start tells sink that no host is known. An error is of self.
func (e *Engine) Start(self cluster.Host, sink func(cluster.Update)) error {
	if err := self.Check(); err != nil {
		return err
	}
	e.mu.Lock()
	e.since = time.Now()
	e.mu.Unlock()
	sink(cluster.Update{Full: true})
	return nil
}

// Network gives a network without a VNI the one that every host of this cluster chooses.
func (e *Engine) Network(_ context.Context, s cluster.Spec) (cluster.Spec, error) {
	if err := s.Check(); err != nil {
		return cluster.Spec{}, err
	}
	if s.VNI == 0 {
		s.VNI = cluster.ChooseVNI(e.name, s.Key)
	}
	return s, nil
}

// Claim gives a host the block that it wants, and chooses none.
func (e *Engine) Claim(_ context.Context, _ string, want cluster.Want) (netip.Prefix, error) {
	if !want.Block.IsValid() {
		return want.Block, cluster.ErrNoChoice
	}
	return want.Block, nil
}

// Free is nothing: nobody else knew of the block.
func (e *Engine) Free(context.Context, string, netip.Prefix) error { return nil }

// Publish is nothing: nobody is told.
func (e *Engine) Publish([]cluster.Member, []cluster.Station, []cluster.Name) {}

// Forget is ErrNoHost: none is known.
func (e *Engine) Forget(context.Context, cluster.HostID) error { return cluster.ErrNoHost }

// Status is well since Start.
func (e *Engine) Status() cluster.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cluster.Status{Since: e.since}
}

// Close is nothing: no host waits for this one.
func (e *Engine) Close(context.Context) error { return nil }
