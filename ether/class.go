package ether

import "encoding/binary"

// Explicit congestion notification: the last two bits of an IP header's traffic class (RFC 3168 §5, RFC 9331 §3).
const (
	NotECT  = 0 // the sender does not know of it
	ECT1    = 1
	ECT0    = 2
	CE      = 3 // congestion experienced
	ECNMask = 3
)

// Class is the traffic class (DSCP and ECN) and the TTL, or hop limit, of the IP header behind up to two VLAN tags. ok: there is one.
func (f *Frame) Class() (class, ttl uint8, ok bool) {
	b := f.Bytes()
	typ, at := etherType(b)
	switch p := b[at:]; {
	case !isIP(typ, p):
		return 0, 0, false
	case typ == TypeIPv4:
		return p[1], p[8], true
	default:
		return p[0]<<4 | p[1]>>4, p[7], true
	}
}

// CombineECN applies what an outer header's ECN says to a frame that has left its tunnel, in place, by the table of RFC 6040 §4.2.
// It returns false if the frame must be dropped: congestion was marked, and its sender does not know what that is. An IPv4 header's
// checksum stays as right or wrong as it was (RFC 1624). What is not IP stays as it is.
func CombineECN(frame []byte, outer uint8) bool {
	typ, at := etherType(frame)
	p := frame[at:]
	if !isIP(typ, p) {
		return true
	}
	field, shift := &p[1], 0
	if typ == TypeIPv6 {
		shift = 4
	}
	inner := *field >> shift & ECNMask
	outer &= ECNMask
	switch {
	case inner == NotECT:
		return outer != CE
	case inner == outer, outer != CE && (outer != ECT1 || inner != ECT0):
		return true
	}
	*field ^= (inner ^ outer) << shift
	if typ == TypeIPv4 {
		sum := uint64(^binary.BigEndian.Uint16(p[10:]))
		binary.BigEndian.PutUint16(p[10:], ^fold(sum+uint64(^uint16(inner))+uint64(outer)))
	}
	return true
}
