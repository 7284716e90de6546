package tunnel

import (
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
)

// The VXLAN header, RFC 7348 section 5:
//
//	|R|R|R|R|I|R|R|R|            Reserved                           |
//	|                VXLAN Network Identifier (VNI) |   Reserved    |
const (
	headerLen = 8
	flagI     = 0x08 // the VNI is valid
)

// Overhead is the part of the underlay's MTU that VXLAN needs, in bytes: outer IP, UDP, VXLAN and inner Ethernet header.
func Overhead(ipv6 bool) int {
	if ipv6 {
		return 40 + 8 + headerLen + 14
	}
	return 20 + 8 + headerLen + 14
}

// template is the VXLAN header of all datagrams of one VNI.
func template(vni uint32) (t [headerLen]byte, err error) {
	buf := gopacket.NewSerializeBuffer()
	vx := layers.VXLAN{ValidIDFlag: true, VNI: vni}
	if err := vx.SerializeTo(buf, gopacket.SerializeOptions{}); err != nil {
		return t, err
	}
	copy(t[:], buf.Bytes())
	return t, nil
}

// Remote checksum offload (draft-herbert-vxlan-rco, and Linux's own VXLAN with remcsumtx): a flag says that
// the inner TCP or UDP checksum is partial, the sum of the pseudo-header only, and the last byte where it is:
//
//	|R|R|R|R|I|R|R|R|R|R|C|          Reserved                       |
//	|                VXLAN Network Identifier (VNI) |O| Csum start  |
//
// The start is in units of two bytes from the beginning of the inner frame. The checksum is 6 bytes after it if O is set
// (UDP), else 16 (TCP). The outer UDP checksum is over all of it, so nothing is less protected; the payload is summed
// once instead of twice.
const (
	flagC    = 0x20 // in the second byte
	sumUDP   = 0x80
	sumStart = 0x7f
)

// remoteSumByte gives the header's last byte for a frame with PartialChecksum; false if it cannot be said there.
func remoteSumByte(off ether.Offload) (last byte, ok bool) {
	if off.ChecksumStart&1 != 0 || off.ChecksumStart > 2*sumStart {
		return 0, false
	}
	last = byte(off.ChecksumStart / 2)
	switch off.ChecksumOffset {
	case 6:
		return last | sumUDP, true
	case 16:
		return last, true
	}
	return 0, false
}

// flagged tells whether a header says that the inner checksum is partial.
func flagged(header []byte) bool { return header[1]&flagC != 0 }

// remoteSum is the reverse of remoteSumByte: the zero Offload if the flag is clear.
func remoteSum(header []byte) (off ether.Offload) {
	if !flagged(header) {
		return off
	}
	off.PartialChecksum, off.ChecksumStart, off.ChecksumOffset = true, uint16(header[7]&sumStart)*2, 16
	if header[7]&sumUDP != 0 {
		off.ChecksumOffset = 6
	}
	return off
}

// A dropReason says why a datagram belongs to no link.
type dropReason uint8

const (
	accepted    dropReason = iota
	short                  // no room for a VXLAN header
	badHeader              // the I flag is clear: RFC 7348 section 5 wants it set
	noPeer                 // the source address is not a peer of the VNI
	ambiguous              // it may be one datagram or many, see Receiver.receive
	reservedBit            // a reserved bit is set, see Wire
	hasTag                 // the frame has a VLAN tag, see Wire
	congested              // the path has marked congestion, and the frame's sender does not know what that is (RFC 6040 section 4.2)
	dropReasons
)

var dropReasonNames = [dropReasons]string{"accepted", "short", "bad_header", "no_peer", "ambiguous", "reserved", "tagged", "congested"}

// decode reads a datagram's header.
func decode(datagram []byte, vx *layers.VXLAN) dropReason {
	if len(datagram) < headerLen {
		return short
	}
	if err := vx.DecodeFromBytes(datagram, gopacket.NilDecodeFeedback); err != nil || !vx.ValidIDFlag {
		return badHeader
	}
	return accepted
}

// segments splits a train of datagrams, as UDP_GRO delivers them: all of size bytes, but the last may be shorter (udp(7)).
// Size 0 means one datagram.
type segments struct {
	rest []byte
	size int
}

func (s *segments) next() []byte {
	n := len(s.rest)
	if s.size > 0 && s.size < n {
		n = s.size
	}
	d := s.rest[:n:n]
	s.rest = s.rest[n:]
	return d
}

// maybeUnsegmented tells whether this may be one datagram with an inner UDP super-frame instead of a train: the inner IP header
// gives the length of all of it.
func (s *segments) maybeUnsegmented() bool {
	whole := ether.Lend(s.rest, ether.Offload{})
	return whole.MaybeUnsegmented(s.size)
}

// count is how many datagrams a train has.
func (s *segments) count() uint64 { return uint64((len(s.rest) + s.size - 1) / s.size) }
