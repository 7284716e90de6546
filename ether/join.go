package ether

import (
	"encoding/binary"
	"math"
)

// MaxJoined is the maximum of frames of a run, and so of the vectors of one write; the kernel's is 1024 (UIO_MAXIOV).
const MaxJoined = 256

// maxJoinUDP is the maximum of a run of datagrams. A socket with UDP_GRO never gets more at once (UDP_GRO_CNT_MAX in Linux).
const maxJoinUDP = 64

// A Joiner joins consecutive frames of one flow, a run, to a super-frame: the reverse of Cutter, by the rules of the kernel's
// GRO. A run begins with Start and continues with Add until one of them returns false. A run of one frame should be sent
// as that frame; its Head, Payloads and Off are those of an ordinary frame.
//
// Frames are not copied: the Joiner is valid as long as they are lent. It allocates nothing and can be used again. The zero
// Joiner holds no run.
type Joiner struct {
	at       headers
	first    []byte // the first frame
	verified bool   // its checksums were found right
	partial  bool   // all frames have PartialChecksum
	pseudo   uint32 // sum of the pseudo-header without the length, if partial
	done     bool   // nothing can follow

	size, total int // payload bytes of the first frame, of the run

	id, idStep uint16 // IPv4: the last frame's identification, and how it goes on
	seq        uint32 // TCP: the next sequence number
	push       uint16 // TCP: FIN and PSH of the last frame

	n        int
	payloads [MaxJoined][]byte
	head     [MaxHead]byte
}

// Start begins a new run with f. It returns false, and there is no run, if no frame can be joined to f: it is not TCP or UDP,
// a super-frame, a fragment, has IPv4 options or IPv6 extension headers, no payload, a datagram without checksum, or a
// TCP segment without ACK or with SYN, RST, URG, FIN, PSH or CWR. Of a super-frame with CWR, only the first segment has it when it is cut
// (RFC 3168), and a receiver of AccECN, for whom the bit is a part of a counter in every segment (RFC 9768 §3.2.2), would read another number.
//
// Checksums are verified only when a second frame fits. Frames with a PartialChecksum are joined with each other only.
func (j *Joiner) Start(f *Frame) bool {
	j.n, j.done, j.verified = 0, true, false
	b := f.Bytes()
	if f.Off.Kind != None {
		return false
	}
	l, ok := dissect(b)
	if !ok || l.l4-l.ip != l.ipLen() {
		return false
	}
	j.partial = f.Off.PartialChecksum
	if j.partial {
		if int(f.Off.ChecksumStart) != l.l4 || int(f.Off.ChecksumOffset) != l.checksumOffset() || l.end(b) != len(b) {
			return false
		}
		j.pseudo = uint32(l.pseudoSum(b, 0))
	}
	end := l.end(b)
	if end <= l.head || end > len(b) {
		return false
	}
	switch l.kind {
	case UDP:
		if !datagramWhole(b[l.l4:end]) {
			return false
		}
	default:
		if tcpFlags(b[l.l4:])&(flagACK|flagSYN|flagRST|flagURG|flagFIN|flagPSH|flagCWR) != flagACK {
			return false
		}
		j.seq = binary.BigEndian.Uint32(b[l.l4+4:]) + uint32(end-l.head)
	}
	if !l.v6 {
		j.id = binary.BigEndian.Uint16(b[l.ip+4:])
	}
	j.at, j.first, j.push, j.done = l, b, 0, false
	j.size, j.total = end-l.head, end-l.head
	j.n, j.payloads[0] = 1, b[l.head:end:end]
	return true
}

// Add adds f to the run and returns true, if it continues the run; otherwise the run is unchanged. A frame continues the run
// if a Cutter would cut the longer super-frame into the same frames, and its checksums are right, which nobody verifies
// later. With DF set, equal identifications are accepted, too: they have no meaning then (RFC 6864 §4.1), and increase
// after cutting.
func (j *Joiner) Add(f *Frame) bool {
	b := f.Bytes()
	if j.done || j.n == 0 || f.Off.Kind != None || f.Off.PartialChecksum != j.partial || !j.sameHeaders(b) {
		return false
	}
	l := j.at
	end := l.end(b)
	if j.partial && (int(f.Off.ChecksumStart) != l.l4 || int(f.Off.ChecksumOffset) != l.checksumOffset() || end != len(b)) {
		return false
	}
	size := end - l.head
	if end > len(b) || size <= 0 || size > j.size || l.head-l.ip+j.total+size > math.MaxUint16 {
		return false
	}
	var idStep, push uint16
	var id uint16
	if !l.v6 {
		id = binary.BigEndian.Uint16(b[l.ip+4:])
		idStep = id - j.id
		dontFragment := b[l.ip+6]&0x40 != 0
		if idStep > 1 || idStep == 0 && !dontFragment || j.n > 1 && idStep != j.idStep {
			return false
		}
	}
	if l.kind == UDP {
		if !datagramWhole(b[l.l4:end]) {
			return false
		}
	} else {
		if binary.BigEndian.Uint32(b[l.l4+4:]) != j.seq {
			return false
		}
		push = tcpFlags(b[l.l4:]) & (flagFIN | flagPSH)
	}
	if !j.verified {
		if !j.checksumsValid(j.first, l.head+j.size) {
			j.done = true
			return false
		}
		j.verified = true
	}
	if !j.checksumsValid(b, end) {
		return false
	}
	j.payloads[j.n] = b[l.head:end:end]
	j.n++
	j.total += size
	j.id, j.idStep, j.seq, j.push = id, idStep, j.seq+uint32(size), push
	j.done = size < j.size || push != 0 || j.n == MaxJoined || l.kind == UDP && j.n == maxJoinUDP
	return true
}

// checksumsValid tells whether the checksums of a frame of the run are right; a partial one as such.
func (j *Joiner) checksumsValid(b []byte, end int) bool {
	l := j.at
	if !j.partial {
		return l.checksumsValid(b, end)
	}
	return (l.v6 || Sum(b[l.ip:l.l4], 0) == 0xffff) &&
		binary.BigEndian.Uint16(b[l.l4+l.checksumOffset():]) == fold(uint64(j.pseudo)+uint64(end-l.l4))
}

// sameHeaders tells whether b begins with the first frame's headers, except for the fields that differ between segments.
// If so, its layout is that of the first frame, too.
func (j *Joiner) sameHeaders(b []byte) bool {
	l, a := j.at, j.first
	if len(b) < l.head {
		return false
	}
	same := func(from, to int) bool { return string(a[from:to]) == string(b[from:to]) }
	if l.v6 { // all but the payload length
		if !same(0, l.ip+4) || !same(l.ip+6, l.l4) {
			return false
		}
	} else if !same(0, l.ip+2) || !same(l.ip+6, l.ip+10) || !same(l.ip+12, l.l4) { // but total length, identification, checksum
		return false
	}
	if l.kind == UDP {
		return same(l.l4, l.l4+4) // ports
	}
	// TCP: ports; acknowledgement; then, behind the flags, window; urgent pointer and options.
	differ := tcpFlags(b[l.l4:]) ^ tcpFlags(a[l.l4:])
	return differ&^(flagFIN|flagPSH) == 0 &&
		same(l.l4, l.l4+4) && same(l.l4+8, l.l4+12) && same(l.l4+14, l.l4+16) && same(l.l4+18, l.head)
}

// Frames is how many frames are in the run.
func (j *Joiner) Frames() int { return j.n }

// Head is the run's header, Ethernet to TCP or UDP, with a partial checksum, as virtio needs it. It is valid until the next
// call of Head.
func (j *Joiner) Head() []byte {
	if j.n == 0 {
		return nil
	}
	l := j.at
	h := j.head[:l.head]
	copy(h, j.first)
	if j.n == 1 {
		return h
	}
	l.setLengths(h, j.total)
	if !l.v6 {
		ip := h[l.ip:l.l4]
		takeAndZero16(ip[10:])
		binary.BigEndian.PutUint16(ip[10:], ^Sum(ip, 0))
	}
	l4 := h[l.l4:]
	if l.kind != UDP {
		binary.BigEndian.PutUint16(l4[12:], tcpFlags(l4)|j.push)
	}
	binary.BigEndian.PutUint16(l4[l.checksumOffset():], l.pseudoSum(h, len(l4)+j.total))
	return h
}

// Off is the run's Offload, as after Check: that of a super-frame if the run has two frames or more.
func (j *Joiner) Off() Offload {
	if j.n == 0 || j.n == 1 && !j.partial {
		return Offload{}
	}
	l := j.at
	if j.n == 1 {
		return Offload{PartialChecksum: true, ChecksumStart: uint16(l.l4), ChecksumOffset: uint16(l.checksumOffset())}
	}
	return Offload{Kind: l.kind, PartialChecksum: true, Head: uint16(l.head), Segment: uint16(j.size),
		ChecksumStart: uint16(l.l4), ChecksumOffset: uint16(l.checksumOffset())}
}

// Payloads are the frames' payloads in order, without padding. Head followed by Payloads is the super-frame. The slice is
// valid until the next Start or Add.
func (j *Joiner) Payloads() [][]byte { return j.payloads[:j.n] }

// datagramWhole tells whether the UDP length is that of the IP payload, and the datagram has a checksum.
func datagramWhole(udp []byte) bool {
	return int(binary.BigEndian.Uint16(udp[4:])) == len(udp) && binary.BigEndian.Uint16(udp[6:]) != 0
}

// tcpFlags are the 16 bits of the data offset and the flags.
func tcpFlags(tcp []byte) uint16 { return binary.BigEndian.Uint16(tcp[12:]) }
