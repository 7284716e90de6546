package cluster

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

// Who is vouched for, and with which MAC.
func TestVouched(t *testing.T) {
	blue := func(i int, change func(*Record)) Entry {
		r := &Record{Host: host(i), Members: []Member{{Spec: Spec{Key: "blue"}, Blocks: []netip.Prefix{prefix(fmt.Sprintf("10.50.%d.0/26", i))}}}}
		change(r)
		return Entry{Record: *r}
	}
	name := func(addrs ...string) func(*Record) {
		return func(r *Record) {
			n := Name{Key: "blue", Name: "web"}
			for _, a := range addrs {
				n.Addrs = append(n.Addrs, addr(a))
			}
			r.Names = append(r.Names, n)
		}
	}
	odd := ether.MAC{2, 9, 9, 9, 9, 9}
	station := func(seq uint64, addrs ...string) func(*Record) {
		return func(r *Record) {
			name(addrs...)(r)
			r.Stations = append(r.Stations, Station{Key: "blue", MAC: odd, Addrs: r.Names[0].Addrs, Seq: seq})
			r.Names = nil
		}
	}
	both := func(a, b func(*Record)) func(*Record) { return func(r *Record) { a(r); b(r) } }
	nothing := func(*Record) {}
	derived := func(a string) ether.MAC { return ether.DockerMAC(addr(a)) }
	for _, tc := range []struct {
		name    string
		entries []Entry
		addr    string
		mac     ether.MAC // zero: nobody vouches
		host    int
	}{
		{"a name", []Entry{blue(1, name("10.50.1.5"))}, "10.50.1.5", derived("10.50.1.5"), 1},
		{"an address of the block", []Entry{blue(1, name("10.50.1.5"))}, "10.50.1.6", ether.MAC{}, 0},
		{"a name outside of the block", []Entry{blue(1, name("10.50.2.5"))}, "10.50.2.5", ether.MAC{}, 0},
		{"a name in another's block", []Entry{blue(1, name("10.50.2.5")), blue(2, nothing)}, "10.50.2.5", ether.MAC{}, 0},
		{"a name's IPv6", []Entry{blue(1, name("10.50.1.5", "fd50::5"))}, "fd50::5", derived("10.50.1.5"), 1},
		{"a name with IPv6 only", []Entry{blue(1, name("fd50::5"))}, "fd50::5", ether.MAC{}, 0},
		{"a name of two containers", []Entry{blue(1, name("10.50.1.5", "10.50.1.6", "fd50::5"))}, "fd50::5", ether.MAC{}, 0},
		{"an alias of two, and their own names", []Entry{blue(1, both(name("10.50.1.5", "10.50.1.6"), name("10.50.1.5")))}, "10.50.1.5", derived("10.50.1.5"), 1},
		{"a name's IPv6 at two", []Entry{blue(1, name("10.50.1.5", "fd50::5")), blue(2, name("10.50.2.5", "fd50::5"))}, "fd50::5", ether.MAC{}, 0},
		{"a station", []Entry{blue(1, station(0, "10.50.7.5", "fd50::5"))}, "fd50::5", odd, 1},
		{"a station with a name", []Entry{blue(1, both(station(0, "10.50.1.5"), name("10.50.1.5")))}, "10.50.1.5", odd, 1},
		{"a station in another's block", []Entry{blue(1, name("10.50.1.5")), blue(2, station(0, "10.50.1.5"))}, "10.50.1.5", odd, 2},
		{"a station of a newer host", []Entry{blue(1, station(4, "10.50.7.5")), blue(2, station(5, "10.50.7.5"))}, "10.50.7.5", odd, 2},
		{"a station of two", []Entry{blue(1, station(4, "10.50.7.5")), blue(2, station(4, "10.50.7.5"))}, "10.50.7.5", ether.MAC{}, 0},
		{"a station of two and a newer", []Entry{blue(1, station(4, "10.50.7.5")), blue(2, station(4, "10.50.7.5")), blue(3, station(5, "10.50.7.5"))}, "10.50.7.5", odd, 3},
		{"a name of a host that is gone", []Entry{{blue(1, name("10.50.1.5")).Record, Gone}}, "10.50.1.5", ether.MAC{}, 0},
		{"a station of a host that is gone", []Entry{{blue(1, station(0, "10.50.7.5")).Record, Gone}}, "10.50.7.5", ether.MAC{}, 0},
		{"one that is suspected", []Entry{{blue(1, name("10.50.1.5")).Record, Suspect}}, "10.50.1.5", derived("10.50.1.5"), 1},
	} {
		for _, entries := range [][]Entry{tc.entries, func() []Entry { r := slices.Clone(tc.entries); slices.Reverse(r); return r }()} {
			d := NewDirectory(host(9).ID)
			d.Apply(Update{Entries: entries})
			got, ok := d.Vouched("blue").Of(addr(tc.addr))
			if want := (Vouched{tc.mac, host(tc.host).ID}); ok != !tc.mac.IsZero() || ok && got != want {
				t.Errorf("%s: %+v, %v", tc.name, got, ok)
			}
		}
	}
	d := NewDirectory(host(9).ID)
	d.Apply(Update{Entries: []Entry{blue(1, name("10.50.1.5"))}})
	before := d.Vouched("blue")
	d.Apply(Update{Removed: []HostID{host(1).ID}})
	if _, ok := before.Of(addr("10.50.1.5")); ok || d.Vouched("blue") != nil || d.Vouched("red") != nil {
		t.Errorf("a host that was removed: %v, in the table of before: %v", d.Vouched("blue"), ok)
	}
}

// The table of who is vouched for is read, without allocation, while it is changed: what stays is always found.
func TestVouchedTable(t *testing.T) {
	var table VouchedTable
	at := func(i int) (netip.Addr, Vouched) {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		return a, Vouched{ether.DockerMAC(a), host(i % 7).ID}
	}
	const n = 2000 // the even ones stay
	for i := 0; i < n; i += 2 {
		a, v := at(i)
		table.set(a, v, true)
	}
	if allocs := testing.AllocsPerRun(100, func() { table.Of(netip.AddrFrom4([4]byte{10, 0, 0, 4})) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for range 3 {
			for i := 1; i < 4*n; i += 2 {
				a, v := at(i)
				table.set(a, v, true)
			}
			for i := 1; i < 4*n; i += 2 {
				a, v := at(i)
				table.set(a, v, false)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for i := range n {
			a, want := at(i)
			if v, ok := table.Of(a); ok && v != want || !ok && i%2 == 0 {
				t.Fatalf("%s: %v %v", a, v, ok)
			}
		}
	}
	if a, _ := at(1); table.n != n/2 {
		t.Errorf("%d are left, want %d", table.n, n/2)
	} else if v, ok := table.Of(a); ok {
		t.Errorf("%s was taken out: %v", a, v)
	}
}

// Of the places that hosts say, and the next Seq.
func TestPlaces(t *testing.T) {
	mac, other := ether.MAC{2, 9}, ether.MAC{2, 8}
	at := func(i int, seq uint64, m ether.MAC, a string) Entry {
		return Entry{Record: Record{Host: host(i), Members: []Member{{Spec: Spec{Key: "blue"}, Blocks: []netip.Prefix{prefix("10.50.1.0/26")}}},
			Stations: []Station{{Key: "blue", MAC: m, Addrs: []netip.Addr{addr(a)}, Seq: seq}}}}
	}
	d := NewDirectory(host(9).ID)
	next := func(m ether.MAC, a string) uint64 { return d.NextSeq("blue", m, []netip.Addr{addr(a)}) }
	if next(mac, "10.50.1.5") != 0 || d.NextSeq("red", mac, nil) != 0 {
		t.Error("a station that nobody has")
	}
	d.Apply(Update{Entries: []Entry{at(1, 4, mac, "10.50.1.5"), at(2, 4, mac, "10.50.1.5")}})
	if id, ok := d.Stations("blue")[mac]; !ok || id != "" {
		t.Errorf("a station of two is at %q, %v", id, ok)
	}
	if h, ok := d.Where("blue", addr("10.50.1.5")); ok {
		t.Errorf("an address of two is at %v", h)
	}
	if next(mac, "10.50.1.9") != 5 || next(other, "10.50.1.5") != 5 || next(other, "10.50.1.9") != 0 {
		t.Error("the next is not higher than both")
	}
	d.Apply(Update{Entries: []Entry{at(3, math.MaxUint64, mac, "10.50.1.5")}})
	if id := d.Stations("blue")[mac]; id != host(3).ID || next(mac, "10.50.1.5") != math.MaxUint64 {
		t.Errorf("it is at %s, next is %d", id, next(mac, "10.50.1.5"))
	}
}
