package tap

import (
	"encoding/binary"

	"github.com/tapestry-net/tapestry/ether"
)

// The header that every read from and write to the TAP begins with: struct virtio_net_hdr
// (linux/virtio_net.h, virtio 1.2 section 5.1.6), in the host's byte order:
//
//	u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start, u16 csum_offset
const vnetLen = 10

const (
	needsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDPL4 = 5
	gsoECN   = 0x80
)

var native = binary.NativeEndian

// decodeVnet reads the header. A segmentation that we do not know becomes a Kind that no frame
// passes Check with, so that the switch drops and counts it.
func decodeVnet(b []byte) ether.Offload {
	_ = b[vnetLen-1]
	o := ether.Offload{NeedsSum: b[0]&needsCsum != 0}
	switch b[1] &^ gsoECN {
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
	if o.Kind != ether.None {
		o.Head, o.Segment = native.Uint16(b[2:]), native.Uint16(b[4:])
	}
	if o.NeedsSum {
		o.SumStart, o.SumOffset = native.Uint16(b[6:]), native.Uint16(b[8:])
	}
	return o
}

// encodeVnet writes the header.
func encodeVnet(b []byte, o ether.Offload) {
	_ = b[vnetLen-1]
	clear(b[:vnetLen])
	if o.NeedsSum {
		b[0] = needsCsum
		native.PutUint16(b[6:], o.SumStart)
		native.PutUint16(b[8:], o.SumOffset)
	}
	switch o.Kind {
	case ether.None:
		return
	case ether.TCP4:
		b[1] = gsoTCPv4
	case ether.TCP6:
		b[1] = gsoTCPv6
	case ether.UDP:
		b[1] = gsoUDPL4
	}
	native.PutUint16(b[2:], o.Head)
	native.PutUint16(b[4:], o.Segment)
}
