package packets

import (
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// ARP is a request (1) or a response (2) in a frame to dst: the station src at from asks for, or tells, the station mac at to.
func ARP(dst, src [6]byte, op uint16, from netip.Addr, mac [6]byte, to netip.Addr) []byte {
	const length = 14 + 28 // without the padding that gopacket adds
	return serialize(
		&layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: src[:], SourceProtAddress: from.AsSlice(), DstHwAddress: mac[:], DstProtAddress: to.AsSlice()})[:length]
}

// Solicitation is the neighbour solicitation of the station src at from for target, as Linux sends it to all.
func Solicitation(src [6]byte, from, target netip.Addr) []byte {
	group := [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff}
	t := target.As16()
	copy(group[13:], t[13:])
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255, SrcIP: from.AsSlice(), DstIP: group[:]}
	return neighbour([6]byte{0x33, 0x33, 0xff, t[13], t[14], t[15]}, src, ip, layers.ICMPv6TypeNeighborSolicitation,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: t[:], Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: src[:]}}})
}

// Advertisement is the neighbour advertisement in a frame to dst at to: the station src has the address target.
func Advertisement(dst, src [6]byte, flags byte, target, to netip.Addr) []byte {
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255, SrcIP: target.AsSlice(), DstIP: to.AsSlice()}
	return neighbour(dst, src, ip, layers.ICMPv6TypeNeighborAdvertisement,
		&layers.ICMPv6NeighborAdvertisement{Flags: flags, TargetAddress: target.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: src[:]}}})
}

func neighbour(dst, src [6]byte, ip *layers.IPv6, typ uint8, body gopacket.SerializableLayer) []byte {
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		panic(err)
	}
	return serialize(&layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv6}, ip, icmp, body)
}

func serialize(all ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		panic(err)
	}
	return b.Bytes()
}
