package flow

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unique"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/packets"
)

var (
	macA = ether.MAC{2, 0x42, 10, 77, 0, 2}
	macB = ether.MAC{2, 0x42, 10, 77, 0, 3}
	wide = unique.Make("wide")
	here = unique.Make("here")
)

const (
	protoHopByHop = 0
	protoFragment = 44
	protoDestOpts = 60
)

// eth is an Ethernet header with tags.
func eth(typ uint16, src, dst ether.MAC, tags ...uint16) []byte {
	b := append(append([]byte(nil), dst[:]...), src[:]...)
	for _, id := range tags {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, ether.TypeVLAN), id)
	}
	return binary.BigEndian.AppendUint16(b, typ)
}

// ipv4 is a packet with the first bytes of what it carries.
func ipv4(proto uint8, src, dst string, body ...byte) []byte {
	b := packets.IPv4(proto, 0, nil, body)
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	return append(eth(ether.TypeIPv4, macA, macB), b...)
}

func ipv6(next uint8, body ...byte) []byte {
	b := packets.IPv6(next, body)
	b[8], b[23], b[24], b[39] = 0xfd, 2, 0xfd, 3
	return append(eth(ether.TypeIPv6, macA, macB), b...)
}

func tcp(src, dst uint16, flags uint8) []byte {
	b := make([]byte, tcpLen)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	b[12], b[13] = 5<<4, flags
	return b
}

func one(t *testing.T, table *Table) *Flow {
	t.Helper()
	if table.Len() != 1 {
		t.Fatalf("%d flows, want 1", table.Len())
	}
	for f := range table.All() {
		return f
	}
	return nil
}

func TestWho(t *testing.T) {
	four := func(b []byte) []byte { return append(b, 0, 80, 0x15, 0x38) } // ports 80 and 5432
	fragment := ipv4(protoUDP, "10.77.0.2", "10.77.0.3", 0, 80, 0x15, 0x38)
	fragment[14+6] = 0x20
	tagged := append(eth(ether.TypeIPv4, macA, macB, 7, 8), four(ipv4(protoSCTP, "10.77.0.2", "10.77.0.3"))[14:]...)
	for _, c := range []struct {
		name     string
		b        []byte
		typ      uint16
		proto    uint8
		src, dst string // address or MAC
		ports    bool
	}{
		{"TCP", ipv4(protoTCP, "10.77.0.2", "10.77.0.3", tcp(80, 5432, ack)...), ether.TypeIPv4, protoTCP, "10.77.0.2", "10.77.0.3", true},
		{"only ports are here", four(ipv4(protoTCP, "10.77.0.2", "10.77.0.3")), ether.TypeIPv4, protoTCP, "10.77.0.2", "10.77.0.3", true},
		{"not even ports", ipv4(protoTCP, "10.77.0.2", "10.77.0.3", 0, 80), ether.TypeIPv4, protoTCP, "10.77.0.2", "10.77.0.3", false},
		{"behind two tags", tagged, ether.TypeIPv4, protoSCTP, "10.77.0.2", "10.77.0.3", true},
		{"fragment", fragment, ether.TypeIPv4, protoUDP, "10.77.0.2", "10.77.0.3", false},
		{"ICMP", four(ipv4(1, "10.77.0.2", "10.77.0.3")), ether.TypeIPv4, 1, "10.77.0.2", "10.77.0.3", false},
		{"IPv6", four(ipv6(protoUDP)), ether.TypeIPv6, protoUDP, "fd00::2", "fd00::3", true},
		{"IPv6, hop by hop", four(ipv6(protoHopByHop, protoUDP, 0, 0, 0, 0, 0, 0, 0)), ether.TypeIPv6, protoUDP, "fd00::2", "fd00::3", true},
		{"IPv6 fragment", four(ipv6(protoFragment, protoUDP, 0, 0, 1, 0, 0, 0, 9)), ether.TypeIPv6, protoUDP, "fd00::2", "fd00::3", false},
		{"IPv6 fragment that is all", four(ipv6(protoFragment, protoUDP, 0, 0, 0, 0, 0, 0, 9)), ether.TypeIPv6, protoUDP, "fd00::2", "fd00::3", true},
		{"IPv6, headers without end", ipv6(protoDestOpts, protoUDP, 255, 0, 0, 0, 0, 0, 0), ether.TypeIPv6, protoUDP, "fd00::2", "fd00::3", false},
		{"ARP", append(eth(ether.TypeARP, macA, macB), make([]byte, 28)...), 0x0806, 0, macA.String(), macB.String(), false},
		{"no IP header", append(eth(ether.TypeIPv4, macA, macB), 0x45, 0), ether.TypeIPv4, 0, macA.String(), macB.String(), false},
		{"runt", macA[:], 0, 0, ether.MAC{}.String(), ether.MAC{}.String(), false},
		{"nothing", nil, 0, 0, ether.MAC{}.String(), ether.MAC{}.String(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := New(0)
			table.Add(&Packet{Network: wide, Data: c.b, Len: 1000})
			f := one(t, table)
			name := func(e End) string {
				if e.Addr.IsValid() {
					return e.Addr.String()
				}
				return e.MAC.String()
			}
			if f.Type != c.typ || f.Proto != c.proto || name(f.A) != c.src || name(f.B) != c.dst {
				t.Errorf("%04x proto %d, %s to %s", f.Type, f.Proto, name(f.A), name(f.B))
			}
			if want := (c.ports); want != (f.A.Port == 80 && f.B.Port == 5432) || !want && f.A.Port+f.B.Port > 0 {
				t.Errorf("ports %d and %d, want some: %v", f.A.Port, f.B.Port, c.ports)
			}
		})
	}
}

// Flows are the same here and in ether, whose flow hash selects the queue: two frames belong to one flow in both or in neither. This
// includes fragments, and atomic fragments (RFC 6946), which are whole packets.
func TestFlowOfSwitch(t *testing.T) {
	udp := func(extension []byte, ports ...byte) []byte {
		next, body := byte(protoUDP), ports
		if extension != nil {
			next, body = protoFragment, append(append([]byte{protoUDP, 0}, extension...), ports...)
		}
		return ipv6(next, append(body, 0, 8, 0, 0)...)
	}
	atomic, first, later := []byte{0, 0, 0, 0, 0, 9}, []byte{0, 1, 0, 0, 0, 9}, []byte{0, 9, 0, 0, 0, 9}
	for _, c := range []struct {
		name string
		a, b []byte
		same bool
	}{
		{"other ports", udp(nil, 0, 80, 1, 1), udp(nil, 0, 80, 1, 2), false},
		{"atomic fragments with other ports", udp(atomic, 0, 80, 1, 1), udp(atomic, 0, 80, 1, 2), false},
		{"an atomic fragment and its packet", udp(atomic, 0, 80, 1, 1), udp(nil, 0, 80, 1, 1), true},
		{"fragments", udp(first, 0, 80, 1, 1), udp(later, 9, 9, 9, 9), true},
	} {
		table := New(0)
		var flows [2]uint32
		for i, b := range [][]byte{c.a, c.b} {
			table.Add(&Packet{Network: wide, Data: b, Len: len(b)})
			f := ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
			flows[i] = f.Flow()
		}
		if counted, steered := table.Len() == 1, flows[0] == flows[1]; counted != c.same || steered != c.same {
			t.Errorf("%s: counted as one flow: %v, steered as one: %v; want %v", c.name, counted, steered, c.same)
		}
	}
}

// The sender of the SYN is A, whichever address or frame comes first.
func TestInitiator(t *testing.T) {
	to := func(flags uint8) []byte { return ipv4(protoTCP, "10.77.0.2", "10.77.0.3", tcp(40000, 80, flags)...) }
	from := func(flags uint8) []byte { return ipv4(protoTCP, "10.77.0.3", "10.77.0.2", tcp(80, 40000, flags)...) }
	for _, c := range []struct {
		name   string
		frames [][]byte
		a      uint16 // port
		out    uint64
	}{
		{"lower address", [][]byte{to(SYN), from(SYN | ack), to(ack)}, 40000, 2},
		{"higher address", [][]byte{from(SYN), to(SYN | ack), from(ack)}, 80, 2},
		{"from its middle", [][]byte{from(ack), to(ack)}, 80, 1},
		{"answer first", [][]byte{from(SYN | ack), to(ack)}, 40000, 1},
		{"seen before", [][]byte{from(RST | ack), to(SYN), to(SYN)}, 40000, 2},
		{"both at once", [][]byte{from(SYN), to(SYN)}, 80, 1},
	} {
		table := New(0)
		for _, b := range c.frames {
			table.Add(&Packet{Network: wide, Data: b, Len: len(b)})
		}
		f := one(t, table)
		if f.A.Port != c.a || f.Out.Frames != c.out || f.Back.Frames != uint64(len(c.frames))-c.out {
			t.Errorf("%s: A has port %d and sent %d frames, got %d; want port %d, %d frames", c.name, f.A.Port, f.Out.Frames, f.Back.Frames, c.a, c.out)
		}
	}
	table := New(0)
	for _, b := range [][]byte{to(SYN), from(SYN | ack), from(ack | FIN), to(RST)} {
		table.Add(&Packet{Network: wide, Data: b})
	}
	if f := one(t, table); f.Sent != SYN|RST || f.Got != SYN|ack|FIN {
		t.Errorf("flags sent %x, got %x", f.Sent, f.Got)
	}
}

func TestSuperFrames(t *testing.T) {
	head := ipv4(protoTCP, "10.77.0.2", "10.77.0.3", tcp(1, 2, ack)...) // 54 bytes
	for _, c := range []struct {
		name         string
		len, segment int
		v            vswitch.Verdict
		want         Counts
	}{
		{"ordinary", 1514, 0, vswitch.Forwarded, Counts{1, 1, 1514}},
		{"exactly three", 54 + 3*1460, 1460, vswitch.Forwarded, Counts{1, 3, 3 * 1514}},
		{"a short one behind them", 54 + 3*1460 + 1, 1460, vswitch.Forwarded, Counts{1, 4, 3*1514 + 55}},
		{"of one segment", 100, 1460, vswitch.Flooded, Counts{1, 1, 100}},
		{"nothing but a header", 54, 1460, vswitch.Flooded, Counts{1, 1, 54}},
		{"false offload request", 60000, 1, vswitch.Offload, Counts{1, 1, 60000}},
	} {
		if got := New(0).Add(&Packet{Network: wide, Data: head, Len: c.len, Segment: c.segment, Verdict: c.v}); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// randomPacket is a frame of one of many conversations.
func randomPacket(r *rand.Rand, b []byte) Packet {
	b = b[:0]
	a, z := byte(r.IntN(8)), byte(r.IntN(8))
	if r.IntN(10) == 0 {
		b = append(b, eth(ether.TypeARP, ether.MAC{2, a}, ether.MAC{2, z})...)
	} else {
		b = append(b, ipv4(protoTCP, netip.AddrFrom4([4]byte{10, 0, 0, a}).String(), netip.AddrFrom4([4]byte{10, 0, 0, z}).String(),
			tcp(uint16(r.IntN(5)), uint16(r.IntN(5)), uint8(r.UintN(256)))...)...)
	}
	p := Packet{Network: wide, Time: r.Int64(), Data: b, Len: len(b) + r.IntN(60000), Segment: r.IntN(1500), Verdict: vswitch.Verdict(r.IntN(3))}
	if r.IntN(4) == 0 {
		p.Network = here
	}
	if r.IntN(3) == 0 {
		p.Fault = ether.FaultDelayed
	}
	return p
}

func sumOf(t *Table) (s Sum) {
	for f := range t.All() {
		one := f.Sum()
		s.Add(&one)
	}
	return s
}

// Rows and evicted rows together have counted all frames, and the rows are those of the conversations that were seen last.
func TestBalance(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, bound := range []int{1, 2, 50, 700, 1 << 16} {
		table := New(bound)
		var want Sum
		seen, flows := map[key]int{}, 0
		for i := range 20000 {
			p := randomPacket(r, nil)
			h := read(p.Data)
			k, _ := h.key(p.Network)
			seen[k] = i
			c := table.Add(&p)
			want.Add(&Sum{Counts: c})
			want.Verdicts[p.Verdict]++
			if p.Fault != 0 {
				want.Faults++
			}
			flows = max(flows, table.Len())
		}
		gone, evicted := table.Evicted()
		got := sumOf(table)
		got.Add(&evicted)
		if got != want || table.Total() != want {
			t.Fatalf("bound %d: rows and evicted %+v, total %+v, added %+v", bound, got, table.Total(), want)
		}
		if flows != min(bound, len(seen)) || (gone > 0) != (bound < len(seen)) {
			t.Errorf("bound %d: %d rows of %d flows, %d evicted", bound, flows, len(seen), gone)
		}
		last := 1 << 30
		for f := range table.All() {
			at, ok := seen[f.key()]
			if !ok || at >= last {
				t.Fatalf("bound %d: %+v stands behind one seen before it", bound, f)
			}
			last = at
			delete(seen, f.key())
		}
		for k, at := range seen {
			if at > last {
				t.Fatalf("bound %d: %+v was evicted, one that was seen before it is there", bound, k)
			}
		}
	}
}

func TestTake(t *testing.T) {
	table := New(2)
	send := func(src, dst string, flags uint8) {
		b := ipv4(protoTCP, src, dst, tcp(1, 2, flags)...)
		table.Add(&Packet{Network: wide, Data: b, Len: len(b)})
	}
	taken := func() (n int, s Sum) {
		table.Take(func(f *Flow) {
			n++
			one := f.Sum()
			s.Add(&one)
		})
		return n, s
	}
	send("10.0.0.9", "10.0.0.1", SYN)
	send("10.0.0.2", "10.0.0.3", SYN)
	if n, s := taken(); n != 2 || s.Frames != 2 {
		t.Errorf("taken %d flows, %+v", n, s)
	}
	if n, s := taken(); n != 0 || table.Len() != 2 || table.Total() != s {
		t.Errorf("taken %d of %d flows again, total %+v", n, table.Len(), table.Total())
	}
	send("10.0.0.9", "10.0.0.1", ack)
	table.Take(func(f *Flow) {
		if f.A.Addr.String() != "10.0.0.9" || f.Out.Frames != 1 {
			t.Errorf("afterwards %+v", f)
		}
	})
	send("10.0.0.5", "10.0.0.1", ack)
	send("10.0.0.6", "10.0.0.1", ack)
	send("10.0.0.7", "10.0.0.1", ack)
	gone, evicted := table.Evicted()
	if n, s := taken(); n != 2 || gone != 3 || s.Frames+evicted.Frames != 3 {
		t.Errorf("%d flows with %d frames, %d evicted with %d", n, s.Frames, gone, evicted.Frames)
	}
}

func TestNoAllocations(t *testing.T) {
	table := New(8)
	b := ipv4(protoTCP, "10.0.0.1", "10.0.0.2", tcp(1, 2, ack)...)
	p := Packet{Network: wide, Data: b, Len: len(b)}
	table.Add(&p)
	if n := testing.AllocsPerRun(1000, func() { table.Add(&p) }); n != 0 {
		t.Errorf("%v allocations for a frame of a known flow", n)
	}
	port := uint16(0)
	evict := func() {
		port++
		binary.BigEndian.PutUint16(b[34:], port)
		table.Add(&p)
	}
	for range 1000 {
		evict()
	}
	if n := testing.AllocsPerRun(5000, evict); n != 0 {
		t.Errorf("%v allocations for a frame that evicts a flow", n)
	}
}

func FuzzAdd(f *testing.F) {
	for _, b := range [][]byte{ipv4(protoTCP, "10.0.0.1", "10.0.0.2", tcp(1, 2, SYN)...), ipv6(protoHopByHop, protoUDP, 0, 0, 0, 0, 0, 0, 0),
		ipv6(protoFragment, protoTCP, 0, 0, 8, 0, 0, 0, 0), eth(ether.TypeQinQ, macA, macB, 1, 2), eth(ether.TypeARP, macA, macB), nil} {
		f.Add(b, len(b), 100, uint8(0), uint8(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, length, segment int, verdict, fault uint8) {
		if !vswitch.Verdict(verdict).Known() {
			verdict = 0
		}
		table := New(3)
		for i := range 1 + len(b)/2 { // cut everywhere
			c := table.Add(&Packet{Network: wide, Data: b[i:], Len: length, Segment: segment, Verdict: vswitch.Verdict(verdict), Fault: ether.Fault(fault)})
			if c.Frames != 1 || c.Wire < 1 || c.Bytes < uint64(len(b[i:])) {
				t.Fatalf("%x is %+v", b[i:], c)
			}
		}
		_, evicted := table.Evicted()
		got := sumOf(table)
		if got.Add(&evicted); got != table.Total() || table.Len() > 3 {
			t.Fatalf("%d rows: %+v, total %+v", table.Len(), got, table.Total())
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	for name, ports := range map[string]uint16{"one flow": 1, "1000 flows": 1000, "evicting": 60000} {
		b.Run(name, func(b *testing.B) {
			table := New(30000)
			frame := ipv4(protoTCP, "10.0.0.1", "10.0.0.2", tcp(1, 2, ack)...)
			p := Packet{Network: wide, Data: frame, Len: 1514}
			b.ReportAllocs()
			for i := uint32(0); b.Loop(); i++ {
				binary.BigEndian.PutUint16(frame[34:], uint16(i%uint32(ports)))
				table.Add(&p)
			}
		})
	}
}
