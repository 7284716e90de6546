package ether

import (
	"encoding/binary"
	"net/netip"
)

// A Question asks the whole network which MAC address a station's IP address has: an ARP request (RFC 826) or a neighbour
// solicitation (RFC 4861 section 4.3).
type Question struct {
	Sender netip.Addr // of the asker; of the same family as Target
	Target netip.Addr
	MAC    MAC // the asker's
}

// Lengths in bytes of frames about neighbours, without a VLAN tag.
const (
	ARPLen        = HeaderLen + 28
	NeighbourLen  = HeaderLen + 40 + icmpNeighbour // a solicitation or advertisement with one link-layer address
	icmpNeighbour = 24 + 8
)

// Fields of ARP for Ethernet and IPv4 up to its operation, and the operations (RFC 826).
const (
	arpHead     = uint64(1)<<48 | TypeIPv4<<32 | 6<<24 | 4<<16
	ARPRequest  = 1
	ARPResponse = 2
)

// ICMPv6 (RFC 4861 sections 4.3, 4.4 and 4.6.1).
const (
	solicitation   = 135
	advertisement  = 136
	sourceLink     = 1 // options: the link-layer address of the sender, or of the target
	targetLink     = 2
	Solicited      = 0x40 // flags of an advertisement
	Override       = 0x20
	neighbourHops  = 255
	icmpAt         = HeaderLen + 40
	solicitedGroup = "\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff"
)

// ReadQuestion reads a frame. ok is false if it is no question to the whole network that somebody else could answer: anything
// else, a question to one station (so is it found out whether that is still there), or with a VLAN tag; one of a station that
// looks whether its own address is free (ARP probe, RFC 5227; duplicate address detection, RFC 4862 section 5.4) or announces it;
// and all that is not exactly as its RFC wants it, or whose sender is not the station that has sent the frame.
func ReadQuestion(f *Frame) (q Question, ok bool) {
	b := f.Bytes()
	if len(b) < ARPLen || len(b) > NeighbourLen || f.Off.Kind != None || f.Off.PartialChecksum {
		return q, false
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case TypeARP:
		q, ok = readRequest(b)
	case TypeIPv6:
		q, ok = readSolicitation(b)
	}
	return q, ok && q.MAC == f.Src() && !q.MAC.Group() && q.Sender != q.Target && station(q.Sender) && station(q.Target)
}

// station tells whether a station may have the address.
func station(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() }

func readRequest(b []byte) (q Question, ok bool) {
	const minFrame = 60 // IEEE 802.3, without the checksum: a shorter one may have been padded
	if MAC(b) != (MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) || len(b) > minFrame || binary.BigEndian.Uint64(b[14:]) != arpHead|ARPRequest {
		return q, false
	}
	return Question{MAC: MAC(b[22:]), Sender: netip.AddrFrom4([4]byte(b[28:])), Target: netip.AddrFrom4([4]byte(b[38:]))}, true
}

func readSolicitation(b []byte) (q Question, ok bool) {
	if len(b) != NeighbourLen || b[14]>>4 != 6 || binary.BigEndian.Uint16(b[18:]) != icmpNeighbour || b[20] != protoICMPv6 || b[21] != neighbourHops {
		return q, false
	}
	group, icmp := b[38:icmpAt], b[icmpAt:]
	target := icmp[8:24]
	if string(group[:13]) != solicitedGroup || string(group[13:]) != string(target[13:]) || // RFC 4291 section 2.7.1
		b[0] != 0x33 || b[1] != 0x33 || string(b[2:6]) != string(group[12:]) { // RFC 2464 section 7
		return q, false
	}
	if icmp[0] != solicitation || icmp[1] != 0 || icmp[24] != sourceLink || icmp[25] != 1 ||
		Sum(icmp, uint32(Sum(b[22:icmpAt], icmpNeighbour+protoICMPv6))) != 0xffff {
		return q, false
	}
	return Question{MAC: MAC(icmp[26:]), Sender: netip.AddrFrom16([16]byte(b[22:])), Target: netip.AddrFrom16([16]byte(target))}, true
}

// AnswerLen is the length in bytes of the answer's frame.
func (q *Question) AnswerLen() int {
	if q.Target.Is4() {
		return ARPLen
	}
	return NeighbourLen
}

// AppendAnswer appends the frame that tells the asker, and nobody else, that m has the address. An advertisement does not override
// what the asker knows, as RFC 4861 section 7.2.8 wants it of a proxy: so the station's own word counts more.
func (q *Question) AppendAnswer(b []byte, m MAC) []byte {
	if q.Target.Is4() {
		return AppendARP(b, q.MAC, m, ARPResponse, q.Target.As4(), q.MAC, q.Sender.As4())
	}
	return AppendAdvertisement(b, q.MAC, m, Solicited, q.Target.As16(), q.Sender.As16())
}

// AppendARP appends the frame to dst in which the station m, at ip, tells or asks with the operation op about the station target at
// targetIP.
func AppendARP(b []byte, dst, m MAC, op uint16, ip [4]byte, target MAC, targetIP [4]byte) []byte {
	b = append(append(b, dst[:]...), m[:]...)
	b = binary.BigEndian.AppendUint16(b, TypeARP)
	b = binary.BigEndian.AppendUint64(b, arpHead|uint64(op))
	b = append(append(b, m[:]...), ip[:]...)
	return append(append(b, target[:]...), targetIP[:]...)
}

// AppendAdvertisement appends the frame to dst, at IP address to, in which the station m says that it has the address ip. flags are
// Solicited and Override.
func AppendAdvertisement(b []byte, dst, m MAC, flags byte, ip, to [16]byte) []byte {
	b = append(append(b, dst[:]...), m[:]...)
	b = binary.BigEndian.AppendUint16(b, TypeIPv6)
	b = append(b, 6<<4, 0, 0, 0, 0, icmpNeighbour, protoICMPv6, neighbourHops)
	addrs := len(b)
	b = append(append(b, ip[:]...), to[:]...)
	icmp := len(b)
	b = append(b, advertisement, 0, 0, 0, flags, 0, 0, 0)
	b = append(append(b, ip[:]...), targetLink, 1)
	b = append(b, m[:]...)
	binary.BigEndian.PutUint16(b[icmp+2:], ^Sum(b[icmp:], uint32(Sum(b[addrs:icmp], icmpNeighbour+protoICMPv6))))
	return b
}
