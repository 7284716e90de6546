// Package vswitch is the learning switch: ports, the forwarding database, the decision.
//
// It lives in the directory switch; the word is a Go keyword and cannot name a package.
//
// The switch is passive. It owns no goroutine, no channel and no socket: whoever has read frames
// calls Port.Ingress with them, and when the call returns each frame has been handed to the ports it
// goes to, or dropped and counted. The way of a frame is in forward.go, the addresses in fdb.go.
package vswitch

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// A Sender takes the frames that leave by a port.
type Sender interface {
	// Send takes the frames, all of them before it returns, and gives the number it took and their
	// bytes; the rest were refused. It must keep no frame, and may be called by several goroutines.
	Send(frames []*ether.Frame) (sent, bytes int)
}

// A Watcher sees frames as they are judged.
type Watcher interface {
	// Watch is told of a frame that has come in by in: once, after the verdict and before the frame leaves. out
	// is the port that it is forwarded to, nil with any other verdict. The frame is lent, and whatever its bytes
	// are, only those of Runt and Offload have not passed ether.Frame.Check. It is called by several goroutines.
	//
	// With in nil it is told again of a frame that goes out by out, or does not, and what was done to it on purpose.
	Watch(in, out *Port, v Verdict, f *ether.Frame)
}

// A RunWatcher is a Watcher that is told of frames that come in and are forwarded in runs: one or more that came together,
// by one port, and leave by one. Of all else Watch tells.
type RunWatcher interface {
	WatchRun(in, out *Port, frames []ether.Frame)
}

// Config sets the forwarding database's bounds. Zero values mean the defaults.
type Config struct {
	Start      time.Duration // Tick's clock when the switch is made
	Ageing     time.Duration // after which a learned address that was not seen is forgotten; 300 s
	PerPort    int           // learned addresses one port may own; 256
	PerNetwork int           // learned addresses in all; 8192
}

// Defaults of Config, those of IEEE 802.1Q table 8-6 and of Open vSwitch.
const (
	DefaultAgeing     = 300 * time.Second
	DefaultPerPort    = 256
	DefaultPerNetwork = 8192
)

// A Switch is one network's layer 2 on this host.
type Switch struct {
	fdb
	ports atomic.Pointer[[]*Port] // for flooding; replaced whole
	tally [verdicts]atomic.Uint64
	watch atomic.Pointer[Watcher] // nil: nobody watches

	mu sync.Mutex // attach and detach
}

// New makes a switch without ports.
func New(cfg Config) *Switch {
	s := &Switch{}
	s.fdb.ageing = orDefault(cfg.Ageing, DefaultAgeing)
	s.fdb.perPort = orDefault(cfg.PerPort, DefaultPerPort)
	s.fdb.perNetwork = orDefault(cfg.PerNetwork, DefaultPerNetwork)
	s.fdb.now.Store(int64(cfg.Start / time.Second))
	s.ports.Store(&[]*Port{})
	return s
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// A Port is one place where frames come in and go out.
type Port struct {
	Name   string // endpoint id or peer address
	Number uint32 // from 1, of no other port of this process, ever
	Uplink bool   // leads to a remote host: split horizon

	sw       *Switch
	to       Sender
	limit    atomic.Int64                // longest frame that its way carries, in bytes with the Ethernet header
	down     atomic.Pointer[func() bool] // see SetDown; nil: up
	detached atomic.Bool
	sparse   atomic.Bool  // see SetSparse
	flooded  atomic.Int64 // while it is sparse: a second of the coarse clock, and in the low half how often frames were flooded to it then
	learned  []*station   // of this port, guarded by fdb.mu

	tally            [verdicts]atomic.Uint64 // of frames that came in
	rxBytes          atomic.Uint64
	offered, refused atomic.Uint64 // of frames that went out, or should have
	txBytes          atomic.Uint64
}

var numbers atomic.Uint32

// Attach adds a port that sends to to. Frames longer than limit bytes, header included, do not fit
// its way; a super-frame counts as long as its longest segment. On a way that is no uplink, the outermost VLAN
// tag does not count: a kernel has it beside the frame (skb_vlan_untag, is_skb_forwardable in net/core).
func (s *Switch) Attach(name string, to Sender, uplink bool, limit int) *Port {
	p := &Port{Name: name, Number: numbers.Add(1), Uplink: uplink, sw: s, to: to}
	p.limit.Store(int64(limit))
	s.mu.Lock()
	defer s.mu.Unlock()
	ports := append(slices.Clone(*s.ports.Load()), p)
	s.ports.Store(&ports)
	return p
}

// Detach takes the port out and forgets its addresses, pinned ones too. Frames that still come in by
// it are dropped as Detached. A second Detach does nothing.
func (p *Port) Detach() {
	s := p.sw
	s.mu.Lock()
	defer s.mu.Unlock()
	p.detached.Store(true)
	ports := slices.DeleteFunc(slices.Clone(*s.ports.Load()), func(q *Port) bool { return q == p })
	s.ports.Store(&ports)
	s.fdb.forget(p)
}

// Watch shows w every frame from now on, in place of whoever watched before; nil: nobody watches. Batches that are
// being judged meanwhile may still be shown to the one before.
func (s *Switch) Watch(w Watcher) {
	if w == nil {
		s.watch.Store(nil)
		return
	}
	s.watch.Store(&w)
}

// Ports gives the attached ports in the order of their coming.
func (s *Switch) Ports() []*Port { return slices.Clone(*s.ports.Load()) }

// SetLimit changes the longest frame that the port's way carries.
func (p *Port) SetLimit(limit int) { p.limit.Store(int64(limit)) }

// SetDown says that nothing gets to where the port leads; with nil that it does again. Frames to it are dropped as Down as long as
// still says so: whoever has brought some asks it, so it must neither block nor allocate.
func (p *Port) SetDown(still func() bool) {
	if still == nil {
		p.down.Store(nil)
		return
	}
	p.down.Store(&still)
}

// Heard says that frames have come from where the port leads. So the way there is up, whatever SetDown was told before.
func (p *Port) Heard() {
	if p.down.Load() != nil {
		p.down.Store(nil)
	}
}

// IsDown tells what SetDown was told, as it is now.
func (p *Port) IsDown() bool {
	still := p.down.Load()
	return still != nil && (*still)()
}

// sparseBudget is how many batches of frames are flooded to a sparse port in a second.
const sparseBudget = 16

// SetSparse says whether frames that are flooded are sent to the port in a few batches only in each second of the coarse clock;
// it refuses the others. That is for a host that may have gone: it can still be found, and costs next to nothing.
func (p *Port) SetSparse(sparse bool) { p.sparse.Store(sparse) }

// IsSparse tells what SetSparse was told.
func (p *Port) IsSparse() bool { return p.sparse.Load() }

// floodable tells whether flooded frames may be sent to the port now.
func (p *Port) floodable() bool {
	if !p.sparse.Load() {
		return true
	}
	now := p.sw.now.Load() << 32
	if p.flooded.Load()>>32<<32 != now {
		p.flooded.Store(now)
	}
	return p.flooded.Add(1) <= now+sparseBudget
}

// Tally gives the switch's books: every frame that any port ever brought in, by verdict.
func (s *Switch) Tally() (t Tally) {
	for v := range t {
		t[v] = s.tally[v].Load()
	}
	return t
}

// Stats are a port's counters. Frames are counted as received: a super-frame is one.
type Stats struct {
	Rx          Tally // frames that came in by the port, by verdict
	RxBytes     uint64
	Offered     uint64 // frames the switch sent to the port: Tx + Refused
	Tx, Refused uint64
	TxBytes     uint64
}

// Stats reads the counters.
func (p *Port) Stats() (s Stats) {
	for v := range s.Rx {
		s.Rx[v] = p.tally[v].Load()
	}
	s.RxBytes = p.rxBytes.Load()
	s.TxBytes = p.txBytes.Load()
	s.Refused = p.refused.Load() // before offered, which is counted first: Tx never goes below zero
	s.Offered = p.offered.Load()
	s.Tx = s.Offered - s.Refused
	return s
}
