package ether

import (
	"sync/atomic"
	"time"
)

// A Gate is one offload of the kernel's: open while it is used. Who finds it refused shuts it and does
// the kernel's work himself. To ask is one load. The zero Gate is open.
type Gate struct {
	shut            atomic.Pointer[refusal]
	refused, resent atomic.Uint64
}

type refusal struct {
	why    error
	since  time.Time
	barred bool
}

// Open tells whether the offload is to be used.
func (g *Gate) Open() bool { return g.shut.Load() == nil }

// Shut closes an open gate until Retry.
func (g *Gate) Shut(why error) { g.shut.CompareAndSwap(nil, &refusal{why, time.Now(), false}) }

// Bar closes the gate until Clear, whatever Retry says.
func (g *Gate) Bar(why error) {
	if r := g.shut.Load(); r == nil || !r.barred {
		g.shut.Store(&refusal{why, time.Now(), true})
	}
}

// Retry opens what Shut closed: what was refused then may be taken now.
func (g *Gate) Retry() {
	if r := g.shut.Load(); r != nil && !r.barred {
		g.shut.CompareAndSwap(r, nil)
	}
}

// Clear opens the gate.
func (g *Gate) Clear() { g.shut.Store(nil) }

// Count notes one refusal, and how many frames or datagrams went without the offload instead.
func (g *Gate) Count(resent int) {
	g.refused.Add(1)
	g.resent.Add(uint64(resent))
}

// GateState is a Gate at a glance.
type GateState struct {
	Why     error     // of one that is shut; nil: open
	Since   time.Time // it is shut
	Barred  bool      // Retry does not open it
	Refused uint64    // how often the kernel refused
	Resent  uint64    // frames or datagrams that went without the offload after it had been refused
}

// State reads the gate.
func (g *Gate) State() GateState {
	s := GateState{Refused: g.refused.Load(), Resent: g.resent.Load()}
	if r := g.shut.Load(); r != nil {
		s.Why, s.Since, s.Barred = r.why, r.since, r.barred
	}
	return s
}
