package ether

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

var (
	attacker   = MAC{2, 0, 0, 0, 0, 1}
	from4, to4 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	from6, to6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("ff02::1")
)

// claiming are frames of each role.
func claiming() map[string]struct {
	frame []byte
	want  Claims
} {
	all := MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	type claim = struct {
		frame []byte
		want  Claims
	}
	zero4, zero6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	udp := func(v6 bool, src, dst uint16) []byte {
		p := packets.Packet{V6: v6, UDP: true, Src: from4, Dst: to4, SrcPort: src, DstPort: dst, Payload: packets.Data(20)}
		if v6 {
			p.Src, p.Dst = from6, to6
		}
		return p.Bytes()
	}
	ns := packets.Solicitation(attacker, from6, from6)
	return map[string]claim{
		"TCP":                {packets.Packet{Src: from4}.Bytes(), Claims{Source: from4}},
		"UDP":                {udp(false, 5, 6), Claims{Source: from4}},
		"IPv6":               {udp(true, 5, 6), Claims{Source: from6}},
		"DHCP server":        {udp(false, 67, 68), Claims{Role: DHCPServer, Source: from4}},
		"DHCP relay":         {udp(false, 67, 67), Claims{Role: DHCPServer, Source: from4}},
		"DHCP client":        {udp(false, 68, 67), Claims{Source: from4}},
		"DHCPv6 server":      {udp(true, 547, 546), Claims{Role: DHCPServer, Source: from6}},
		"DHCPv6 client":      {udp(true, 546, 547), Claims{Source: from6}},
		"DHCP's ports of v6": {udp(true, 67, 68), Claims{Source: from6}},
		"ARP":                {packets.ARP(all, attacker, 1, from4, MAC{}, to4), Claims{Role: ARPSender, Own: from4, MAC: attacker}},
		"ARP probe":          {packets.ARP(all, attacker, 1, zero4, MAC{}, to4), Claims{Role: ARPSender, Own: to4, MAC: attacker}},
		"short ARP":          {packets.ARP(all, attacker, 1, from4, MAC{}, to4)[:41], Claims{Role: Hidden}},
		"NS":                 {ns, Claims{Role: Neighbour, Source: from6, MAC: attacker}},
		"DAD":                {packets.ICMPv6(all, attacker, zero6, to6, 135, make([]byte, 4), from6.AsSlice()), Claims{Role: Neighbour, Source: zero6, Own: from6}},
		"NA":                 {packets.Advertisement(all, attacker, 0x20, from6, to6), Claims{Role: Neighbour, Source: from6, Own: from6, MAC: attacker}},
		"NA of 8 bytes":      {packets.ICMPv6(all, attacker, from6, to6, 136, make([]byte, 4)), Claims{Role: Hidden, Source: from6}},
		"NS with padding":    {append(bytes.Clone(ns), 0, 0, 0), Claims{Role: Neighbour, Source: from6, MAC: attacker}},
		"RS":                 {packets.ICMPv6(all, attacker, from6, to6, 133, make([]byte, 4)), Claims{Role: Neighbour, Source: from6}},
		"RA":                 {packets.ICMPv6(all, attacker, from6, to6, 134, make([]byte, 12)), Claims{Role: Router, Source: from6}},
		"redirect":           {packets.ICMPv6(all, attacker, from6, to6, 137, make([]byte, 36)), Claims{Role: Router, Source: from6}},
		"echo":               {packets.ICMPv6(all, attacker, from6, to6, 128, make([]byte, 4)), Claims{Source: from6}},
		"8 headers":          {extended(udp(true, 547, 546), 8), Claims{Role: DHCPServer, Source: from6}},
		"9 headers":          {extended(udp(true, 5, 6), 9), Claims{Role: Hidden, Source: from6}},
		"cut short":          {udp(true, 5, 6)[:57], Claims{Role: Hidden, Source: from6}},
		"first fragment":     {packets.Extended(udp(true, 547, 546), 44, []byte{0, 0, 0, 1, 0, 0, 0, 1}), Claims{Role: DHCPServer, Source: from6}},
		"later fragment":     {packets.Extended(udp(true, 547, 546), 44, []byte{0, 0, 0, 8, 0, 0, 0, 1}), Claims{Source: from6}},
		"NA in fragments":    {packets.Extended(packets.Advertisement(all, attacker, 0x20, from6, to6), 44, []byte{0, 0, 0, 1, 0, 0, 0, 1}), Claims{Role: Hidden, Source: from6}},
		"two tags":           {packets.Tagged(udp(false, 67, 68), 0x88a80001, 0x81000002), Claims{Role: DHCPServer, Source: from4}},
		"three tags":         {packets.Tagged(udp(false, 67, 68), 0x81000000, 0x81000000, 0x81000000), Claims{Role: Hidden}},
		"nothing":            {nil, Claims{}},
		"of another type":    {packets.Ethernet(0x88b5, packets.Data(40)), Claims{}},
		"of another version": {packets.Ethernet(TypeIPv4, packets.IPv6(17, packets.Data(40))), Claims{}},
	}
}

func extended(b []byte, n int) []byte {
	for range n {
		b = packets.Extended(b, protoDestOpts, make([]byte, 8))
	}
	return b
}

func TestReadClaims(t *testing.T) {
	for name, tc := range claiming() {
		if got := ReadClaims(tc.frame); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestLinkLocalMAC(t *testing.T) {
	for text, want := range map[string]MAC{"fe80::42:aff:fe4d:2": {2, 0x42, 0x0a, 0x4d, 0, 2}, "fe80::ff:fe00:1": {2, 0, 0, 0, 0, 1}} {
		if m, ok := LinkLocalMAC(netip.MustParseAddr(text)); !ok || m != want {
			t.Errorf("%s is made of %s, %v", text, m, ok)
		}
	}
	for _, text := range []string{"fe80::1", "fd00::42:aff:fe4d:2", "169.254.0.1", "ff02::1"} {
		if m, ok := LinkLocalMAC(netip.MustParseAddr(text)); ok {
			t.Errorf("%s is made of %s", text, m)
		}
	}
}

// Whatever the bytes are, they are read; and where gopacket reads them without an error, both agree.
func FuzzReadClaims(f *testing.F) {
	for _, tc := range claiming() {
		f.Add(tc.frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := ReadClaims(b)
		if got.Role == Neighbour && !got.Source.Is6() || got.Role == ARPSender && (!got.Own.Is4() || got.Source.IsValid()) {
			t.Fatalf("%+v", got)
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: false, NoCopy: true})
		if p.ErrorLayer() != nil || got.Role == Hidden {
			return
		}
		all := p.Layers()
		n := 1
		for n < len(all) && all[n].LayerType() == layers.LayerTypeDot1Q {
			n++
		}
		if n > 3 || n == len(all) { // it reads any number of tags
			return
		}
		want := Claims{Role: got.Role, Own: got.Own, MAC: got.MAC, Source: got.Source}
		switch l := all[n].(type) {
		case *layers.ARP:
			if l.HwAddressSize == 6 && l.ProtAddressSize == 4 {
				if want.Role, want.MAC, want.Own = ARPSender, MAC(l.SourceHwAddress), netip.AddrFrom4([4]byte(l.SourceProtAddress)); want.Own.IsUnspecified() {
					want.Own = netip.AddrFrom4([4]byte(l.DstProtAddress))
				}
			}
		case *layers.IPv4:
			if l.Version != 4 { // it reads any
				return
			}
			want.Source = netip.AddrFrom4([4]byte(l.SrcIP.To4()))
		case *layers.IPv6:
			if l.Version != 6 {
				return
			}
			want.Source = netip.AddrFrom16([16]byte(l.SrcIP.To16()))
		default:
			return
		}
		if n+1 < len(all) {
			_, v4 := all[n].(*layers.IPv4)
			switch l := all[n+1].(type) {
			case *layers.UDP:
				want.Role = Station
				if v4 && (l.SrcPort == 67 || l.DstPort == 68) || !v4 && (l.SrcPort == 547 || l.DstPort == 546) {
					want.Role = DHCPServer
				}
			case *layers.TCP:
				want.Role = Station
			case *layers.ICMPv6:
				if !v4 {
					want.Role = map[uint8]Role{133: Neighbour, 134: Router, 135: Neighbour, 136: Neighbour, 137: Router}[l.TypeCode.Type()]
				}
			}
		}
		if got != want {
			t.Fatalf("%+v, gopacket says %+v of %s", got, want, p)
		}
	})
}

// Nothing allocates.
func TestClaimsAllocs(t *testing.T) {
	for name, tc := range claiming() {
		if n := testing.AllocsPerRun(100, func() { ReadClaims(tc.frame) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
