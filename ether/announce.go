package ether

import (
	"encoding/binary"
	"net/netip"
)

// Announcement is a frame that tells a whole network which MAC has an address: an ARP announcement (RFC 5227 section 2.3) for
// IPv4, an unsolicited neighbour advertisement (RFC 4861 section 7.2.6) for IPv6.
func Announcement(m MAC, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpAnnouncement(m, addr.AsSlice())
	}
	return neighbourAdvertisement(m, addr.AsSlice())
}

func arpAnnouncement(m MAC, ip []byte) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b = append(b, m[:]...)
	b = append(b, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1) // ARP; Ethernet, IPv4, request
	b = append(append(b, m[:]...), ip...)
	b = append(append(b, make([]byte, 6)...), ip...)
	return b
}

func neighbourAdvertisement(m MAC, ip []byte) []byte {
	const icmpLen, override = 24 + 8, 0x20
	allNodes := []byte{0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	b := []byte{0x33, 0x33, 0, 0, 0, 1}
	b = append(b, m[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, icmpLen, 58, 255)
	b = append(append(b, ip...), allNodes...)
	icmp := append([]byte{136, 0, 0, 0, override, 0, 0, 0}, ip...)
	icmp = append(append(icmp, 2, 1), m[:]...) // target link-layer address
	pseudo := append(append([]byte{}, ip...), allNodes...)
	pseudo = append(pseudo, 0, 0, 0, icmpLen, 0, 0, 0, 58)
	binary.BigEndian.PutUint16(icmp[2:], ^Sum(icmp, uint32(Sum(pseudo, 0))))
	return append(b, icmp...)
}
