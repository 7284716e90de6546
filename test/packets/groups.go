package packets

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// IGMP is the frame with an IGMP message of the station src at from; its checksum, bytes 2 and 3, is filled in.
func IGMP(src [6]byte, from, to netip.Addr, message ...byte) []byte {
	t := to.As4()
	m := append([]byte{}, message...)
	binary.BigEndian.PutUint16(m[2:], ^Sum(m, 0))
	return Serialize(
		&layers.Ethernet{SrcMAC: src[:], DstMAC: []byte{1, 0, 0x5e, t[1] & 0x7f, t[2], t[3]}, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TOS: 0xc0, TTL: 1, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolIGMP, SrcIP: from.AsSlice(), DstIP: t[:],
			Options: []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}},
		gopacket.Payload(m))
}

// MLD is IGMP for IPv6: the message is one of ICMPv6.
func MLD(src [6]byte, from, to netip.Addr, message ...byte) []byte {
	t := to.As16()
	const alert = "\x3a\x00\x05\x02\x00\x00\x01\x00"
	m := append([]byte(alert), message...)
	pseudo := append(from.AsSlice(), t[:]...)
	binary.BigEndian.PutUint16(m[10:], ^Sum(m[8:], uint32(Sum(pseudo, uint32(len(message)+58)))))
	return Serialize(
		&layers.Ethernet{SrcMAC: src[:], DstMAC: []byte{0x33, 0x33, t[12], t[13], t[14], t[15]}, EthernetType: layers.EthernetTypeIPv6},
		&layers.IPv6{Version: 6, NextHeader: 0, HopLimit: 1, SrcIP: from.AsSlice(), DstIP: t[:]},
		gopacket.Payload(m))
}
