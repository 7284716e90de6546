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

// segments is the kind of what is to be cut: the packet inside, if it travels in a tunnel.
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

// Offload is what the kernel left undone: virtio_net_hdr by another name. The zero Offload is a
// finished ordinary frame. A container with CAP_NET_RAW writes it as it likes: see Frame.Check.
type Offload struct {
	Kind Kind

	// PartialChecksum: the checksum field holds the sum of the pseudo-header only; the bytes from ChecksumStart
	// to the end are to be added.
	PartialChecksum bool

	// Head is a super-frame's header in bytes, Ethernet to TCP or UDP; 0 in an ordinary frame. In a UDP tunnel
	// it goes up to the inner TCP or UDP. Check writes the true one, whatever was claimed.
	Head uint16

	// Of a super-frame in a UDP tunnel, counted from the frame's first byte: where the tunnel's UDP header begins
	// (outer_th_offset), and the IP header inside (inner_nh_offset). Check writes the true Outer.
	Outer, Inner uint16

	// Segment is how many payload bytes go behind each copy of the header (gso_size); the last may be shorter.
	Segment uint16

	ChecksumStart  uint16 // where the checksummed bytes begin, counted from the frame's first byte (csum_start)
	ChecksumOffset uint16 // where the checksum stands, counted from ChecksumStart (csum_offset)
}

const (
	// MaxSegments bounds the segments of one super-frame. An honest one of 64 KiB has 45 at the usual MSS, 442 at a MTU of
	// 200, and this many at the smallest MTU there is. A gso_size that is a lie would make 60,000.
	MaxSegments = 4096

	// More than fewSegments have to be of leastSegment bytes: what IP and TCP with timestamps leave of a MTU of 68
	// (RFC 791 §3.2). So what a worker reads at once makes no more datagrams when its sizes are lies than when they are not.
	fewSegments  = 256
	leastSegment = MinMTU - ipv4Len - tcpLen - 12

	// MaxHead bounds a super-frame's header, which is repeated in every segment: Ethernet with two tags
	// (22), IPv4 with all options (60) and TCP with all options (60) are 142; with IPv6 (40) in its
	// place they leave 134 bytes for extension headers.
	MaxHead = 256
)

// What Check finds wrong.
var (
	// ErrRunt is a frame that ends before its EtherType.
	ErrRunt = errors.New("frame is shorter than an Ethernet header")
	// ErrOffload is an Offload that does not agree with the frame's bytes.
	ErrOffload = errors.New("offload request does not agree with the frame")
)

// Check holds f.Off against the bytes: ErrRunt, ErrOffload or nil. What is inside a frame that claims
// nothing is none of its business. Afterwards Off.Head is the true header length, a super-frame cuts into
// at most MaxSegments segments of at most 65535 bytes of IP, and Cutter and Checksum can rely on the rest.
//
// A super-frame with no more payload than one segment is legal, the kernel makes them; it is cut into one.
// IP and UDP lengths are not looked at: in a super-frame they may be zero (big TCP).
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
	if f.Off.PartialChecksum && (f.Off.ChecksumStart < HeaderLen+ipv4Len || sumEnd > f.Len()) { // as kernels see it: behind an IP header
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
	typ, ip := etherType(b) // dissect, without a call of its own: 18 ns instead of 25
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

// validSegments tells whether a super-frame with a header of head bytes, of which those from ip on are IP's, makes segments that an
// honest kernel would: not too many, and none too long.
func (f *Frame) validSegments(head, ip int) bool {
	payload, segment := f.Len()-head, int(f.Off.Segment)
	return segment > 0 && (payload <= segment*fewSegments || segment >= leastSegment && payload <= segment*MaxSegments) &&
		head-ip+min(segment, payload) <= 65535
}

// tunnel finds the headers of a super-frame in a UDP tunnel: those of what is to be cut, and the tunnel's around them. ok
// is false if they are not what f.Off says. A tunnel's own header is at least as long as VXLAN's, and ends with an
// Ethernet header; more of it is not looked at.
func (f *Frame) tunnel() (l, outer headers, ok bool) {
	b := f.Bytes()
	outer, ok = dissect(b)
	ip := int(f.Off.Inner)
	if !ok || outer.kind != UDP || ip < outer.head+tunnelLen+HeaderLen || ip > len(b) || (ip-outer.l4)%2 != 0 { // an odd header could not be summed up
		return l, outer, false
	}
	l, ok = dissectIP(b, binary.BigEndian.Uint16(b[ip-2:]), ip)
	return l, outer, ok && l.kind == f.Off.Kind.segments()
}

// Checksum is the checksum that the kernel left open in an ordinary frame, and the byte of the frame that it begins at.
// The frame must have passed Check, and stays as it is; of a super-frame or a finished frame, open is false.
func (f *Frame) Checksum() (at int, sum [2]byte, open bool) {
	b, start := f.Bytes(), int(f.Off.ChecksumStart)
	at = start + int(f.Off.ChecksumOffset)
	if f.Off.Kind != None || !f.Off.PartialChecksum || at+2 > len(b) {
		return 0, sum, false
	}
	// The field holds the pseudo-header's sum and is summed up with the rest.
	s := ^Sum(b[start:], 0)
	if f.Off.ChecksumOffset == 6 { // no other protocol than UDP has its checksum there
		s = nonZero(s)
	}
	binary.BigEndian.PutUint16(sum[:], s)
	return at, sum, true
}

// CompleteChecksum writes Checksum into the frame, whose bytes must be the caller's own. The checksum of a UDP tunnel around it is
// right already, since its sender reckons with this ("local checksum offload", checksum-offloads.rst of Linux), but for
// what was a super-frame: who shows one whole calls it an ordinary frame first.
func (f *Frame) CompleteChecksum() {
	if at, sum, open := f.Checksum(); open {
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
