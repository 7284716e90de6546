package filter

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

// In benched, wanted is a frame that the filter matches, and others is one that it does not.
const long = "host 10.0.0.1 and (tcp port 443 or udp port 53) and not net 192.168.0.0/16"

var benched = []struct {
	name, expr     string
	wanted, others []byte
}{
	{"tcp port 80", "tcp port 80", segment("10.0.0.1", 80, 2), segment("10.0.0.1", 443, 2)},
	{"host", "host 10.0.0.1", segment("10.0.0.1", 80, 2), segment("10.0.0.3", 80, 2)},
	{"syn", "tcp[tcpflags] & tcp-syn != 0", segment("10.0.0.1", 80, 2), segment("10.0.0.1", 80, 0x10)},
	{"long", long, segment("10.0.0.1", 443, 2), segment("10.0.0.1", 80, 2)},
}

// segment is a TCP frame to 10.0.0.2.
func segment(src string, port uint16, flags byte) []byte {
	return packets.Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 40000, DstPort: port,
		TCP: packets.Flags(flags), Payload: make([]byte, 1400)}.Bytes()
}

func TestAllocs(t *testing.T) {
	for _, b := range benched {
		f := compile(t, b.expr)
		if !f.Match(b.wanted, len(b.wanted)) || f.Match(b.others, len(b.others)) {
			t.Errorf("%s: the frames are not as told", b.name)
		}
		n := testing.AllocsPerRun(100, func() {
			f.Match(b.wanted, len(b.wanted))
			f.Match(b.others, len(b.others))
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, want 0", b.name, n)
		}
	}
	// Arithmetic of every kind.
	f := compile(t, "-(len * 2 % 7 ^ ip[ip[0] & 1:2]) + tcp[len / 100] >> 1 << 1 | 5 != ether[0:4] - 1")
	frame := segment("10.0.0.1", 80, 2)
	if n := testing.AllocsPerRun(100, func() { f.Match(frame, len(frame)) }); n != 0 {
		t.Errorf("arithmetic: %v allocations, want 0", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, c := range benched {
		f := compile(b, c.expr)
		for name, frame := range map[string][]byte{"match": c.wanted, "reject": c.others} {
			b.Run(strings.ReplaceAll(c.name, " ", "-")+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f.Match(frame, len(frame))
				}
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(long, nil); err != nil {
			b.Fatal(err)
		}
	}
}
