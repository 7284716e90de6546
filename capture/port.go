package capture

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Targets are the ports that a Sink looks at. A frame is wanted if it comes in or leaves by one of them; a flooded one
// also if one of them is on its network. The zero Targets are all.
type Targets struct {
	Some      bool            // only these:
	Endpoints map[string]bool // by Port.Name
	Networks  map[string]bool
	Peers     map[string]bool // by Port.Name
	Sandboxes map[string]bool
	StartedAt map[string]int64 // by Port.Name or Sandbox, ns since 1970: ports that came before are not its, whatever their address
	New       bool             // ports that came after the Sink was opened,
	Since     uint32           // with a Number above this one
}

func (t *Targets) match(p *Port, since uint32) bool {
	switch {
	case !t.Some, t.Networks[p.Network]:
		return true
	case p.Remote && t.Peers[p.Name], !p.Remote && t.Endpoints[p.Name], p.Sandbox != "" && t.Sandboxes[p.Sandbox]:
		return true
	}
	return t.New && p.Number > max(since, t.Since)
}

// A selection is what Targets mean just now.
type selection struct {
	all      bool
	ports    map[uint32]bool // by Number
	networks map[string]bool // that have such a port
}

// maxDetached is how many ports are remembered that have gone: a ring may hold frames of them.
const maxDetached = 4096

// A portTable is the ports that there are, and those that were there lately.
type portTable struct {
	all      map[uint32]*Port // by Number
	attached map[uint32]bool
	detached []uint32 // oldest first
	newest   uint32
}

func newPortTable() portTable {
	return portTable{all: make(map[uint32]*Port), attached: make(map[uint32]bool)}
}

// update makes a port that is there another, and gives that; nil if it is not there. Who looks at the old one has no lock.
func (d *portTable) update(number uint32, what func(*Port)) *Port {
	if !d.attached[number] {
		return nil
	}
	p := *d.all[number]
	what(&p)
	d.all[number] = &p
	return &p
}

// Plug tells of a new port, before its first frame.
func (h *Hub) Plug(p Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &h.ports
	p.AttachedAt = time.Now().UnixNano()
	d.all[p.Number], d.attached[p.Number], d.newest = &p, true, max(d.newest, p.Number)
	h.addPort(&p)
}

// addPort lets each Sink take a port that it is to look at. It needs the lock.
func (h *Hub) addPort(p *Port) {
	for _, s := range h.subscribers {
		// Those that overwrite look at all, and tell of none.
		if !s.ring.overwrite && s.targets.match(p, s.since) && !s.selected.Load().ports[p.Number] {
			s.selectPort(p)
		}
	}
}

// SetMTU tells that a port's way carries other packets than it did: the path MTU to a remote host is another.
func (h *Hub) SetMTU(number uint32, mtu int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports.update(number, func(p *Port) { p.MTU = mtu })
}

// SetSandbox tells of a port which container it will have.
func (h *Hub) SetSandbox(number uint32, sandbox string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.ports.update(number, func(p *Port) { p.Sandbox = sandbox }); p != nil && sandbox != "" {
		h.addPort(p)
	}
}

// SetAddrs tells that a container has other addresses than it had: one was given to another container.
func (h *Hub) SetAddrs(number uint32, addrs []netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports.update(number, func(p *Port) { p.Addrs = addrs })
}

// Unplug tells that a port has gone.
func (h *Hub) Unplug(number uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &h.ports
	if d.update(number, func(p *Port) { p.DetachedAt = time.Now().UnixNano() }) == nil {
		return
	}
	delete(d.attached, number)
	if d.detached = append(d.detached, number); len(d.detached) > maxDetached {
		delete(d.all, d.detached[0])
		d.detached = slices.Delete(d.detached, 0, 1)
	}
}

// port gives what is known of a port, also if it has just gone; nil if nothing is.
func (h *Hub) port(number uint32) *Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ports.all[number]
}

// neighbours are the other ports of a port's network.
func (h *Hub) neighbours(p *Port) (all []*Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for number := range h.ports.attached {
		if q := h.ports.all[number]; q.Network == p.Network && q.Number != p.Number {
			all = append(all, q)
		}
	}
	slices.SortFunc(all, func(a, b *Port) int { return int(a.Number) - int(b.Number) })
	return all
}

// SetTargets changes which ports the Sink looks at.
func (s *Subscriber) SetTargets(t Targets) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.setTargets(t)
}

// setTargets needs the hub's lock.
func (s *Subscriber) setTargets(t Targets) {
	s.targets = t
	before := s.selected.Load()
	now := &selection{all: !t.Some, ports: make(map[uint32]bool), networks: make(map[string]bool)}
	d := &s.hub.ports
	for _, number := range slices.Sorted(maps.Keys(d.attached)) {
		if p := d.all[number]; !s.ring.overwrite && t.match(p, s.since) {
			now.ports[number], now.networks[p.Network] = true, true
			if before == nil || !before.ports[number] {
				s.newPorts = append(s.newPorts, p)
			}
		}
	}
	s.selected.Store(now)
	s.ring.notify()
}

// selectPort looks at one port more. It needs the hub's lock.
func (s *Subscriber) selectPort(p *Port) {
	before := s.selected.Load()
	now := &selection{all: before.all, ports: maps.Clone(before.ports), networks: maps.Clone(before.networks)}
	now.ports[p.Number], now.networks[p.Network] = true, true
	if here := s.hub.ports.attached; len(now.ports) > 2*len(here)+64 { // some have gone, and the ring has no frame of them any more
		maps.DeleteFunc(now.ports, func(number uint32, _ bool) bool { return !here[number] })
	}
	s.selected.Store(now)
	s.newPorts = append(s.newPorts, p)
	s.ring.notify()
}

// NewPorts gives the ports that the Sink looks at since it was last asked.
func (s *Subscriber) NewPorts() []*Port {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	fresh := s.newPorts
	s.newPorts = nil
	return fresh
}

// Selects tells whether the Sink looks at a port.
func (s *Subscriber) Selects(number uint32) bool {
	now := s.selected.Load()
	return now.all || now.ports[number]
}

// Ports gives the targets that there are, and those that have gone and are remembered, by Number.
func (h *Hub) Ports(t Targets) (all []*Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, number := range slices.Sorted(maps.Keys(h.ports.all)) {
		if p := h.ports.all[number]; t.match(p, h.ports.newest) {
			all = append(all, p)
		}
	}
	return all
}

// Matcher gives what tells whether a record is of the targets: of the ports that there are, and of those that have gone and
// had the same address before them.
func (h *Hub) Matcher(t Targets) func(*Record) bool {
	if !t.Some {
		return func(*Record) bool { return true }
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	type end struct {
		network string
		addr    netip.Addr
	}
	ports, at, ends := make(map[uint32]*Port), make(map[uint32]string), make(map[end][]*Port)
	for number, p := range h.ports.all {
		at[number] = p.Network
		if t.match(p, h.ports.newest) {
			ports[number] = p
			for _, a := range p.Addrs {
				at := end{p.Network, a.Addr()}
				ends[at] = append(ends[at], p)
			}
		}
	}
	for number, p := range h.ports.all { // a container that was started again has another endpoint, with its old address
		if !h.ports.attached[number] && slices.ContainsFunc(p.Addrs, func(a netip.Prefix) bool {
			return slices.ContainsFunc(ends[end{p.Network, a.Addr()}], func(later *Port) bool {
				return number < later.Number && p.AttachedAt >= max(t.StartedAt[later.Name], t.StartedAt[later.Sandbox])
			})
		}) {
			ports[number] = p
		}
	}
	neighbours := make(map[string][]*Port)
	for _, p := range ports {
		neighbours[p.Network] = append(neighbours[p.Network], p)
	}
	now := time.Now().UnixNano()
	return func(r *Record) bool {
		if ports[r.In] != nil || ports[r.Out] != nil {
			return true
		}
		return r.Verdict == vswitch.Flooded && slices.ContainsFunc(neighbours[at[r.In]], func(p *Port) bool {
			if p.DetachedAt == 0 {
				return p.AttachedAt <= r.Time || p.AttachedAt > now // by a clock that was wrong then
			}
			return p.AttachedAt <= r.Time && r.Time <= p.DetachedAt
		})
	}
}
