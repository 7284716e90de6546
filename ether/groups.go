package ether

import "encoding/binary"

// GroupTalk is what stations and routers say to each other about multicast groups: IGMP (RFC 1112, 2236 and 3376) and MLD (RFC 2710 and 3810).
type GroupTalk uint8

const (
	NoGroupTalk GroupTalk = iota
	GroupReport           // a station says which groups it wants, or no longer wants
	GroupQuery            // a router asks that
	SwitchQuery           // a switch asks that, since there may be no router: as IGMP's 0.0.0.0 (RFC 4541 section 2.1.1), or a MAC of QuerierMAC
)

// IGMP and MLD. A record of IGMPv3 and MLDv2 says of one group from which sources a station wants it.
const (
	igmpQuery    = 0x11
	igmpReport1  = 0x12
	igmpReport2  = 0x16
	igmpLeave    = 0x17
	igmpReport3  = 0x22
	mldQuery     = 130
	mldReport    = 131
	mldDone      = 132
	mldReport2   = 143
	recordIsOnly = 1 // these sources
	recordIsNot  = 2 // all but these
	recordToOnly = 3
	recordToNot  = 4
	recordAllow  = 5

	querierPrefix = "\x02\x74\x71"                     // a locally administered one
	routerAlert4  = "\x94\x04\x00\x00"                 // RFC 2113
	routerAlert6  = "\x3a\x00\x05\x02\x00\x00\x01\x00" // in a hop-by-hop header before ICMPv6: RFC 2711
)

// Lengths in bytes of queries: frames without a tag.
const (
	GroupQuery4Len = HeaderLen + ipv4Len + len(routerAlert4) + 12
	GroupQuery6Len = HeaderLen + ipv6Len + len(routerAlert6) + 28
)

// ReadGroups reads a frame, and calls each for every group that a report names: with its MAC address, and whether the sender wants it. What is
// not exactly as its RFC wants it is no talk about groups.
func ReadGroups(f *Frame, each func(group MAC, wanted bool)) GroupTalk {
	b := f.Bytes()
	if !f.Dst().Group() || f.Off.Kind != None || f.Off.PartialChecksum {
		return NoGroupTalk
	}
	l := LayersOf(b)
	if l.Transport == 0 {
		return NoGroupTalk
	}
	p := b[l.Network:]
	if l.Type == TypeIPv4 {
		end := int(binary.BigEndian.Uint16(p[2:]))
		if l.Proto != protoIGMP || p[8] != 1 || end > len(p) || l.Network+end < l.Transport || p[16]>>4 != 0xe || Sum(p[:l.Transport-l.Network], 0) != 0xffff {
			return NoGroupTalk
		}
		return readIGMP(p[12:16], b[l.Transport:l.Network+end], each)
	}
	end := ipv6Len + int(binary.BigEndian.Uint16(p[4:]))
	if l.Proto != protoICMPv6 || p[6] != protoHopByHop || p[7] != 1 || end > len(p) || l.Network+end < l.Transport || p[24] != 0xff {
		return NoGroupTalk
	}
	m := b[l.Transport : l.Network+end]
	if Sum(m, uint32(Sum(p[8:ipv6Len], uint32(len(m)+protoICMPv6)))) != 0xffff {
		return NoGroupTalk
	}
	return readMLD(f.Src(), p[8:24], m, each)
}

// readIGMP reads an IGMP message of the station src.
func readIGMP(src, m []byte, each func(MAC, bool)) GroupTalk {
	if len(m) < 8 || Sum(m, 0) != 0xffff {
		return NoGroupTalk
	}
	switch m[0] {
	case igmpQuery:
		if string(src) == "\x00\x00\x00\x00" {
			return SwitchQuery
		}
		return GroupQuery
	case igmpReport1, igmpReport2, igmpLeave:
		if m[4]>>4 != 0xe {
			return NoGroupTalk
		}
		each(groupMAC(m[4:8]), m[0] != igmpLeave)
		return GroupReport
	case igmpReport3:
		return readRecords(m[8:], int(binary.BigEndian.Uint16(m[6:])), 4, each)
	}
	return NoGroupTalk
}

// readMLD reads an ICMPv6 message of the station src, with the MAC address from.
func readMLD(from MAC, src, m []byte, each func(MAC, bool)) GroupTalk {
	local := src[0] == 0xfe && src[1]&0xc0 == 0x80
	if len(m) < 8 || !local && string(src) != string(make([]byte, 16)) { // a report may come before there is an address: RFC 3590
		return NoGroupTalk
	}
	switch m[0] {
	case mldQuery:
		switch {
		case len(m) < 24 || !local:
			return NoGroupTalk
		case string(from[:3]) == querierPrefix:
			return SwitchQuery
		}
		return GroupQuery
	case mldReport, mldDone:
		if len(m) < 24 || m[8] != 0xff {
			return NoGroupTalk
		}
		each(groupMAC(m[8:24]), m[0] == mldReport)
		return GroupReport
	case mldReport2:
		return readRecords(m[8:], int(binary.BigEndian.Uint16(m[6:])), 16, each)
	}
	return NoGroupTalk
}

// readRecords reads n records, with addresses of size bytes. Where they are cut short the ones before count.
func readRecords(b []byte, n, size int, each func(MAC, bool)) GroupTalk {
	for ; n > 0 && len(b) >= 4+size; n-- {
		sources := int(binary.BigEndian.Uint16(b[2:]))
		length := 4 + size + sources*size + int(b[1])*4
		if length > len(b) {
			break
		}
		if group := b[4:][:size]; size == 4 && group[0]>>4 == 0xe || size == 16 && group[0] == 0xff {
			switch b[0] {
			case recordIsNot, recordToNot:
				each(groupMAC(group), true)
			case recordIsOnly, recordToOnly, recordAllow:
				if sources > 0 || b[0] != recordAllow {
					each(groupMAC(group), sources > 0)
				}
			}
		}
		b = b[length:]
	}
	return GroupReport
}

// groupMAC is the MAC address of a multicast IP address: RFC 1112 section 6.4, RFC 2464 section 7.
func groupMAC(ip []byte) (m MAC) {
	if len(ip) == 4 {
		return MAC{1, 0, 0x5e, ip[1] & 0x7f, ip[2], ip[3]}
	}
	return MAC{0x33, 0x33, ip[12], ip[13], ip[14], ip[15]}
}

// Snoopable tells whether frames to a group address may be kept from ports whose stations have not asked for the group. Not those to 224.0.0.0/24, for which
// stations need not ask (RFC 4541 section 2.1.2), to all nodes and to solicited-node addresses, since finding a neighbour must not depend on it.
func (m MAC) Snoopable() bool {
	switch {
	case m[0] == 1 && m[1] == 0 && m[2] == 0x5e && m[3] < 0x80:
		return m[3] != 0 || m[4] != 0
	case m[0] == 0x33 && m[1] == 0x33:
		return m != MAC{0x33, 0x33, 0, 0, 0, 1} && m[2] != 0xff
	}
	return false
}

// QuerierMAC is the MAC address of a switch that asks stations for their groups; id tells it from other switches of the network.
func QuerierMAC(id [3]byte) MAC {
	return MAC([]byte(querierPrefix + string(id[:])))
}

// queryInterval is the time between two queries, in seconds, and maxAnswer the time that stations have for their answers (RFC 3376 section 8).
const (
	queryInterval = 125
	maxAnswer     = 10
)

// AppendGroupQuery4 appends the frame of IGMPv3 that asks all stations for all their groups (RFC 3376 section 4.1), without an IP address of the sender.
func AppendGroupQuery4(b []byte, querier MAC) []byte {
	b = append(append(b, 1, 0, 0x5e, 0, 0, 1), querier[:]...)
	b = binary.BigEndian.AppendUint16(b, TypeIPv4)
	ip := len(b)
	b = append(b, 4<<4|6, 0xc0, 0, ipv4Len+4+12, 0, 0, 0x40, 0, 1, protoIGMP, 0, 0, 0, 0, 0, 0, 224, 0, 0, 1)
	b = append(b, routerAlert4...)
	binary.BigEndian.PutUint16(b[ip+10:], ^Sum(b[ip:], 0))
	m := len(b)
	b = append(b, igmpQuery, maxAnswer*10, 0, 0, 0, 0, 0, 0, 2, queryInterval, 0, 0)
	binary.BigEndian.PutUint16(b[m+2:], ^Sum(b[m:], 0))
	return b
}

// AppendGroupQuery6 is AppendGroupQuery4 with MLDv2 (RFC 3810 section 5.1), from a link-local address made of the MAC.
func AppendGroupQuery6(b []byte, querier MAC) []byte {
	const size = 28
	b = append(append(b, 0x33, 0x33, 0, 0, 0, 1), querier[:]...)
	b = binary.BigEndian.AppendUint16(b, TypeIPv6)
	b = append(b, 6<<4, 0, 0, 0, 0, byte(len(routerAlert6)+size), protoHopByHop, 1)
	addrs := len(b)
	b = append(b, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, querier[0]^2, querier[1], querier[2], 0xff, 0xfe, querier[3], querier[4], querier[5])
	b = append(append(b, "\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"...), routerAlert6...)
	m := len(b)
	b = append(b, mldQuery, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, maxAnswer*1000)
	b = append(append(b, make([]byte, 2+16)...), 2, queryInterval, 0, 0)
	sum := Sum(b[addrs:addrs+32], uint32(size+protoICMPv6))
	binary.BigEndian.PutUint16(b[m+2:], ^Sum(b[m:], uint32(sum)))
	return b
}
