package ether

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

// secret is what no header has.
var secret = bytes.Repeat([]byte("\xc5SECRET\xca"), 16)

func be(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func zeros(n int) []byte { return make([]byte, n) }

// tcpHeader has options of a multiple of four bytes.
func tcpHeader(options int) []byte {
	h := zeros(tcpLen + options)
	h[12] = byte(len(h)/4) << 4
	return h
}

// Nothing but headers counts as one, whatever carries a secret; and all headers do.
func TestHeaders(t *testing.T) {
	p4 := func(proto byte, payload ...[]byte) []byte {
		return packets.Ethernet(TypeIPv4, packets.IPv4(proto, 0, nil, payload...))
	}
	p6 := func(next byte, payload ...[]byte) []byte {
		return packets.Ethernet(TypeIPv6, packets.IPv6(next, payload...))
	}
	icmp := func(kind byte, rest ...[]byte) []byte {
		return slices.Concat([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, slices.Concat(rest...))
	}
	hop := []byte{protoTCP, 0, 5, 2, 0, 0, 1, 0}
	const ip, ip6 = HeaderLen + ipv4Len, HeaderLen + ipv6Len
	for _, c := range []struct {
		name  string
		frame []byte
		want  int
	}{
		{"TCP", p4(protoTCP, tcpHeader(0), secret), ip + 20},
		{"TCP with options", p4(protoTCP, tcpHeader(12), secret), ip + 32},
		{"TCP with a header that ends behind it", p4(protoTCP, tcpHeader(40)[:20], zeros(4)), ip + 20},
		{"TCP, IPv6", p6(protoTCP, tcpHeader(20), secret), ip6 + 40},
		{"UDP", p4(protoUDP, zeros(8), secret), ip + 8},
		{"UDP-Lite", p4(protoUDPLite, zeros(8), secret), ip + 8},
		{"UDP of a packet that is shorter than that", packets.Ethernet(TypeIPv4, packets.IPv4(protoUDP, 0, nil), secret), ip},
		{"TCP of a packet that is shorter than that", packets.Ethernet(TypeIPv6, packets.IPv6(protoTCP, tcpHeader(0)[:12]), secret), ip6 + 12},
		{"padding", packets.Ethernet(TypeIPv4, packets.IPv4(protoTCP, 0, nil, tcpHeader(0)), secret), ip + 20},
		{"padding, IPv6", packets.Ethernet(TypeIPv6, packets.IPv6(protoUDP, zeros(8)), secret), ip6 + 8},
		{"IPv4 options", packets.Ethernet(TypeIPv4, packets.IPv4(protoUDP, 0, zeros(8), zeros(8), secret)), ip + 8 + 8},
		{"IPv4 options that the sum does not know", packets.Ethernet(TypeIPv4, []byte{0x4f}, packets.IPv4(protoUDP, 0, nil, zeros(8), secret)[1:]), ip},
		{"an IPv4 header that is too short", packets.Ethernet(TypeIPv4, []byte{0x44}, packets.IPv4(protoUDP, 0, nil, zeros(8), secret)[1:]), ip},
		{"no IPv4", packets.Ethernet(TypeIPv4, secret), HeaderLen},
		{"no IPv6", packets.Ethernet(TypeIPv6, secret), HeaderLen},
		{"part of an IPv4 header", packets.Ethernet(TypeIPv4, []byte{0x45}), HeaderLen + 1},
		{"VXLAN", p4(protoUDP, []byte{0, 0, 0x12, 0xb5, 0, 0, 0, 0}, []byte{8, 0, 0, 0, 0, 0, 80, 0}, packets.Ethernet(TypeIPv4, secret)), ip + 8},
		{"talk by VNI 0", p4(protoUDP, []byte{0, 0, 0x12, 0xb5, 0, 0, 0, 0}, []byte{8, 0, 0, 0, 0, 0, 0, 0}, packets.Ethernet(0x88b5, secret)), ip + 8},
		{"SCTP", p4(protoSCTP, zeros(12), []byte{0, 3}, be(uint16(16+len(secret))), zeros(12), secret), ip + 12},
		{"DCCP", p4(protoDCCP, zeros(8), []byte{1}, zeros(7), secret), ip + 16},
		{"GRE", p4(protoGRE, []byte{0, 0, 8, 0}, secret), ip + 4},
		{"GRE with all that it may have", p4(protoGRE, []byte{0xb0, 0, 8, 0}, zeros(12), secret), ip + 16},
		{"PPTP", p4(protoGRE, []byte{0x30, 0x81, 0x88, 0x0b}, zeros(12), secret), ip + 16},
		{"ESP", p4(protoESP, zeros(8), secret), ip + 8},
		{"AH", p4(protoAH, zeros(12), secret), ip + 12},
		{"IP in IP", p4(4, packets.IPv4(protoUDP, 0, nil, secret)), ip},
		{"OSPF", p4(89, secret), ip},
		{"the first fragment", packets.Ethernet(TypeIPv4, packets.IPv4(protoUDP, 0x2000, nil, zeros(8), secret)), ip + 8},
		{"a later fragment", packets.Ethernet(TypeIPv4, packets.IPv4(protoUDP, 0x2001, nil, secret)), ip},
		{"the last fragment", packets.Ethernet(TypeIPv4, packets.IPv4(protoTCP, 0x0100, nil, secret)), ip},
		{"the first fragment, IPv6", p6(protoFragment, []byte{protoUDP, 0, 0, 1, 0, 0, 0, 0}, zeros(8), secret), ip6 + 8 + 8},
		{"a later fragment, IPv6", p6(protoFragment, []byte{protoUDP, 0, 0, 9, 0, 0, 0, 0}, secret), ip6 + 8},
		{"an extension header", p6(protoHopByHop, hop, tcpHeader(0), secret), ip6 + 8 + 20},
		{"a source route", p6(protoRouting, []byte{protoUDP, 2, 0, 1}, zeros(20), zeros(8), secret), ip6 + 24 + 8},
		{"an extension header that ends behind the packet", p6(protoHopByHop, []byte{protoUDP, 200}, secret), ip6},
		{"more extension headers than are looked at", p6(protoHopByHop, bytes.Repeat(zeros(8), 12), secret), ip6 + maxExtensions*8},
		{"ICMP echo", p4(protoICMP, icmp(8, secret)), ip + 8},
		{"ICMP time stamp", p4(protoICMP, icmp(13, zeros(12), secret)), ip + 20},
		{"ICMP router advertisement", p4(protoICMP, []byte{9, 0, 0, 0, 1, 2, 0, 0}, zeros(8), secret), ip + 16},
		{"ICMP of an unknown type", p4(protoICMP, []byte{99, 0, 0, 0}, secret), ip + 4},
		{"ICMP error about TCP", p4(protoICMP, icmp(3, packets.IPv4(protoTCP, 0, nil, tcpHeader(12), secret))), ip + 8 + 20 + 32},
		{"ICMP error about eight bytes of TCP", p4(protoICMP, icmp(11, packets.IPv4(protoTCP, 0, nil, tcpHeader(0), secret)[:28])), ip + 8 + 28},
		{"ICMP error about UDP", p4(protoICMP, icmp(3, packets.IPv4(protoUDP, 0, nil, zeros(8), secret))), ip + 8 + 20 + 8},
		{"ICMP error about a short packet, with extensions", p4(protoICMP, icmp(3, packets.IPv4(protoUDP, 0, nil, zeros(8)), secret)), ip + 8 + 20 + 8},
		{"ICMP error about an echo", p4(protoICMP, icmp(3, packets.IPv4(protoICMP, 0, nil, icmp(8, secret)))), ip + 8 + 20 + 8},
		{"ICMP error about an error", p4(protoICMP, icmp(3, packets.IPv4(protoICMP, 0, nil, icmp(3, packets.IPv4(protoUDP, 0, nil, zeros(8), secret))))), ip + 8 + 20 + 8},
		{"ICMP error about a later fragment", p4(protoICMP, icmp(3, packets.IPv4(protoUDP, 1, nil, secret))), ip + 8 + 20},
		{"ICMP error about something else", p4(protoICMP, icmp(3, packets.IPv4(89, 0, nil, secret))), ip + 8 + 20},
		{"ICMP error about nothing", p4(protoICMP, icmp(3, secret)), ip + 8},
		{"ICMPv6 in IPv4", p4(protoICMPv6, icmp(128, secret)), ip},
		{"ICMPv6 echo", p6(protoICMPv6, icmp(128, secret)), ip6 + 8},
		{"ICMPv6 error", p6(protoICMPv6, icmp(2, packets.IPv6(protoHopByHop, hop, tcpHeader(0), secret))), ip6 + 8 + 40 + 8 + 20},
		{"ICMPv6 of an unknown type", p6(protoICMPv6, []byte{200, 0, 0, 0}, secret), ip6 + 4},
		{"MLD", p6(protoICMPv6, icmp(131, zeros(16), secret)), ip6 + 24},
		{"MLDv2 query", p6(protoICMPv6, icmp(130, zeros(18), be(1), zeros(16), secret)), ip6 + 28 + 16},
		{"MLDv2 report", p6(protoICMPv6, []byte{143, 0, 0, 0, 0, 0, 0, 2}, []byte{4, 0, 0, 1}, zeros(32), []byte{4, 4, 0, 0}, zeros(16), secret), ip6 + 8 + 36 + 20},
		{"MLDv2 report with a record that is not there", p6(protoICMPv6, []byte{143, 0, 0, 0, 0, 0, 0, 9}, []byte{4, 0, 0, 9}, zeros(16), secret), ip6 + 8 + 20},
		{"ND", p6(protoICMPv6, icmp(135, zeros(16), []byte{1, 1}, zeros(6), []byte{200, 2}, secret)), ip6 + 24 + 8},
		{"ND with a long link-layer address", p6(protoICMPv6, icmp(136, zeros(16), []byte{2, 3}, secret)), ip6 + 24},
		{"ND with an option of no length", p6(protoICMPv6, icmp(136, zeros(16), []byte{2, 0}, secret)), ip6 + 24},
		{"ND router advertisement", p6(protoICMPv6, icmp(134, zeros(8), []byte{5, 1}, zeros(6), []byte{3, 4}, zeros(30), []byte{25, 3}, zeros(22),
			[]byte{24, 1}, zeros(6), []byte{31, 4}, secret)), ip6 + 16 + 8 + 32 + 24 + 8},
		{"ND redirect", p6(protoICMPv6, icmp(137, zeros(32), []byte{4, 9}, zeros(6), packets.IPv6(protoUDP, zeros(8), secret))), ip6 + 40 + 8 + 48},
		{"IGMP", p4(protoIGMP, []byte{0x16, 0, 0, 0, 224, 0, 0, 1}, secret), ip + 8},
		{"IGMPv3 query", p4(protoIGMP, []byte{0x11, 0, 0, 0, 224, 0, 0, 1, 0, 0, 0, 1}, zeros(4), secret), ip + 16},
		{"IGMPv3 report", p4(protoIGMP, []byte{0x22, 0, 0, 0, 0, 0, 0, 1, 4, 1, 0, 0, 224, 0, 0, 1}, secret), ip + 16},
		{"IGMP of an unknown type", p4(protoIGMP, []byte{0x13, 0, 0, 0}, secret), ip + 4},
		{"ARP", packets.Ethernet(TypeARP, []byte{0, 1, 8, 0, 6, 4, 0, 1}, zeros(20), secret), HeaderLen + 28},
		{"ARP of other addresses", packets.Ethernet(TypeARP, []byte{0, 1, 8, 0, 6, 255, 0, 1}, secret), HeaderLen + 8},
		{"VLAN", packets.Ethernet(TypeVLAN, be(5), be(TypeIPv4), packets.IPv4(protoUDP, 0, nil, zeros(8), secret)), ip + 4 + 8},
		{"QinQ", packets.Ethernet(TypeQinQ, be(5), be(TypeVLAN), be(5), be(TypeARP), []byte{0, 1, 8, 0, 6, 4, 0, 1}, zeros(20), secret), HeaderLen + 8 + 28},
		{"three tags", packets.Ethernet(TypeQinQ, be(5), be(TypeVLAN), be(5), be(TypeVLAN), be(5), be(TypeIPv4), secret), HeaderLen + 8},
		{"LLDP", packets.Ethernet(0x88cc, secret), HeaderLen},
		{"an unknown type", packets.Ethernet(0x88b5, secret), HeaderLen},
		{"LLC", packets.Ethernet(uint16(3+len(secret)), []byte{0x42, 0x42, 3}, secret), HeaderLen + 3},
		{"SNAP", packets.Ethernet(uint16(8+len(secret)), []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, secret), HeaderLen + 8},
		{"LLC, padded", packets.Ethernet(1, []byte{0x42}, secret), HeaderLen + 1},
		{"a length of nothing", packets.Ethernet(0, secret), HeaderLen},
		{"no type", zeros(13), 13},
		{"nothing", nil, 0},
	} {
		f := lend(c.frame, Offload{})
		got := f.HeadersLen()
		if got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
		for i := range 8 { // wherever a part of it begins
			if bytes.Contains(c.frame[:got], secret[i:i+4]) {
				t.Errorf("%s: the secret is in %q", c.name, c.frame[:got])
				break
			}
		}
		for n := range c.frame { // cut short it has no more
			if short := lend(c.frame[:n], Offload{}); short.HeadersLen() > min(n, max(got, HeaderLen)) {
				t.Errorf("%s: %d bytes of the first %d, %d of all", c.name, short.HeadersLen(), n, got)
			}
		}
	}
}

// What most frames are is known at first sight.
func TestPlainHeaders(t *testing.T) {
	payload := make([]byte, 100)
	options := layers.TCP{Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: payload[:8]}}}
	for _, p := range []packet{{Payload: payload}, {Payload: payload, TCP: options}, {TCP: options}, {UDP: true, Payload: payload},
		{V6: true, Payload: payload, TCP: options}, {V6: true, UDP: true, Payload: payload}} {
		f := p.frame(t)
		if n, want := plainHeaders(f.Bytes()), linkHeaders(f.Bytes()); n != want || n != f.Len()-len(p.Payload) {
			t.Errorf("%+v: %d bytes, want %d", p, n, want)
		}
	}
	for _, p := range []packet{{Tags: vlans[:1], Payload: payload}, {V6: true, Hop: payload[:6], Payload: payload}} {
		f := p.frame(t)
		if n := plainHeaders(f.Bytes()); n != 0 {
			t.Errorf("%+v: %d bytes", p, n)
		}
	}
}

func BenchmarkHeaders(b *testing.B) {
	for name, p := range map[string][]byte{
		"TCP":  packets.Ethernet(TypeIPv4, packets.IPv4(protoTCP, 0, nil, tcpHeader(12), zeros(1400))),
		"TCP6": packets.Ethernet(TypeIPv6, packets.IPv6(protoTCP, tcpHeader(12), zeros(1400))),
		"echo": packets.Ethernet(TypeIPv4, packets.IPv4(protoICMP, 0, nil, []byte{8}, zeros(63))),
	} {
		b.Run(name, func(b *testing.B) {
			f := lend(p, Offload{})
			b.ReportAllocs()
			for b.Loop() {
				if f.HeadersLen() == 0 {
					b.Fatal("none")
				}
			}
		})
	}
}
