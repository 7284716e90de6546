package ether

import "encoding/binary"

// Layers says where the headers of a frame begin, in bytes from the frame's first one. It is read from the headers alone: no
// length in them is believed but their own.
type Layers struct {
	Type      uint16 // EtherType behind up to two VLAN tags; 0: the frame ends before it
	Network   int    // where what Type names begins; at most the frame's length
	IP        bool   // at Network there is an IPv4 or IPv6 header, whole but for options and extension headers
	Proto     uint8  // of an IP packet: the protocol (IANA) behind IPv6's extension headers, as far as they can be followed
	Transport int    // where Proto's header begins; 0: not here (cut short, or a fragment, but not an IPv6 atomic one: RFC 6946)
}

// LayersOf finds the layers of a frame, whatever its bytes are.
func LayersOf(frame []byte) (l Layers) {
	l.Type, l.Network = etherType(frame)
	p := frame[l.Network:]
	if l.IP = isIP(l.Type, p); !l.IP {
		return l
	}
	if l.Type == TypeIPv6 {
		x := walkExtensions(p)
		if l.Proto = x.proto; x.found && x.fragment != realFragment {
			l.Transport = l.Network + x.at
		}
		return l
	}
	proto, at, _ := transport(l.Type, p)
	if l.Proto = proto; at > 0 {
		l.Transport = l.Network + at
	}
	return l
}

// ChecksumField says where the kernel leaves the checksum of a TCP or UDP frame to be computed (csum_start and csum_offset of
// virtio_net_hdr): where the transport header begins, and where in it the checksum stands. Both are 0 of any other frame.
func ChecksumField(frame []byte) (start, offset uint16) {
	l := LayersOf(frame)
	switch {
	case l.Transport == 0:
		return 0, 0
	case l.Proto == protoTCP:
		return uint16(l.Transport), tcpSum
	case l.Proto == protoUDP:
		return uint16(l.Transport), udpSum
	}
	return 0, 0
}

// isIP tells whether p begins with a whole IP header of the given EtherType, options and extension headers aside.
func isIP(typ uint16, p []byte) bool {
	return typ == TypeIPv4 && len(p) >= ipv4Len && p[0]>>4 == 4 || typ == TypeIPv6 && len(p) >= ipv6Len && p[0]>>4 == 6
}

// fragment is how much of a packet is here.
type fragment uint8

const (
	notFragment    fragment = iota
	atomicFragment          // all of it, behind an IPv6 fragment header with offset 0 and M=0, RFC 6946
	realFragment            // a part
)

// transport finds the transport header of an IP packet of the given EtherType: its protocol, and
// where in p it begins. at is 0 if there is none to be found: not IP, header cut short, a real fragment (whose proto is
// protoFragment with IPv6: later ones need not repeat the true one), more than maxExtensions extension headers, or a source
// route not yet at its end (its checksum is over another destination than the one in the header, RFC 8200 §8.1).
func transport(typ uint16, p []byte) (proto uint8, at int, f fragment) {
	if !isIP(typ, p) {
		return 0, 0, notFragment
	}
	if typ == TypeIPv4 {
		proto, at = p[9], int(p[0]&15)*4
		if binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
			return proto, 0, realFragment
		}
		if at < ipv4Len || at > len(p) {
			at = 0
		}
		return proto, at, notFragment
	}
	x := walkExtensions(p)
	switch {
	case x.fragment == realFragment:
		return protoFragment, 0, realFragment
	case x.sourceRoute:
		return protoRouting, 0, x.fragment
	case !x.found:
		return x.proto, 0, x.fragment
	}
	return x.proto, x.at, x.fragment
}

// extensions is what stands behind the extension headers of an IPv6 packet.
type extensions struct {
	proto       uint8
	at          int  // in the packet
	found       bool // proto's header begins at at; else the packet ends before it, is a later fragment, or has more than maxExtensions
	fragment    fragment
	later       bool // a fragment, and not the first one
	sourceRoute bool // not yet at its end
}

// walkExtensions follows the extension headers of an IPv6 packet, which has at least ipv6Len bytes. All that need to know
// where a header is use it; capture/dissect has a walk of its own (see there).
func walkExtensions(p []byte) (x extensions) {
	x.proto, x.at = p[6], ipv6Len
	for n := 0; ; n++ {
		length := 8
		switch x.proto {
		case protoHopByHop, protoDestOpts, protoRouting:
			if x.at+length > len(p) {
				return x
			}
			length += int(p[x.at+1]) * 8
			x.sourceRoute = x.sourceRoute || x.proto == protoRouting && p[x.at+3] != 0
		case protoFragment:
			if x.at+length > len(p) {
				return x
			}
			word := binary.BigEndian.Uint16(p[x.at+2:])
			if x.later = word&0xfff8 != 0; word&0xfff9 != 0 {
				x.fragment = realFragment
			} else if x.fragment == notFragment {
				x.fragment = atomicFragment
			}
		default:
			x.found = true
			return x
		}
		x.proto = p[x.at]
		if x.at+length > len(p) || n == maxExtensions {
			return x
		}
		x.at += length
		if x.later {
			return x
		}
	}
}
