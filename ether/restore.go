package ether

import "encoding/binary"

// RestoreOffload notes what a sender's kernel left undone in a frame that came out of a tunnel.
//
// Between two namespaces or guests of one machine no device finishes checksums and none cuts
// super-frames: a tunnel's datagram then arrives with an inner checksum that is the sum of the
// pseudo-header only, and with all of a super-frame inside. Such a checksum is noted as PartialChecksum, and
// the super-frame as one again. Of UDP, segment is its payload size (the kernel tells it; 0: it did
// not). Of TCP it is lost, and a packet of more than mtu bytes gets segments that fit mtu: TCP does
// not care where a stream is cut. A frame that is finished stays as it is; only one whose checksum
// field looks unfinished is summed up to be sure.
func (f *Frame) RestoreOffload(mtu, segment int) {
	b := f.Bytes()
	l, ok := dissect(b)
	if !ok || f.Off != (Offload{}) || l.end(b) != len(b) { // padded: only a wire does that
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

// MaybeUnsegmented tells whether the frame may be a UDP super-frame of segments of that many bytes that nobody has cut: its lengths
// are those of all its bytes, more than one segment, and its checksum is open.
func (f *Frame) MaybeUnsegmented(segment int) bool {
	b := f.Bytes()
	l, ok := dissect(b)
	return ok && l.kind == UDP && l.end(b) == len(b) && len(b)-l.head > segment &&
		binary.BigEndian.Uint16(b[l.l4+l.checksumOffset():]) == l.pseudoSum(b, len(b)-l.l4)
}
