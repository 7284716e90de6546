// Package ether has Ethernet frames and super-frames (GSO packets), their addresses, headers and flows, and cuts
// super-frames into frames and joins frames to super-frames. Which of that the kernel does for us is in package offload.
//
// A frame's bytes are lent: nobody writes into them, except the tunnel into the headroom. To change a frame, copy it first:
// the same bytes may be sent by other ports, with other Offloads.
//
// It is about bytes only, without the OS. Nothing in it keeps a frame for longer than a call, except a Joiner and a Cutter
// until their next use. Nothing on the data path allocates. No frame that has passed Check, whatever its bytes, makes it
// panic or cuts into more than MaxSegments.
package ether

import "encoding/binary"

const (
	// HeaderLen is the length of an Ethernet header without VLAN tags.
	HeaderLen = 14

	// Headroom is the number of bytes before every frame that may be written: for a VXLAN header (RFC 7348 §5). It is not
	// more, since in a train of received datagrams it is the frame's own VXLAN header, and the previous frame ends before.
	Headroom = 8

	// MaxFrame is the longest frame or super-frame: an IP packet of 65535 bytes (RFC 791 §3.1, and
	// gso_max_size unless raised for big TCP), an Ethernet header and two VLAN tags.
	MaxFrame = MaxIPLen + HeaderLen + maxTags*tagLen

	maxTags = 2
	tagLen  = 4
)

// EtherTypes (IEEE 802 numbers).
const (
	TypeIPv4         = 0x0800
	TypeARP          = 0x0806
	TypeVLAN         = 0x8100
	TypeIPv6         = 0x86dd
	TypeQinQ         = 0x88a8
	TypeExperimental = 0x88b5 // local experimental EtherType 1
)

// A Frame is one Ethernet frame, or one super-frame: many segments of one flow with one header, which the kernel has not
// cut yet.
//
// A lent frame may be read and passed on during the call. It must not be kept, nor written to, but for the headroom.
type Frame struct {
	// Off is what the kernel has left to be done.
	Off Offload

	// Fault is what injected faults have done to the frame.
	Fault Fault

	// ID identifies the frame on this host, for captures; 0: no capture has seen it yet.
	ID uint64

	buf []byte // Headroom bytes, then the frame
}

// Lend makes a frame of buf: Headroom bytes, then the frame. A shorter buf is an empty frame.
func Lend(buf []byte, off Offload) Frame { return Frame{Off: off, buf: buf} }

// Bytes is the frame, from the destination address on.
func (f *Frame) Bytes() []byte {
	if len(f.buf) < Headroom {
		return nil
	}
	return f.buf[Headroom:]
}

// WithHeadroom is the frame with Headroom bytes before it.
func (f *Frame) WithHeadroom() []byte { return f.buf }

// Len is the frame's length in bytes.
func (f *Frame) Len() int { return max(0, len(f.buf)-Headroom) }

// Dst is the destination address. The frame must be HeaderLen bytes or more.
func (f *Frame) Dst() MAC { return MAC(f.Bytes()[:6]) }

// Src is the source address. The frame must be HeaderLen bytes or more.
func (f *Frame) Src() MAC { return MAC(f.Bytes()[6:12]) }

// SameAddresses tells whether both frames have a whole header, with the same addresses.
func (f *Frame) SameAddresses(g *Frame) bool {
	const addresses = 12
	if len(f.buf) < Headroom+HeaderLen || len(g.buf) < Headroom+HeaderLen {
		return false
	}
	a, b := f.buf[Headroom:Headroom+addresses], g.buf[Headroom:Headroom+addresses]
	return binary.LittleEndian.Uint64(a) == binary.LittleEndian.Uint64(b) &&
		binary.LittleEndian.Uint32(a[8:]) == binary.LittleEndian.Uint32(b[8:])
}

// Type is the EtherType after up to two VLAN tags (0x8100, 0x88a8); 0 if the frame ends before it.
func (f *Frame) Type() uint16 {
	typ, _ := etherType(f.Bytes())
	return typ
}

// WireLen is the length in bytes of the longest frame that f becomes on a wire: for a super-frame the header and one
// segment, else its own length. The frame must have passed Check.
func (f *Frame) WireLen() int {
	if f.Off.Kind == None {
		return f.Len()
	}
	return min(f.Len(), int(f.Off.Head)+int(f.Off.Segment))
}

// OuterTag is the length in bytes of the outermost VLAN tag (0x8100, 0x88a8); 0 without one.
func (f *Frame) OuterTag() int {
	if IsTagged(f.Bytes()) {
		return tagLen
	}
	return 0
}

// IsTagged tells whether a frame has a VLAN tag.
func IsTagged(frame []byte) bool {
	if len(frame) < HeaderLen {
		return false
	}
	typ := binary.BigEndian.Uint16(frame[HeaderLen-2:])
	return typ == TypeVLAN || typ == TypeQinQ
}

// etherType is the type after up to two VLAN tags, and where its payload begins. If the frame ends before, the type is 0.
func etherType(b []byte) (typ uint16, at int) {
	for at = HeaderLen; at <= len(b); at += tagLen {
		typ = binary.BigEndian.Uint16(b[at-2:])
		if typ != TypeVLAN && typ != TypeQinQ || at == HeaderLen+maxTags*tagLen {
			return typ, at
		}
	}
	return 0, len(b)
}
