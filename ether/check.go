package ether

import (
	"encoding/binary"
	"errors"
)

// Kind is the kind of a super-frame.
type Kind uint8

// The kinds, as in virtio_net_hdr's gso_type (virtio 1.2 §5.1.6).
const (
	None Kind = iota // an ordinary frame
	TCP4             // VIRTIO_NET_HDR_GSO_TCPV4
	TCP6             // VIRTIO_NET_HDR_GSO_TCPV6
	UDP              // VIRTIO_NET_HDR_GSO_UDP_L4, either IP version

	// The same within a UDP tunnel (VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 or _IPV6, virtio 1.4 §5.1.6): what a container
	// sends that has a VXLAN or Geneve device of its own. Each segment gets the outer headers, too.
	TunnelTCP4
	TunnelTCP6
	TunnelUDP

	Kinds // their number
)

// Tunnelled tells whether the super-frame travels in a UDP tunnel.
func (k Kind) Tunnelled() bool { return k >= TunnelTCP4 && k <= TunnelUDP }

// InTunnel is the kind of a super-frame of kind k within a UDP tunnel.
func (k Kind) InTunnel() Kind {
	if k < TCP4 || k > UDP {
		return 0xff
	}
	return k + TunnelTCP4 - TCP4
}

// segments is the kind without the tunnel: that of the packet that is cut.
func (k Kind) segments() Kind {
	if k.Tunnelled() {
		return k - TunnelTCP4 + TCP4
	}
	return k
}

func (k Kind) String() string {
	switch k {
	case None:
		return "none"
	case TCP4:
		return "tcp4"
	case TCP6:
		return "tcp6"
	case UDP:
		return "udp"
	case TunnelTCP4, TunnelTCP6, TunnelUDP:
		return "tunnel_" + k.segments().String()
	}
	return "unknown"
}

// Offload is what the kernel has left to be done, as in struct virtio_net_hdr: segmentation and the checksum. The zero
// Offload is a complete ordinary frame. A container with CAP_NET_RAW can set any values: see Frame.Check.
type Offload struct {
	Kind Kind

	// PartialChecksum: the checksum field holds the sum of the pseudo-header only (CHECKSUM_PARTIAL in Linux); the bytes
	// from ChecksumStart to the end have to be added.
	PartialChecksum bool

	// Head is a super-frame's header in bytes, Ethernet to TCP or UDP; 0 in an ordinary frame. In a UDP tunnel
	// it goes up to the inner TCP or UDP. Check sets it from the bytes, whatever its value was.
	Head uint16

	// Of a super-frame in a UDP tunnel, counted from the frame's first byte: where the tunnel's UDP header begins
	// (outer_th_offset), and the IP header inside (inner_nh_offset). Check sets Outer from the bytes.
	Outer, Inner uint16

	// Segment is the number of payload bytes in each segment (gso_size); the last may be shorter.
	Segment uint16

	ChecksumStart  uint16 // where the checksummed bytes begin, counted from the frame's first byte (csum_start)
	ChecksumOffset uint16 // where the checksum stands, counted from ChecksumStart (csum_offset)
}

const (
	// MaxSegments is the maximum of segments of one super-frame. One of 64 KiB has 45 at the usual MSS. Where a small MTU or MSS would make
	// more, containers' links have this as their gso_max_segs; a false gso_size could make 60,000.
	MaxSegments = 256

	// MaxHead is the maximum length of a super-frame's header, which is repeated in every segment. Ethernet with two tags
	// (22), IPv4 with all options (60) and TCP with all options (60) are 142; with IPv6 (40) instead, 134 bytes remain for
	// extension headers.
	MaxHead = 256
)

// Errors of Check.
var (
	// ErrRunt is a frame that ends before its EtherType.
	ErrRunt = errors.New("frame is shorter than an Ethernet header")
	// ErrOffload is an Offload that does not agree with the frame's bytes.
	ErrOffload = errors.New("offload request does not agree with the frame")
)

// Check compares f.Off with the bytes: ErrRunt, ErrOffload or nil. If f.Off is zero, only the length is checked. Afterwards
// Off.Head is the true header length, a super-frame cuts into at most MaxSegments segments of at most 65535 bytes of IP,
// and Cutter and Checksum can rely on the other fields.
//
// A super-frame with no more payload than one segment is valid, since the kernel makes them; it is cut into one. The IP and
// UDP lengths are not checked: in a super-frame they may be zero (big TCP).
func (f *Frame) Check() error {
	if len(f.buf) < Headroom+HeaderLen {
		return ErrRunt
	}
	if f.Off == (Offload{}) {
		return nil
	}
	return f.checkOffload()
}

func (f *Frame) checkOffload() error {
	sumEnd := int(f.Off.ChecksumStart) + int(f.Off.ChecksumOffset) + 2
	if f.Off.PartialChecksum && (f.Off.ChecksumStart < HeaderLen+ipv4Len || sumEnd > f.Len()) { // as in Linux: not before the end of an IP header
		return ErrOffload
	}
	if !f.Off.PartialChecksum {
		f.Off.ChecksumStart, f.Off.ChecksumOffset = 0, 0
	}
	if f.Off.Kind == None {
		f.Off.Head, f.Off.Segment, f.Off.Outer, f.Off.Inner = 0, 0, 0, 0
		return nil
	}
	if f.Off.Kind.Tunnelled() {
		return f.checkTunnel()
	}
	b := f.Bytes()
	typ, ip := etherType(b) // as dissect, inlined: 18 ns instead of 25
	l, ok := dissectIP(b, typ, ip)
	if !ok || l.kind != f.Off.Kind || l.head > MaxHead {
		return ErrOffload
	}
	if f.Off.PartialChecksum && (int(f.Off.ChecksumStart) != l.l4 || int(f.Off.ChecksumOffset) != l.checksumOffset()) || !f.validSegments(l.head, l.ip) {
		return ErrOffload
	}
	f.Off.Head, f.Off.Outer, f.Off.Inner = uint16(l.head), 0, 0
	return nil
}

// checkTunnel is Check for a super-frame in a UDP tunnel.
func (f *Frame) checkTunnel() error {
	l, outer, ok := f.tunnel()
	if !ok || l.head > MaxHead || !f.Off.PartialChecksum || int(f.Off.ChecksumStart) != l.l4 || int(f.Off.ChecksumOffset) != l.checksumOffset() || !f.validSegments(l.head, outer.ip) {
		return ErrOffload
	}
	f.Off.Head, f.Off.Outer = uint16(l.head), uint16(outer.l4)
	return nil
}

// validSegments tells whether a super-frame with a header of head bytes, IP from byte ip on, makes segments as a kernel would:
// not too many, and none too long.
func (f *Frame) validSegments(head, ip int) bool {
	payload, segment := f.Len()-head, int(f.Off.Segment)
	return segment > 0 && payload <= segment*MaxSegments && head-ip+min(segment, payload) <= MaxIPLen
}

// tunnel finds the headers of a super-frame in a UDP tunnel: l those of the inner packet, which is cut, and outer those of
// the tunnel. ok is false if they are not as f.Off says. A tunnel's own header is at least as long as VXLAN's, and is
// followed by an Ethernet header; nothing else of it is checked.
func (f *Frame) tunnel() (l, outer headers, ok bool) {
	b := f.Bytes()
	outer, ok = dissect(b)
	ip := int(f.Off.Inner)
	if !ok || outer.kind != UDP || ip < outer.head+tunnelLen+HeaderLen || ip > len(b) || (ip-outer.l4)%2 != 0 { // Sum needs an even length before the inner IP header
		return l, outer, false
	}
	l, ok = dissectIP(b, binary.BigEndian.Uint16(b[ip-2:]), ip)
	return l, outer, ok && l.kind == f.Off.Kind.segments()
}

// Checksum computes the complete checksum of an ordinary frame with a partial one; at is its offset in the frame. The frame
// must have passed Check, and is not changed. partial is false for a super-frame, or if the checksum is complete.
func (f *Frame) Checksum() (at int, sum [2]byte, partial bool) {
	b, start := f.Bytes(), int(f.Off.ChecksumStart)
	at = start + int(f.Off.ChecksumOffset)
	if f.Off.Kind != None || !f.Off.PartialChecksum || at+2 > len(b) {
		return 0, sum, false
	}
	// The field holds the pseudo-header's sum, which is added with the other bytes.
	s := ^Sum(b[start:], 0)
	if f.Off.ChecksumOffset == udpSum { // no other protocol than UDP has its checksum there
		s = nonZero(s)
	}
	binary.BigEndian.PutUint16(sum[:], s)
	return at, sum, true
}

// CompleteChecksum writes Checksum into the frame, whose bytes must belong to the caller. The checksum of a UDP tunnel around it
// is right already, since its sender expects this ("local checksum offload", checksum-offloads.rst of Linux). It is not
// right in what was a super-frame, and whose Kind was set to None to show it whole: then it is computed, too.
func (f *Frame) CompleteChecksum() {
	if at, sum, partial := f.Checksum(); partial {
		copy(f.Bytes()[at:], sum[:])
		f.Off.PartialChecksum, f.Off.ChecksumStart, f.Off.ChecksumOffset = false, 0, 0
		if f.Off.Inner > 0 {
			f.completeTunnelChecksum()
		}
	}
}

// completeTunnelChecksum completes the checksum of the tunnel around what was a super-frame, if it has one.
func (f *Frame) completeTunnelChecksum() {
	b := f.Bytes()
	o, ok := dissect(b)
	f.Off.Outer, f.Off.Inner = 0, 0
	if !ok || o.kind != UDP || o.end(b) > len(b) || o.end(b) < o.head {
		return
	}
	if udp := b[o.l4:o.end(b)]; takeAndZero16(udp[6:]) != 0 {
		binary.BigEndian.PutUint16(udp[6:], nonZero(^Sum(udp, uint32(o.pseudoSum(b, len(udp))))))
	}
}
