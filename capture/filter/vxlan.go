package filter

import (
	"encoding/binary"

	"github.com/tapestry-net/tapestry/ether"
)

// VXLAN, RFC 7348 section 5. Only the port that IANA has given it is looked at.
const (
	vxlanPort = 4789
	vxlanLen  = 8
	vxlanVNI  = 0x08 // flag: there is one
	maxNested = 8    // vxlan words within each other
)

// vxlan tests for a VXLAN datagram, of one network if a number is given. What is written behind it looks at the frame
// inside, and where there is none it does not hold.
func (p *parser) vxlan(t token, vni *token) *node {
	if p.at.labels > 0 {
		p.fail(t, "vxlan cannot come after mpls")
	}
	if len(p.tunnels) == maxNested {
		p.fail(t, "more than %d times vxlan", maxNested)
	}
	s := step{load: loadVNI}
	if vni != nil {
		if s.mask, s.k = allBits, vni.num; vni.num > ether.MaxVNI {
			p.fail(*vni, "VNI %d: want 0 to %d", vni.num, ether.MaxVNI)
		}
	}
	s.off = uint32(len(p.tunnels))
	p.tunnels = append(p.tunnels, p.at)
	p.at = ethernet
	p.at.depth = len(p.tunnels)
	return &node{test: s, framed: true}
}

// inInnerFrame lets what was just read look at the frame inside, if it stands behind a vxlan word. Nothing that is tested after
// it looks at the frame outside: what is tested later was written later.
func (p *parser) inInnerFrame(n *node) *node {
	if p.at.depth > 0 && !n.framed {
		n = and(&node{test: step{load: enterInner, off: uint32(p.at.depth - 1)}}, n)
	}
	n.framed = true
	return n
}

// decapsulate returns the frame at the end of a tunnel, and its VNI.
func (f *Filter) decapsulate(tunnel uint32, frame []byte) (inner []byte, vni uint32, ok bool) {
	at := &f.tunnels[tunnel]
	if at.depth > 0 {
		if frame, _, ok = f.decapsulate(uint32(at.depth-1), frame); !ok {
			return nil, 0, false
		}
	}
	const udp, udpLen = 17, 8
	if len(frame) < int(at.payload)+20 { // the shortest network header
		return nil, 0, false
	}
	header := frame[at.payload:]
	typ, transport := at.typeOf(frame), uint64(40)
	switch {
	case typ == typeIP && header[9] == udp && binary.BigEndian.Uint16(header[6:])&0x1fff == 0:
		transport = headerLen(header[0])
	case typ == typeIP6 && header[6] == udp:
	default:
		return nil, 0, false
	}
	if uint64(len(header)) < transport+udpLen+vxlanLen {
		return nil, 0, false
	}
	b := header[transport:]
	if binary.BigEndian.Uint16(b[2:]) != vxlanPort || b[udpLen]&vxlanVNI == 0 {
		return nil, 0, false
	}
	return b[udpLen+vxlanLen:], binary.BigEndian.Uint32(b[udpLen+4:]) >> 8, true
}
