package dissect

import "net/netip"

// Protocol numbers (IANA).
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoDestOpts = 60

	ipv4Len = 20
	ipv6Len = 40
	fragLen = 8
)

var protoNames = map[uint8]string{
	protoHopByHop: "hop-by-hop options", protoRouting: "routing header", protoDestOpts: "destination options",
	protoICMP: "ICMP", protoIGMP: "IGMP", 4: "IPv4 in IP", protoTCP: "TCP", protoUDP: "UDP", 41: "IPv6 in IP",
	protoFragment: "fragment", 47: "GRE", 50: "ESP", protoAH: "AH", protoICMPv6: "ICMPv6", 59: "nothing", 89: "OSPF",
	103: "PIM", 112: "VRRP", 132: "SCTP",
}

func (s *Summary) ipv4(p part) {
	if !s.has(p, ipv4Len, "IPv4 header") {
		return
	}
	b := p.b
	if b[0]>>4 != 4 {
		s.fail("EtherType says IPv4, the packet says version %d", b[0]>>4)
		return
	}
	s.IP = &IP{
		Version: 4, Src: addr4(b[12:]), Dst: addr4(b[16:]), Proto: b[9], TTL: b[8], TrafficClass: b[1],
		DontFragment: b[6]&0x40 != 0, Frag: frag4(b),
	}
	head, total := int(b[0]&15)*4, int(be16(b[2:]))
	if total == 0 { // a super-frame of more than 64 KiB (big TCP)
		total = p.wire
	}
	switch {
	case head < ipv4Len:
		s.fail("IPv4 header length is %d, want at least %d", head, ipv4Len)
		return
	case total < head:
		s.fail("IPv4 length is %d, less than its header of %d", total, head)
		return
	case total > p.wire:
		s.fail("IPv4 packet cut short: %d of %d bytes", p.wire, total)
	}
	p = p.limit(total)
	if s.has(p, head, "IPv4 options") {
		s.transport(p.skip(head))
	}
}

// frag4 is nil if the IPv4 header b is of a whole packet.
func frag4(b []byte) *Frag {
	more, offset := b[6]&0x20 != 0, int(be16(b[6:])&0x1fff)*8
	if !more && offset == 0 {
		return nil
	}
	return &Frag{ID: uint32(be16(b[4:])), Offset: offset, More: more}
}

func (s *Summary) ipv6(p part) {
	if !s.has(p, ipv6Len, "IPv6 header") {
		return
	}
	b := p.b
	if b[0]>>4 != 6 {
		s.fail("EtherType says IPv6, the packet says version %d", b[0]>>4)
		return
	}
	s.IP = &IP{
		Version: 6, Src: addr6(b[8:]), Dst: addr6(b[24:]), TTL: b[7], TrafficClass: uint8(be16(b) >> 4),
	}
	length := int(be16(b[4:]))
	p = p.skip(ipv6Len)
	if length == 0 { // a super-frame of more than 64 KiB (big TCP), or a jumbogram (RFC 2675)
		length = p.wire
	}
	if length > p.wire {
		s.fail("IPv6 packet cut short: %d of %d bytes", ipv6Len+p.wire, ipv6Len+length)
	}
	rest, proto, frag, whole := extensions(p.limit(length), b[6])
	s.IP.Proto, s.IP.Frag = proto, frag
	if !whole {
		s.fail("IPv6 extension header cut short")
		return
	}
	s.transport(rest)
}

// extensions goes through the IPv6 extension headers at p, the first of kind next (RFC 8200 §4). It gives what is
// behind them and its protocol; behind the header of a later fragment no more are to be found. whole is false if p
// ends among them.
//
// ether.LayersOf walks them too, for all who need to know where a header is. This walk is for what people read: it also goes
// through AH, has no bound on the number of headers, tells which one is cut short, and keeps a fragment's ID and offset.
func extensions(p part, next uint8) (rest part, proto uint8, frag *Frag, whole bool) {
	for {
		var n int
		switch next {
		case protoHopByHop, protoRouting, protoDestOpts:
			n = 8
			if len(p.b) > 1 {
				n += int(p.b[1]) * 8
			}
		case protoAH: // counted in 4 bytes, less 2 (RFC 4302 §2.2)
			n = 8
			if len(p.b) > 1 {
				n += int(p.b[1]) * 4
			}
		case protoFragment:
			n = fragLen
		default:
			return p, next, frag, true
		}
		if len(p.b) < n {
			return p, next, frag, false
		}
		if next == protoFragment {
			word := be16(p.b[2:])
			frag = &Frag{ID: be32(p.b[4:]), Offset: int(word &^ 7), More: word&1 != 0}
		}
		next, p = p.b[0], p.skip(n)
		if frag != nil && frag.Offset > 0 {
			return p, next, frag, true
		}
	}
}

// transport reads what IP carries, if it begins in this packet.
func (s *Summary) transport(p part) {
	if s.IP.Frag != nil && s.IP.Frag.Offset > 0 {
		return
	}
	switch s.IP.Proto {
	case protoTCP:
		s.tcp(p)
	case protoUDP:
		s.udp(p)
	case protoIGMP:
		s.igmp(p)
	case protoICMP:
		if s.IP.Version == 4 {
			s.icmp4(p)
		}
	case protoICMPv6:
		if s.IP.Version == 6 {
			s.icmp6(p)
		}
	}
}

// quotedPacket reads the packet that an ICMP error quotes; nil if too little of it is there.
func quotedPacket(b []byte, version int) *About {
	var a About
	var frag *Frag
	p := part{b, len(b)}
	switch {
	case version == 4 && len(b) >= ipv4Len && b[0]>>4 == 4:
		a = About{Src: addr4(b[12:]), Dst: addr4(b[16:]), Proto: b[9]}
		frag, p = frag4(b), p.skip(int(b[0]&15)*4)
	case version == 6 && len(b) >= ipv6Len && b[0]>>4 == 6:
		a = About{Src: addr6(b[8:]), Dst: addr6(b[24:])}
		var whole bool
		p, a.Proto, frag, whole = extensions(p.skip(ipv6Len), b[6])
		if !whole {
			p = part{}
		}
	default:
		return nil
	}
	if a.hasPorts() && len(p.b) >= 4 && (frag == nil || frag.Offset == 0) {
		a.SrcPort, a.DstPort = be16(p.b), be16(p.b[2:])
	}
	return &a
}

func (a *About) hasPorts() bool { return a.Proto == protoTCP || a.Proto == protoUDP }

// known is a if it says anything.
func known(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
