package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// IP protocol numbers, as IANA assigns them.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// A Packet describes a frame to build. Without addresses it has no IP header.
type Packet struct {
	src, dst     ether.MAC
	from, to     netip.Addr // of one IP version
	Kind         string     // tcp (a SYN), udp, icmp (an echo request), arp (in IPv6 a neighbour solicitation); "": no IP
	Sport, Dport uint16
	Size         int // bytes of the IP packet, padded with zeros; 0: as short as its headers
}

// frame builds the Ethernet frame, with correct lengths and checksums. The error is of a Size that is shorter than the headers,
// or longer than an IP packet can be.
func (p Packet) frame() ([]byte, error) {
	var head, body []byte
	typ := uint16(ether.TypeExperimental)
	switch p.Kind {
	case "arp":
		if p.from.Is6() {
			return p.solicitation(), nil
		}
		return p.arpRequest(), nil
	case "tcp":
		body = make([]byte, 20)
		const offset, syn = 5 << 4, 2 // RFC 9293 §3.1
		body[12], body[13] = offset, syn
		binary.BigEndian.PutUint16(body[14:], 64240)
	case "udp", "icmp":
		body = make([]byte, 8)
	}
	if body != nil {
		head = make([]byte, 20)
		typ = ether.TypeIPv4
		if p.from.Is6() {
			head, typ = make([]byte, 40), ether.TypeIPv6
		}
	}
	least := len(head) + len(body)
	size := p.Size
	if size == 0 {
		size = least
	}
	if size < least || size > ether.MaxIPLen {
		return nil, fmt.Errorf("want %d to %d bytes", max(1, least), ether.MaxIPLen)
	}
	body = append(body, make([]byte, size-least)...)
	if head != nil {
		p.writeHeaders(head, body)
	}
	return append(append(p.ethernet(typ), head...), body...), nil
}

func (p Packet) ethernet(typ uint16) []byte {
	return binary.BigEndian.AppendUint16(append(append([]byte{}, p.dst[:]...), p.src[:]...), typ)
}

// writeHeaders writes the IP header into head, and ports, lengths and checksum into body, which begins with the header of TCP,
// UDP or ICMP.
func (p Packet) writeHeaders(head, body []byte) {
	proto, sum := byte(protoTCP), 16
	switch {
	case p.Kind == "udp":
		proto, sum = protoUDP, 6
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	case p.Kind == "icmp" && p.from.Is6():
		proto, sum = protoICMPv6, 2
		body[0] = 128 // RFC 4443 §4.1
	case p.Kind == "icmp":
		proto, sum = protoICMP, 2
		body[0] = 8 // RFC 792
	}
	if p.Kind == "icmp" {
		body[7] = 1 // sequence number
	} else {
		binary.BigEndian.PutUint16(body, p.Sport)
		binary.BigEndian.PutUint16(body[2:], p.Dport)
	}
	p.ip(head, proto, 64, len(body))
	pseudo := p.pseudoSum(proto, len(body))
	if proto == protoICMP {
		pseudo = 0
	}
	checksum := ^ether.Sum(body, pseudo)
	if p.Kind == "udp" && checksum == 0 {
		checksum = 0xffff // zero means that there is none, RFC 768
	}
	binary.BigEndian.PutUint16(body[sum:], checksum)
}

// ip writes the IP header of a packet with n bytes of payload; head has 20 bytes, or 40 for IPv6.
func (p Packet) ip(head []byte, proto, hops byte, n int) {
	if p.from.Is6() { // RFC 8200 §3
		head[0], head[6], head[7] = 6<<4, proto, hops
		binary.BigEndian.PutUint16(head[4:], uint16(n))
		copy(head[8:], p.from.AsSlice())
		copy(head[24:], p.to.AsSlice())
		return
	}
	head[0], head[8], head[9] = 4<<4|5, hops, proto
	binary.BigEndian.PutUint16(head[2:], uint16(20+n))
	head[6] = 0x40 // do not fragment
	copy(head[12:], p.from.AsSlice())
	copy(head[16:], p.to.AsSlice())
	binary.BigEndian.PutUint16(head[10:], ^ether.Sum(head, 0))
}

// pseudoSum returns the sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) for n bytes of payload, not folded.
func (p Packet) pseudoSum(proto byte, n int) uint32 {
	return uint32(ether.Sum(append(p.from.AsSlice(), p.to.AsSlice()...), uint32(proto)+uint32(n)))
}

// arpRequest builds the request for the MAC address of to (RFC 826).
func (p Packet) arpRequest() []byte {
	p.dst = ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b := append(p.ethernet(ether.TypeARP), 0, 1, 0x08, 0, 6, 4, 0, 1) // Ethernet, IPv4, lengths, request
	b = append(append(b, p.src[:]...), p.from.AsSlice()...)
	return append(append(b, make([]byte, 6)...), p.to.AsSlice()...)
}

// solicitation builds the neighbour solicitation for the MAC address of to (RFC 4861 §4.3).
func (p Packet) solicitation() []byte {
	target := p.to.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16() // solicited-node, RFC 4291 §2.7.1
	copy(group[13:], target[13:])
	p.to = netip.AddrFrom16(group)
	p.dst = groupMAC(p.to)
	body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	body = append(append(body, 1, 1), p.src[:]...) // option: source link-layer address
	binary.BigEndian.PutUint16(body[2:], ^ether.Sum(body, p.pseudoSum(protoICMPv6, len(body))))
	head := make([]byte, 40)
	p.ip(head, protoICMPv6, 255, len(body))
	return append(append(p.ethernet(ether.TypeIPv6), head...), body...)
}

// groupMAC returns the MAC address for a multicast address (RFC 1112 §6.4, RFC 2464 §7), and for any other IPv4 address the
// broadcast address.
func groupMAC(a netip.Addr) ether.MAC {
	b := a.AsSlice()
	switch {
	case a.Is6():
		return ether.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
	case a.IsMulticast():
		return ether.MAC{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	return ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
}
