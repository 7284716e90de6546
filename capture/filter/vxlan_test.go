package filter

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

// encapsulate puts a frame into a VXLAN datagram, over one of several underlays.
func (m maker) encapsulate(inner []byte, port uint16, flags byte, vni uint32) []byte {
	udp := binary.BigEndian.AppendUint16([]byte{0xc0, 1}, port)
	udp = binary.BigEndian.AppendUint16(udp, uint16(16+len(inner)))
	udp = append(udp, 0, 0, flags, 0, 0, 0)
	udp = append(binary.BigEndian.AppendUint32(udp, vni<<8), inner...)
	typ, ip := uint64(0x0800), append([]byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17}, m.bytes(10)...)
	switch m.IntN(3) {
	case 0:
		ip[0] = 0x47 // with options
		ip = append(ip, m.bytes(8)...)
	case 1:
		typ, ip = 0x86dd, append([]byte{0x60, 0, 0, 0, 0, 0, 17, 64}, m.bytes(32)...)
	}
	return join(m.macs(), be(2, typ), ip, udp)
}

// Behind vxlan an expression matches the inner frame as it would match that frame alone; but len is the length of the whole frame.
func TestVXLAN(t *testing.T) {
	const seed = 7
	g := generator{rand.New(rand.NewPCG(seed, 2))}
	m := maker{rand.New(rand.NewPCG(seed, 3))}
	frames := corpus(seed, 450)
	outer := make([][]byte, len(frames))
	for i, c := range frames {
		outer[i] = m.encapsulate(c.frame, 4789, 8, 77)
	}
	held, asked := 0, 0
	for range 500 {
		expr := g.expr(3)
		alone, err := Compile(expr, nil)
		if err != nil {
			continue
		}
		asked++
		for _, way := range []struct {
			expr string
			yes  bool
		}{{"vxlan and (" + expr + ")", true}, {"vxlan 77 and (" + expr + ")", true}, {"vxlan 78 and (" + expr + ")", false}} {
			f := compile(t, way.expr)
			for i, c := range frames {
				length := c.wireLen + len(outer[i]) - len(c.frame)
				want := way.yes && alone.Match(c.frame, length)
				if want {
					held++
				}
				if got := f.Match(outer[i], length); got != want {
					t.Fatalf("%s: frame %d matches: %v, want %v (seed %d)", way.expr, i, got, want, seed)
				}
			}
		}
	}
	if asked < 400 || held < 10_000 {
		t.Errorf("%d expressions held %d times: that shows nothing", asked, held)
	}
}

func TestVXLANWords(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(1, 1))}
	tcp := packets.Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 80, DstPort: 81}.Bytes()
	in77 := m.encapsulate(tcp, 4789, 8, 77)
	twice := m.encapsulate(in77, 4789, 8, 1<<24-1)
	tagged := join(in77[:12], be(2, 0x8100), be(2, 5), in77[12:])
	for _, c := range []struct {
		expr  string
		frame []byte
		want  bool
	}{
		{"vxlan", in77, true}, {"vxlan 77", in77, true}, {"vxlan (0x4d)", in77, true}, {"vxlan 78", in77, false},
		{"vxlan", tcp, false}, {"not vxlan", tcp, true}, {"not vxlan 78", in77, true},
		{"vxlan", m.encapsulate(tcp, 4788, 8, 77), false}, {"vxlan", m.encapsulate(tcp, 4789, 0, 77), false},
		{"vxlan", in77[:len(in77)-len(tcp)], true}, {"vxlan", in77[:len(in77)-len(tcp)-1], false}, {"vxlan", in77[:20], false}, {"vxlan", nil, false},
		{"vxlan and tcp port 80", in77, true}, {"vxlan and tcp port 82", in77, false}, {"vxlan and udp", in77, false},
		{"udp and vxlan and tcp", in77, true}, {"tcp and vxlan", in77, false}, {"(vxlan) and tcp", in77, true},
		{"(udp and vxlan 77) and (tcp and host 10.0.0.1)", in77, true},
		{"tcp or vxlan and udp", tcp, false}, {"(udp or vxlan 5) and tcp", in77, true}, {"(udp or vxlan 5) and udp", in77, false},
		{"vxlan 5 or vxlan 77", in77, false}, {"(tcp or vxlan 5 or tcp) and not udp", in77, true},
		{"vxlan or tcp", tcp, false}, {"vxlan or not tcp", tcp, true}, {"vxlan or ether[0] != 300", tcp, false},
		{"vxlan or less 100", tcp, false}, {"less 100 or vxlan", tcp, true}, {"vxlan and greater 60", in77, true},
		{"vxlan 16777215 and vxlan 77 and tcp src port 80", twice, true}, {"vxlan 16777215 and vxlan 78 or tcp", twice, true},
		{"vxlan 16777215 and vxlan 77 and udp", twice, false}, {"vxlan and vxlan", in77, false},
		{"vxlan", tagged, false}, {"vlan 5 and vxlan 77 and tcp dst port 81", tagged, true}, {"vxlan and vlan", in77, false},
		{"vxlan and (host 10.0.0.1 or 10.0.0.9) and not port (22 or 23)", in77, true},
	} {
		if got := compile(t, c.expr).Match(c.frame, len(c.frame)); got != c.want {
			t.Errorf("%s of %d bytes: %v, want %v", c.expr, len(c.frame), got, c.want)
		}
	}
	for expr, want := range map[string]string{
		"vxlan 16777216": "VNI 16777216: want 0 to 16777215",
		"mpls and vxlan": "vxlan cannot come after mpls",
		"vxlan web":      "want and, or or the end",
		"vxlan and vxlan and vxlan and vxlan and vxlan and vxlan and vxlan and vxlan and vxlan": "more than 8 times vxlan",
	} {
		if _, err := Compile(expr, nil); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", expr, err, want)
		}
	}
	f := compile(t, "vxlan 77 and tcp port 80")
	if n := testing.AllocsPerRun(100, func() { f.Match(in77, len(in77)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
