package gossip

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/cluster"
)

// members yields what other hosts have said of networks, hosts that are Gone included, in the order of their ids. mu is held.
func (e *Engine) members(yield func(cluster.Host, *cluster.Member) bool) {
	for _, id := range slices.Sorted(maps.Keys(e.peers)) {
		r := e.peers[id].record
		if r == nil {
			continue
		}
		for i := range r.Members {
			if !yield(e.peers[id].entry().Host, &r.Members[i]) {
				return
			}
		}
	}
}

// Network checks a network against the records of all hosts that this one knows. It asks nobody: of two hosts that do not know each
// other both are told yes, and Directory.Problems tells of it later.
func (e *Engine) Network(_ context.Context, s cluster.Spec) (cluster.Spec, error) {
	if err := s.Check(); err != nil {
		return cluster.Spec{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for host, m := range e.members {
		if m.Key != s.Key {
			continue
		}
		if have := m.Differs(s); have != "" {
			return cluster.Spec{}, &cluster.Conflict{What: "network " + s.Key, Host: host, Have: have}
		}
		if s.VNI == 0 {
			s.VNI = m.VNI
		}
		if s.MTU == 0 {
			s.MTU = m.MTU
		}
	}
	if s.VNI == 0 {
		s.VNI = cluster.ChooseVNI(e.cfg.Cluster, s.Key)
	}
	for host, m := range e.members {
		if m.Key != s.Key && m.VNI == s.VNI {
			return cluster.Spec{}, &cluster.Conflict{What: fmt.Sprintf("VNI %d", s.VNI), Host: host, Have: "network " + m.Key}
		}
	}
	return s, nil
}

// Claim checks a block against those that all hosts that this one knows have published. It chooses none.
func (e *Engine) Claim(_ context.Context, key string, want cluster.Want) (netip.Prefix, error) {
	b := want.Block
	if !b.IsValid() {
		return b, cluster.ErrNoChoice
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for host, m := range e.members {
		if m.Key != key {
			continue
		}
		for _, have := range m.Blocks {
			if have.Overlaps(b) {
				return netip.Prefix{}, &cluster.Conflict{What: b.String(), Host: host}
			}
		}
	}
	return b, nil
}

// Free is nothing: a block is this host's for as long as it publishes it.
func (e *Engine) Free(context.Context, string, netip.Prefix) error { return nil }

// Forget removes a host that is Gone from what this host knows. Other hosts keep what they know of it: each must be told.
func (e *Engine) Forget(_ context.Context, id cluster.HostID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[id]
	switch {
	case p == nil:
		return cluster.ErrNoHost
	case p.up:
		return cluster.ErrNotGone
	}
	delete(e.peers, id)
	if p.known {
		e.dirty[id] = true
		wake(e.wakeTell)
	}
	return nil
}
