package ether

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

// tooBig is a packet of TCP that may not be fragmented.
func tooBig(v6 bool, payload int, tags ...uint16) packets.Packet {
	return packets.Packet{V6: v6, DF: !v6, Tags: tags, TCP: packets.Flags(0x10), Payload: packets.Data(payload)}
}

// A sender is told as another implementation reads it: which packet, and what fits. Of a super-frame it is told of the first segment.
func TestAppendTooBig(t *testing.T) {
	for _, tc := range []struct {
		name  string
		p     packets.Packet
		seg   int // of a super-frame's segment; 0: an ordinary frame
		quote int // bytes of the packet
	}{
		{"IPv4", tooBig(false, 1410), 0, 548},
		{"IPv4, short", tooBig(false, 100), 0, 140},
		{"IPv4, super-frame", tooBig(false, 14100), 1410, 548},
		{"IPv4, VLAN tags", tooBig(false, 1410, 7, 8), 0, 548},
		{"IPv4, UDP", packets.Packet{UDP: true, DF: true, Payload: packets.Data(1422)}, 0, 548},
		{"IPv6", tooBig(true, 1390), 0, 1232},
		{"IPv6, super-frame", tooBig(true, 13900), 1390, 1232},
		{"IPv6, VLAN tag", tooBig(true, 1390, 7), 0, 1232},
		{"IPv6, extension header", packets.Packet{V6: true, Hop: make([]byte, 6), Payload: packets.Data(1390), TCP: packets.Flags(0x10)}, 0, 1232},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, first := tc.p.Bytes(), tc.p
			var off Offload
			if tc.seg > 0 {
				l4, sum := tc.p.Layout()
				b = tc.p.Partial()
				off = Offload{Kind: TCP4, PartialChecksum: true, Head: uint16(tc.p.HeadLen()), Segment: uint16(tc.seg), ChecksumStart: uint16(l4), ChecksumOffset: uint16(sum - l4)}
				if tc.p.V6 {
					off.Kind = TCP6
				}
				first.Payload = first.Payload[:tc.seg]
			}
			f := lend(b, off)
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			room := make([]byte, 0, TooBigLen)
			before := bytes.Clone(f.WithHeadroom())
			got := f.AppendTooBig(room, 1386)
			if !bytes.Equal(before, f.WithHeadroom()) {
				t.Error("the frame was written into")
			}
			p := gopacket.NewPacket(got, layers.LayerTypeEthernet, gopacket.Default)
			if p.ErrorLayer() != nil {
				t.Fatalf("%v of %x", p.ErrorLayer().Error(), got)
			}
			eth := p.LinkLayer().(*layers.Ethernet)
			if src, dst := f.Src(), f.Dst(); !bytes.Equal(eth.SrcMAC, dst[:]) || !bytes.Equal(eth.DstMAC, src[:]) {
				t.Errorf("from %v to %v", eth.SrcMAC, eth.DstMAC)
			}
			at := HeaderLen + 4*len(tc.p.Tags)
			if !bytes.Equal(got[12:at], b[12:at]) {
				t.Errorf("tags %x, want %x", got[12:at], b[12:at])
			}
			if mtu := fragments(t, p); mtu != 1386 {
				t.Errorf("%d bytes fit", mtu)
			}
			want := first.Bytes()[at:]
			quoted := got[len(got)-tc.quote:]
			if n := len(got) - at - map[bool]int{false: 28, true: 48}[tc.p.V6]; n != tc.quote {
				t.Errorf("%d bytes are quoted, want %d", n, tc.quote)
			}
			head := tc.p.HeadLen() - at - 20 // the network headers
			if tc.p.UDP {
				head += 12
			}
			if !bytes.Equal(quoted[:head+8], want[:head+8]) {
				t.Errorf("quoted\n%x, want\n%x", quoted[:head+8], want[:head+8])
			}
			if len(got) > TooBigLen {
				t.Errorf("%d bytes", len(got))
			}
			if n := testing.AllocsPerRun(100, func() { f.AppendTooBig(room, 1386) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
			g := lend(got, Offload{})
			if err := g.Check(); err != nil || g.AppendTooBig(nil, 1300) != nil {
				t.Errorf("an error message is answered with one, %v", err)
			}
		})
	}
}

// fragments reads what a message says that fits, and checks what it is made of: gopacket computes its checksums anew.
func fragments(t *testing.T, p gopacket.Packet) (mtu int) {
	t.Helper()
	var again []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			if l.Flags != layers.IPv4DontFragment || l.SrcIP.String() != "10.77.0.3" || l.DstIP.String() != "10.77.0.2" {
				t.Errorf("%+v", l)
			}
		case *layers.IPv6:
			if l.SrcIP.String() != "fd00::3" || l.DstIP.String() != "fd00::2" {
				t.Errorf("%+v", l)
			}
		case *layers.ICMPv4:
			if l.TypeCode != layers.CreateICMPv4TypeCode(3, 4) || l.Id != 0 {
				t.Errorf("%+v", l)
			}
			mtu = int(l.Seq)
		case *layers.ICMPv6:
			if l.TypeCode != layers.CreateICMPv6TypeCode(2, 0) {
				t.Errorf("%+v", l)
			}
			mtu = int(l.Payload[2])<<8 | int(l.Payload[3])
		}
		if s, ok := l.(gopacket.SerializableLayer); ok {
			again = append(again, s)
		} else if l == p.ApplicationLayer() || l == p.ErrorLayer() {
			again = append(again, gopacket.Payload(l.LayerContents()))
		}
	}
	if b := packets.Serialize(again...); !bytes.Equal(b, p.Data()) {
		t.Errorf("with lengths and checksums made anew it is\n%x, and was\n%x", b, p.Data())
	}
	return mtu
}

// What nobody is told of.
func TestNotTooBig(t *testing.T) {
	group := tooBig(false, 1400)
	group.DstMAC = [6]byte{1, 0, 0x5e, 1, 1, 1}
	from := func(v6 bool, src, dst string) []byte {
		p := tooBig(v6, 1400)
		p.Src, p.Dst = netip.MustParseAddr(src), netip.MustParseAddr(dst)
		return p.Bytes()
	}
	icmp4 := func(typ byte) []byte {
		return packets.Ethernet(TypeIPv4, packets.IPv4(protoICMP, 0x4000, nil, []byte{typ, 0, 0, 0}, make([]byte, 1400)))
	}
	icmp6 := func(typ byte) []byte {
		b := packets.Ethernet(TypeIPv6, packets.IPv6(protoICMPv6, []byte{typ, 0, 0, 0}, make([]byte, 1400)))
		copy(b[22:], netip.MustParseAddr("fd00::2").AsSlice())
		copy(b[38:], netip.MustParseAddr("fd00::3").AsSlice())
		return b
	}
	for _, tc := range []struct {
		name string
		b    []byte
		mtu  int
		told bool
	}{
		{"IPv4", tooBig(false, 1400).Bytes(), 1386, true},
		{"IPv4, the smallest MTU", tooBig(false, 1400).Bytes(), 68, true},
		{"IPv4, a smaller one", tooBig(false, 1400).Bytes(), 67, false},
		{"IPv6, the smallest MTU", tooBig(true, 1400).Bytes(), 1280, true},
		{"IPv6, a smaller one", tooBig(true, 1400).Bytes(), 1279, false},
		{"may be fragmented", packets.Packet{Payload: packets.Data(1400)}.Bytes(), 1386, false},
		{"a fragment", packets.Ethernet(TypeIPv4, packets.IPv4(17, 0x6000, nil, make([]byte, 1400))), 1386, false},
		{"to a group", group.Bytes(), 1386, false},
		{"to a group's address", from(false, "10.77.0.2", "239.1.1.1"), 1386, false},
		{"to all", from(false, "10.77.0.2", "255.255.255.255"), 1386, false},
		{"from nobody", from(false, "0.0.0.0", "10.77.0.3"), 1386, false},
		{"from nobody, IPv6", from(true, "::", "fd00::3"), 1386, false},
		{"to a group's address, IPv6", from(true, "fd00::2", "ff02::1"), 1386, false},
		{"ARP", packets.Ethernet(TypeARP, make([]byte, 1400)), 1386, false},
		{"echo", icmp4(8), 1386, true},
		{"unreachable", icmp4(3), 1386, false},
		{"echo, IPv6", icmp6(128), 1386, true},
		{"unreachable, IPv6", icmp6(1), 1386, false},
		{"a short header", packets.Ethernet(TypeIPv4, make([]byte, 19)), 1386, false},
	} {
		f := lend(tc.b, Offload{})
		if got := f.AppendTooBig([]byte{}, tc.mtu); (got != nil) != tc.told {
			t.Errorf("%s: %x", tc.name, got)
		}
	}
}

// Whatever a frame has: who is told is its sender, in a frame that passes Check and is no reason for another one.
func FuzzAppendTooBig(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		f.Add(tooBig(v6, 1400).Bytes(), 1386)
		f.Add(tooBig(v6, 100, 7, 8).Bytes(), 1386)
		f.Add(tooBig(v6, 8).Bytes()[:60], 1300)
	}
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		g := lend(b, Offload{})
		if g.Check() != nil {
			return
		}
		before := slices.Clone(g.WithHeadroom())
		got := g.AppendTooBig([]byte{}, mtu)
		if !bytes.Equal(before, g.WithHeadroom()) {
			t.Error("the frame was written into")
		}
		if got == nil {
			return
		}
		a := lend(got, Offload{})
		if a.Check() != nil || a.Dst() != g.Src() || a.Src() != g.Dst() || a.Len() > TooBigLen || a.AppendTooBig([]byte{}, 1300) != nil {
			t.Errorf("%x", got)
		}
	})
}
