package dissect

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// ICMP types (RFC 792).
const (
	echoReply4   = 0
	unreachable4 = 3
	redirect4    = 5
	echo4        = 8
	exceeded4    = 11
	parameter4   = 12

	codeFragment4 = 4 // of unreachable4: fragmentation needed, with the MTU (RFC 1191 §4)
)

// ICMPv6 types (RFC 4443, 4861, 2710, 3810).
const (
	unreachable6 = 1
	tooBig6      = 2
	exceeded6    = 3
	parameter6   = 4
	echo6        = 128
	echoReply6   = 129
	mldQuery     = 130
	mldReport    = 131
	mldDone      = 132
	routerAsk    = 133
	routerTell   = 134
	neighborAsk  = 135
	neighborTell = 136
	redirect6    = 137
	mldReport2   = 143
)

// IGMP types (RFC 3376 §4).
const (
	igmpQuery   = 0x11
	igmpReport1 = 0x12
	igmpReport2 = 0x16
	igmpLeave   = 0x17
	igmpReport3 = 0x22
)

const (
	icmpLen    = 8
	maxMembers = 4
)

func (s *Summary) icmpHeader(p part, what string) (c *ICMP, ok bool) {
	if !s.has(p, icmpLen, what) {
		return nil, false
	}
	s.ICMP = &ICMP{Type: p.b[0], Code: p.b[1]}
	return s.ICMP, true
}

func (s *Summary) icmp4(p part) {
	c, ok := s.icmpHeader(p, "ICMP header")
	if !ok {
		return
	}
	switch c.Type {
	case echo4, echoReply4:
		c.Echo = echo(p.b)
	case unreachable4, exceeded4, parameter4, redirect4:
		c.About = quotedPacket(p.b[icmpLen:], 4)
	}
	if c.Type == unreachable4 && c.Code == codeFragment4 {
		c.MTU = uint32(be16(p.b[6:]))
	}
	if c.Type == redirect4 {
		c.Target = addr4(p.b[4:])
	}
}

func (s *Summary) icmp6(p part) {
	c, ok := s.icmpHeader(p, "ICMPv6 header")
	if !ok {
		return
	}
	b := p.b
	switch c.Type {
	case echo6, echoReply6:
		c.Echo = echo(b)
	case unreachable6, exceeded6, parameter6:
		c.About = quotedPacket(b[icmpLen:], 6)
	case tooBig6:
		c.MTU = be32(b[4:])
		c.About = quotedPacket(b[icmpLen:], 6)
	case routerAsk:
		c.MAC = linkAddr(b[icmpLen:])
	case routerTell:
		if s.has(p, 16, "router advertisement") {
			c.MAC = linkAddr(b[16:])
		}
	case neighborAsk, neighborTell:
		if s.has(p, 24, "neighbour discovery") {
			c.Target = addr6(b[8:])
			c.MAC = linkAddr(b[24:])
		}
	case redirect6:
		if s.has(p, 40, "redirect") {
			c.Target = addr6(b[8:])
		}
	case mldQuery, mldReport, mldDone:
		if s.has(p, 24, "MLD message") {
			action := map[uint8]string{mldQuery: "query", mldReport: "join", mldDone: "leave"}[c.Type]
			c.Members = []Member{{action, addr6(b[8:])}}
		}
	case mldReport2:
		c.Members = records(b[icmpLen:], int(be16(b[6:])), 16)
	}
}

func echo(b []byte) *Echo { return &Echo{ID: be16(b[4:]), Seq: be16(b[6:])} }

// linkAddr finds the source or target link-layer address among Neighbour Discovery options (RFC 4861 §4.6), zero if
// it is not there.
func linkAddr(opts []byte) ether.MAC {
	for len(opts) >= 8 {
		n := int(opts[1]) * 8
		if n == 0 || n > len(opts) {
			break
		}
		if opts[0] == 1 || opts[0] == 2 {
			return ether.MAC(opts[2:])
		}
		opts = opts[n:]
	}
	return ether.MAC{}
}

func (s *Summary) igmp(p part) {
	if !s.has(p, 8, "IGMP message") {
		return
	}
	s.IGMP = &IGMP{Type: p.b[0]}
	switch group := addr4(p.b[4:]); p.b[0] {
	case igmpQuery:
		s.IGMP.Members = []Member{{"query", group}}
	case igmpReport1, igmpReport2:
		s.IGMP.Members = []Member{{"join", group}}
	case igmpLeave:
		s.IGMP.Members = []Member{{"leave", group}}
	case igmpReport3:
		s.IGMP.Members = records(p.b[8:], int(be16(p.b[6:])), 4)
	}
}

// records reads the first of n group records of IGMPv3 (RFC 3376 §4.2.4) or MLDv2 (RFC 3810 §5.2), with addresses of
// size bytes.
func records(b []byte, n, size int) (list []Member) {
	for ; n > 0 && len(b) >= 4+size && len(list) < maxMembers; n-- {
		kind, aux, sources := b[0], int(b[1])*4, int(be16(b[2:]))
		action := "join"
		if kind == 6 || sources == 0 && (kind == 1 || kind == 3) { // block these; include none
			action = "leave"
		}
		group, _ := netip.AddrFromSlice(b[4 : 4+size])
		list = append(list, Member{action, group})
		b = b[min(len(b), 4+size+sources*size+aux):]
	}
	return list
}
