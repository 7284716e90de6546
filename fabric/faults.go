package fabric

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fault"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Faults are a bad network that somebody asked for. They live in memory only, with the port that they are at: a restart
// of the daemon ends them, and so does whatever makes the port anew, as the start of a container does.

// A Direction is one of a port's two, seen from what is behind it: a container, or a remote host.
type Direction string

const (
	From Direction = "from"
	To   Direction = "to"
)

// FaultView is the fault of one direction of one port.
type FaultView struct {
	Network   string // id
	VNI       uint32
	Kind      string // PortView's
	Name      string // PortView's
	Direction Direction
	Spec      fault.Spec    // with the seed that was drawn if none was given
	Left      time.Duration // until it ends by itself; 0: it does not
	Stats     fault.Stats
	Refused   uint64 // frames that it let through to the port and that this could not take: not in PortView's Refused
}

// A faultPoint lies between a port and what it leads to, and is where faults are put. Without one it costs a load for each
// batch.
type faultPoint struct {
	network  string // id
	device   vswitch.Sender
	port     *vswitch.Port
	from, to atomic.Pointer[activeFault]
}

// activeFault is a fault at work.
type activeFault struct {
	gate    *fault.Injector
	spec    fault.Spec
	ends    time.Duration // Fabric.now; 0: it does not
	timer   *time.Timer   // for that
	refused atomic.Uint64
}

// attach is the switch's Attach with a lane before far.
func attach(n *network, name string, device vswitch.Sender, uplink bool, limit int) *faultPoint {
	l := &faultPoint{network: n.ID, device: device}
	l.port = n.sw.Attach(name, l, uplink, limit)
	return l
}

func (l *faultPoint) direction(d Direction) *atomic.Pointer[activeFault] {
	if d == From {
		return &l.from
	}
	return &l.to
}

// ingress is the way of frames from the far end.
func (l *faultPoint) ingress(frames []ether.Frame) {
	l.port.MarkUp()
	if t := l.from.Load(); t != nil {
		t.gate.Process(frames)
		return
	}
	l.port.Ingress(frames)
}

var frameLists = sync.Pool{New: func() any { return new([]ether.Frame) }}

// Send is the way of frames to the far end. Through a fault, a frame counts as sent if anything of it goes on, be it
// later, and as refused if all of it is lost: so offered = tx + refused for every port. What the far end refuses of what
// comes out of the fault is the fault's count.
func (l *faultPoint) Send(frames []*ether.Frame) (sent, bytes int) {
	t := l.to.Load()
	if t == nil {
		return l.device.Send(frames)
	}
	list := frameLists.Get().(*[]ether.Frame)
	for _, f := range frames { // of which other ports may be sent the same
		g := *f
		g.Fault = 0 // what was done elsewhere has been told there
		*list = append(*list, g)
	}
	sent, bytes = t.gate.Process(*list)
	clear(*list)
	*list = (*list)[:0]
	frameLists.Put(list)
	return sent, bytes
}

// toDevice is where frames that pass a fault on their way to the far end come out, one call at a time.
func (l *faultPoint) toDevice(t *activeFault) func([]ether.Frame) {
	var rest []*ether.Frame
	return func(frames []ether.Frame) {
		for i := range frames {
			f := &frames[i]
			if f.Fault != 0 {
				l.port.WatchFaulted(f)
			}
			if f.Fault&ether.FaultLost == 0 {
				rest = append(rest, f)
			}
		}
		if len(rest) > 0 {
			sent := 0
			if !l.port.IsDown() { // it was up when they were on their way into the fault
				sent, _ = l.device.Send(rest)
			}
			t.refused.Add(uint64(len(rest) - sent))
		}
		clear(rest)
		rest = rest[:0]
	}
}

// clearFault takes a fault away, and lets out what waits in it before anything that comes later. It tells whether there was
// one.
func (f *Fabric) clearFault(l *faultPoint, d Direction, why string) bool {
	t := l.direction(d).Load()
	if t == nil {
		return false
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.gate.Close()
	l.direction(d).Store(nil)
	f.log.Info("fault cleared", "network", l.network, "port", l.port.Name, "direction", d, "fault", t.spec.String(),
		"why", why)
	return true
}

// clearFaults takes both faults away, before what is behind the lane is closed.
func (f *Fabric) clearFaults(l *faultPoint) {
	f.clearFault(l, From, "its port goes")
	f.clearFault(l, To, "its port goes")
}

// synchronize returns when nobody sends any more to a port that was taken from its switch before: neither a worker, nor a
// fault that had held frames back.
func (f *Fabric) synchronize() {
	f.cfg.Poller.Sync()
	for _, l := range f.faultPoints() {
		if t := l.from.Load(); t != nil {
			t.gate.Sync()
		}
	}
}

// faultPoints are all that are attached, in no order.
func (f *Fabric) faultPoints() iter.Seq2[*network, *faultPoint] {
	return func(yield func(*network, *faultPoint) bool) {
		for _, n := range f.networks {
			for _, e := range n.endpoints {
				if e.faults != nil && !yield(n, e.faults) {
					return
				}
			}
			for _, r := range n.remotes {
				if !yield(n, r.faults) {
					return
				}
			}
		}
	}
}

// SetFault puts a fault on one direction of the port of an endpoint, in place of what was there; name is the endpoint's
// id, or a remote host's address for its port in every network. ErrNoEndpoint if there is none.
func (f *Fabric) SetFault(ctx context.Context, name string, d Direction, spec fault.Spec) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if spec.Seed == 0 {
		spec.Seed = uint64(rand.Uint32()) + 1
	}
	found := false
	for _, l := range f.faultPoints() {
		if l.port.Name == name {
			found = true
			f.applyFault(l, d, spec)
		}
	}
	if !found {
		return f.portDownOrUnknown(name)
	}
	return nil
}

func (f *Fabric) applyFault(l *faultPoint, d Direction, spec fault.Spec) {
	t := &activeFault{spec: spec}
	out := l.port.Ingress
	if d == To {
		out = l.toDevice(t)
		spec.Seed = ^spec.Seed // or both directions would lose the same ones
	}
	t.gate = fault.New(spec, out)
	if spec.For > 0 {
		t.ends = f.now() + spec.For
		t.timer = time.AfterFunc(spec.For, func() { f.expire(l, d, t) })
	}
	f.clearFault(l, d, "another takes its place")
	l.direction(d).Store(t)
	f.log.Info("fault set", "network", l.network, "port", l.port.Name, "direction", d, "fault", t.spec.String(),
		"seed", t.spec.Seed, "for", t.spec.For)
}

// expire ends a fault whose time is over, if it is still there.
func (f *Fabric) expire(l *faultPoint, d Direction, t *activeFault) {
	if f.acquire(context.Background()) != nil {
		return
	}
	defer f.release()
	if l.direction(d).Load() == t {
		f.clearFault(l, d, "its time is over")
	}
}

func (f *Fabric) portDownOrUnknown(name string) error {
	for _, n := range f.networks {
		if e := n.endpoints[name]; e != nil {
			return fmt.Errorf("endpoint %s is down: %w", short(name), e.down)
		}
	}
	return fmt.Errorf("port %s: %w", name, ErrNoEndpoint)
}

// ClearFault takes the fault from one direction of a port, named as in SetFault; "" means all ports, and both
// directions. It gives the number of faults there were: none is fine, a port that is not there is ErrNoEndpoint.
func (f *Fabric) ClearFault(ctx context.Context, name string, d Direction) (int, error) {
	if err := f.acquire(ctx); err != nil {
		return 0, err
	}
	defer f.release()
	found, cleared := name == "", 0
	for _, l := range f.faultPoints() {
		if name != "" && l.port.Name != name {
			continue
		}
		found = true
		for _, way := range []Direction{From, To} {
			if (d == "" || d == way) && f.clearFault(l, way, "as asked") {
				cleared++
			}
		}
	}
	if !found {
		return 0, f.portDownOrUnknown(name)
	}
	return cleared, nil
}

// Faults gives what is set, by network, port and direction.
func (f *Fabric) Faults() []FaultView {
	defer f.locked()()
	return f.faults()
}

func (f *Fabric) faults() []FaultView {
	var all []FaultView
	for n, l := range f.faultPoints() {
		for _, d := range []Direction{From, To} {
			t := l.direction(d).Load()
			if t == nil {
				continue
			}
			v := FaultView{Network: n.ID, VNI: n.VNI, Kind: "container", Name: l.port.Name, Direction: d, Spec: t.spec,
				Stats: t.gate.Stats(), Refused: t.refused.Load()}
			if l.port.Uplink {
				v.Kind = "remote"
			} else if e := n.endpoints[l.port.Name]; e != nil {
				v.Kind = n.kind(e)
			}
			if t.ends > 0 {
				v.Left = max(t.ends-f.now(), 1)
			}
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b FaultView) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), strings.Compare(a.Name, b.Name), cmp.Compare(a.Direction, b.Direction))
	})
	return all
}
