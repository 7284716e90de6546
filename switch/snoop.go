package vswitch

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// Snooping of IGMP and MLD (RFC 4541): a frame to a multicast group is sent only to ports whose stations have asked for the group. What nobody has
// asked for is flooded, and so is everything until the stations had time to say what they want.

// Times in seconds, by the coarse clock: RFC 3376 section 8.
const (
	memberFor     = 260 // a port is a member so long after a station there has asked
	leavesIn      = 15  // and so long after one does not want the group any more: others there may
	queryEvery    = 125
	queryAgain    = 10  // the first query is repeated, in case it was lost
	queriedFor    = 255 // another querier is there so long after its query
	answersWithin = 12
)

// maxGroups is the maximum of groups of one switch; further ones are flooded.
const maxGroups = 1024

// snooping is what a switch knows of groups.
type snooping struct {
	querier ether.MAC
	groups  sync.Map     // ether.MAC → *audience
	since   atomic.Int64 // of the first query; 0: there was none
	others  atomic.Int64 // until when somebody else queries
	routers audience     // who has to hear what stations ask for

	mu    sync.Mutex // guards changes of groups and their members, and what follows
	count int        // of groups
	last  int64      // the last query here
	sent  int        // queries so far, up to 2
}

// An audience is the ports that a frame to a group is sent to. It has its own ports, and those of multicast routers.
type audience struct {
	uplinks bool                      // other hosts too
	members atomic.Pointer[[]*member] // replaced with snooping.mu held; nil: none
}

// A member is a port that wants a group.
type member struct {
	port  *Port
	until atomic.Int64
}

func (a *audience) list() []*member {
	if all := a.members.Load(); all != nil {
		return *all
	}
	return nil
}

// has tells whether frames are sent to p.
func (a *audience) has(p *Port, now int64) bool {
	if a == nil || a.uplinks && p.Uplink || p.router.Load() > now {
		return true
	}
	for _, m := range a.list() {
		if m.port == p {
			return m.until.Load() > now
		}
	}
	return false
}

// SetSnooping begins to send frames to multicast groups only where they are wanted. Tick asks the stations then, by frames from the MAC address
// querier, unless another switch or router does; querier must be one of ether.QuerierMAC. The zero MAC ends it.
func (s *Switch) SetSnooping(querier ether.MAC) {
	if querier.IsZero() {
		s.snoop.Store(nil)
		return
	}
	g := &snooping{querier: querier}
	g.routers.uplinks = true
	s.snoop.Store(g)
}

// hear learns from a frame that p floods which groups are wanted, and gives its audience; nil: everybody.
func (g *snooping) hear(p *Port, f *ether.Frame) *audience {
	now := p.sw.now.Load()
	talk := ether.ReadGroups(f, func(group ether.MAC, wanted bool) {
		if group.Snoopable() {
			g.note(p, group, wanted, now)
		}
	})
	switch talk {
	case ether.GroupQuery:
		p.router.Store(now + queriedFor)
		fallthrough
	case ether.SwitchQuery:
		g.others.Store(now + queriedFor)
		g.since.CompareAndSwap(0, now)
	}
	return g.audience(talk, f.Dst(), now)
}

// audience is who gets a frame of this kind to dst; nil: everybody.
func (g *snooping) audience(talk ether.GroupTalk, dst ether.MAC, now int64) *audience {
	switch since := g.since.Load(); {
	case talk == ether.GroupReport:
		return &g.routers
	case talk != ether.NoGroupTalk || since == 0 || now-since < answersWithin || !dst.Snoopable():
		return nil
	}
	if a, ok := g.groups.Load(dst); ok {
		return a.(*audience)
	}
	return nil
}

// note keeps that a station at p wants a group, or does not want it any more.
func (g *snooping) note(p *Port, group ether.MAC, wanted bool, now int64) {
	if v, ok := g.groups.Load(group); ok {
		for _, m := range v.(*audience).list() {
			if m.port != p {
				continue
			}
			switch until := m.until.Load(); {
			case wanted && until > now:
				m.until.Store(now + memberFor)
				return
			case !wanted && until > now+leavesIn:
				m.until.CompareAndSwap(until, now+leavesIn)
				p.leaves.Store(true)
			}
		}
	}
	if wanted {
		g.join(p, group, now)
	}
}

func (g *snooping) join(p *Port, group ether.MAC, now int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := g.groups.Load(group)
	if !ok {
		if g.count == maxGroups {
			return
		}
		g.count++
		v = new(audience)
	}
	a := v.(*audience)
	m := &member{port: p}
	m.until.Store(now + memberFor)
	all := append(slices.DeleteFunc(slices.Clone(a.list()), func(m *member) bool { return m.port == p }), m)
	a.members.Store(&all)
	if !ok {
		g.groups.Store(group, v)
	}
}

// tick forgets members whose time is over, and tells whether a query to all is due, which is noted.
func (g *snooping) tick(now int64) (query bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.groups.Range(func(group, v any) bool {
		a := v.(*audience)
		over := func(m *member) bool { return m.until.Load() <= now || m.port.detached.Load() }
		if all := a.list(); slices.ContainsFunc(all, over) {
			all = slices.DeleteFunc(slices.Clone(all), over)
			if a.members.Store(&all); len(all) == 0 {
				g.groups.Delete(group)
				g.count--
			}
		}
		return true
	})
	switch since := now - g.last; {
	case g.others.Load() > now:
		return false
	case g.sent == 0, g.sent == 1 && since >= queryAgain, since >= queryEvery:
	default:
		return false
	}
	g.last, g.sent = now, min(g.sent+1, 2)
	g.since.CompareAndSwap(0, now)
	return true
}

// queryGroups asks the stations for the groups that they want, if that is due; those of a port where one has left a group at once.
func (s *Switch) queryGroups(now int64) {
	g := s.snoop.Load()
	if g == nil {
		return
	}
	all := g.tick(now)
	var frames []ether.Frame // made for the first port that is asked: most ticks ask none
	for _, p := range *s.ports.Load() {
		leaves := p.leaves.Swap(false) && !p.Uplink // another host asks its own stations
		if !all && !leaves || p.reached.Load() || p.IsDown() {
			continue
		}
		if frames == nil {
			frames = g.queries()
		}
		if w := s.watch.Load(); w != nil {
			for i := range frames {
				(*w).Watch(nil, p, Answered, &frames[i])
			}
		}
		p.send([]*ether.Frame{&frames[0], &frames[1]})
	}
}

// queries are the frames that ask for groups.
func (g *snooping) queries() []ether.Frame {
	four, six := make([]byte, ether.Headroom, ether.Headroom+ether.GroupQuery4Len), make([]byte, ether.Headroom, ether.Headroom+ether.GroupQuery6Len)
	return []ether.Frame{
		ether.Lend(ether.AppendGroupQuery4(four, g.querier), ether.Offload{}), ether.Lend(ether.AppendGroupQuery6(six, g.querier), ether.Offload{}),
	}
}

// members are the ports that want a group, as entries of the forwarding database; yield tells whether it wants more.
func (g *snooping) members(now int64, yield func(Entry) bool) {
	g.groups.Range(func(group, v any) bool {
		for _, m := range v.(*audience).list() {
			e := Entry{MAC: group.(ether.MAC), Port: m.port, Group: true, Age: time.Duration(max(0, now+memberFor-m.until.Load())) * time.Second}
			if m.until.Load() > now && !m.port.detached.Load() && !yield(e) {
				return false
			}
		}
		return true
	})
}
