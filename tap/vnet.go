package tap

import (
	"encoding/binary"

	"github.com/tapestry-net/tapestry/ether"
)

// The header that every read from and write to the TAP begins with: struct virtio_net_hdr
// (linux/virtio_net.h, virtio 1.2 section 5.1.6), in the host's byte order:
//
//	u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start, u16 csum_offset
//
// A TAP that delivers super-frames within UDP tunnels has struct virtio_net_hdr_v1_hash_tunnel, where there follow
//
//	u16 num_buffers, u32 hash_value, u16 hash_report, u16 padding, le16 outer_th_offset, le16 inner_nh_offset
const (
	vnetLen       = 10
	vnetTunnelLen = 24
)

const (
	needsCsum  = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	tunnelCsum = 8 // VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM: the tunnel's UDP header has a checksum

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDPL4 = 5
	gsoTun4  = 0x20 // VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4: a flag beside the others
	gsoTun6  = 0x40
	gsoECN   = 0x80
)

var native = binary.NativeEndian

// decodeVnet reads the header. An unknown gso_type becomes a Kind with which no frame passes Check, so that the switch
// drops and counts it.
func decodeVnet(b []byte) ether.Offload {
	_ = b[vnetLen-1]
	o := ether.Offload{PartialChecksum: b[0]&needsCsum != 0}
	switch b[1] &^ (gsoECN | gsoTun4 | gsoTun6) {
	case gsoNone:
	case gsoTCPv4:
		o.Kind = ether.TCP4
	case gsoTCPv6:
		o.Kind = ether.TCP6
	case gsoUDPL4:
		o.Kind = ether.UDP
	default:
		o.Kind = 0xff
	}
	if b[1]&(gsoTun4|gsoTun6) != 0 {
		o.Kind = o.Kind.InTunnel()
		if len(b) < vnetTunnelLen {
			o.Kind = 0xff
		} else {
			o.Outer, o.Inner = binary.LittleEndian.Uint16(b[20:]), binary.LittleEndian.Uint16(b[22:])
		}
	}
	if o.Kind != ether.None {
		o.Head, o.Segment = native.Uint16(b[2:]), native.Uint16(b[4:])
	}
	if o.PartialChecksum {
		o.ChecksumStart, o.ChecksumOffset = native.Uint16(b[6:]), native.Uint16(b[8:])
	}
	return o
}

// encodeVnet writes the header, of the length that b has. A super-frame in a tunnel wants encodeTunnel as well.
func encodeVnet(b []byte, o ether.Offload) {
	_ = b[vnetLen-1]
	clear(b)
	if o.PartialChecksum {
		b[0] = needsCsum
		native.PutUint16(b[6:], o.ChecksumStart)
		native.PutUint16(b[8:], o.ChecksumOffset)
	}
	switch o.Kind {
	case ether.None:
		return
	case ether.TCP4, ether.TunnelTCP4:
		b[1] = gsoTCPv4
	case ether.TCP6, ether.TunnelTCP6:
		b[1] = gsoTCPv6
	case ether.UDP, ether.TunnelUDP:
		b[1] = gsoUDPL4
	}
	native.PutUint16(b[2:], o.Head)
	native.PutUint16(b[4:], o.Segment)
}

// encodeTunnel adds to encodeVnet's header, of vnetTunnelLen bytes, which tunnel f travels in. f must have passed Check.
func encodeTunnel(b []byte, f *ether.Frame) {
	const sumField = 6 // of UDP
	b[1] |= gsoTun4
	if f.Type() == ether.TypeIPv6 {
		b[1] ^= gsoTun4 | gsoTun6
	}
	if udp := f.Bytes()[f.Off.Outer:]; native.Uint16(udp[sumField:]) != 0 {
		b[0] |= tunnelCsum
	}
	binary.LittleEndian.PutUint16(b[20:], f.Off.Outer)
	binary.LittleEndian.PutUint16(b[22:], f.Off.Inner)
}
