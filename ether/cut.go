package ether

import "encoding/binary"

// TCP flags (RFC 9293 §3.1), as in the 16 bits that begin with the data offset.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
	flagECE
	flagCWR
)

// A Cutter cuts a super-frame into segments, as the kernel's GSO does: with new headers, complete checksums, and payload
// that is not copied. It allocates nothing, can be used again, and does not change the super-frame. The zero Cutter has
// nothing to cut.
type Cutter struct {
	// PartialChecksum leaves the checksum of TCP or UDP partial: the segments are frames with Offload.PartialChecksum, which
	// the receiver completes. So the payload need not be read.
	PartialChecksum bool

	at      headers
	outer   headers // the tunnel's, if there is one
	payload []byte  // not yet cut
	segment int
	first   bool
	id      uint16 // IPv4
	seq     uint32 // TCP
	flags   uint16 // TCP, with the data offset
	outerID uint16 // IPv4 of the tunnel

	// head is the super-frame's header, with zeros in the fields that differ between segments, and the sums are those of
	// the fields that do not.
	head                 [MaxHead]byte
	ipSum, l4Sum, pseudo uint32
}

// Reset begins with f, which must have passed Check and be a super-frame; any other frame has no segment.
func (c *Cutter) Reset(f *Frame) {
	b := f.Bytes()
	var l, outer headers
	var ok bool
	if f.Off.Kind.Tunnelled() {
		l, outer, ok = f.tunnel()
	} else {
		l, ok = dissect(b)
		ok = ok && f.Off.Kind == l.kind
	}
	c.at, c.outer, c.segment, c.first = l, outer, int(f.Off.Segment), ok && f.Off.Segment > 0 && l.head <= MaxHead
	c.payload = nil
	if !c.first {
		return
	}
	c.payload = b[l.head:]
	h := c.head[:l.head]
	copy(h, b)
	if !l.v6 {
		ip := h[l.ip:l.l4]
		c.id = takeAndZero16(ip[4:])
		takeAndZero16(ip[2:])
		takeAndZero16(ip[10:])
		c.ipSum = uint32(Sum(ip, 0))
	}
	l4 := h[l.l4:]
	takeAndZero16(l4[l.checksumOffset():])
	if l.kind == UDP {
		takeAndZero16(l4[4:])
	} else {
		c.seq = uint32(takeAndZero16(l4[4:]))<<16 | uint32(takeAndZero16(l4[6:]))
		c.flags = takeAndZero16(l4[12:])
	}
	c.pseudo = uint32(l.pseudoSum(h, 0))
	c.l4Sum = uint32(Sum(l4, c.pseudo))
	if outer.l4 > 0 && !outer.v6 {
		c.outerID = binary.BigEndian.Uint16(h[outer.ip+4:])
	}
}

// Next writes the next segment's headers, Ethernet to TCP or UDP, into head, which must have MaxHead bytes. It returns their
// length and the payload that follows them, a slice of the super-frame's bytes. ok is false if no segment is left.
func (c *Cutter) Next(head []byte) (n int, payload []byte, ok bool) {
	if !c.first && len(c.payload) == 0 {
		return 0, nil, false
	}
	l := c.at
	length := min(c.segment, len(c.payload))
	payload, c.payload = c.payload[:length:length], c.payload[length:]
	head = head[:l.head]
	copy(head, c.head[:])
	l.setLengths(head, length)
	if !l.v6 {
		total := uint32(l.head - l.ip + length)
		binary.BigEndian.PutUint16(head[l.ip+4:], c.id)
		binary.BigEndian.PutUint16(head[l.ip+10:], ^fold(uint64(c.ipSum)+uint64(total)+uint64(c.id)))
		c.id++
	}
	l4, l4Len := head[l.l4:], uint32(l.head-l.l4+length)
	if l.kind == UDP {
		if c.PartialChecksum {
			binary.BigEndian.PutUint16(l4[6:], fold(uint64(c.pseudo)+uint64(l4Len)))
		} else {
			// The length is in the pseudo-header, and again in the header (RFC 768).
			binary.BigEndian.PutUint16(l4[6:], nonZero(^Sum(payload, c.l4Sum+2*l4Len)))
		}
	} else {
		flags := c.flags
		if len(c.payload) > 0 {
			flags &^= flagFIN | flagPSH
		}
		if !c.first {
			flags &^= flagCWR
		}
		binary.BigEndian.PutUint32(l4[4:], c.seq)
		binary.BigEndian.PutUint16(l4[12:], flags)
		if c.PartialChecksum {
			binary.BigEndian.PutUint16(l4[16:], fold(uint64(c.pseudo)+uint64(l4Len)))
		} else {
			sum := c.l4Sum + l4Len + c.seq>>16 + c.seq&0xffff + uint32(flags)
			binary.BigEndian.PutUint16(l4[16:], ^Sum(payload, sum))
		}
		c.seq += uint32(length)
	}
	if c.outer.l4 > 0 {
		c.writeOuter(head, length, l4Len)
	}
	c.first = false
	return l.head, payload, true
}

// writeOuter writes the tunnel's headers around a segment of length bytes of payload. The payload is not summed again: a TCP or
// UDP packet with a right checksum, or one that will be completed, has the complement of its pseudo-header's sum.
func (c *Cutter) writeOuter(head []byte, length int, l4Len uint32) {
	l, o := c.at, c.outer
	o.setLengths(head, l.head-o.head+length)
	if !o.v6 {
		ip := head[o.ip:o.l4]
		binary.BigEndian.PutUint16(ip[4:], c.outerID)
		takeAndZero16(ip[10:])
		binary.BigEndian.PutUint16(ip[10:], ^Sum(ip, 0))
		c.outerID++
	}
	udp := head[o.l4:]
	if takeAndZero16(udp[6:]) == 0 { // the tunnel has no checksum (RFC 7348 §5)
		return
	}
	inner := ^fold(uint64(c.pseudo) + uint64(l4Len))
	sum := Sum(head[o.l4:l.l4], uint32(o.pseudoSum(head, l.head-o.l4+length))+uint32(inner))
	binary.BigEndian.PutUint16(udp[6:], nonZero(^sum))
}

// takeAndZero16 reads a field and sets it to zero.
func takeAndZero16(b []byte) uint16 {
	v := binary.BigEndian.Uint16(b)
	b[0], b[1] = 0, 0
	return v
}
