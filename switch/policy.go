package vswitch

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// A Policy is what the frames that a port receives are held to. It is never changed once a port has it: the data path reads it with
// one load for each batch, and Explain asks it too.
type Policy struct {
	Guards Guards
	AnyMAC bool // frames pass whose source address is pinned to another port; nothing is learned of them

	Storm    int64          // maximum of frames in a second that are flooded, see DefaultStorm; 0: none
	Rate     int64          // maximum of bytes in a second that it receives, and that are sent by it, super-frames with all of theirs; 0: none
	Isolated bool           // only what is for With passes, and only what is from With is sent by the port
	With     []netip.Prefix // of IP addresses

	MSS int // maximum that TCP announces in what the port receives and sends, which is lowered to it; AutoMSS: to what fits the path, in what comes from an uplink or leaves by one; 0: as it is
}

// DefaultStorm is more than stations flood that are well, and a fraction of what a loop or an attacker does.
const DefaultStorm = 50_000

// Guards say which frames are dropped for what they say, each with its own verdict.
type Guards uint8

const (
	GuardAddrs Guards = 1 << iota // who speaks for an IP address that another port has pinned, in IP, ARP or ND: SpoofedIP, SpoofedARP, SpoofedND; and Unreadable
	GuardRA                       // router advertisements and redirects: RA
	GuardDHCP                     // answers of a DHCP server: DHCP
	GuardBPDU                     // what bridges find loops and each other by: BPDU
)

// SetPolicy has the port hold frames to p from the next batch on; nil is the zero Policy.
func (p *Port) SetPolicy(policy *Policy) {
	p.policy.Store(policy)
	p.limits.Store(newLimits(policy))
}

// stormBurst is how many frames a port that was silent may flood at once, if not more than in a second; or those of a tenth of a second, if that is
// more. Behind that they pass one by one: a second's worth at the beginning of each second would be one long turn for those who wait.
const stormBurst = 5000

// storm is the limit's cost of a frame, and the depth of its bucket, in nanoseconds; 0: there is no limit.
func (p *Port) storm() (cost, depth int64) {
	policy := p.policy.Load()
	if policy == nil || policy.Storm <= 0 {
		return 0, 0
	}
	cost = int64(time.Second) / policy.Storm
	return cost, cost * min(policy.Storm, max(stormBurst, policy.Storm/10))
}

// storms counts a frame that is to be flooded, and tells whether it is one too many.
func (p *Port) storms(b *batch) bool {
	cost, depth := p.storm()
	return depth > 0 && !spend(&p.floods, b.time(p.sw), cost, depth)
}

// wouldStorm is storms, and counts nothing.
func (p *Port) wouldStorm() bool {
	_, depth := p.storm()
	return depth > 0 && p.floods.Load()-p.sw.nanoseconds() >= depth
}

// Policy is the port's; it must not be changed.
func (p *Port) Policy() Policy {
	if policy := p.policy.Load(); policy != nil {
		return *policy
	}
	return Policy{}
}

// PinAddrs makes IP addresses the port's, in place of those that it had: see GuardAddrs. One that another port has stays with that one, and
// a port that is detached gets none.
func (p *Port) PinAddrs(addrs ...netip.Addr) {
	s := p.sw
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[netip.Addr]*Port)
	if old := s.owners.Load(); old != nil {
		maps.Copy(all, *old)
		maps.DeleteFunc(all, func(_ netip.Addr, q *Port) bool { return q == p })
	}
	for _, a := range addrs {
		if all[a] == nil && !p.detached.Load() {
			all[a] = p
		}
	}
	s.owners.Store(&all)
}

// forgetAddrs removes the addresses of ports that are detached. mu is held.
func (s *Switch) forgetAddrs() {
	if old := s.owners.Load(); old != nil && slices.ContainsFunc(slices.Collect(maps.Values(*old)), func(p *Port) bool { return p.detached.Load() }) {
		all := maps.Clone(*old)
		maps.DeleteFunc(all, func(_ netip.Addr, p *Port) bool { return p.detached.Load() })
		s.owners.Store(&all)
	}
}

// ownerOf is the port that has an IP address: that of PinAddrs, or, of a link-local one that is made of a MAC, of Pin; nil: none.
func (s *Switch) ownerOf(a netip.Addr) *Port {
	if all := s.owners.Load(); all != nil {
		if p := (*all)[a]; p != nil {
			return p
		}
	}
	if m, ok := ether.LinkLocalMAC(a); ok {
		return s.pinnedTo(m)
	}
	return nil
}

// pinnedTo is the port that has pinned an address; nil: none.
func (s *Switch) pinnedTo(m ether.MAC) *Port {
	if x := s.station(m); x != nil && x.pinned {
		return x.port.Load()
	}
	return nil
}
