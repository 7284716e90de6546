package ether

import "encoding/binary"

// VLAN tags of IEEE 802.1Q section 9.6: priority (3 bits), drop eligible (1), VLAN id (12).
const (
	vlanID = 0x0fff

	// TagLen is the length of a tag in bytes.
	TagLen = tagLen

	// MaxVLAN is the largest VLAN id; 4095 is reserved (table 9-2).
	MaxVLAN = 4094
)

// VLAN is the id in the frame's first tag, if that is a tag of a VLAN (0x8100); 0 without one, or if the tag has a priority only.
func (f *Frame) VLAN() uint16 {
	b := f.Bytes()
	if len(b) < HeaderLen+tagLen || binary.BigEndian.Uint16(b[12:]) != TypeVLAN {
		return 0
	}
	return binary.BigEndian.Uint16(b[14:]) & vlanID
}

// AppendTagged appends f to b with the tag of a VLAN, and returns it as it is there, with its Headroom before it. The priority of a tag without an id stays.
// f need not have passed Check, but must be HeaderLen bytes or more and have no VLAN. It may end longer than MaxFrame.
func (f *Frame) AppendTagged(b []byte, id uint16) (tagged Frame, rest []byte) {
	at, frame := len(b), f.Bytes()
	b = append(b, f.buf[:Headroom+12]...)
	control, added := id, tagLen
	if len(frame) >= HeaderLen+tagLen && binary.BigEndian.Uint16(frame[12:]) == TypeVLAN {
		control |= binary.BigEndian.Uint16(frame[14:]) &^ vlanID
		frame, added = frame[tagLen:], 0
	}
	b = binary.BigEndian.AppendUint16(b, TypeVLAN)
	b = binary.BigEndian.AppendUint16(b, control)
	b = append(b, frame[12:]...)
	return f.copied(b[at:], added), b
}

// AppendUntagged appends f to b without its first tag, and returns it as it is there, with its Headroom before it. f must have a VLAN.
func (f *Frame) AppendUntagged(b []byte) (plain Frame, rest []byte) {
	at := len(b)
	b = append(b, f.buf[:Headroom+12]...)
	b = append(b, f.buf[Headroom+12+tagLen:]...)
	return f.copied(b[at:], -tagLen), b
}

// copied is f with other bytes, whose headers are moved by shift bytes.
func (f *Frame) copied(buf []byte, shift int) Frame {
	g := *f
	g.buf = buf[:len(buf):len(buf)]
	for _, at := range []*uint16{&g.Off.Head, &g.Off.Outer, &g.Off.Inner, &g.Off.ChecksumStart} {
		if moved := int(*at) + shift; *at != 0 && moved > 0 && moved <= 0xffff { // else it is a lie, which Check finds
			*at = uint16(moved)
		}
	}
	return g
}
