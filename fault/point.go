package fault

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Direction is one of the two directions of a port, seen from what is behind it: a container or a remote host.
type Direction string

const (
	From Direction = "from" // frames that the port receives
	To   Direction = "to"   // frames that the port sends
)

// A Point lies between a port of the switch and the port's device: there faults are injected. Without a fault it costs
// one load for each batch.
//
// Ingress and Send may be called by several goroutines. Set and Clear must be serialised by the caller.
type Point struct {
	Network string // id, for whoever logs
	Port    *vswitch.Port

	device   vswitch.Sender         // not changed after NewPoint
	from, to atomic.Pointer[Active] // nil: no fault; replaced by Set and Clear
}

// An Active is a fault that is set at a Point.
type Active struct {
	Spec Spec
	Ends time.Time // zero: not by itself

	injector *Injector
	timer    *time.Timer // fires at Ends; nil: it does not
	refused  atomic.Uint64
}

// Stats reads the counters of what the fault has done.
func (a *Active) Stats() Stats { return a.injector.Stats() }

// Refused is the number of frames that passed the fault and that the device did not accept. They are not among the
// port's refused frames.
func (a *Active) Refused() uint64 { return a.refused.Load() }

// NewPoint is vswitch.Switch.NewPort with a Point before the device.
func NewPoint(sw *vswitch.Switch, network, name string, device vswitch.Sender, uplink bool, limit int) *Point {
	p := &Point{Network: network, device: device}
	p.Port = sw.NewPort(name, p, uplink, limit)
	return p
}

// Attach makes a Point, and attaches its port.
func Attach(sw *vswitch.Switch, network, name string, device vswitch.Sender, uplink bool, limit int) *Point {
	p := NewPoint(sw, network, name, device, uplink, limit)
	sw.Add(p.Port)
	return p
}

func (p *Point) pointer(d Direction) *atomic.Pointer[Active] {
	if d == From {
		return &p.from
	}
	return &p.to
}

// Active is the fault of a direction, nil if there is none.
func (p *Point) Active(d Direction) *Active { return p.pointer(d).Load() }

// Set injects a fault into a direction, in place of the one that is there. The spec must have passed Check. If it has
// For, expired is called at the end of that time, on a goroutine of its own: it has to call Clear, if the fault is still
// the active one.
func (p *Point) Set(d Direction, spec Spec, expired func(*Active)) *Active {
	a := &Active{Spec: spec}
	out := p.Port.Ingress
	if d == To {
		out = p.toDevice(a)
		spec.Seed = ^spec.Seed // or both directions would lose the same frames
	}
	a.injector = New(spec, out)
	p.Clear(d)
	if spec.For > 0 {
		a.Ends = time.Now().Add(spec.For)
		a.timer = time.AfterFunc(spec.For, func() { expired(a) })
	}
	p.pointer(d).Store(a)
	return a
}

// Clear removes the fault of a direction. Frames that wait in it go on before any frame that comes later. It returns
// the fault, nil if there was none.
func (p *Point) Clear(d Direction) *Active {
	a := p.Active(d)
	if a == nil {
		return nil
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	a.injector.Close()
	p.pointer(d).Store(nil)
	return a
}

// Sync waits until every call by which a fault of direction From was handing frames to the switch when Sync was called has returned.
func (p *Point) Sync() {
	if a := p.Active(From); a != nil {
		a.injector.Sync()
	}
}

// Ingress takes frames that the device has received, lent for the call.
func (p *Point) Ingress(frames []ether.Frame) {
	p.Port.MarkUp()
	if a := p.from.Load(); a != nil {
		a.injector.Process(frames)
		return
	}
	p.Port.Ingress(frames)
}

var frameLists = sync.Pool{New: func() any { return new([]ether.Frame) }}

// Send sends frames to the device; it is the port's vswitch.Sender. With a fault, a frame counts as sent if anything of
// it goes on, now or later, and as refused if all of it is lost: so offered = tx + refused for every port. What the
// device refuses afterwards is counted in Active.Refused.
func (p *Point) Send(frames []*ether.Frame) (sent, bytes int) {
	a := p.to.Load()
	if a == nil {
		return p.device.Send(frames)
	}
	list := frameLists.Get().(*[]ether.Frame)
	for _, f := range frames { // copied, since other ports may be sent the same frame
		g := *f
		g.Fault = 0 // the marks of another fault were shown there
		*list = append(*list, g)
	}
	sent, bytes = a.injector.Process(*list)
	clear(*list)
	*list = (*list)[:0]
	frameLists.Put(list)
	return sent, bytes
}

// toDevice is the output of a fault on the way to the device. One call runs at a time.
func (p *Point) toDevice(a *Active) func([]ether.Frame) {
	var passed []*ether.Frame
	return func(frames []ether.Frame) {
		for i := range frames {
			f := &frames[i]
			if f.Fault != 0 {
				p.Port.WatchFaulted(f)
			}
			if f.Fault&ether.FaultLost == 0 {
				passed = append(passed, f)
			}
		}
		if len(passed) > 0 {
			sent := 0
			if !p.Port.IsDown() { // it may have gone down since the frames entered the fault
				sent, _ = p.device.Send(passed)
			}
			a.refused.Add(uint64(len(passed) - sent))
		}
		clear(passed)
		passed = passed[:0]
	}
}
