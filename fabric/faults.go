package fabric

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/fault"
)

// Faults make a network bad on request. They are kept in memory, with their port: a restart of the daemon ends them, and so
// does anything that creates the port again, such as the start of a container.

// A Direction is one of the two directions of a port.
type Direction = fault.Direction

const (
	From = fault.From
	To   = fault.To
)

// FaultView is the fault of one direction of one port.
type FaultView struct {
	Network   string // id
	VNI       uint32
	Kind      string // PortView's
	Name      string // PortView's
	Direction Direction
	Spec      fault.Spec    // with the seed that is used if none was given
	Left      time.Duration // until it ends by itself; 0: it does not
	Stats     fault.Stats
	Refused   uint64 // frames that passed the fault and that the port's device refused; they are not in PortView.Refused
}

// clearFault removes the fault of one direction, if there is one, and returns whether there was. Frames that wait in it
// go on before any frame that comes later.
func (f *Fabric) clearFault(p *fault.Point, d Direction, why string) bool {
	a := p.Clear(d)
	if a == nil {
		return false
	}
	f.log.Info("fault cleared", "network", p.Network, "port", p.Port.Name, "direction", d, "fault", a.Spec.String(),
		"why", why)
	return true
}

// clearFaults removes the faults of both directions, before the port's device is closed.
func (f *Fabric) clearFaults(p *fault.Point) {
	f.clearFault(p, From, "its port goes")
	f.clearFault(p, To, "its port goes")
}

// synchronize returns when nobody sends any more to a port that was detached before: neither a worker, nor a fault that
// has delayed frames.
func (f *Fabric) synchronize() {
	f.cfg.Poller.Sync()
	for _, p := range f.faultPoints() {
		p.Sync()
	}
}

// faultPoints are those of all ports that are attached, in no order.
func (f *Fabric) faultPoints() iter.Seq2[*network, *fault.Point] {
	return func(yield func(*network, *fault.Point) bool) {
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

// SetFault sets the fault of one direction of a port, in place of the one that is there. name is an endpoint's id, or a
// remote host's address for its ports in all networks. It is ErrNoEndpoint if there is no such port.
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
	for _, p := range f.faultPoints() {
		if p.Port.Name == name {
			found = true
			f.applyFault(p, d, spec)
		}
	}
	if !found {
		return f.portDownOrUnknown(name)
	}
	return nil
}

func (f *Fabric) applyFault(p *fault.Point, d Direction, spec fault.Spec) {
	f.clearFault(p, d, "another takes its place")
	p.Set(d, spec, func(a *fault.Active) { f.expire(p, d, a) })
	f.log.Info("fault set", "network", p.Network, "port", p.Port.Name, "direction", d, "fault", spec.String(),
		"seed", spec.Seed, "for", spec.For)
}

// expire ends a fault whose time is over, if it is still active.
func (f *Fabric) expire(p *fault.Point, d Direction, a *fault.Active) {
	if f.acquire(context.Background()) != nil {
		return
	}
	defer f.release()
	if p.Active(d) == a {
		f.clearFault(p, d, "its time is over")
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
	for _, p := range f.faultPoints() {
		if name != "" && p.Port.Name != name {
			continue
		}
		found = true
		for _, dir := range []Direction{From, To} {
			if (d == "" || d == dir) && f.clearFault(p, dir, "as asked") {
				cleared++
			}
		}
	}
	if !found {
		return 0, f.portDownOrUnknown(name)
	}
	return cleared, nil
}

// Faults returns what is set, by network, port and direction.
func (f *Fabric) Faults() []FaultView {
	defer f.locked()()
	return f.faults()
}

func (f *Fabric) faults() []FaultView {
	var all []FaultView
	for n, p := range f.faultPoints() {
		for _, d := range []Direction{From, To} {
			a := p.Active(d)
			if a == nil {
				continue
			}
			v := FaultView{Network: n.ID, VNI: n.VNI, Kind: "container", Name: p.Port.Name, Direction: d, Spec: a.Spec,
				Stats: a.Stats(), Refused: a.Refused()}
			if p.Port.Uplink {
				v.Kind = "remote"
			} else if e := n.endpoints[p.Port.Name]; e != nil {
				v.Kind = n.kind(e)
			}
			if !a.Ends.IsZero() {
				v.Left = max(time.Until(a.Ends), 1)
			}
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b FaultView) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), strings.Compare(a.Name, b.Name), cmp.Compare(a.Direction, b.Direction))
	})
	return all
}
