// Package ether is what travels: Ethernet frames and super-frames, their addresses and flows, and how
// super-frames are cut into frames and frames joined into super-frames.
// (Whether the kernel does such work for us is the affair of package offload.)
//
// A frame's bytes are lent: nobody writes into them, except the tunnel into the headroom, and who wants a frame changed
// changes a copy. The same bytes may be on their way to other ports, each with a note of its own of what is left undone.
//
// It is pure bytes, without the OS. Nothing in it keeps a frame longer than a call, except a Joiner
// and a Cutter until their next use; nothing on a frame's way allocates; and no frame that has passed
// Check, whatever its bytes, makes it panic or cuts into more than MaxSegments.
package ether

import "encoding/binary"

const (
	// HeaderLen is the length of an Ethernet header without VLAN tags.
	HeaderLen = 14

	// Headroom is what every frame has before it, free to write: a VXLAN header (RFC 7348 §5).
	// Not a byte more: in a train of received datagrams the room of one frame is its own spent
	// VXLAN header, and what stands before that is the end of the frame before.
	Headroom = 8

	// MaxFrame is the longest frame or super-frame: an IP packet of 65535 bytes (RFC 791 §3.1, and
	// gso_max_size unless raised for big TCP), an Ethernet header and two VLAN tags.
	MaxFrame = 65535 + HeaderLen + maxTags*tagLen

	maxTags = 2
	tagLen  = 4
)

// EtherTypes (IEEE 802 numbers) that are looked behind or into.
const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
)

// A Frame is one Ethernet frame, or one super-frame: many segments of one flow under one header,
// which the kernel left to be cut later.
//
// Lent: look, hand on within the call. Keep nothing, and write nothing but, as the tunnel, the headroom.
type Frame struct {
	// Off is what the kernel left undone.
	Off Offload

	// Fault is what was done to the frame on purpose.
	Fault Fault

	// ID is of the frame on this host, for those who look at it; 0: nobody has looked yet.
	ID uint64

	buf []byte // Headroom bytes, then the frame
}

// Lend makes a frame of room: Headroom bytes, then the frame. A room shorter than its headroom
// holds an empty frame.
func Lend(room []byte, off Offload) Frame { return Frame{Off: off, buf: room} }

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

// Type is the EtherType behind up to two VLAN tags (0x8100, 0x88a8); 0 if the frame ends before it.
func (f *Frame) Type() uint16 {
	typ, _ := etherType(f.Bytes())
	return typ
}

// WireLen is the length in bytes of the longest frame that f becomes on a wire: header and one
// segment of a super-frame, else the frame's own length. The frame must have passed Check.
func (f *Frame) WireLen() int {
	if f.Off.Kind == None {
		return f.Len()
	}
	return min(f.Len(), int(f.Off.Head)+int(f.Off.Segment))
}

// OuterTag is the length in bytes of the outermost VLAN tag (0x8100, 0x88a8); 0 without one.
func (f *Frame) OuterTag() int {
	if b := f.Bytes(); len(b) >= HeaderLen {
		if typ := binary.BigEndian.Uint16(b[HeaderLen-2:]); typ == typeVLAN || typ == typeQinQ {
			return tagLen
		}
	}
	return 0
}

// etherType is the type behind up to two VLAN tags, and where its payload begins.
// A frame that ends before it has type 0.
func etherType(b []byte) (typ uint16, at int) {
	for at = HeaderLen; at <= len(b); at += tagLen {
		typ = binary.BigEndian.Uint16(b[at-2:])
		if typ != typeVLAN && typ != typeQinQ || at == HeaderLen+maxTags*tagLen {
			return typ, at
		}
	}
	return 0, len(b)
}
