package ether

import "encoding/binary"

// RestoreOffload sets the Offload of a frame that was received by a tunnel.
//
// Between two namespaces or guests of one machine no device completes checksums or cuts super-frames. So a tunnel's datagram
// may have an inner checksum that is the sum of the pseudo-header only, and contain a super-frame. It is set as a
// PartialChecksum, and as a super-frame again. segment is the payload size of UDP segments, if the kernel has given it,
// else 0. The segment size of TCP is lost: a packet of more than mtu bytes gets segments that fit mtu, since TCP may be cut
// anywhere. A complete frame stays as it is; the payload is summed only if the checksum field looks like a partial one.
func (f *Frame) RestoreOffload(mtu, segment int) {
	b := f.Bytes()
	l, ok := dissect(b)
	if !ok || f.Off != (Offload{}) || l.end(b) != len(b) { // padding: the frame has passed a wire, where frames are complete
		return
	}
	sum := binary.BigEndian.Uint16(b[l.l4+l.checksumOffset():])
	if sum == 0 || sum != l.pseudoSum(b, len(b)-l.l4) || l.checksumsValid(b, len(b)) {
		return
	}
	f.Off = Offload{PartialChecksum: true, ChecksumStart: uint16(l.l4), ChecksumOffset: uint16(l.checksumOffset())}
	long := len(b)-l.ip > mtu
	if l.kind == UDP {
		long = segment > 0 && len(b)-l.head > segment
	} else {
		segment = mtu - (l.head - l.ip)
	}
	if long && segment > 0 {
		f.Off.Kind, f.Off.Head, f.Off.Segment = l.kind, uint16(l.head), uint16(segment)
	}
}

// MaybeUnsegmented tells whether the frame may be an uncut UDP super-frame with segments of that many bytes: its lengths are
// those of all its bytes, it is longer than one segment, and its checksum is partial.
func (f *Frame) MaybeUnsegmented(segment int) bool {
	b := f.Bytes()
	l, ok := dissect(b)
	return ok && l.kind == UDP && l.end(b) == len(b) && len(b)-l.head > segment &&
		binary.BigEndian.Uint16(b[l.l4+l.checksumOffset():]) == l.pseudoSum(b, len(b)-l.l4)
}
