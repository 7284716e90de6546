package packets

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Tagged is the frame with VLAN tags, the outermost first, each as in 0x81000005: its type, priority and id.
func Tagged(frame []byte, tags ...uint32) []byte {
	b := slices.Clone(frame[:12])
	for _, tag := range tags {
		b = binary.BigEndian.AppendUint32(b, tag)
	}
	return append(b, frame[12:]...)
}

// Extended is the frame, untagged and of IPv6, with an extension header of this protocol number before all others: header, whose first byte,
// the next header, is set.
func Extended(frame []byte, proto byte, header []byte) []byte {
	b := slices.Concat(frame[:54], header, frame[54:])
	b[54], b[20] = b[20], proto
	binary.BigEndian.PutUint16(b[18:], binary.BigEndian.Uint16(b[18:])+uint16(len(header)))
	return b
}

// ICMPv6 is a message of this type, from src at from to dst at to, as a neighbour sends it; body is what follows its checksum.
func ICMPv6(dst, src [6]byte, from, to netip.Addr, typ uint8, body ...[]byte) []byte {
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 255, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	return neighbour(dst, src, ip, typ, gopacket.Payload(slices.Concat(body...)))
}
