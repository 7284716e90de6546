// Package vswitch is the learning switch: ports, the forwarding database, the decision.
//
// It lives in the directory switch; the word is a Go keyword and cannot name a package.
//
// The switch is passive. It owns no goroutine, no channel and no socket: whoever has read frames calls
// Port.Ingress with them. When the call returns, each frame was sent to its egress ports, or dropped and
// counted. forward.go has the data path, fdb.go the addresses, verdict.go what can become of a frame.
package vswitch

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// A Sender transmits the frames that leave by a port.
type Sender interface {
	// Send transmits the frames before it returns, and gives how many were accepted and their bytes; the rest
	// were refused. It must not keep a frame. Several goroutines may call it at once.
	Send(frames []*ether.Frame) (sent, bytes int)
}

// A Watcher is shown each frame and its verdict.
type Watcher interface {
	// Watch shows a frame that was received by in: once, after the verdict and before the frame is sent. out is the
	// port that it is forwarded to, nil with any other verdict. The frame is lent for the call. It has passed
	// ether.Frame.Check, unless the verdict is Runt or Offload. Several goroutines may call it at once.
	//
	// With in nil, the frame was shown before, and a fault on its way out by out has changed, delayed or lost it; or, if v is
	// Answered, the switch has made the frame: an answer to a question that out has received and that was shown before, or a question
	// about multicast groups.
	Watch(in, out *Port, v Verdict, f *ether.Frame)
}

// A RunWatcher is a Watcher that is shown forwarded frames in runs: one or more frames that were received together by
// one port and leave by one port. All other frames are shown by Watch.
type RunWatcher interface {
	WatchRun(in, out *Port, frames []ether.Frame)
}

// Config sets the forwarding database's bounds. Zero values mean the defaults.
type Config struct {
	Start      time.Duration // Tick's clock when the switch is made
	Ageing     time.Duration // a learned address is removed when it was not seen for so long; DefaultAgeing
	PerPort    int           // maximum of learned addresses of one port; DefaultPerPort
	PerNetwork int           // maximum of learned addresses in all; DefaultPerNetwork
}

// Defaults of Config: the ageing time is that of IEEE 802.1Q table 8-6 and of Open vSwitch.
const (
	DefaultAgeing     = 300 * time.Second
	DefaultPerPort    = 256
	DefaultPerNetwork = 8192
)

// A Switch is one network's layer 2 on this host.
type Switch struct {
	fdb
	ports   atomic.Pointer[[]*Port] // attached; an immutable slice, replaced with mu held
	tally   [verdicts]atomic.Uint64
	tooBig  atomic.Uint64           // frames that were too long, whose sender was told
	lowered atomic.Uint64           // see Lowered
	watch   atomic.Pointer[Watcher] // nil: nobody watches

	places  atomic.Pointer[placeTable] // nil: none
	answers atomic.Pointer[answering]  // see SetAnswers; nil: none
	snoop   atomic.Pointer[snooping]   // see SetSnooping; nil: off

	owners atomic.Pointer[map[netip.Addr]*Port] // of IP addresses, see PinAddrs; an immutable map, replaced with mu held; nil: none

	began time.Time // see nanoseconds

	mu sync.Mutex // serialises Add, Detach and PinAddrs
}

// New makes a switch without ports.
func New(cfg Config) *Switch {
	s := &Switch{began: time.Now()}
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

// A Port of a Switch: where frames are received and sent.
type Port struct {
	Name   string // endpoint id or peer address
	Number uint32 // from 1; never used again in this process
	Uplink bool   // leads to a remote host: split horizon

	sw       *Switch
	to       Sender
	limit    atomic.Int64                // longest frame that can be sent, in bytes with the Ethernet header
	down     atomic.Pointer[func() bool] // see SetDown; nil: up
	detached atomic.Bool
	sparse   atomic.Bool           // see SetSparse
	reached  atomic.Bool           // see SetReached
	passes   atomic.Bool           // see SetLinkLocal
	flooded  budget                // of a sparse port
	told     budget                // see tellable
	floods   atomic.Int64          // as bucket.full, of Policy.Storm
	vlans    atomic.Pointer[VLANs] // see SetVLANs; nil: all
	router   atomic.Int64          // until when, by the coarse clock, there is a multicast router
	leaves   atomic.Bool           // a station there does not want a group any more, and others were not asked yet
	learned  ages                  // guarded by fdb.tableMu

	policy  atomic.Pointer[Policy]                          // nil: the zero Policy
	limits  atomic.Pointer[limits]                          // of policy; nil: none
	victims [SpoofedND - SpoofedIP + 1]atomic.Pointer[Port] // see Trip.Of

	tally            [verdicts]atomic.Uint64 // received frames by verdict
	rxBytes          atomic.Uint64
	offered, refused atomic.Uint64 // frames to be sent by the port; those of them that were not
	txBytes          atomic.Uint64
}

var numbers atomic.Uint32

// NewPort makes a port that sends to to; Add attaches it. Frames longer than limit bytes, Ethernet header included, are not
// sent by it; the length of a super-frame is that of its longest segment. Unless the port is an uplink, the outermost VLAN tag
// is not counted: the kernel keeps it outside of the frame (skb_vlan_untag, is_skb_forwardable in net/core).
func (s *Switch) NewPort(name string, to Sender, uplink bool, limit int) *Port {
	p := &Port{Name: name, Number: numbers.Add(1), Uplink: uplink, sw: s, to: to}
	p.limit.Store(int64(limit))
	return p
}

// Attach makes a port and attaches it, see NewPort.
func (s *Switch) Attach(name string, to Sender, uplink bool, limit int) *Port {
	p := s.NewPort(name, to, uplink, limit)
	s.Add(p)
	return p
}

// Add attaches ports that NewPort has made, in one change.
func (s *Switch) Add(added ...*Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ports := slices.Concat(*s.ports.Load(), added)
	s.ports.Store(&ports)
}

// Detach removes ports and their addresses, pinned ones too, in one change. Frames that are received by them afterwards are
// dropped as Detached. A second Detach does nothing.
func (s *Switch) Detach(removed ...*Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range removed {
		p.detached.Store(true)
	}
	ports := slices.DeleteFunc(slices.Clone(*s.ports.Load()), func(p *Port) bool { return p.detached.Load() })
	s.ports.Store(&ports)
	s.fdb.forget(removed)
	s.forgetAddrs()
}

// Detach is Switch.Detach for one port.
func (p *Port) Detach() { p.sw.Detach(p) }

// Watch shows every frame to w from now on, instead of to the previous Watcher; nil ends it. Batches that are
// in progress may still be shown to the previous one.
func (s *Switch) Watch(w Watcher) {
	if w == nil {
		s.watch.Store(nil)
		return
	}
	s.watch.Store(&w)
}

// Ports gives the attached ports, in the order in which they were attached.
func (s *Switch) Ports() []*Port { return slices.Clone(*s.ports.Load()) }

// SetLimit changes the length of the longest frame that the port can send, see NewPort.
func (p *Port) SetLimit(limit int) { p.limit.Store(int64(limit)) }

// SetDown marks the port's link as down; nil marks it as up. Frames to the port are dropped as Down while isDown returns
// true. isDown is called on the data path, so it must neither block nor allocate.
func (p *Port) SetDown(isDown func() bool) {
	if isDown == nil {
		p.down.Store(nil)
		return
	}
	p.down.Store(&isDown)
}

// MarkUp is SetDown(nil), at the cost of one load if the port is up. It is for frames that were received from the
// port's link: the link must be up.
func (p *Port) MarkUp() {
	if p.down.Load() != nil {
		p.down.Store(nil)
	}
}

// IsDown tells whether the port's link is down now.
func (p *Port) IsDown() bool {
	isDown := p.down.Load()
	return isDown != nil && (*isDown)()
}

// MarkedDown tells whether the port's link was down when somebody looked last. Unlike IsDown it does not look.
func (p *Port) MarkedDown() bool { return p.down.Load() != nil }

// sparseBudget is the maximum of batches that are flooded to a sparse port in one second.
const sparseBudget = 16

// SetSparse limits the flooding to the port to sparseBudget batches a second; the others count as refused. It is for a
// host that may have gone: if it is still there it can be found, and if not it costs next to nothing.
func (p *Port) SetSparse(sparse bool) { p.sparse.Store(sparse) }

// IsSparse tells whether flooding to the port is limited.
func (p *Port) IsSparse() bool { return p.sparse.Load() }

// SetReached says that what is flooded reaches the port's host by another port: nothing is flooded to this one.
func (p *Port) SetReached(reached bool) { p.reached.Store(reached) }

// SetLinkLocal has frames to link-local groups pass that the port receives, but for pause frames. Else only those to the bridge group do.
func (p *Port) SetLinkLocal(pass bool) { p.passes.Store(pass) }

// floodable tells whether a batch may be flooded to the port now, and counts it.
func (p *Port) floodable() bool {
	return !p.sparse.Load() || p.flooded.take(p.sw.now.Load(), sparseBudget)
}

// tooBigBudget is the maximum of messages about frames that are too long which are sent to a port in one second.
const tooBigBudget = 64

// tellable tells whether another one may be sent, and counts it.
func (p *Port) tellable() bool { return p.told.take(p.sw.now.Load(), tooBigBudget) }

// A budget counts what happens in one second: high 32 bits the second of the coarse clock, low 32 bits how often.
type budget struct{ atomic.Int64 }

// take counts one, and tells whether it is within limit.
func (b *budget) take(second, limit int64) bool {
	now := second << 32
	if b.Load()>>32<<32 != now {
		b.Store(now)
	}
	return b.Add(1) <= now+limit
}

// Tally counts all frames that any port has ever received, by verdict.
func (s *Switch) Tally() (t Tally) {
	for v := range t {
		t[v] = s.tally[v].Load()
	}
	return t
}

// TooBig is how many frames were too long for their way, and their sender was told so.
func (s *Switch) TooBig() uint64 { return s.tooBig.Load() }

// Stats are a port's counters. Frames are counted as received: a super-frame is one.
type Stats struct {
	Rx          Tally  // frames that were received by the port, by verdict
	RxBytes     uint64 // of these frames
	Offered     uint64 // frames the switch sent to the port: Tx + Refused
	Tx, Refused uint64 // frames that the port's device sent, and those that it did not
	TxBytes     uint64 // of the frames that it sent
}

// Stats reads the counters.
func (p *Port) Stats() (s Stats) {
	for v := range s.Rx {
		s.Rx[v] = p.tally[v].Load()
	}
	s.RxBytes = p.rxBytes.Load()
	s.TxBytes = p.txBytes.Load()
	s.Refused = p.refused.Load() // read before offered, which is incremented first: so Tx is never below zero
	s.Offered = p.offered.Load()
	s.Tx = s.Offered - s.Refused
	return s
}
