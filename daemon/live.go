package daemon

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fabric/view"
	"github.com/tapestry-net/tapestry/metrics"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Live is what there is on this host, as the fabric tells it: networks with their switches, ports with what carries them. Reading it takes
// no lock: whoever reads the counters of a thousand ports lets no call of Docker's wait.
type Live struct {
	networks sync.Map // by id: liveNetwork
	ports    sync.Map // by number: *livePort
	gone     [view.PortOffloads]offloadCount
}

type liveNetwork struct {
	fabric.Network
	sw *vswitch.Switch
}

// A livePort is a port. Either its dev or its link is nil.
type livePort struct {
	fabric.PortView // without counts
	mtu             atomic.Int64
	dev             fabric.ObservedDevice
	link            *tunnel.Link
}

type offloadCount struct{ refused, resent atomic.Uint64 }

func (l *Live) add(n fabric.Network, sw *vswitch.Switch) { l.networks.Store(n.ID, liveNetwork{n, sw}) }

func (l *Live) remove(network string) { l.networks.Delete(network) }

func (l *Live) plug(v fabric.PortView, dev fabric.ObservedDevice, link *tunnel.Link) {
	p := &livePort{PortView: v, dev: dev, link: link}
	p.mtu.Store(int64(v.MTU))
	l.ports.Store(v.Number, p)
}

func (l *Live) setMTU(number uint32, mtu int) {
	if p, ok := l.ports.Load(number); ok {
		p.(*livePort).mtu.Store(int64(mtu))
	}
}

// unplug forgets a port, but not what its offloads have counted. These are added after it is gone: a reader who comes in between finds
// less than before, which he can tell from a loss, and never the same twice.
func (l *Live) unplug(number uint32) {
	v, ok := l.ports.LoadAndDelete(number)
	if !ok {
		return
	}
	for i, o := range v.(*livePort).offloads() {
		l.gone[i].refused.Add(o.Refused)
		l.gone[i].resent.Add(o.Resent)
	}
}

// goneOffloads are the counts of the offloads of ports that are gone.
func (l *Live) goneOffloads() (all []metrics.Offload) {
	for i, o := range view.Offloads()[:view.PortOffloads] {
		all = append(all, metrics.Offload{Name: o.Name, Refused: l.gone[i].refused.Load(), Resent: l.gone[i].resent.Load()})
	}
	return all
}

// offloads are view.Offloads of a port.
func (p *livePort) offloads() []fabric.OffloadView {
	all := view.Offloads()[:view.PortOffloads]
	view.AddPort(all, p.dev, p.link)
	return all
}

// A countedPort is a livePort with its port of the switch.
type countedPort struct {
	*livePort
	at *vswitch.Port
}

// sorted are the networks, by id, and their ports: first those of containers and of this host, then remotes, each in the order in which
// they came.
func (l *Live) sorted() (networks []liveNetwork, ports []countedPort) {
	l.networks.Range(func(_, v any) bool {
		networks = append(networks, v.(liveNetwork))
		return true
	})
	slices.SortFunc(networks, func(a, b liveNetwork) int { return cmp.Compare(a.ID, b.ID) })
	for _, n := range networks {
		for _, at := range n.sw.Ports() {
			if p, ok := l.ports.Load(at.Number); ok { // a remote's may have been told and not attached yet, or the other way round
				ports = append(ports, countedPort{p.(*livePort), at})
			}
		}
	}
	slices.SortFunc(ports, func(a, b countedPort) int {
		if a.at.Uplink != b.at.Uplink {
			return cmp.Compare(boolInt(a.at.Uplink), boolInt(b.at.Uplink))
		}
		return cmp.Compare(a.Number, b.Number)
	})
	return networks, ports
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// host is the address of the remote host that the port leads to; the zero Addr of a container's port, and of a multicast group's.
func (p *livePort) host() netip.Addr {
	if p.link == nil || p.link.Peer() == nil {
		return netip.Addr{}
	}
	return p.link.Host.Addr()
}
