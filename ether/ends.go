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
	if x := walkExtensions(p); x.found && x.fragment == notFragment && x.proto == protoICMPv6 && len(p) >= x.at+24 && p[x.at] == solicitation {
		to = netip.AddrFrom16([16]byte(p[x.at+8:]))
	}
	return from, to
}
