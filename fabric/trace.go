package fabric

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/view"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Trace tells what the switch would do with a frame that a port received. It asks the functions that decide it, and changes
// nothing. With Inject the frame is then really sent, as if the port had received it. A port that is down is no error; one
// that does not exist is ErrNoEndpoint or ErrNoPeer.
func (f *Fabric) Trace(ctx context.Context, r TraceRequest) (TraceView, error) {
	if len(r.Frame) > ether.MaxFrame {
		return TraceView{}, fmt.Errorf("a frame of %d bytes: want %d at most", len(r.Frame), ether.MaxFrame)
	}
	if err := f.acquire(ctx); err != nil {
		return TraceView{}, err
	}
	defer f.release()
	n, err := f.network(r.Network)
	if err != nil {
		return TraceView{}, err
	}
	f.checkCarriers()
	port, down, err := f.portOf(n, r.Port)
	if err != nil {
		return TraceView{}, err
	}
	v := TraceView{Network: n.ID, VNI: n.VNI, Down: errorText(n.down), Bytes: len(r.Frame),
		In: f.tracePort(n, r.Port, From, r.Off.Kind)}
	if port == nil {
		v.Verdict, v.Drop = vswitch.Detached.String(), true
		v.Steps = []TraceStep{{Check: string(vswitch.CheckPort), Found: "down", Drop: true, Why: errorText(down)}}
		return v, nil
	}
	frame := ether.Lend(append(make([]byte, ether.Headroom), r.Frame...), r.Off)
	if from := n.endpoints[r.Port]; from != nil {
		lanes, _ := from.lanes()
		frame = lanes.Tag(frame)
	}
	e := port.Explain(&frame)
	v.Verdict, v.Drop = e.Verdict.String(), e.Verdict.Drop()
	if checked := frame; checked.Check() == nil {
		v.Bytes = checked.WireLen()
	}
	for _, s := range e.Steps {
		v.Steps = append(v.Steps, f.traceStep(n, s, v.In.Faults))
	}
	for _, w := range e.Egress {
		v.Egress = append(v.Egress, TraceEgress{TracePort: f.tracePort(n, w.Port.Name, To, r.Off.Kind), Verdict: w.Verdict.String(), Limit: w.Limit})
	}
	if r.Inject {
		v.Injected = port.Inject(frame).String()
	}
	return v, nil
}

// portOf finds a port by its name. p is nil if the port is down, and down says why.
func (f *Fabric) portOf(n *network, name string) (p *vswitch.Port, down, err error) {
	if e, ok := n.endpoints[name]; ok {
		return e.port, e.down, nil
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return nil, nil, fmt.Errorf("endpoint %q of network %s: %w", short(name), short(n.ID), ErrNoEndpoint)
	}
	if r := n.remotes[addr]; r != nil {
		return r.port, nil, nil
	}
	if f.peerAt(n, addr).addr.IsValid() {
		return nil, n.down, nil
	}
	return nil, nil, fmt.Errorf("network %s: %w %s", short(n.ID), ErrNoPeer, addr)
}

// traceStep adds to a switch's step what the switch does not know.
func (f *Fabric) traceStep(n *network, s vswitch.Step, faults string) TraceStep {
	t := TraceStep{Check: string(s.Check), Found: s.Found, Drop: s.Drop, MAC: s.MAC, Addr: s.Addr, Age: s.Age, Limit: s.Limit}
	if s.Port != nil {
		t.Port = s.Port.Name
	}
	if s.Evict != nil {
		t.Evict = EntryView{Network: n.ID, VNI: n.VNI, MAC: s.Evict.MAC, Port: s.Evict.Port.Name,
			Remote: s.Evict.Port.Uplink, Age: s.Evict.Age}
	}
	switch s.Check {
	case vswitch.CheckFault:
		t.Why = faults
	case vswitch.CheckAnswer:
		if h, ok := f.cfg.Cluster.Directory.Voucher(n.Key, s.Addr); ok {
			t.Why = h.String()
		}
	case vswitch.CheckDestination:
		for _, e := range n.endpoints {
			if s.Port == nil && e.MAC == s.MAC {
				t.Port, t.Why = e.ID, errorText(e.down)
			}
		}
		for _, seat := range f.seats(n) {
			if r := n.remotes[seat.VTEP.Addr()]; s.Port == nil && r != nil && r.gone && seat.ID == f.cfg.Cluster.Directory.HostOf(n.Key, s.MAC) {
				t.Port, t.Why = r.port.Name, hostGone
			}
		}
	}
	return t
}

// hostGone is why a remote of the cluster gets no frames.
const hostGone = "the host is gone, as the cluster says, and does not answer"

// tracePort describes a port for a frame of a kind that goes in direction d.
func (f *Fabric) tracePort(n *network, name string, d Direction, kind ether.Kind) TracePort {
	t := TracePort{Name: name}
	for m, p := range f.faultPoints() {
		if active := p.Active(d); m == n && p.Port.Name == name && active != nil {
			t.Faults = active.Spec.String()
		}
	}
	if e, ok := n.endpoints[name]; ok {
		spec := f.spec(n, e)
		t.Kind, t.MTU, t.Link, t.Down = n.kind(e), e.MTU, spec.Link(), errorText(e.noCarrier)
		if e.dev != nil {
			why := e.dev.Offload(kind).Why
			t.GSO, t.GSOWhy = why == nil, view.ShortReason(why)
		}
		return t
	}
	t.Kind = "remote"
	if addr, err := netip.ParseAddr(name); err == nil && n.remotes[addr] != nil {
		r := n.remotes[addr]
		s := r.link.Stats()
		t.MTU, t.Addr, t.PathMTU, t.Overhead = r.innerMTU(), r.addr, r.mtu, tunnel.Overhead(r.addr.Addr().Is6())
		if t.Down = errorText(f.path(addr).Err); r.gone {
			t.Down = hostGone
		}
		t.GSO, t.GSOWhy, t.RemoteSum = s.GSO.Why == nil, view.ShortReason(s.GSO.Why), s.RemoteSum
		t.Sparse, t.Health = r.port.IsSparse(), f.vtep.Health(addr)
	}
	return t
}
