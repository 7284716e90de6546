package fabric

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/fabric/guard"
	"github.com/tapestry-net/tapestry/fabric/paths"
	"github.com/tapestry-net/tapestry/fabric/view"
	"github.com/tapestry-net/tapestry/fabric/vtep"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// The views are what Fabric says to people and programs.
type (
	Status         = view.Status
	Conflict       = view.Conflict
	Trip           = view.Trip
	NetworkView    = view.Network
	Settings       = view.Settings
	PortView       = view.Port
	Observer       = view.Observer
	ObservedDevice = view.Device
	EntryView      = view.Entry
	PeerView       = view.Peer
	Path           = paths.Path
	DropCounts     = vtep.Counts
	Addrs          = vtep.Addrs
	PeerTest       = view.PeerTest
	Health         = view.Health
	Ways           = view.Ways
	OffloadView    = view.Offload
	TraceRequest   = view.TraceRequest
	TraceView      = view.Trace
	TraceStep      = view.TraceStep
	TraceEgress    = view.TraceEgress
	TracePort      = view.TracePort
)

// Path is the route to another host as it was found last, and Dropped are the datagrams that no tunnel took, as of the last tick. Neither
// waits for the lock.
func (f *Fabric) Path(host netip.Addr) (paths.Path, bool) { return f.paths.Known(host) }
func (f *Fabric) Dropped() vtep.Counts                    { return f.drops.Last() }

// locked takes the lock without a time limit, and returns what releases it.
func (f *Fabric) locked() func() {
	_ = f.acquire(context.Background())
	return f.release
}

// Status returns the daemon's state at a glance.
func (f *Fabric) Status() Status {
	defer f.locked()()
	drops := f.drops.Read(f.vtep)
	s := Status{Port: f.cfg.Port, Tunnel: "closed", Workers: f.cfg.Poller.Workers(), Networks: len(f.networks), RxDropped: drops.Rx, KernelDropped: drops.Kernel}
	s.Offloads = f.offloads()
	s.Faults = len(f.faults())
	s.VTEP, _ = f.underlay()
	s.Second = f.cfg.Second
	switch {
	case f.vtep != nil:
		s.Tunnel, s.SecondWhy = "open", errorText(f.vtep.SecondWhy)
	case f.vtepWhy != nil:
		s.Tunnel, s.Why = "down", f.vtepWhy.Error()
	}
	for _, n := range f.sorted() {
		s.Endpoints += n.containers()
		for _, e := range n.endpoints {
			if e.downReason() != nil {
				s.Down++
			}
		}
		s.Trips = append(s.Trips, guard.Trips(n.ID, n.sw)...)
		for entry := range n.sw.Entries() {
			if entry.SpoofedBy == nil {
				continue
			}
			c := Conflict{Network: n.ID, MAC: entry.MAC, Owner: entry.Port.Name, Rival: entry.SpoofedBy.Name, Count: entry.Spoofed}
			if e := n.endpoints[c.Owner]; e != nil {
				c.Addrs = e.Addrs
			}
			s.Conflicts = append(s.Conflicts, c)
		}
	}
	return s
}

// Networks returns every network, by id.
func (f *Fabric) Networks() []NetworkView {
	defer f.locked()()
	var all []NetworkView
	for _, n := range f.sorted() {
		t := n.sw.Tally()
		v := NetworkView{Network: n.Network, Settings: guard.Settings(&n.Network, &Endpoint{}), Endpoints: n.containers(), Down: errorText(n.down),
			Rx: t.Rx(), Forwarded: t[vswitch.Forwarded], Flooded: t[vswitch.Flooded], Answered: t[vswitch.Answered], TooBig: n.sw.TooBig(), Lowered: n.sw.Lowered(), Drops: t.Drops()}
		v.Peers = n.peers
		v.LinkMTU, _ = f.linkMTU(n)
		for e := range n.sw.Entries() {
			if !e.Group {
				v.Stations++
			}
		}
		all = append(all, v)
	}
	return all
}

// selected returns the networks that a reader asked for: one id, or all with "".
func (f *Fabric) selected(id string) []*network {
	all := f.sorted()
	if id == "" {
		return all
	}
	return slices.DeleteFunc(all, func(n *network) bool { return n.ID != id })
}

// Ports returns the ports of one network, or of all with "": containers first.
func (f *Fabric) Ports(network string) []PortView {
	defer f.locked()()
	var all []PortView
	found, _ := f.links.List(f.tag()) // on an error, Missed stays 0
	for _, n := range f.selected(network) {
		for _, live := range n.sortedEndpoints() {
			v := f.containerView(n, live)
			v.Missed = found[live.ID].Overruns
			v.Count(live.port)
			all = append(all, v)
		}
		for _, r := range n.sortedRemotes() {
			s := r.link.Stats()
			v := n.remoteView(r)
			v.Down = errorText(f.path(r.addr.Addr()).Err)
			v.WireTx, v.WireRx = s.WireTx, s.WireRx
			v.Count(r.port)
			all = append(all, v)
		}
	}
	return all
}

// containerView is a container's port without counts.
func (f *Fabric) containerView(n *network, e *endpoint) PortView {
	spec := f.spec(n, e)
	return PortView{Network: n.ID, VNI: n.VNI, Kind: n.kind(e), Name: e.ID, Link: spec.Link(),
		MAC: e.MAC, Addrs: e.Addrs, Sandbox: cmp.Or(e.joined, e.Sandbox), MTU: e.MTU, Settings: guard.Settings(&n.Network, &e.Endpoint), Down: errorText(e.downReason())}
}

// remoteView is a remote host's port without counts.
func (n *network) remoteView(r *remote) PortView {
	return PortView{Number: r.port.Number, Network: n.ID, VNI: n.VNI, Kind: "remote", Name: r.port.Name, MTU: r.innerMTU(), Settings: guard.SettingsOfRemote(&n.Network),
		Addrs: []netip.Prefix{netip.PrefixFrom(r.addr.Addr(), r.addr.Addr().BitLen())}}
}

// sortedEndpoints are by id; the host's is the last one.
func (n *network) sortedEndpoints() []*endpoint {
	return slices.SortedFunc(maps.Values(n.endpoints), func(a, b *endpoint) int { return strings.Compare(a.ID, b.ID) })
}

func (n *network) sortedRemotes() []*remote {
	return slices.SortedFunc(maps.Values(n.remotes), func(a, b *remote) int { return a.addr.Compare(b.addr) })
}

func (r *remote) innerMTU() int { return r.mtu - tunnel.Overhead(r.addr.Addr().Is6()) }

// Entries returns the forwarding database of one network, or of all with "", by MAC.
func (f *Fabric) Entries(network string) []EntryView {
	defer f.locked()()
	var all []EntryView
	for _, n := range f.selected(network) {
		first := len(all)
		for e := range n.sw.Entries() {
			all = append(all, EntryView{Network: n.ID, VNI: n.VNI, MAC: e.MAC, Port: e.Port.Name,
				Remote: e.Port.Uplink, Pinned: e.Pinned, Group: e.Group, Age: e.Age})
		}
		slices.SortFunc(all[first:], func(a, b EntryView) int { return strings.Compare(string(a.MAC[:]), string(b.MAC[:])) })
	}
	return all
}

// Peers returns the remote hosts of one network, or of all with "".
func (f *Fabric) Peers(network string) []PeerView {
	defer f.locked()()
	now := f.now()
	tests := make(map[netip.Addr]PeerTest)
	for _, t := range f.vtep.Tests(now) {
		tests[t.Addr.Addr()] = t
	}
	var all []PeerView
	for _, n := range f.selected(network) {
		if n.VNI == 0 {
			continue
		}
		for _, p := range f.peersOf(n) {
			a := p.addr
			v := PeerView{Network: n.ID, VNI: n.VNI, Addr: a, Default: n.peers == nil && p.node == nil && p.seat == nil && !p.group && !p.learned, Name: p.name, Group: p.group, Learned: p.learned, Heard: -1}
			if p.name != "" {
				v.NameDown = errorText(f.names.Answer(p.name).Err)
			}
			if p.node != nil {
				v.Node, v.Left = true, !p.node.Left.IsZero()
			}
			if p.seat != nil {
				v.Host, v.HostState = p.seat.Name, p.seat.State.String()
			}
			if r := n.remotes[a.Addr()]; r != nil {
				s, p := r.link.Stats(), r.port.Stats()
				v.MTU, v.PathMTU, v.Test = r.innerMTU(), r.mtu, tests[a.Addr()]
				v.Count(s, p)
				switch {
				case s.WireRx != r.rx: // since the last tick
					v.Heard = 0
				case r.lastRx != 0:
					v.Heard = (now - r.lastRx).Truncate(time.Second)
				}
			}
			switch {
			case n.remotes[a.Addr()] == nil && n.down != nil:
				v.Down = errorText(n.down)
			case n.remotes[a.Addr()] == nil:
				v.Down = errorText(cmp.Or(tunnel.CheckPeer(f.towards(p), a.Addr()), errUnmade))
			default:
				v.Down = errorText(f.path(a.Addr()).Err)
			}
			all = append(all, v)
		}
		all = append(all, f.unnamed(n)...)
	}
	return all
}

// errUnmade is PeerView.Down of a node of the Swarm whose link could not be made, or not yet.
var errUnmade = errors.New("the link to it is not made yet; it is tried again every 5 s")

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
