package ether

import "encoding/binary"

// Recover notes what a sender's kernel left undone in a frame that came out of a tunnel.
//
// Between two namespaces or guests of one machine no device finishes checksums and none cuts
// super-frames: a tunnel's datagram then arrives with an inner checksum that is the sum of the
// pseudo-header only, and with all of a TCP super-frame inside, its segment size lost. Such a checksum
// is noted as NeedsSum, and a TCP packet of more than mtu bytes becomes a super-frame again, with
// segments that fit mtu: TCP does not care where a stream is cut. A frame that is finished stays as
// it is; only one whose checksum field looks unfinished is summed up to be sure.
func (f *Frame) Recover(mtu int) {
	b := f.Bytes()
	l, ok := dissect(b)
	if !ok || f.Off != (Offload{}) {
		return
	}
	end := l.end(b)
	if end < l.head || end != len(b) {
		return // padded: only a wire does that
	}
	sum := binary.BigEndian.Uint16(b[l.l4+l.sumOffset():])
	if sum == 0 || sum != l.pseudoSum(b, end-l.l4) || l.sumsRight(b, end) {
		return
	}
	f.Off = Offload{NeedsSum: true, SumStart: uint16(l.l4), SumOffset: uint16(l.sumOffset())}
	if segment := mtu - (l.head - l.ip); l.kind != UDP && len(b)-l.ip > mtu && segment > 0 {
		f.Off.Kind, f.Off.Head, f.Off.Segment = l.kind, uint16(l.head), uint16(segment)
	}
}
