package ether

import (
	"encoding/binary"
	"net/netip"
)

// ReadEnds reads who speaks to whom, behind up to two VLAN tags: an IP packet's source and destination; of ARP the sender and the target, and of a neighbour
// solicitation (RFC 4861 section 4.3) its target in place of the group that it is sent to. Both are zero if it is neither.
func ReadEnds(b []byte) (from, to netip.Addr) {
	typ, at := etherType(b)
	p := b[at:]
	switch {
	case typ == TypeARP && len(p) >= 28 && binary.BigEndian.Uint16(p[4:]) == 6<<8|4:
		return netip.AddrFrom4([4]byte(p[14:])), netip.AddrFrom4([4]byte(p[24:]))
	case !isIP(typ, p):
		return from, to
	case typ == TypeIPv4:
		return netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	}
	from, to = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	if typ, at := neighbourMessage(p); typ == solicitation {
		to = netip.AddrFrom16([16]byte(p[at+8:]))
	}
	return from, to
}

// IsNeighbour tells whether a frame is a neighbour solicitation or advertisement (RFC 4861 sections 4.3 and 4.4), behind up to two VLAN tags.
func IsNeighbour(b []byte) bool {
	typ, at := etherType(b)
	if p := b[at:]; typ == TypeIPv6 && isIP(typ, p) {
		msg, _ := neighbourMessage(p)
		return msg != 0
	}
	return false
}

// neighbourMessage gives the type of a solicitation or advertisement in an IPv6 packet, and where in the packet it begins; 0: it is neither.
func neighbourMessage(p []byte) (typ byte, at int) {
	x := walkExtensions(p)
	if x.found && x.fragment == notFragment && x.proto == protoICMPv6 && len(p) >= x.at+24 && (p[x.at] == solicitation || p[x.at] == advertisement) {
		return p[x.at], x.at
	}
	return 0, 0
}
