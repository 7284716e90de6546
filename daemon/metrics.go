package daemon

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/member"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fabric/view"
	"github.com/tapestry-net/tapestry/metrics"
	"github.com/tapestry-net/tapestry/plugin"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// How many are shown to Prometheus; what is beyond is counted as left out. A port has about ten series, a peer ten.
const (
	maxShownNetworks = 1000
	maxShownPorts    = 2000
	maxShownPeers    = 2000
)

// Meter reads what Prometheus is told. It never waits for the fabric's lock.
type Meter struct {
	Live     *Live
	Captures *Captures
	Workers  int

	// These are nil where there is none.
	Path      func(host netip.Addr) (fabric.Path, bool)
	Dropped   func() fabric.DropCounts
	CallCount func() []plugin.CallCount
	Events    *events.Bus
	Cluster   *member.Member

	mu   sync.Mutex // guards what follows; only scrapes take it
	last [view.PortOffloads]struct{ refused, resent uint64 }
}

// Read is a snapshot.
func (m *Meter) Read() *metrics.Snapshot {
	offloads := m.Live.goneOffloads() // read before what is there: see Live.unplug
	networks, ports := m.Live.sorted()
	s := &metrics.Snapshot{Workers: m.Workers, LeftOut: map[string]int{"networks": 0, "ports": 0, "peers": 0}, Offloads: m.offloads(offloads, ports)}
	endpoints := make(map[string]int)
	for _, p := range ports {
		if !p.at.Uplink {
			endpoints[p.Network]++
		}
	}
	shown := make(map[string]bool)
	for i, n := range networks {
		if i == maxShownNetworks {
			s.LeftOut["networks"] = len(networks) - i
			break
		}
		shown[n.ID] = true
		s.Networks = append(s.Networks, ofNetwork(n, endpoints[n.ID]))
	}
	names := m.names(networks)
	for i := range ports {
		if p := &ports[i]; len(s.Ports) < maxShownPorts && shown[p.Network] {
			s.Ports = append(s.Ports, ofPort(p, names))
			if p.link != nil {
				s.Links = append(s.Links, ofLink(p))
			}
		} else {
			s.LeftOut["ports"]++
		}
	}
	m.addPeers(s, ports)
	if m.Dropped != nil {
		drops := m.Dropped()
		s.TunnelDrops, s.HostDrops = drops.Rx, drops.Kernel
	}
	if c := m.Captures; c != nil {
		running, waiting, read, lost := c.totals()
		s.Captures = map[string]int{"running": running, "waiting": waiting}
		s.CaptureFrames = map[string]uint64{"read": read, "lost": lost}
		r := c.Recorder.State()
		s.Recorder = metrics.Recorder{Bytes: r.Bytes, Kept: r.Kept, Drops: r.Drops}
	}
	if m.Events != nil {
		s.Events = m.Events.Counts()
	}
	if m.CallCount != nil {
		s.Calls = api.Map(m.CallCount(), func(c plugin.CallCount) metrics.Calls {
			return metrics.Calls{Method: c.Method, Count: c.Calls, Errors: c.Errors, Seconds: c.Seconds, Buckets: c.Within}
		})
	}
	return s
}

func ofNetwork(n liveNetwork, endpoints int) metrics.Network {
	t := n.sw.Tally()
	r := metrics.Network{ID: api.ShortID(n.ID), VNI: strconv.FormatUint(uint64(n.VNI), 10), Key: n.Key, Endpoints: endpoints,
		Forwarded: t[vswitch.Forwarded], Flooded: t[vswitch.Flooded], Answered: t[vswitch.Answered], TooBig: n.sw.TooBig(), Lowered: n.sw.Lowered(), Moves: n.sw.Moves(), Drops: t.Drops()}
	for e := range n.sw.Entries() {
		if e.Pinned {
			r.Pinned++
		} else {
			r.Learned++
		}
	}
	return r
}

func ofPort(p *countedPort, names map[nameKey]string) metrics.Port {
	c := p.at.Stats()
	r := metrics.Port{Network: api.ShortID(p.Network), Port: portName(p), Kind: p.Kind, Up: !p.at.MarkedDown(), MTU: int(p.mtu.Load()),
		RxFrames: c.Rx.Rx(), RxBytes: c.RxBytes, TxFrames: c.Tx, TxBytes: c.TxBytes, Refused: c.Refused}
	r.Name = r.Port
	for _, a := range p.Addrs {
		if name := names[nameKey{p.Network, a.Addr()}]; name != "" {
			r.Name = name
			break
		}
	}
	for v, n := range c.Rx {
		if v := vswitch.Verdict(v); n > 0 && v.Drop() {
			if r.Drops == nil {
				r.Drops = make(map[string]uint64)
			}
			r.Drops[v.String()] = n
		}
	}
	return r
}

// portName is a container's short endpoint id, or a remote's address as it is.
func portName(p *countedPort) string {
	if p.link != nil {
		return p.Name
	}
	return api.ShortID(p.Name)
}

func ofLink(p *countedPort) metrics.Link {
	c := p.link.Stats()
	return metrics.Link{Network: api.ShortID(p.Network), Peer: p.Name, Tx: c.WireTx, Rx: c.WireRx,
		Lost: map[string]uint64{"full": c.Full, "long": c.Long, "failed": c.Failed}}
}

// addPeers adds the hosts that the remotes among ports lead to, and those of the cluster.
func (m *Meter) addPeers(s *metrics.Snapshot, ports []countedPort) {
	known := make(map[netip.Addr]bool)
	for _, p := range ports {
		host := p.host()
		if !host.IsValid() || known[host] {
			continue
		}
		if known[host] = true; len(s.Peers) == maxShownPeers {
			s.LeftOut["peers"]++
			continue
		}
		state := p.link.Peer().State()
		r := metrics.Peer{Addr: host.String(), Up: true, Answers: state.Answers, Test: string(state.Result), RoundTrip: state.RTT}
		if state.Health != nil {
			r.Ways = waysOf(state.Health)
		}
		if m.Path != nil {
			if path, ok := m.Path(host); ok {
				r.Up, r.PathMTU = path.Err == nil, path.MTU
			}
		}
		s.Peers = append(s.Peers, r)
	}
	if m.Cluster == nil {
		return
	}
	for _, h := range m.Cluster.Directory.Hosts() {
		if len(s.Hosts) == maxShownPeers {
			break // they are peers as well, which are counted as left out
		}
		s.Hosts = append(s.Hosts, metrics.Host{Name: h.Name, Addr: h.VTEP.Addr().String(), State: h.State.String()})
	}
}

// waysOf are the shares of what was sent on the way there and back.
func waysOf(h *tunnel.Health) (all []metrics.Way) {
	for _, w := range []struct {
		name                              string
		sent, lost, reordered, duplicated int
	}{{"there", h.Sent.There, h.Lost.There, h.Reordered.There, h.Duplicated.There}, {"back", h.Sent.Back, h.Lost.Back, h.Reordered.Back, h.Duplicated.Back}} {
		if w.sent > 0 {
			sent := float64(w.sent)
			all = append(all, metrics.Way{Name: w.name, Lost: float64(w.lost) / sent, Reordered: float64(w.reordered) / sent, Duplicated: float64(w.duplicated) / sent})
		}
	}
	return all
}

// offloads adds the offloads of all ports to those of ports that are gone.
func (m *Meter) offloads(all []metrics.Offload, ports []countedPort) []metrics.Offload {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range ports {
		for i, o := range p.offloads() {
			all[i].Users, all[i].Off = all[i].Users+o.Users, all[i].Off+o.Off
			all[i].Refused, all[i].Resent = all[i].Refused+o.Refused, all[i].Resent+o.Resent
		}
	}
	for i := range all {
		last := &m.last[i]
		last.refused, last.resent = max(last.refused, all[i].Refused), max(last.resent, all[i].Resent)
		all[i].Refused, all[i].Resent = last.refused, last.resent
	}
	return all
}

// nameKey is an address on a network, by its id.
type nameKey struct {
	network string
	addr    netip.Addr
}

// names are the names of this host's containers that tapestry resolver has told: of several that one has, the shortest.
func (m *Meter) names(networks []liveNetwork) map[nameKey]string {
	if m.Cluster == nil {
		return nil
	}
	ids := make(map[string]string)
	for _, n := range networks {
		ids[n.Key] = n.ID
	}
	all := make(map[nameKey]string)
	told := slices.SortedFunc(slices.Values(m.Cluster.OwnNames()), func(a, b cluster.Name) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	for _, n := range told {
		for _, a := range n.Addrs {
			if key := (nameKey{ids[n.Key], a}); n.Key != "" && all[key] == "" {
				all[key] = n.Name
			}
		}
	}
	return all
}
