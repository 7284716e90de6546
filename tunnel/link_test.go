package tunnel

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// pair is a link from the first address of a family to the second, and what comes out there.
func pair(t testing.TB, a, b string) (*Link, *catch) {
	t.Helper()
	host(t)
	l, err := listen(t, a, 1).Link(vni, at(b))
	testhost.Must(t, err)
	k, _ := caught(t, listen(t, b, 1), vni, a)
	return l, k
}

var kinds = []struct {
	name string
	p    packet
}{
	{"TCP over IPv4", packet{}},
	{"TCP over IPv6", packet{V6: true}},
	{"UDP over IPv4", packet{UDP: true}},
	{"UDP over IPv6", packet{UDP: true, V6: true}},
}

// TestSend: ordinary frames, partial ones and super-frames come out with complete checksums, byte for byte; the
// frames wanted are gopacket's, checksums and all.
func TestSend(t *testing.T) {
	for _, family := range families {
		for _, kind := range kinds {
			t.Run(family.name+"/"+kind.name, func(t *testing.T) {
				l, k := pair(t, family.a, family.b)
				p := kind.p
				for _, n := range []int{0, 1, 999, 1400} {
					p.Payload = packets.Data(n)
					f := p.frame(t)
					want := [][]byte{room(f), room(f)}
					frames := []*ether.Frame{f, p.super(t, 0)}
					if sent, n := l.Send(frames); sent != 2 || n != 2*len(want[0]) {
						t.Fatalf("Send = %d, %d, want 2, %d", sent, n, 2*len(want[0]))
					}
					same(t, k.drainFrames(t, 2), want)
				}
				for _, tt := range []struct{ payload, segment int }{{60000, 1388}, {2000, 1000}, {1001, 1000}, {900, 1000}, {20000, 100}, {25600, 100}} {
					p.Payload = packets.Data(tt.payload)
					super, want := p.super(t, tt.segment), p.segments(t, tt.segment)
					before := room(super)
					wireBefore := l.Stats().WireTx
					if sent, n := l.Send([]*ether.Frame{super}); sent != 1 || n != super.Len() {
						t.Fatalf("Send = %d, %d, want 1, %d", sent, n, super.Len())
					}
					if got := l.Stats().WireTx - wireBefore; got != uint64(len(want)) {
						t.Errorf("%d datagrams were counted, want %d", got, len(want))
					}
					same(t, k.drainFrames(t, len(want)), want)
					if !bytes.Equal(super.Bytes(), before) {
						t.Error("the super-frame was changed: it may be flooded to others")
					}
				}
				if s := l.Stats(); s.GSO.Why != nil || s.Full+s.Long+s.Failed != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestSendMixed: whatever a batch is made of, every frame comes, and those of one flow in order.
func TestSendMixed(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	var batch []*ether.Frame
	want := make(map[uint16][][]byte) // by source port
	total := 0
	for i := range 700 {
		p := packet{SrcPort: uint16(1000 + i/100), UDP: i%100 < 50, ID: uint16(i), Payload: packets.Data(1 + i*7%300)}
		if i%90 == 0 {
			p.Payload = packets.Data(20000 + i)
			batch = append(batch, p.super(t, 200))
			want[p.SrcPort] = append(want[p.SrcPort], p.segments(t, 200)...)
			total += len(p.segments(t, 200))
			continue
		}
		f := p.frame(t)
		batch = append(batch, f)
		want[p.SrcPort] = append(want[p.SrcPort], room(f))
		total++
	}
	if sent, _ := l.Send(batch); sent != len(batch) {
		t.Fatalf("%d of %d went", sent, len(batch))
	}
	got := make(map[uint16][][]byte)
	for _, b := range k.drainFrames(t, total) {
		port := uint16(b[34])<<8 | uint16(b[35])
		got[port] = append(got[port], b)
	}
	for port, frames := range want {
		for _, udp := range []bool{false, true} { // two flows a port
			same(t, of(got[port], udp), of(frames, udp))
		}
	}
}

// TestSendGathers: the frames of a flow leave as one train, also where flows alternate.
func TestSendGathers(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	var batch []*ether.Frame
	for i := range 60 {
		batch = append(batch, packet{UDP: true, SrcPort: uint16(1000 + i%3), Payload: packets.Data(100)}.frame(t))
	}
	if sent, _ := l.Send(batch); sent != len(batch) {
		t.Fatalf("%d of %d went", sent, len(batch))
	}
	settled(t)
	r := k.v.receivers[0]
	if n, errno := r.in.recv(r.fd, k.arena); errno != 0 || n > 3 {
		t.Errorf("%d trains came (%v), want no more than the three flows", n, errno)
	}
}

func of(frames [][]byte, udp bool) (some [][]byte) {
	for _, b := range frames {
		if (b[23] == 17) == udp {
			some = append(some, b)
		}
	}
	return some
}

// TestTrains looks at a load before it is sent.
func TestTrains(t *testing.T) {
	many := func(n, size int) []int {
		s := make([]int, n)
		for i := range s {
			s[i] = size
		}
		return s
	}
	tests := []struct {
		name  string
		sizes []int // of datagrams
		noGSO bool
		want  []int // datagrams of each train
	}{
		{"one", []int{100}, false, []int{1}},
		{"equal", []int{100, 100, 100}, false, []int{3}},
		{"a shorter one ends it", []int{100, 100, 60, 60, 100}, false, []int{3, 1, 1}},
		{"a longer one begins another", []int{100, 200, 200}, false, []int{1, 2}},
		{"full at 64", many(130, 100), false, []int{64, 64, 2}},
		{"full at 65507 bytes", many(50, 1450), false, []int{45, 5}},
		{"the last byte", append(many(45, 1450), 256, 256), false, []int{46, 1}},
		{"exactly 65507 bytes", append(many(45, 1450), 65507-45*1450), false, []int{46}},
		{"one byte more", append(many(45, 1450), 65508-45*1450), false, []int{45, 1}},
		{"without segmentation", many(5, 100), true, []int{1, 1, 1, 1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, w := &Link{}, new(sendBatch)
			if tt.noGSO {
				l.gso.Disable(unix.EINVAL)
			}
			for i, n := range tt.sizes {
				f := ether.Lend(make([]byte, n), ether.Offload{})
				l.addFrame(w, i, &f)
			}
			var got []int
			at := 0
			for _, tr := range w.trains[:w.nTrains] {
				got = append(got, tr.n)
				sum := 0
				for i := range tr.n {
					d := w.datagrams[tr.first+i]
					if d.frame != at || d.vecs != 1 || int(w.iovs[d.iov].Len) != tt.sizes[at] {
						t.Errorf("datagram %d: %+v", at, d)
					}
					sum += tt.sizes[at]
					at++
				}
				if tr.bytes != sum || tr.size != tt.sizes[tr.first] || tr.last != tt.sizes[at-1] || tr.bytes > trainBytes {
					t.Errorf("train %+v, %d bytes", tr, sum)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("trains of %d, want %d", got, tt.want)
			}
		})
	}
}

// TestTrainsOfSuperFrames: a super-frame that would be cut in two by the end of a train begins another; small ones share.
func TestTrainsOfSuperFrames(t *testing.T) {
	for name, tc := range map[string]struct {
		payloads []int
		segment  int
		want     []int
	}{
		"two that do not fit one": {[]int{43 * 1398, 43 * 1398}, 1398, []int{43, 43}},
		"as many as fit":          {[]int{15 * 1398, 15 * 1398, 14 * 1398, 1398}, 1398, []int{44, 1}},
		"small ones":              {[]int{2000, 2000, 2000}, 1000, []int{6}},
		"longer than a train":     {[]int{1398, 100 * 600}, 600, []int{3, 64, 36}},
	} {
		t.Run(name, func(t *testing.T) {
			l, w := &Link{}, new(sendBatch)
			for i, n := range tc.payloads {
				l.addSegments(w, i, packet{Payload: packets.Data(n)}.super(t, tc.segment))
			}
			var got []int
			for _, tr := range w.trains[:w.nTrains] {
				got = append(got, tr.n)
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("trains of %d, want %d", got, tc.want)
			}
		})
	}
}

// TestSendLoads crosses a load's bounds: 64 trains, 512 datagrams, in the middle of a super-frame too.
func TestSendLoads(t *testing.T) {
	tests := []struct {
		name  string
		batch func() ([]*ether.Frame, [][]byte)
	}{
		{"200 trains", func() (batch []*ether.Frame, want [][]byte) {
			for i := range 200 {
				f := packet{UDP: true, ID: uint16(i), Payload: packets.Data(100 + i)}.frame(t)
				batch, want = append(batch, f), append(want, room(f))
			}
			return batch, want
		}},
		{"1300 equal frames", func() (batch []*ether.Frame, want [][]byte) {
			for i := range 1300 {
				f := packet{UDP: true, ID: uint16(i), Payload: packets.Data(20)}.frame(t)
				batch, want = append(batch, f), append(want, room(f))
			}
			return batch, want
		}},
		{"five super-frames of 250 segments", func() (batch []*ether.Frame, want [][]byte) {
			for i := range 5 {
				p := packet{TCP: layers.TCP{Seq: uint32(i * 25000)}, Payload: packets.Data(25000)}
				batch, want = append(batch, p.super(t, 100)), append(want, p.segments(t, 100)...)
			}
			return batch, want
		}},
	}
	for _, tt := range tests {
		l, k := pair(t, "127.0.0.1", "127.0.0.2")
		for _, gso := range []bool{true, false} {
			if !gso {
				l.gso.Disable(unix.EINVAL)
			}
			before := l.Stats().WireTx
			batch, want := tt.batch()
			if sent, _ := l.Send(batch); sent != len(batch) {
				t.Fatalf("%s, trains %v: %d of %d went", tt.name, gso, sent, len(batch))
			}
			same(t, k.drainFrames(t, len(want)), want)
			if n := l.Stats().WireTx - before; n != uint64(len(want)) {
				t.Errorf("%s, trains %v: %d datagrams were counted, want %d", tt.name, gso, n, len(want))
			}
		}
	}
}

// TestSendLends: a frame whose checksum is partial goes out with it complete, in trains and alone, wherever its checksum stands; what
// was lent is as it was, but for the headroom, and can be sent again.
func TestSendLends(t *testing.T) {
	l, k := pair(t, "127.0.0.1", "127.0.0.2")
	var batch []*ether.Frame
	var lent, want [][]byte
	for i := range 300 {
		p := packet{UDP: i%3 > 0, V6: i%2 > 0, ID: uint16(i), Payload: packets.Data(500)}
		f := p.super(t, 0)
		batch, lent, want = append(batch, f), append(lent, room(f)), append(want, room(p.frame(t)))
	}
	far := packet{Payload: packets.Data(1200)}.frame(t) // only for a test is a checksum there
	far.Off = ether.Offload{PartialChecksum: true, ChecksumStart: 700, ChecksumOffset: 101}
	testhost.Must(t, far.Check())
	complete := ether.Lend(append(make([]byte, ether.Headroom), far.Bytes()...), far.Off)
	complete.CompleteChecksum()
	batch, lent, want = append(batch, far), append(lent, room(far)), append(want, complete.Bytes())
	for _, gso := range []bool{true, true, false} {
		if !gso {
			l.gso.Disable(unix.EINVAL)
		}
		if sent, _ := l.Send(batch); sent != len(batch) {
			t.Fatalf("%d of %d went", sent, len(batch))
		}
		got := k.drainFrames(t, len(want))
		for _, all := range [][][]byte{got, want} { // flows of several sockets come in any order
			slices.SortFunc(all, bytes.Compare)
		}
		same(t, got, want)
		for i, f := range batch {
			if !bytes.Equal(f.Bytes(), lent[i]) || !f.Off.PartialChecksum {
				t.Fatalf("frame %d: Send wrote into it", i)
			}
		}
	}
}

func TestLinkRefuses(t *testing.T) {
	host(t)
	v := listen(t, "127.0.0.1", 1)
	_, err := v.Link(vni, at("127.0.0.2"))
	testhost.Must(t, err)
	for _, tt := range []struct {
		vni  uint32
		host string
		says string
	}{{0, "127.0.0.3", "VNI 0"}, {1 << 24, "127.0.0.3", "VNI 16777216"}, {vni, "::1", "IP version"}, {vni, "127.0.0.2", "already"}} {
		l, err := v.Link(tt.vni, at(tt.host))
		if err == nil || !strings.Contains(err.Error(), tt.says) || l != nil {
			t.Errorf("Link(%d, %s) = %v, %v", tt.vni, tt.host, l, err)
		}
	}
}

func BenchmarkLinkSend(b *testing.B) {
	l, k := pair(b, "127.0.0.1", "127.0.0.2")
	f := packet{Payload: packets.Data(60000)}.super(b, 1388)
	batch := []*ether.Frame{f}
	fd := k.v.receivers[0].fd
	discard := make([]byte, 1<<17)
	b.SetBytes(int64(f.Len()))
	for b.Loop() {
		if sent, _ := l.Send(batch); sent != 1 {
			b.Fatal("refused")
		}
		for {
			if _, err := unix.Read(fd, discard); err != nil {
				break
			}
		}
	}
}

// Links are made and closed in one change: the map of all links is copied once, however many they are.
func TestLinksAtOnce(t *testing.T) {
	v := listen(t, "127.0.0.1", 1)
	hosts := func(n int) (all []netip.AddrPort) {
		for i := range n {
			all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 4789))
		}
		return all
	}
	perLink := func(n int) float64 {
		all := hosts(n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		made, err := v.Links(vni, Wire{}, all...)
		if err != nil || len(made) != n || len(*v.links.Load()) != 2*n || len(v.Peers()) != n {
			t.Fatalf("%d links, %d with those for messages, of %d peers: %v", len(made), len(*v.links.Load()), len(v.Peers()), err)
		}
		if v.CloseLinks(made...); len(*v.links.Load()) != 0 || len(v.Peers()) != 0 {
			t.Fatalf("%d links of %d peers are left", len(*v.links.Load()), len(v.Peers()))
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
	}
	few, many := perLink(50), perLink(2000)
	t.Logf("bytes for each link: %.0f of 50 at once, %.0f of 2000", few, many)
	if many > 1.5*few {
		t.Error("a link costs more the more there are at once")
	}
	made, err := v.Links(vni, Wire{}, at("127.0.0.2"), at("127.0.0.2"), at("::1"), at("127.0.0.3"))
	if len(made) != 2 || made[0].Host != at("127.0.0.2") || made[1].Host != at("127.0.0.3") || err == nil ||
		!strings.Contains(err.Error(), "a link to 127.0.0.2 already") || !strings.Contains(err.Error(), "different IP versions") {
		t.Errorf("%v, %v", made, err)
	}
}
