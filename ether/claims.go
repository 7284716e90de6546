package ether

import (
	"encoding/binary"
	"net/netip"
)

// A Role is what the sender of a frame makes itself by it.
type Role uint8

const (
	Station    Role = iota // nothing special
	ARPSender              // it tells or asks by ARP
	Neighbour              // it tells or asks by a neighbour advertisement or solicitation
	Router                 // it advertises itself as a router, or redirects
	DHCPServer             // it answers, as a server of DHCP or DHCPv6 or a relay
	Hidden                 // what it is does not show: see ReadClaims
)

// Claims are what a frame says of its sender.
type Claims struct {
	Role   Role
	Source netip.Addr // of the IP packet; zero: it is none
	Own    netip.Addr // that ARP or ND says is the sender's, or asks whether anybody has before the sender takes it; zero: none
	MAC    MAC        // that ARP or ND says is the sender's; zero: none
}

// Ports of servers and clients: RFC 2131 section 4.1, RFC 8415 section 7.2.
const (
	dhcpServer, dhcpClient   = 67, 68
	dhcp6Client, dhcp6Server = 546, 547
)

// Types of ICMPv6: RFC 4861 section 4.
const (
	routerSolicitation  = 133
	routerAdvertisement = 134
	redirect            = 137
)

// ReadClaims reads what a frame says of its sender, behind up to two VLAN tags. It tells by position alone, as a station's kernel does:
// no checksum nor hop limit is looked at.
//
// Hidden is what could be a router's, a server's or a neighbour's word and keeps that from being read, as RFC 7113 and RFC 6980 have it:
// more than two tags (Linux removes any number of those with VLAN 0), ARP that is cut short or not of Ethernet and IPv4, IPv6 extension
// headers that are cut short or more than 8, UDP or ICMPv6 whose first bytes are in a later fragment or missing, ND in fragments or with options that
// contradict themselves. Later fragments pass, since without the first one they are nothing. ESP and AH pass: whoever takes them has the sender's
// key. What no station takes passes too: an IP header cut short or of another version.
func ReadClaims(b []byte) (c Claims) {
	typ, at := etherType(b)
	p := b[at:]
	switch {
	case typ == TypeVLAN || typ == TypeQinQ:
		c.Role = Hidden
	case typ == TypeARP:
		c.readARP(p)
	case !isIP(typ, p):
	case typ == TypeIPv4:
		c.Source = netip.AddrFrom4([4]byte(p[12:]))
		c.readIPv4(p)
	default:
		c.Source = netip.AddrFrom16([16]byte(p[8:]))
		c.readIPv6(p)
	}
	return c
}

func (c *Claims) readARP(p []byte) {
	const lengths = 6<<8 | 4 // of a MAC and of an IPv4 address
	if len(p) < 28 || binary.BigEndian.Uint16(p[4:]) != lengths {
		c.Role = Hidden
		return
	}
	c.Role, c.MAC, c.Own = ARPSender, MAC(p[8:]), netip.AddrFrom4([4]byte(p[14:]))
	if c.Own.IsUnspecified() { // a probe, RFC 5227
		c.Own = netip.AddrFrom4([4]byte(p[24:]))
	}
}

func (c *Claims) readIPv4(p []byte) {
	if p[9] != protoUDP || binary.BigEndian.Uint16(p[6:])&0x1fff != 0 {
		return
	}
	c.readUDP(p, max(ipv4Len, int(p[0]&15)*4), dhcpServer, dhcpClient)
}

// readUDP reads the ports of the UDP header at at.
func (c *Claims) readUDP(p []byte, at int, server, client uint16) {
	switch {
	case at+4 > len(p):
		c.Role = Hidden
	case binary.BigEndian.Uint16(p[at:]) == server || binary.BigEndian.Uint16(p[at+2:]) == client:
		c.Role = DHCPServer
	}
}

func (c *Claims) readIPv6(p []byte) {
	if n := int(binary.BigEndian.Uint16(p[4:])); n > 0 { // 0: a jumbogram, or a super-frame
		p = p[:min(len(p), ipv6Len+n)]
	}
	x := walkExtensions(p)
	switch {
	case x.later:
	case !x.found:
		c.Role = Hidden
	case x.proto == protoUDP:
		c.readUDP(p, x.at, dhcp6Server, dhcp6Client)
	case x.proto == protoICMPv6:
		c.readICMPv6(p[x.at:], x.fragment == realFragment)
	}
}

func (c *Claims) readICMPv6(p []byte, fragment bool) {
	switch {
	case len(p) == 0:
		c.Role = Hidden
	case p[0] < routerSolicitation || p[0] > redirect:
	case fragment:
		c.Role = Hidden
	case p[0] == routerAdvertisement || p[0] == redirect:
		c.Role = Router
	case p[0] == routerSolicitation:
		c.readOptions(p, 8)
	default:
		if c.readOptions(p, 24); c.Role == Neighbour && (p[0] == advertisement || c.Source.IsUnspecified()) { // or duplicate address detection
			c.Own = netip.AddrFrom16([16]byte(p[8:]))
		}
	}
}

// readOptions reads the options of an ND message, which begin at at: one link-layer address at most, of the sender or of the target.
func (c *Claims) readOptions(p []byte, at int) {
	c.Role = Hidden
	if len(p) < at {
		return
	}
	seen := false
	for at < len(p) {
		if at+2 > len(p) {
			return
		}
		kind, length := p[at], int(p[at+1])*8
		if length == 0 || at+length > len(p) {
			return
		}
		if kind == sourceLink || kind == targetLink {
			if seen || length != 8 {
				return
			}
			seen, c.MAC = true, MAC(p[at+2:])
		}
		at += length
	}
	c.Role = Neighbour
}
