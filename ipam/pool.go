package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/fabric/state"
)

// maxFreed is how many addresses a pool remembers that were given back. What was given back before counts as never used.
const maxFreed = 8192

// pool is a state.Pool with what makes it fast. Its fields are guarded by Manager.lock.
type pool struct {
	state.Pool
	used  map[netip.Addr]time.Time // since when; the zero time: since before this process started
	freed map[netip.Addr]bool
	fresh netip.Addr // where the search for addresses that were never used goes on
	grows bool       // another block is being claimed
	asked uint64     // of a Swarm's pool: Manager.began when its manager asked for it last; 0: before this process started
}

func newPool(s state.Pool) *pool {
	p := &pool{Pool: s, used: make(map[netip.Addr]time.Time), freed: make(map[netip.Addr]bool)}
	for _, a := range s.Used {
		p.used[a] = time.Time{}
	}
	for _, a := range s.Freed {
		p.freed[a] = true
	}
	return p
}

// record is what is written.
func (p *pool) record() state.Pool {
	s := p.Pool
	s.Used = make([]netip.Addr, 0, len(p.used))
	for a := range p.used {
		s.Used = append(s.Used, a)
	}
	slices.SortFunc(s.Used, netip.Addr.Compare)
	return s
}

// blocks are the parts of the subnet out of which addresses are chosen, in that order. Single addresses that were asked for are
// not among them.
func (p *pool) blocks() []netip.Prefix {
	switch {
	case len(p.Blocks) > 0:
		return slices.DeleteFunc(slices.Clone(p.Blocks), netip.Prefix.IsSingleIP)
	case p.Key != "":
		return nil
	case p.Range.IsValid():
		return []netip.Prefix{p.Range}
	}
	return []netip.Prefix{p.Subnet}
}

// within tells whether an address is in a part of the subnet that is this host's.
func (p *pool) within(a netip.Addr) bool {
	if p.Key == "" {
		return p.Subnet.Contains(a)
	}
	return slices.ContainsFunc(p.Blocks, func(b netip.Prefix) bool { return b.Contains(a) })
}

// usable tells whether a container may have an address of the subnet: all but the subnet's own, in IPv4 its broadcast address
// (RFC 919), and in IPv6 the routers' anycast address (RFC 4291 section 2.6.1). The two addresses of a /31 and of a /127 are
// both usable (RFC 3021, RFC 6164).
func (p *pool) usable(a netip.Addr) bool {
	if !p.Subnet.Contains(a) || a == p.Gateway {
		return false
	}
	if p.Subnet.Bits() >= a.BitLen()-1 {
		return true
	}
	return a != p.Subnet.Addr() && (a.Is6() || a != last(p.Subnet))
}

// choose finds an address that nobody has: one that was never used, or else the one that was given back first.
func (p *pool) choose() (netip.Addr, bool) {
	blocks := p.blocks()
	for _, b := range blocks {
		start := b.Addr()
		if b.Contains(p.fresh) {
			start = p.fresh
		}
		for a := start; b.Contains(a); a = a.Next() {
			if _, taken := p.used[a]; !taken && !p.freed[a] && p.usable(a) {
				p.fresh = a
				return a, true
			}
		}
	}
	for _, a := range p.Freed {
		if _, taken := p.used[a]; !taken && p.usable(a) && slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(a) }) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// take marks an address as used.
func (p *pool) take(a netip.Addr, now time.Time) {
	p.used[a] = now
	if p.freed[a] {
		delete(p.freed, a)
		p.Freed = slices.DeleteFunc(slices.Clone(p.Freed), func(b netip.Addr) bool { return b == a })
	}
}

// release marks an address as given back.
func (p *pool) release(a netip.Addr) {
	delete(p.used, a)
	p.freed[a] = true
	p.Freed = append(slices.Clone(p.Freed), a)
	if old := len(p.Freed) - maxFreed; old > 0 {
		for _, a := range p.Freed[:old] {
			delete(p.freed, a)
		}
		p.Freed, p.fresh = p.Freed[old:], netip.Addr{}
	}
}

// releaseAll marks all addresses as given back. They are chosen last.
func (p *pool) releaseAll() {
	for _, a := range slices.SortedFunc(maps.Keys(p.used), netip.Addr.Compare) {
		p.release(a)
	}
}

// free tells how many more addresses can be chosen, and of how many; it counts no further than enough.
func (p *pool) free(enough int) (left, all int) {
	for _, b := range p.blocks() {
		for a := b.Addr(); b.Contains(a) && all < enough; a = a.Next() {
			if !p.usable(a) {
				continue
			}
			all++
			if _, taken := p.used[a]; !taken {
				left++
			}
		}
	}
	return left, all
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
