package ether

import "encoding/binary"

// IP protocol numbers (IANA) that are looked into.
const (
	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoDCCP     = 33
	protoRouting  = 43
	protoFragment = 44
	protoDestOpts = 60
	protoSCTP     = 132
	protoUDPLite  = 136
)

// Where the checksum stands in a TCP header (RFC 9293 §3.1) and in a UDP header (RFC 768).
const (
	tcpSum = 16
	udpSum = 6
)

const (
	ipv4Len = 20 // without options
	ipv6Len = 40 // without extension headers
	tcpLen  = 20 // without options
	udpLen  = 8

	tunnelLen = 8 // of VXLAN, RFC 7348 §5; Geneve's is that or more, RFC 8926 §3.4

	maxExtensions = 8 // IPv6 extension headers walked before giving up
)

// headers says what a TCP or UDP packet is and where its headers are, counted from the frame's first byte.
type headers struct {
	kind         Kind
	v6           bool
	ip, l4, head int // IP header, TCP or UDP header, payload
}

// dissect finds the headers of an unfragmented TCP or UDP packet; ok tells whether b is one with its
// headers whole. It believes no length but those of the headers themselves.
func dissect(b []byte) (l headers, ok bool) {
	typ, ip := etherType(b)
	return dissectIP(b, typ, ip)
}

// dissectIP is dissect for an IP packet of the given EtherType that begins at ip.
func dissectIP(b []byte, typ uint16, ip int) (l headers, ok bool) {
	proto, at, fragment := transport(typ, b[ip:])
	if at == 0 || fragment != notFragment { // the kernel makes no super-frame of an atomic fragment, and takes none
		return headers{}, false
	}
	l = headers{v6: typ == TypeIPv6, ip: ip, l4: ip + at}
	switch rest := len(b) - l.l4; {
	case proto == protoUDP && rest >= udpLen:
		l.kind, l.head = UDP, l.l4+udpLen
	case proto == protoTCP && rest >= tcpLen:
		n := int(b[l.l4+12]>>4) * 4
		if n < tcpLen || n > rest {
			return headers{}, false
		}
		l.kind, l.head = TCP4, l.l4+n
		if l.v6 {
			l.kind = TCP6
		}
	default:
		return headers{}, false
	}
	return l, true
}

// addresses are the source and destination of the IP header at ip.
func (l headers) addresses(b []byte) []byte {
	if l.v6 {
		return b[l.ip+8 : l.ip+ipv6Len]
	}
	return b[l.ip+12 : l.ip+ipv4Len]
}

// proto is the IP protocol number.
func (l headers) proto() uint8 {
	if l.kind == UDP {
		return protoUDP
	}
	return protoTCP
}

// checksumOffset is where in the TCP or UDP header the checksum stands.
func (l headers) checksumOffset() int {
	if l.kind == UDP {
		return udpSum
	}
	return tcpSum
}

// ipLen is the IP header's length without options or extension headers.
func (l headers) ipLen() int {
	if l.v6 {
		return ipv6Len
	}
	return ipv4Len
}

// end is where the IP header says that the packet ends. It may lie: behind the frame's end or within the headers.
func (l headers) end(b []byte) int {
	if l.v6 {
		return l.ip + ipv6Len + int(binary.BigEndian.Uint16(b[l.ip+4:]))
	}
	return l.ip + int(binary.BigEndian.Uint16(b[l.ip+2:]))
}

// setLengths writes the lengths that the IP and UDP headers in head give, for a payload of n bytes.
func (l headers) setLengths(head []byte, n int) {
	if l.v6 {
		binary.BigEndian.PutUint16(head[l.ip+4:], uint16(l.head-l.ip-ipv6Len+n))
	} else {
		binary.BigEndian.PutUint16(head[l.ip+2:], uint16(l.head-l.ip+n))
	}
	if l.kind == UDP {
		binary.BigEndian.PutUint16(head[l.l4+4:], uint16(udpLen+n))
	}
}

// pseudoSum is the sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) of a TCP or UDP packet
// that is, with its header, length bytes long.
func (l headers) pseudoSum(b []byte, length int) uint16 {
	return Sum(l.addresses(b), uint32(l.proto())+uint32(length))
}

// checksumsValid tells whether the checksums of IPv4 and of TCP or UDP are right, in a packet that ends at end.
func (l headers) checksumsValid(b []byte, end int) bool {
	if !l.v6 && Sum(b[l.ip:l.l4], 0) != 0xffff {
		return false
	}
	return Sum(b[l.l4:end], uint32(l.pseudoSum(b, end-l.l4))) == 0xffff
}
