package vswitch

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// all guards, as fabric sets them for a container.
var full = &Policy{Guards: GuardAddrs | GuardRA | GuardDHCP | GuardBPDU}

// The stations of these tests: the attacker's is 1, its victims are 2 to 4; 9 is nobody's. Each has its link-local address, too.
func linkLocal(i int) netip.Addr {
	m := mac(i)
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

var (
	zero4, zero6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	allNodes     = netip.MustParseAddr("ff02::1")
	groupMAC     = ether.MAC{0x33, 0x33, 0, 0, 0, 1}
)

// guarded is a switch with four containers and a remote host, all held to what fabric holds them to.
func guarded(to Sender) (s *Switch, ports []*Port, up *Port) {
	s = New(Config{})
	for i := range 4 {
		p := s.Attach(fmt.Sprint(1+i), to, false, plenty)
		p.Pin(mac(1 + i))
		p.PinAddrs(ip(1+i), six(1+i))
		p.SetPolicy(full)
		ports = append(ports, p)
	}
	up = s.Attach("up", to, true, plenty)
	up.SetPolicy(&Policy{Guards: GuardAddrs})
	return s, ports, up
}

// A forge makes frames of one kind, each of another shape.
type forge struct {
	name string
	want []Verdict // one of them
	make func(r *rand.Rand) []byte
}

func pick[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func random6(r *rand.Rand) (m ether.MAC) {
	for i := range m {
		m[i] = byte(r.Uint32())
	}
	m[0] &^= 1
	return m
}

// victim is an address of another container.
func victim(r *rand.Rand, v6 bool) netip.Addr {
	i := 2 + r.IntN(3)
	if !v6 {
		return ip(i)
	}
	return pick(r, six(i), linkLocal(i))
}

// udp is a datagram of station 1, or from its address from.
func udp(v6 bool, from, to netip.Addr, src, dst uint16, n int) []byte {
	return packets.Packet{V6: v6, UDP: true, SrcMAC: mac(1), DstMAC: broadcast, Src: from, Dst: to, SrcPort: src, DstPort: dst, Payload: packets.Data(n)}.Bytes()
}

// optionOf is the link-layer address option of ND.
func optionOf(kind byte, m ether.MAC) []byte { return append([]byte{kind, 1}, m[:]...) }

// dress puts what may stand around an honest packet around b: VLAN tags, and IPv6 extension headers.
func dress(r *rand.Rand, b []byte) []byte {
	if b[12] == 0x86 {
		for range r.IntN(4) {
			n := r.IntN(3)
			b = packets.Extended(b, pick[byte](r, 0, 43, 60), append([]byte{0, byte(n), 0, 0, 0, 0, 0, 0}, make([]byte, 8*n)...))
		}
		if r.IntN(4) == 0 && b[20] != 58 { // an atomic fragment: nobody sends ND so, RFC 6980 is about real ones
			b = packets.Extended(b, 44, make([]byte, 8))
		}
	}
	for range r.IntN(3) {
		b = packets.Tagged(b, pick[uint32](r, 0x81000000, 0x88a80000)|uint32(r.IntN(4096)))
	}
	return b
}

// Rows 135 to 142 of what an attacker in a container tries, but for 140, which is about memory.
var forges = []forge{
	{"row 135: another's MAC", []Verdict{Spoofed}, func(r *rand.Rand) []byte {
		b := dress(r, packets.Packet{V6: r.IntN(2) == 0, UDP: true, Payload: packets.Data(r.IntN(50))}.Bytes())
		m := mac(2 + r.IntN(3))
		copy(b[6:], m[:])
		return b
	}},
	{"row 136: another's IPv4 address", []Verdict{SpoofedIP}, func(r *rand.Rand) []byte {
		p := packets.Packet{UDP: r.IntN(2) == 0, SrcMAC: pick(r, mac(1), random6(r)), Src: victim(r, false), DstMAC: mac(3), Payload: packets.Data(r.IntN(100))}
		return dress(r, p.Bytes())
	}},
	{"row 136: another's IPv6 address", []Verdict{SpoofedIP}, func(r *rand.Rand) []byte {
		p := packets.Packet{V6: true, UDP: r.IntN(2) == 0, SrcMAC: mac(1), Src: victim(r, true), DstMAC: mac(3), Payload: packets.Data(r.IntN(100))}
		return dress(r, p.Bytes())
	}},
	{"row 137: ARP for another's address", []Verdict{SpoofedARP}, func(r *rand.Rand) []byte {
		a, own := victim(r, false), pick(r, mac(1), random6(r))
		b := packets.ARP(pick(r, broadcast, mac(3)), own, uint16(1+r.IntN(2)), a, mac(3), pick(r, a, ip(3), ip(9)))
		if r.IntN(4) == 0 { // a probe
			b = packets.ARP(broadcast, own, 1, zero4, ether.MAC{}, a)
		}
		if r.IntN(2) == 0 { // padded
			b = append(b, make([]byte, 18)...)
		}
		return dress(r, b)
	}},
	{"row 137: ARP that names another's MAC", []Verdict{SpoofedARP}, func(r *rand.Rand) []byte {
		b := packets.ARP(broadcast, mac(1), uint16(1+r.IntN(2)), pick(r, ip(1), ip(9)), mac(3), ip(3))
		m := mac(2 + r.IntN(3))
		copy(b[22:], m[:])
		return dress(r, b)
	}},
	{"row 138: NA for another's address", []Verdict{SpoofedND, SpoofedIP}, func(r *rand.Rand) []byte {
		a := victim(r, true)
		body := [][]byte{{byte(r.Uint32()), 0, 0, 0}, a.AsSlice()}
		if r.IntN(2) == 0 {
			body = append(body, optionOf(2, mac(1)))
		}
		return dress(r, packets.ICMPv6(pick(r, groupMAC, mac(3)), mac(1), pick(r, six(1), linkLocal(1), a), pick(r, allNodes, six(3)), 136, body...))
	}},
	{"row 138: NS from another's address", []Verdict{SpoofedND}, func(r *rand.Rand) []byte {
		return dress(r, packets.ICMPv6(groupMAC, mac(1), victim(r, true), six(3), 135, make([]byte, 4), six(3).AsSlice(), optionOf(1, mac(1))))
	}},
	{"row 138: NS as if another's address were to be taken", []Verdict{SpoofedND}, func(r *rand.Rand) []byte {
		return dress(r, packets.ICMPv6(groupMAC, mac(1), zero6, allNodes, 135, make([]byte, 4), victim(r, true).AsSlice()))
	}},
	{"row 138: ND that names another's MAC", []Verdict{SpoofedND}, func(r *rand.Rand) []byte {
		m := mac(2 + r.IntN(3))
		if r.IntN(2) == 0 {
			return dress(r, packets.ICMPv6(groupMAC, mac(1), six(1), allNodes, 136, make([]byte, 4), six(9).AsSlice(), optionOf(2, m)))
		}
		return dress(r, packets.ICMPv6(groupMAC, mac(1), six(1), allNodes, pick[byte](r, 135), make([]byte, 4), six(9).AsSlice(), []byte{14, 1, 0, 0, 0, 0, 0, 0}, optionOf(1, m)))
	}},
	{"row 138: RA", []Verdict{RA}, func(r *rand.Rand) []byte {
		return dress(r, packets.ICMPv6(groupMAC, mac(1), pick(r, linkLocal(1), six(1), six(9)), allNodes, 134, make([]byte, 12+8*r.IntN(5))))
	}},
	{"row 138: redirect", []Verdict{RA}, func(r *rand.Rand) []byte {
		return dress(r, packets.ICMPv6(mac(3), mac(1), pick(r, linkLocal(1), victim(r, true)), six(3), 137, make([]byte, 4), six(1).AsSlice(), six(9).AsSlice()))
	}},
	{"row 139: DHCP server", []Verdict{DHCP}, func(r *rand.Rand) []byte {
		from, to := uint16(67), uint16(68)
		switch r.IntN(4) {
		case 0: // to a relay
			to = 67
		case 1: // clients do not ask whence it comes
			from = uint16(1024 + r.IntN(60000))
		}
		return dress(r, udp(false, pick(r, ip(1), ip(9), zero4), pick(r, ip(3), netip.MustParseAddr("255.255.255.255")), from, to, 240))
	}},
	{"row 139: DHCPv6 server", []Verdict{DHCP}, func(r *rand.Rand) []byte {
		from, to := uint16(547), uint16(546)
		switch r.IntN(4) {
		case 0:
			to = 547
		case 1:
			from = uint16(1024 + r.IntN(60000))
		}
		return dress(r, udp(true, pick(r, six(1), linkLocal(1)), six(3), from, to, 60))
	}},
	{"row 141: BPDU, LACP, LLDP, CDP", []Verdict{BPDU, LinkLocal}, func(r *rand.Rand) []byte {
		b := packets.Ethernet(pick[uint16](r, 38, 0x8809, 0x88cc, 0x888e, 0x0800), packets.Data(46))
		own, dst := mac(1), ether.MAC{1, 0x80, 0xc2, 0, 0, byte(r.IntN(16))}
		if r.IntN(4) == 0 {
			dst = ether.MAC{1, 0, 0x0c, 0xcc, 0xcc, byte(0xcc + r.IntN(2))}
		}
		copy(b, dst[:])
		copy(b[6:], own[:])
		return dress(r, b)
	}},
	{"row 141: behind three tags", []Verdict{Unreadable}, func(r *rand.Rand) []byte {
		b := packets.ARP(broadcast, mac(1), 1, victim(r, false), ether.MAC{}, ip(3))
		for range 3 + r.IntN(3) {
			b = packets.Tagged(b, 0x81000000)
		}
		return b
	}},
	{"row 142: first fragment of a DHCP server's answer", []Verdict{DHCP}, func(r *rand.Rand) []byte {
		if r.IntN(2) == 0 {
			return dress(r, packets.Extended(udp(true, six(1), six(3), 547, 546, 64), 44, []byte{0, 0, 0, 1, 1, 2, 3, byte(r.Uint32())}))
		}
		b := udp(false, ip(1), ip(3), 67, 68, 64)
		b[20] |= 0x20
		return dress(r, b)
	}},
	{"row 142: first fragment that hides its ports", []Verdict{Unreadable}, func(r *rand.Rand) []byte {
		b := udp(false, ip(1), ip(3), 67, 68, 64)[:34+r.IntN(4)]
		b[20] |= 0x20
		if r.IntN(2) == 0 {
			return b
		}
		return packets.Extended(udp(true, six(1), six(3), 547, 546, 64), 44, []byte{0, 0, 0, 1, 1, 2, 3, 4})[:62+r.IntN(4)]
	}},
	{"row 142: RA behind a chain that is too long, cut short or in fragments", []Verdict{Unreadable}, func(r *rand.Rand) []byte {
		b := packets.ICMPv6(groupMAC, mac(1), linkLocal(1), allNodes, 134, make([]byte, 12))
		switch r.IntN(3) {
		case 0:
			for range 9 + r.IntN(20) {
				b = packets.Extended(b, 60, make([]byte, 8))
			}
			return b
		case 1:
			return packets.Extended(packets.Extended(b, 60, make([]byte, 8)), 44, []byte{0, 0, 0, 1, 1, 2, 3, 4})[:54+8+r.IntN(9)]
		}
		return packets.Extended(b, 44, []byte{0, 0, 0, 1, 1, 2, 3, 4})
	}},
	{"row 142: ND with options that contradict themselves", []Verdict{Unreadable}, func(r *rand.Rand) []byte {
		bad := pick(r, []byte{1, 0, 2, 3, 4, 5, 6, 7}, []byte{1, 2, 2, 3, 4, 5, 6, 7}, []byte{2}, append(optionOf(1, mac(1)), optionOf(1, mac(2))...))
		return packets.ICMPv6(groupMAC, mac(1), six(1), allNodes, pick[byte](r, 135, 136), make([]byte, 4), six(1).AsSlice(), bad)
	}},
	{"row 86: ARP that is none", []Verdict{Unreadable}, func(r *rand.Rand) []byte {
		b := packets.ARP(broadcast, mac(1), 1, ip(1), ether.MAC{}, ip(3))
		if r.IntN(2) == 0 {
			return b[:14+r.IntN(28)]
		}
		b[18+r.IntN(2)]++
		return b
	}},
}

// What honest containers send.
var honest = []forge{
	{"own IPv4", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.Packet{UDP: r.IntN(2) == 0, SrcMAC: mac(1), Src: ip(1), DstMAC: mac(3), Payload: packets.Data(9)}.Bytes())
	}},
	{"own IPv6", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.Packet{V6: true, UDP: r.IntN(2) == 0, SrcMAC: mac(1), Src: pick(r, six(1), linkLocal(1)), DstMAC: mac(3)}.Bytes())
	}},
	{"an address that nobody has: routers, VMs, macvlan", nil, func(r *rand.Rand) []byte {
		m := pick(r, mac(1), random6(r))
		if r.IntN(2) == 0 {
			return dress(r, packets.Packet{V6: true, SrcMAC: m, Src: pick(r, six(9), linkLocal(9), netip.MustParseAddr("2001:db8::5")), DstMAC: mac(3)}.Bytes())
		}
		return dress(r, packets.Packet{SrcMAC: m, Src: pick(r, ip(9), netip.MustParseAddr("192.0.2.5")), DstMAC: mac(3)}.Bytes())
	}},
	{"ARP question and answer", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.ARP(pick(r, broadcast, mac(3)), mac(1), uint16(1+r.IntN(2)), ip(1), mac(3), ip(3)))
	}},
	{"ARP announcement", nil, func(r *rand.Rand) []byte {
		a := pick(r, ip(1), ip(9)) // or of keepalived's address, that nobody has
		return dress(r, packets.ARP(broadcast, mac(1), uint16(1+r.IntN(2)), a, ether.MAC{}, a))
	}},
	{"ARP probe", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.ARP(broadcast, mac(1), 1, zero4, ether.MAC{}, pick(r, ip(1), ip(9))))
	}},
	{"VRRP's MAC", nil, func(r *rand.Rand) []byte {
		return packets.ARP(broadcast, ether.MAC{0, 0, 0x5e, 0, 1, byte(r.Uint32())}, 1, ip(9), ether.MAC{}, ip(9))
	}},
	{"NS", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.Solicitation(mac(1), pick(r, six(1), linkLocal(1)), pick(r, six(3), linkLocal(3), six(9))))
	}},
	{"duplicate address detection", nil, func(r *rand.Rand) []byte {
		nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6} // RFC 7527
		return dress(r, packets.ICMPv6(groupMAC, mac(1), zero6, allNodes, 135, make([]byte, 4), pick(r, six(1), linkLocal(1), six(9)).AsSlice(), pick(r, nil, nonce)))
	}},
	{"NA", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.Advertisement(pick(r, groupMAC, mac(3)), mac(1), byte(r.Uint32()), pick(r, six(1), linkLocal(1), six(9)), allNodes))
	}},
	{"RS", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.ICMPv6(groupMAC, mac(1), pick(r, linkLocal(1), zero6), allNodes, 133, make([]byte, 4), pick(r, nil, optionOf(1, mac(1)))))
	}},
	{"MLD, echo, errors", nil, func(r *rand.Rand) []byte {
		return dress(r, packets.ICMPv6(groupMAC, mac(1), pick(r, linkLocal(1), zero6), allNodes, pick[byte](r, 1, 2, 3, 128, 129, 131, 132, 143), make([]byte, 24)))
	}},
	{"DHCP client", nil, func(r *rand.Rand) []byte {
		return dress(r, udp(false, pick(r, zero4, ip(1)), netip.MustParseAddr("255.255.255.255"), 68, 67, 240))
	}},
	{"DHCPv6 client", nil, func(r *rand.Rand) []byte {
		return dress(r, udp(true, linkLocal(1), netip.MustParseAddr("ff02::1:2"), 546, 547, 60))
	}},
	{"fragments", nil, func(r *rand.Rand) []byte {
		if r.IntN(2) == 0 {
			word := pick[uint16](r, 1, uint16(r.IntN(8000))<<3|uint16(r.IntN(2)))
			return dress(r, packets.Extended(udp(true, six(1), six(3), 5, 6, 64), 44, []byte{0, 0, byte(word >> 8), byte(word), 1, 2, 3, 4}))
		}
		b := udp(false, ip(1), ip(3), 5, 6, 64)
		word := pick[uint16](r, 0x2000, 0x2000|uint16(r.IntN(0x1fff)), uint16(r.IntN(0x1fff)))
		b[20], b[21] = byte(word>>8), byte(word)
		return dress(r, b)
	}},
	{"ESP, AH, GRE, nothing", nil, func(r *rand.Rand) []byte {
		b := packets.Packet{V6: true, SrcMAC: mac(1), Src: six(1), DstMAC: mac(3)}.Bytes()
		b[20] = pick[byte](r, 50, 51, 47, 59, 255)
		return dress(r, b)
	}},
	{"other types", nil, func(r *rand.Rand) []byte {
		b := packets.Ethernet(pick[uint16](r, 38, 0x8035, 0x8863, 0x8847, 0x88b5), packets.Data(46))
		own, dst := mac(1), pick(r, broadcast, mac(3))
		copy(b, dst[:])
		copy(b[6:], own[:])
		return dress(r, b)
	}},
	{"broken IP headers", nil, func(r *rand.Rand) []byte {
		b := packets.Packet{V6: r.IntN(2) == 0, SrcMAC: mac(1), Src: netip.Addr{}, DstMAC: mac(3)}.Bytes()
		if r.IntN(2) == 0 {
			b[14] = byte(pick(r, 0, 0x50, 0x70, 0xff))
			return b
		}
		return b[:14+r.IntN(20)]
	}},
}
