package capture

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Targets select ports. A frame is selected if such a port receives or sends it; a flooded one also if such a port is on its
// network. The zero Targets select all ports.
type Targets struct {
	Some      bool             // only these:
	Endpoints map[string]bool  // by Port.Name
	Networks  map[string]bool  // by id
	Peers     map[string]bool  // by Port.Name
	Sandboxes map[string]bool  // by Port.Sandbox
	StartedAt map[string]int64 // by Port.Name or Sandbox, ns since 1970: ports from before that are another container's, even with the same address
	New       bool             // also ports that were attached after the Subscriber subscribed,
	Since     uint32           // with a Number above this one
	Behind    []Behind         // containers on other hosts
}

// A Behind is a container on another host: its frames are those of that host's port on one network that match.
type Behind struct {
	Network string // id
	Peer    string // Port.Name
	Match   Match
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

// partOf returns which frames of a port are selected. ok is false if none is.
func (t *Targets) partOf(p *Port, since uint32) (of part, ok bool) {
	if t.match(p, since) {
		return nil, true
	}
	for _, b := range t.Behind {
		if p.Remote && p.Name == b.Peer && p.Network == b.Network {
			of = append(of, b.Match)
		}
	}
	return of, of != nil
}

// A part is those frames that one of its Matches wants. Without any it is all frames.
type part []Match

func (p part) wants(frame []byte, wireLen int) bool {
	for _, m := range p {
		if m(frame, wireLen) {
			return true
		}
	}
	return len(p) == 0
}

// with returns the frames of both.
func (p part) with(q part) part {
	if len(p) == 0 || len(q) == 0 {
		return nil
	}
	return slices.Concat(p, q)
}

// A selection is the ports that Targets select at the moment.
type selection struct {
	all      bool
	ports    map[uint32]part // by Number
	networks map[string]part // that have such a port
}

// has tells whether a port is selected.
func (s *selection) has(number uint32) bool {
	_, ok := s.ports[number]
	return ok
}

// add selects a port.
func (s *selection) add(p *Port, of part) {
	s.ports[p.Number] = of
	if before, ok := s.networks[p.Network]; ok {
		of = of.with(before)
	}
	s.networks[p.Network] = of
}

// wants tells whether a frame is selected by the ports that it comes in and leaves by; 0: by none.
func (s *selection) wants(network string, in, out uint32, v vswitch.Verdict, frame []byte, wireLen int) bool {
	for _, number := range [...]uint32{in, out} {
		if of, ok := s.ports[number]; ok && of.wants(frame, wireLen) {
			return true
		}
	}
	if v == vswitch.Flooded {
		of, ok := s.networks[network]
		return ok && of.wants(frame, wireLen)
	}
	return false
}

// maxDetached is how many detached ports are remembered: a ring may hold frames of them.
const maxDetached = 4096

// A portTable is the attached ports, and those that were detached lately. It is guarded by Hub.mu.
type portTable struct {
	all      map[uint32]*Port // by Number
	attached map[uint32]bool
	detached []uint32 // oldest first
	newest   uint32   // highest Number
}

func newPortTable() portTable {
	return portTable{all: make(map[uint32]*Port), attached: make(map[uint32]bool)}
}

// update changes an attached port and returns it; nil if it is not attached. It changes a copy, since the old Port is read
// without the lock.
func (d *portTable) update(number uint32, what func(*Port)) *Port {
	if !d.attached[number] {
		return nil
	}
	p := *d.all[number]
	what(&p)
	d.all[number] = &p
	return &p
}

// Plug adds a port, before its first frame.
func (h *Hub) Plug(p Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &h.ports
	p.AttachedAt = time.Now().UnixNano()
	d.all[p.Number], d.attached[p.Number], d.newest = &p, true, max(d.newest, p.Number)
	h.addPort(&p)
}

// addPort adds a port to the selection of each Subscriber whose targets match. The caller holds mu.
func (h *Hub) addPort(p *Port) {
	for _, s := range h.subscribers {
		// A recorder selects all ports, and reports none as new.
		if of, ok := s.targets.partOf(p, s.since); !s.ring.overwrite && ok && !s.selected.Load().has(p.Number) {
			s.selectPort(p, of)
		}
	}
}

// SetMTU changes a port's MTU: the path MTU to a remote host has changed.
func (h *Hub) SetMTU(number uint32, mtu int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports.update(number, func(p *Port) { p.MTU = mtu })
}

// SetSandbox tells which container a port belongs to.
func (h *Hub) SetSandbox(number uint32, sandbox string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.ports.update(number, func(p *Port) { p.Sandbox = sandbox }); p != nil && sandbox != "" {
		h.addPort(p)
	}
}

// SetAddrs changes a container's addresses: one was given to another container.
func (h *Hub) SetAddrs(number uint32, addrs []netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports.update(number, func(p *Port) { p.Addrs = addrs })
}

// Unplug marks a port as detached.
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

// port returns a port, also one that was detached lately; nil if it is not known.
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

// SetTargets changes which ports are selected.
func (s *Subscriber) SetTargets(t Targets) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.setTargets(t)
}

// setTargets is SetTargets. The caller holds hub.mu.
func (s *Subscriber) setTargets(t Targets) {
	s.targets = t
	before := s.selected.Load()
	now := &selection{all: !t.Some, ports: make(map[uint32]part), networks: make(map[string]part)}
	d := &s.hub.ports
	for _, number := range slices.Sorted(maps.Keys(d.attached)) {
		p := d.all[number]
		if of, ok := t.partOf(p, s.since); !s.ring.overwrite && ok {
			now.add(p, of)
			if before == nil || !before.has(number) {
				s.newPorts = append(s.newPorts, p)
			}
		}
	}
	s.selected.Store(now)
	s.ring.notify()
}

// selectPort adds one port to the selection. The caller holds hub.mu.
func (s *Subscriber) selectPort(p *Port, of part) {
	before := s.selected.Load()
	now := &selection{all: before.all, ports: maps.Clone(before.ports), networks: maps.Clone(before.networks)}
	now.add(p, of)
	if here := s.hub.ports.attached; len(now.ports) > 2*len(here)+64 { // many are detached, for so long that the ring has no frame of them
		maps.DeleteFunc(now.ports, func(number uint32, _ part) bool { return !here[number] })
	}
	s.selected.Store(now)
	s.newPorts = append(s.newPorts, p)
	s.ring.notify()
}

// NewPorts returns the ports that were selected since its last call.
func (s *Subscriber) NewPorts() []*Port {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	fresh := s.newPorts
	s.newPorts = nil
	return fresh
}

// Selects tells whether a port is selected.
func (s *Subscriber) Selects(number uint32) bool {
	now := s.selected.Load()
	return now.all || now.has(number)
}

// Ports returns the ports that the targets select, with detached ones that are remembered, by Number.
func (h *Hub) Ports(t Targets) (all []*Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, number := range slices.Sorted(maps.Keys(h.ports.all)) {
		p := h.ports.all[number]
		if _, ok := t.partOf(p, h.ports.newest); ok {
			all = append(all, p)
		}
	}
	return all
}

// Matcher returns a function that tells whether a record is of the targets: of ports that they select now, or of detached
// ports that had the same address before those.
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
	behind := &selection{ports: make(map[uint32]part), networks: make(map[string]part)}
	for number, p := range h.ports.all {
		at[number] = p.Network
		if of, ok := t.partOf(p, h.ports.newest); ok && of != nil {
			behind.add(p, of)
		} else if ok {
			ports[number] = p
			for _, a := range p.Addrs {
				at := end{p.Network, a.Addr()}
				ends[at] = append(ends[at], p)
			}
		}
	}
	for number, p := range h.ports.all { // a restarted container has a new endpoint with its old address
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
		if ports[r.In] != nil || ports[r.Out] != nil || behind.wants(at[r.In], r.In, r.Out, r.Verdict, r.Data, r.Len) {
			return true
		}
		return r.Verdict == vswitch.Flooded && slices.ContainsFunc(neighbours[at[r.In]], func(p *Port) bool {
			if p.DetachedAt == 0 {
				return p.AttachedAt <= r.Time || p.AttachedAt > now // in the future: the clock was wrong then
			}
			return p.AttachedAt <= r.Time && r.Time <= p.DetachedAt
		})
	}
}
