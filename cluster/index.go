package cluster

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
)

// An index is one network in a Directory. A host is taken out and put in by itself: what that costs does not grow with the number of hosts.
type index struct {
	turn     uint64   // of the Directory, when places last changed
	ids      []HostID // of members, in ascending order
	members  map[HostID]*Member
	blocks   claims[netip.Prefix, struct{}] // of two hosts that claim a block, the one with the lower id; Problems tells of it
	lengths  map[int]int                    // of blocks: how many there are of each
	bits     []int                          // the lengths of blocks, longest first
	stations claims[netip.Addr, uint64]     // with Seq: the highest one counts
	macs     claims[ether.MAC, uint64]
	vouchers claims[netip.Addr, voucher]
	vouched  *VouchedTable              // what follows from vouchers
	names    map[string][]resolved      // in small letters; in the order of hosts
	reverse  claims[netip.Addr, string] // of a container's names the first is its own, the others are aliases
}

// resolved is what one host says of a name.
type resolved struct {
	host  HostID
	addrs []netip.Addr
}

func newIndex() *index {
	bySeq := func(a, b uint64) int { return cmp.Compare(b, a) } // the higher one first
	return &index{
		members: make(map[HostID]*Member), lengths: make(map[int]int), names: make(map[string][]resolved),
		blocks:   newClaims[netip.Prefix, struct{}](nil),
		stations: newClaims[netip.Addr](bySeq), macs: newClaims[ether.MAC](bySeq), reverse: newClaims[netip.Addr, string](nil),
		vouchers: newClaims[netip.Addr](func(a, b voucher) int { return bySeq(a.rank, b.rank) }), vouched: new(VouchedTable),
	}
}

// member is what a record says of a network; nil: its host is not on it.
func (r *Record) member(key string) *Member {
	if i := slices.IndexFunc(r.Members, func(m Member) bool { return m.Key == key }); i >= 0 {
		return &r.Members[i]
	}
	return nil
}

// put notes what a host says of network key.
func (x *index) put(key string, e *Entry) {
	m := e.member(key)
	if m == nil {
		return
	}
	id := e.ID
	at, has := slices.BinarySearch(x.ids, id)
	if has {
		return // a record that names a network twice: Decode refuses it
	}
	x.ids = slices.Insert(x.ids, at, id)
	x.members[id] = m
	for _, b := range m.Blocks {
		if x.blocks.put(b, id, struct{}{}) {
			x.count(b.Bits(), 1)
		}
	}
	for _, s := range e.Stations {
		if s.Key != key {
			continue
		}
		x.macs.put(s.MAC, id, s.Seq)
		for _, a := range s.Addrs {
			x.stations.put(a, id, s.Seq)
		}
	}
	if e.State == Gone { // nobody answers there
		return
	}
	for _, n := range e.Names {
		if n.Key == key {
			x.putName(id, n)
		}
	}
	e.vouchers(key, m.Blocks, func(a netip.Addr, v voucher) { x.vouchers.put(a, id, v) })
}

func (x *index) putName(id HostID, n Name) {
	name := strings.ToLower(n.Name)
	all := x.names[name]
	at, has := slices.BinarySearchFunc(all, id, func(r resolved, id HostID) int { return strings.Compare(string(r.host), string(id)) })
	if has {
		all[at].addrs = append(slices.Clone(all[at].addrs), n.Addrs...)
	} else {
		x.names[name] = slices.Insert(all, at, resolved{id, n.Addrs})
	}
	for _, a := range n.Addrs {
		x.reverse.put(a, id, n.Name) // the first one stays
	}
}

// take takes out what a host has said.
func (x *index) take(key string, e *Entry) {
	m := e.member(key)
	if m == nil {
		return
	}
	id := e.ID
	at, has := slices.BinarySearch(x.ids, id)
	if !has {
		return
	}
	x.ids = slices.Delete(x.ids, at, at+1)
	delete(x.members, id)
	for _, b := range m.Blocks {
		if x.blocks.take(b, id) {
			x.count(b.Bits(), -1)
		}
	}
	for _, s := range e.Stations {
		if s.Key != key {
			continue
		}
		x.macs.take(s.MAC, id)
		for _, a := range s.Addrs {
			x.stations.take(a, id)
		}
	}
	for _, n := range e.Names {
		if n.Key != key {
			continue
		}
		name := strings.ToLower(n.Name)
		rest := slices.DeleteFunc(x.names[name], func(r resolved) bool { return r.host == id })
		if x.names[name] = rest; len(rest) == 0 {
			delete(x.names, name)
		}
		for _, a := range n.Addrs {
			x.reverse.take(a, id)
		}
	}
	e.vouchers(key, m.Blocks, func(a netip.Addr, _ voucher) { x.vouchers.take(a, id) })
}

// count counts the blocks of a length.
func (x *index) count(bits, more int) {
	x.lengths[bits] += more
	if x.lengths[bits] == 0 {
		delete(x.lengths, bits)
	}
	if at, has := slices.BinarySearchFunc(x.bits, bits, func(a, b int) int { return b - a }); !has {
		x.bits = slices.Insert(x.bits, at, bits)
	} else if x.lengths[bits] == 0 {
		x.bits = slices.Delete(x.bits, at, at+1)
	}
}

// claims are what hosts say of a K, each once: which host has it. Of several the one whose V is first has it, or the one with the lowest id.
type claims[K comparable, V any] struct {
	compare func(a, b V) int // nil: all are equal
	best    map[K]claimed[V]
	rest    map[K][]claimed[V] // of those that several hosts claim
}

type claimed[V any] struct {
	host HostID
	v    V
}

func newClaims[K comparable, V any](compare func(a, b V) int) claims[K, V] {
	return claims[K, V]{compare: compare, best: make(map[K]claimed[V])}
}

// before tells whether a has it rather than b.
func (c *claims[K, V]) before(a, b claimed[V]) bool {
	if c.compare != nil {
		if n := c.compare(a.v, b.v); n != 0 {
			return n < 0
		}
	}
	return a.host < b.host
}

// disputed tells whether another host claims k as well as the first one does.
func (c *claims[K, V]) disputed(k K) bool {
	best := c.best[k]
	return slices.ContainsFunc(c.rest[k], func(r claimed[V]) bool { return c.compare == nil || c.compare(best.v, r.v) == 0 })
}

// put notes a claim, and tells whether it is the first one of k. Of several claims of one host the better one counts, of equal ones the first.
func (c *claims[K, V]) put(k K, host HostID, v V) (first bool) {
	now := claimed[V]{host, v}
	best, taken := c.best[k]
	switch {
	case !taken:
		c.best[k] = now
		return true
	case best.host == host:
		if c.before(now, best) {
			c.best[k] = now
		}
		return false
	}
	rest := c.rest[k]
	if i := slices.IndexFunc(rest, func(r claimed[V]) bool { return r.host == host }); i >= 0 {
		if !c.before(now, rest[i]) {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	if c.before(now, best) {
		now, c.best[k] = best, now
	}
	if c.rest == nil {
		c.rest = make(map[K][]claimed[V])
	}
	c.rest[k] = append(rest, now)
	return false
}

// take takes a host's claim of k out, if there is one, and tells whether that was the last one.
func (c *claims[K, V]) take(k K, host HostID) (last bool) {
	best, taken := c.best[k]
	if !taken {
		return false
	}
	rest := c.rest[k]
	if best.host != host {
		rest = slices.DeleteFunc(rest, func(r claimed[V]) bool { return r.host == host })
	} else {
		if len(rest) == 0 {
			delete(c.best, k)
			return true
		}
		next := 0
		for i := range rest {
			if c.before(rest[i], rest[next]) {
				next = i
			}
		}
		c.best[k] = rest[next]
		rest = slices.Delete(rest, next, next+1)
	}
	if len(rest) == 0 {
		delete(c.rest, k)
	} else {
		c.rest[k] = rest
	}
	return false
}
