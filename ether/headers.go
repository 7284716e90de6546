package ether

import "encoding/binary"

// What may be kept of a frame where payload must not: the headers of link, network and transport layer, and of ARP, ND,
// ICMP and IGMP the fields that identify their subject. Headers are always at the beginning of a frame, so one length is
// enough. Bytes that claim to be a header but cannot be one are treated as payload.

const (
	typeRARP = 0x8035
	maxLLC   = 1500 // a type up to this is the length of an 802.3 frame
)

// IP protocol numbers (IANA) of which a header is known, beside those that are looked into.
const (
	protoICMP   = 1
	protoIGMP   = 2
	protoGRE    = 47
	protoESP    = 50
	protoAH     = 51
	protoICMPv6 = 58
)

// HeadersLen is how many bytes at the frame's beginning are headers, Ethernet to TCP, UDP or whatever else is known there; of
// what ICMP and ND repeat of another packet the headers, too. It is what may be kept where payload must not.
func (f *Frame) HeadersLen() int {
	b := f.Bytes()
	if n := plainHeaders(b); n > 0 {
		return n
	}
	return min(linkHeaders(b), len(b))
}

// plainHeaders is the length of the headers of most frames: of TCP or UDP in IPv4 without options or in IPv6 without
// extension headers, untagged, unfragmented; 0 if they are something else. The recorder asks for every frame.
func plainHeaders(b []byte) int {
	const tcpOffset = 12
	if len(b) < HeaderLen+ipv6Len+udpLen {
		return 0
	}
	l4, proto, end := HeaderLen+ipv4Len, b[HeaderLen+9], HeaderLen+int(binary.BigEndian.Uint16(b[HeaderLen+2:]))
	switch kind := binary.BigEndian.Uint32(b[HeaderLen-2:]) >> 8; {
	case kind == TypeIPv4<<8|0x45 && binary.BigEndian.Uint16(b[HeaderLen+6:])&0x3fff == 0:
	case kind>>4 == TypeIPv6<<4|6:
		l4, proto = HeaderLen+ipv6Len, b[HeaderLen+6]
		end = l4 + int(binary.BigEndian.Uint16(b[HeaderLen+4:]))
	default:
		return 0
	}
	n := l4 + udpLen
	if proto == protoTCP && len(b) > l4+tcpOffset {
		if n = int(b[l4+tcpOffset]>>4) * 4; n < tcpLen {
			return 0
		}
		n += l4
	} else if proto != protoUDP {
		return 0
	}
	if n > len(b) || n > end { // behind the packet's end is the frame's padding
		return 0
	}
	return n
}

// linkHeaders is HeadersLen of a frame of which nothing is known. Like those below it may be more than there is.
func linkHeaders(b []byte) int {
	typ, at := etherType(b)
	p := b[at:]
	switch {
	case typ == TypeIPv4 || typ == TypeIPv6:
		return at + packetHeaders(typ == TypeIPv6, p, false)
	case typ == TypeARP || typ == typeRARP: // RFC 826
		if len(p) >= 8 && p[4] == 6 && p[5] == 4 {
			return at + 28
		}
		return at + 8
	case typ <= maxLLC: // IEEE 802.2: two access points and what for; of SNAP also the type
		p = p[:min(len(p), int(typ))]
		if len(p) >= 8 && p[0] == 0xaa && p[1] == 0xaa && p[2] == 3 {
			return at + 8
		}
		return at + min(3, len(p))
	}
	return at
}

// packetHeaders is how many bytes at the beginning of an IP packet are headers. quoted: the packet is repeated in another
// one, which may have cut it short.
func packetHeaders(v6 bool, p []byte, quoted bool) int {
	least, version := ipv4Len, byte(4)
	if v6 {
		least, version = ipv6Len, 6
	}
	if len(p) == 0 || p[0]>>4 != version {
		return 0
	}
	if len(p) < least {
		return len(p)
	}
	if v6 {
		p = p[:min(len(p), ipv6Len+int(binary.BigEndian.Uint16(p[4:])))] // behind it is the frame's padding
		x := walkExtensions(p)
		if !x.found {
			return x.at
		}
		return x.at + transportHeaders(x.proto, p[x.at:], true, quoted)
	}
	h, end := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	if h < ipv4Len || h > len(p) || h > end || h > ipv4Len && Sum(p[:h], 0) != 0xffff {
		return ipv4Len
	}
	if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 { // not the first fragment
		return h
	}
	return h + transportHeaders(p[9], p[h:min(len(p), end)], false, quoted)
}

// transportHeaders is how many bytes at the beginning of an IP packet's payload are headers.
func transportHeaders(proto uint8, p []byte, v6, quoted bool) (n int) {
	switch proto {
	case protoTCP:
		if n = tcpLen; len(p) > 12 {
			if n = max(n, int(p[12]>>4)*4); n > len(p) {
				n = tcpLen // quoted without all of its options, or a lie
			}
		}
	case protoUDP, protoUDPLite, protoESP: // of ESP the index and the number, RFC 4303 §2
		n = 8
	case protoSCTP, protoAH: // of SCTP the common header, RFC 9260 §3.1; of AH without the check value, RFC 4302 §2
		n = 12
	case protoDCCP: // RFC 4340 §5.1
		if n = 12; len(p) > 8 && p[8]&1 != 0 {
			n = 16
		}
	case protoGRE:
		n = greHeader(p)
	case protoIGMP:
		if !v6 {
			n = igmpHeader(p)
		}
	case protoICMP:
		if !v6 {
			n = icmpHeader(p, quoted)
		}
	case protoICMPv6:
		if v6 {
			n = icmp6Header(p, quoted)
		}
	}
	return min(n, len(p))
}

// greHeader knows RFC 2784, 2890 and 2637 (version 1).
func greHeader(p []byte) int {
	if len(p) < 4 {
		return 4
	}
	n := 4
	for _, flag := range []byte{0x80, 0x20, 0x10} { // checksum, key, sequence number
		if p[0]&flag != 0 {
			n += 4
		}
	}
	if p[1]&7 == 1 && p[1]&0x80 != 0 { // acknowledgement number
		n += 4
	}
	return n
}

// igmpHeader knows RFC 3376 §4: groups and sources, without auxiliary data.
func igmpHeader(p []byte) int {
	const query, report3 = 0x11, 0x22
	switch {
	case len(p) < 8:
		return 4
	case p[0] == query && len(p) >= 12:
		return 12 + 4*int(binary.BigEndian.Uint16(p[10:]))
	case p[0] == report3:
		return 8 + groupRecords(p[8:], int(binary.BigEndian.Uint16(p[6:])), 4)
	case p[0] == query || p[0] == 0x12 || p[0] == 0x16 || p[0] == 0x17: // reports of older versions, leave
		return 8
	}
	return 4
}

// groupRecords is the length of count records of addresses of size bytes (RFC 3376 §4.2.4, RFC 3810 §5.2.5), up to the first
// one that has auxiliary data or is cut short.
func groupRecords(p []byte, count, size int) (n int) {
	for range count {
		if n+4+size > len(p) {
			return n
		}
		length := 4 + size + size*int(binary.BigEndian.Uint16(p[n+2:]))
		if n+length > len(p) {
			return n + 4 + size
		}
		if n += length; p[n-length+1] != 0 {
			return n
		}
	}
	return n
}

// icmpHeader knows RFC 792, 950, 1256 and 8335.
func icmpHeader(p []byte, quoted bool) int {
	if len(p) < 8 {
		return 4
	}
	switch p[0] {
	case 3, 4, 5, 11, 12: // errors and redirect: they repeat a packet
		if !quoted {
			return 8 + packetHeaders(false, p[8:], true)
		}
		return 8
	case 0, 8, 10, 42, 43: // echo, solicitation
		return 8
	case 9: // advertisement: an address and a preference for each router
		if p[5] == 2 && !quoted {
			return 8 + 8*int(p[4])
		}
		return 8
	case 13, 14: // three times
		return 20
	case 17, 18: // a mask
		return 12
	}
	return 4
}

// icmp6Header knows RFC 4443, 4861, 2710 and 3810.
func icmp6Header(p []byte, quoted bool) int {
	if len(p) < 8 {
		return 4
	}
	options := func(at int) int {
		if quoted || len(p) < at {
			return at
		}
		return at + ndOptions(p[at:])
	}
	switch p[0] {
	case 1, 2, 3, 4: // errors: they repeat a packet
		if !quoted {
			return 8 + packetHeaders(true, p[8:], true)
		}
		return 8
	case 128, 129: // echo
		return 8
	case 130: // query
		if len(p) >= 28 {
			return 28 + 16*int(binary.BigEndian.Uint16(p[26:]))
		}
		return 24
	case 131, 132: // report, done
		return 24
	case 143: // report of version 2
		return 8 + groupRecords(p[8:], int(binary.BigEndian.Uint16(p[6:])), 16)
	case 133: // router solicitation
		return options(8)
	case 134: // router advertisement
		return options(16)
	case 135, 136: // neighbour solicitation and advertisement
		return options(24)
	case 137: // redirect
		return options(40)
	}
	return 4
}

// ndOptions is the length of the options of ND (RFC 4861 §4.6) up to the first one that is none of those that tell of links,
// prefixes, routes and servers.
func ndOptions(p []byte) (at int) {
	for at+8 <= len(p) {
		kind, length := p[at], int(p[at+1])*8
		if length == 0 || at+length > len(p) {
			return at
		}
		switch {
		case kind == 1 || kind == 2 || kind == 5: // link-layer addresses, MTU
			if length != 8 {
				return at
			}
		case kind == 3: // prefix
			if length != 32 {
				return at
			}
		case kind == 24: // route, RFC 4191 §2.3
			if length > 24 {
				return at
			}
		case kind == 25: // name servers, RFC 8106 §5.1
			if length%16 != 8 || length == 8 {
				return at
			}
		case kind == 4: // what was redirected
			return at + 8 + packetHeaders(true, p[at+8:at+length], true)
		default:
			return at
		}
		at += length
	}
	return at
}
