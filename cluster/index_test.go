package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

// plain answers as a Directory does, from all hosts each time.
type plain map[HostID]*Entry

// on are the hosts on a network, in the order of their ids.
func (p plain) on(key string) (all []*Entry) {
	for _, id := range slices.Sorted(maps.Keys(p)) {
		if p[id].member(key) != nil {
			all = append(all, p[id])
		}
	}
	return all
}

// where is the host that has an address: "" if two say so with one Seq.
func (p plain) where(key string, a netip.Addr) (at HostID) {
	said, best := false, uint64(0)
	for _, e := range p.on(key) {
		for _, s := range e.Stations {
			if s.Key == key && slices.Contains(s.Addrs, a) {
				switch {
				case !said || s.Seq > best:
					at, best, said = e.ID, s.Seq, true
				case s.Seq == best && at != e.ID:
					at = ""
				}
			}
		}
	}
	if said {
		return at
	}
	bits := -1
	for _, e := range p.on(key) {
		for _, b := range e.member(key).Blocks {
			if b.Contains(a) && b.Bits() > bits {
				at, bits = e.ID, b.Bits()
			}
		}
	}
	return at
}

// stations are the hosts that have stations: "" if two say so with one Seq.
func (p plain) stations(key string) map[ether.MAC]HostID {
	all, seqs := make(map[ether.MAC]HostID), make(map[ether.MAC]uint64)
	for _, e := range p.on(key) {
		for _, s := range e.Stations {
			if s.Key != key {
				continue
			}
			at, has := all[s.MAC]
			switch {
			case !has || s.Seq > seqs[s.MAC]:
				all[s.MAC], seqs[s.MAC] = e.ID, s.Seq
			case s.Seq == seqs[s.MAC] && at != e.ID:
				all[s.MAC] = ""
			}
		}
	}
	return all
}

// vouched is who has an address, by the word of the hosts.
func (p plain) vouched(key string, a netip.Addr) (v Vouched, ok bool) {
	best := -1
	for _, e := range p.on(key) {
		if e.State == Gone {
			continue
		}
		rank, own := -1, Vouched{Host: e.ID}
		for _, s := range e.Stations {
			if s.Key == key && slices.Contains(s.Addrs, a) && int(s.Seq)+1 > rank {
				rank, own.MAC = int(s.Seq)+1, s.MAC
			}
		}
		for _, n := range e.Names {
			if n.Key == key && rank < 0 && slices.Contains(n.Addrs, a) && slices.ContainsFunc(e.member(key).Blocks, func(b netip.Prefix) bool { return b.Contains(a) }) {
				rank, own.MAC = 0, ether.DockerMAC(a)
			}
		}
		switch {
		case rank < 0:
		case rank > best:
			v, best, ok = own, rank, true
		case rank == best:
			ok = false
		}
	}
	return v, ok
}

func (p plain) resolve(key, name string) (all []netip.Addr) {
	for _, e := range p.on(key) {
		for _, n := range e.Names {
			if e.State != Gone && n.Key == key && strings.EqualFold(n.Name, name) {
				all = append(all, n.Addrs...)
			}
		}
	}
	return all
}

func (p plain) nameOf(key string, a netip.Addr) string {
	for _, e := range p.on(key) {
		for _, n := range e.Names {
			if e.State != Gone && n.Key == key && slices.Contains(n.Addrs, a) {
				return n.Name
			}
		}
	}
	return ""
}

// TestIndex: after any changes a directory answers as one does that looks through all that the hosts say. Hosts contradict each other, and themselves.
func TestIndex(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	keys := []string{"blue", "green"}
	at := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))}) }
	random := func(i int, seq uint64) Entry {
		e := Entry{Record: Record{Host: host(i), Seq: seq}, State: State(r.IntN(3))}
		for _, key := range keys {
			if r.IntN(3) == 0 {
				continue
			}
			m := Member{Spec: Spec{Key: key, VNI: 80}}
			for range r.IntN(4) {
				b, _ := at().Prefix(28 + r.IntN(5))
				m.Blocks = append(m.Blocks, b)
			}
			e.Members = append(e.Members, m)
			for range r.IntN(3) {
				e.Stations = append(e.Stations, Station{Key: key, MAC: ether.MAC{2, 0, 0, 0, 0, byte(r.IntN(4))}, Addrs: []netip.Addr{at(), at()}, Seq: r.Uint64N(3)})
			}
			for range r.IntN(4) {
				e.Names = append(e.Names, Name{Key: key, Name: []string{"web", "Web", "db", "x"}[r.IntN(4)], Addrs: []netip.Addr{at()}})
			}
		}
		return e
	}
	d, p := NewDirectory(""), plain{}
	tables := make(map[*VouchedTable]bool)
	for step := range 3000 {
		i := 1 + r.IntN(6)
		id := host(i).ID
		switch r.IntN(10) {
		case 0:
			d.Apply(Update{Removed: []HostID{id}})
			delete(p, id)
		case 1: // only those that are named are left
			u := Update{Full: true}
			for id, e := range p {
				if r.IntN(2) == 0 {
					u.Entries = append(u.Entries, *e)
				} else {
					delete(p, id)
				}
			}
			d.Apply(u)
		default:
			e := random(i, uint64(step))
			d.Apply(Update{Entries: []Entry{e}})
			p[id] = &e
		}
		for _, key := range keys {
			if v := d.Vouched(key); v != nil {
				tables[v] = true
			}
			var on, want []HostID
			for _, s := range d.On(key) {
				on = append(on, s.ID)
			}
			for _, e := range p.on(key) {
				want = append(want, e.ID)
			}
			got := []any{on, d.Stations(key)}
			wanted := []any{want, p.stations(key)}
			for b := range byte(16) {
				a := netip.AddrFrom4([4]byte{10, 0, 0, b})
				h, _ := d.Where(key, a)
				got, wanted = append(got, h.ID, d.NameOf(key, a)), append(wanted, p.where(key, a), p.nameOf(key, a))
				v, ok := d.Vouched(key).Of(a)
				expected, vouched := p.vouched(key, a)
				if ok != vouched || ok && v != expected {
					t.Fatalf("seed %d, step %d, network %s: for %s vouch %v %v, want %v %v", seed, step, key, a, v, ok, expected, vouched)
				}
			}
			for _, name := range []string{"web", "db", "x"} {
				got, wanted = append(got, d.Resolve(key, name)), append(wanted, p.resolve(key, name))
			}
			if !reflect.DeepEqual(got, wanted) {
				t.Fatalf("seed %d, step %d, network %s:\n%v, want\n%v\nof %v", seed, step, key, got, wanted, fmt.Sprint(p.on(key)))
			}
		}
	}
	before := d.Places("blue")
	e := random(1, 4000)
	e.Members = []Member{{Spec: Spec{Key: "blue"}}}
	e.Stations, e.Names = nil, nil
	d.Apply(Update{Entries: []Entry{e}})
	placed := d.Places("blue")
	e.Seq, e.Names = 4001, []Name{{Key: "blue", Name: "new", Addrs: []netip.Addr{at()}}}
	if changed := d.Apply(Update{Entries: []Entry{e}}); before == placed || d.Places("blue") != placed || !slices.Contains(changed, "blue") {
		t.Errorf("places %d, then %d, and %d after a name; changed: %v", before, placed, d.Places("blue"), changed)
	}
	for _, change := range []func(){func() { e.State++ }, func() { e.Epoch++ }, func() { e.Members = []Member{{Spec: Spec{Key: "blue"}, Blocks: []netip.Prefix{prefix("10.9.0.0/26")}}} },
		func() { e.Stations = []Station{{Key: "blue", MAC: ether.MAC{2}}} }, func() { e.Members = nil; e.Stations, e.Names = nil, nil }} {
		was := d.Places("blue")
		e.Seq++
		change()
		if e.State > Gone {
			e.State = Alive
		}
		if d.Apply(Update{Entries: []Entry{e}}); d.Places("blue") == was {
			t.Errorf("places are as before with %+v", e)
		}
	}
	d.Apply(Update{Full: true})
	if len(d.keys)+len(d.hosts) != 0 {
		t.Errorf("%d networks and %d hosts are left", len(d.keys), len(d.hosts))
	}
	for v := range tables { // whoever still has one
		if v.n != 0 {
			t.Errorf("%d stations are vouched for by nobody", v.n)
		}
	}
}

// TestOneOfMany: what one host's news cost does not grow with the number of hosts. It is counted by allocations, which no machine makes slower.
func TestOneOfMany(t *testing.T) {
	cost := func(hosts int) float64 {
		d := NewDirectory("")
		var u Update
		record := func(i int, seq uint64) Entry {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i << 6)})
			h := host(i)
			return Entry{Record: Record{Host: h, Seq: seq, Members: []Member{{Spec: Spec{Key: "blue"}, Blocks: []netip.Prefix{netip.PrefixFrom(a, 26)}}},
				Names: []Name{{Key: "blue", Name: fmt.Sprint("c", i), Addrs: []netip.Addr{a.Next()}}}}}
		}
		for i := range hosts {
			u.Entries = append(u.Entries, record(i, 0))
		}
		d.Apply(u)
		seq := uint64(0)
		return testing.AllocsPerRun(100, func() {
			seq++
			d.Apply(Update{Entries: []Entry{record(hosts/2, seq)}})
		})
	}
	if few, many := cost(10), cost(5000); many > 2*few {
		t.Errorf("one host's news make %.0f allocations among 10 hosts, and %.0f among 5,000", few, many)
	}
}
