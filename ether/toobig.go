package ether

import (
	"encoding/binary"
	"net/netip"
)

// Lengths in bytes. An error message quotes of the packet as much as fits into a packet that every path takes.
const (
	minIPv4  = 68   // the smallest MTU of IPv4, RFC 791 section 3.2
	minIPv6  = 1280 // and of IPv6, RFC 8200 section 5
	mostIPv4 = 576  // of an ICMP error, RFC 1812 section 4.3.2.3
	mostIPv6 = minIPv6
	icmpHead = 8

	// TooBigLen is the length of the longest frame that AppendTooBig makes.
	TooBigLen = HeaderLen + maxTags*tagLen + mostIPv6
)

var toAll4 = [4]byte{255, 255, 255, 255}

// AppendTooBig appends the frame that tells the sender of f that its packet does not fit, as from the packet's destination:
// fragmentation needed (RFC 792, RFC 1191 section 4) or packet too big (RFC 4443 section 3.2). mtu is the length in bytes of the longest IP
// packet that fits. It returns nil where no such message is due: f is no IP packet, or one of IPv4 that may be fragmented (DF is not set) or
// is a fragment; it is an ICMP error itself, or comes from or goes to a group (RFC 1122 section 3.2.2); or mtu is smaller than IP allows. f must
// have passed Check.
func (f *Frame) AppendTooBig(b []byte, mtu int) []byte {
	frame := f.Bytes()
	typ, at := etherType(frame)
	p := frame[at:]
	if !isIP(typ, p) || f.Dst().Group() || f.Src().Group() {
		return nil
	}
	src, dst := f.Src(), f.Dst()
	length := f.WireLen() - at // of the packet, or of a super-frame's first segment
	if typ == TypeIPv4 {
		from, to := [4]byte(p[12:]), [4]byte(p[16:])
		if mtu < minIPv4 || binary.BigEndian.Uint16(p[6:]) != 0x4000 || !station(netip.AddrFrom4(from)) || !station(netip.AddrFrom4(to)) ||
			from == toAll4 || to == toAll4 || p[9] == protoICMP && isICMPError(p) {
			return nil
		}
		b = append(append(append(b, src[:]...), dst[:]...), frame[12:at]...)
		return appendTooBig4(b, p, length, mtu)
	}
	x := walkExtensions(p)
	if mtu < minIPv6 || !station(netip.AddrFrom16([16]byte(p[8:]))) || !station(netip.AddrFrom16([16]byte(p[24:]))) ||
		!x.found && x.proto == protoICMPv6 || x.proto == protoICMPv6 && (x.at >= len(p) || p[x.at] < 128) {
		return nil
	}
	b = append(append(append(b, src[:]...), dst[:]...), frame[12:at]...)
	return appendTooBig6(b, p, length, mtu)
}

// isICMPError tells whether an IPv4 packet of ICMP is an error, or ends before that can be seen.
func isICMPError(p []byte) bool {
	at := int(p[0]&15) * 4
	if at < ipv4Len || at >= len(p) {
		return true
	}
	switch p[at] {
	case 3, 4, 5, 11, 12: // unreachable, source quench, redirect, time exceeded, parameter problem
		return true
	}
	return false
}

// appendTooBig4 appends an IPv4 packet with fragmentation needed, about the packet p, which has this length on the wire.
func appendTooBig4(b, p []byte, length, mtu int) []byte {
	quote := p[:min(len(p), length, mostIPv4-ipv4Len-icmpHead)]
	ip := len(b)
	b = append(b, 4<<4|5, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4Len+icmpHead+len(quote)))
	b = append(b, 0, 0, 0x40, 0, 64, protoICMP, 0, 0)
	b = append(append(b, p[16:20]...), p[12:16]...)
	binary.BigEndian.PutUint16(b[ip+10:], ^Sum(b[ip:], 0))
	icmp := len(b)
	b = append(b, 3, 4, 0, 0, 0, 0)
	b = append(binary.BigEndian.AppendUint16(b, uint16(min(mtu, MaxIPLen))), quote...)
	quoted := b[icmp+icmpHead:]
	if head := int(quoted[0]&15) * 4; head >= ipv4Len && head <= len(quoted) { // a super-frame's header has the length of all
		binary.BigEndian.PutUint16(quoted[2:], uint16(length))
		quoted[10], quoted[11] = 0, 0
		binary.BigEndian.PutUint16(quoted[10:], ^Sum(quoted[:head], 0))
	}
	binary.BigEndian.PutUint16(b[icmp+2:], ^Sum(b[icmp:], 0))
	return b
}

// appendTooBig6 appends an IPv6 packet with packet too big, as appendTooBig4.
func appendTooBig6(b, p []byte, length, mtu int) []byte {
	quote := p[:min(len(p), length, mostIPv6-ipv6Len-icmpHead)]
	size := icmpHead + len(quote)
	b = append(b, 6<<4, 0, 0, 0)
	b = append(binary.BigEndian.AppendUint16(b, uint16(size)), protoICMPv6, 64)
	addrs := len(b)
	b = append(append(b, p[24:40]...), p[8:24]...)
	icmp := len(b)
	b = append(b, 2, 0, 0, 0)
	b = append(binary.BigEndian.AppendUint32(b, uint32(mtu)), quote...)
	if quoted := b[icmp+icmpHead:]; length-ipv6Len <= MaxIPLen {
		binary.BigEndian.PutUint16(quoted[4:], uint16(length-ipv6Len))
	}
	binary.BigEndian.PutUint16(b[icmp+2:], ^Sum(b[icmp:], uint32(Sum(b[addrs:icmp], uint32(size+protoICMPv6)))))
	return b
}
