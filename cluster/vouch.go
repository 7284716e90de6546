package cluster

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/tapestry-net/tapestry/ether"
)

// A Vouched is a station that exists, by the word of the host that has it.
type Vouched struct {
	MAC  ether.MAC
	Host HostID
}

// Vouched are the stations of a network that other hosts vouch for, by address; nil: none. It follows what hosts say until no other
// host is on the network any more: then it stays empty.
//
// A host vouches for an address with a Station, or with a Name of a container that has it. The MAC of a Name's IPv4 address follows
// from it if it is in a block of that host, since otherwise there would be a Station as well; and so does the MAC of its IPv6
// addresses if it has one IPv4 address. A block alone vouches for nothing: whether a container has the address, it does not say.
// Neither does a host that is gone, and nobody does for an address that is said to be at two hosts: then the stations themselves are
// to be asked.
func (d *Directory) Vouched(key string) *VouchedTable {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		return x.vouched
	}
	return nil
}

// Voucher is the host that vouches for an address of a network; false: none does.
func (d *Directory) Voucher(key string, a netip.Addr) (Host, bool) {
	v, ok := d.Vouched(key).Of(a)
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.hosts[v.Host]
	if !ok || e == nil {
		return Host{}, false
	}
	return e.Host, true
}

// A voucher is what a host says of the station that has an address.
type voucher struct {
	mac  ether.MAC
	rank uint64 // the highest one counts: 0 of a Name, Seq + 1 of a Station
}

// vouchers calls say with all that a host vouches for on a network, on which it has those blocks.
func (r *Record) vouchers(key string, blocks []netip.Prefix, say func(netip.Addr, voucher)) {
	odd := make(map[netip.Addr]bool)
	for _, s := range r.Stations {
		if s.Key != key {
			continue
		}
		for _, a := range s.Addrs {
			odd[a] = true
			say(a, voucher{s.MAC, max(s.Seq, s.Seq+1)})
		}
	}
	derived := func(addrs []netip.Addr) (four netip.Addr, ok bool) {
		for _, a := range addrs {
			if !a.Is4() {
				continue
			}
			if four.IsValid() || odd[a] || !slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(a) }) {
				return four, false
			}
			four = a
		}
		return four, four.IsValid()
	}
	for _, n := range r.Names {
		if n.Key != key {
			continue
		}
		if four, ok := derived(n.Addrs); ok {
			for _, a := range n.Addrs {
				say(a, voucher{mac: ether.DockerMAC(four)})
			}
		}
	}
}

// settle has the table follow what is said of the addresses of which a host speaks, or has spoken.
func (x *index) settle(key string, e *Entry) {
	settle := func(a netip.Addr) {
		c, ok := x.vouchers.best[a]
		x.vouched.set(a, Vouched{c.v.mac, c.host}, ok && !x.vouchers.disputed(a))
	}
	for _, s := range e.Stations {
		if s.Key == key {
			for _, a := range s.Addrs {
				settle(a)
			}
		}
	}
	for _, n := range e.Names {
		if n.Key == key {
			for _, a := range n.Addrs {
				settle(a)
			}
		}
	}
}

// A VouchedTable has stations by address. It is read without a lock, while one goroutine at a time changes it.
type VouchedTable struct {
	chains atomic.Pointer[[]chain] // a power of two of them; nil: it is empty
	n      int                     // of stations
}

// A chain is the stations whose addresses have one hash.
type chain = atomic.Pointer[link]

type link struct { // never changed
	addr netip.Addr
	v    Vouched
	next *link
}

var seed = maphash.MakeSeed()

func chainOf(chains []chain, a netip.Addr) *chain {
	b := a.As16()
	return &chains[maphash.Bytes(seed, b[:])&uint64(len(chains)-1)]
}

// Of is the station that has an address; false: nobody vouches for one. It allocates nothing and waits for nothing.
func (t *VouchedTable) Of(a netip.Addr) (Vouched, bool) {
	if t == nil {
		return Vouched{}, false
	}
	chains := t.chains.Load()
	if chains == nil {
		return Vouched{}, false
	}
	for l := chainOf(*chains, a).Load(); l != nil; l = l.next {
		if l.addr == a {
			return l.v, true
		}
	}
	return Vouched{}, false
}

// set puts a station in, or, with in false, takes out what has the address.
func (t *VouchedTable) set(a netip.Addr, v Vouched, in bool) {
	was, has := t.Of(a)
	if has == in && (!in || was == v) {
		return
	}
	if in && !has {
		t.n++
		t.grow()
	}
	c := chainOf(*t.chains.Load(), a)
	var now *link
	if in {
		now = &link{a, v, nil}
	}
	for l := c.Load(); l != nil; l = l.next { // readers go on in the old chain
		if l.addr != a {
			now = &link{l.addr, l.v, now}
		}
	}
	c.Store(now)
	if has && !in {
		t.n--
	}
}

// grow makes room for n stations.
func (t *VouchedTable) grow() {
	var old []chain
	if p := t.chains.Load(); p != nil {
		old = *p
	}
	if t.n <= len(old) {
		return
	}
	chains := make([]chain, max(16, 2*len(old)))
	for i := range old {
		for l := old[i].Load(); l != nil; l = l.next {
			c := chainOf(chains, l.addr)
			c.Store(&link{l.addr, l.v, c.Load()})
		}
	}
	t.chains.Store(&chains)
}
