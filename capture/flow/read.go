package flow

import (
	"encoding/binary"
	"net/netip"
	"unique"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// IP protocol numbers (IANA) whose header begins with two ports.
const (
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoSCTP    = 132
	protoUDPLite = 136

	tcpLen = 20
	udpLen = 8
)

// headers are what a frame's headers say of its flow.
type headers struct {
	typ       uint16
	proto     uint8
	flags     uint8 // TCP's
	src, dst  End
	headerLen int // bytes, Ethernet to TCP or UDP, as far as they can be seen
}

// A key is a flow without direction: low is the end that is less.
type key struct {
	network   unique.Handle[string]
	low, high End
	typ       uint16
	proto     uint8
}

// key returns the flow's key, and whether the frame went from its high end to the low one.
func (h *headers) key(network unique.Handle[string]) (k key, turned bool) {
	if h.src.Compare(&h.dst) > 0 {
		return key{network, h.dst, h.src, h.typ, h.proto}, true
	}
	return key{network, h.src, h.dst, h.typ, h.proto}, false
}

func (f *Flow) key() key {
	k, _ := (&headers{typ: f.Type, proto: f.Proto, src: f.A, dst: f.B}).key(f.Network)
	return k
}

// onWire is what p is on a wire. A super-frame that contradicts itself is dropped and never cut.
func (h *headers) onWire(p *Packet) Counts {
	n, length := uint64(1), uint64(max(p.Len, len(p.Data)))
	head := uint64(h.headerLen)
	if p.Segment > 0 && p.Verdict != vswitch.Offload && length > head {
		n = (length - head + uint64(p.Segment) - 1) / uint64(p.Segment)
	}
	return Counts{1, n, length + (n-1)*head}
}

// read reads the headers of a frame, of whatever bytes.
func read(b []byte) (h headers) {
	l := ether.LayersOf(b)
	h.typ, h.headerLen = l.Type, l.Network
	p := b[l.Network:]
	switch {
	case l.IP && p[0]>>4 == 4:
		h.src.Addr, h.dst.Addr = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	case l.IP:
		h.src.Addr, h.dst.Addr = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	case len(b) >= ether.HeaderLen:
		h.dst.MAC, h.src.MAC = ether.MAC(b), ether.MAC(b[6:])
	}
	h.proto = l.Proto
	if l.Transport > 0 {
		h.transport(b, l.Transport)
	}
	return h
}

// transport reads the ports and the flags of what begins at b[at].
func (h *headers) transport(b []byte, at int) {
	h.headerLen = at
	switch h.proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if at+4 > len(b) {
			return
		}
		h.src.Port, h.dst.Port = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	}
	switch h.proto {
	case protoTCP:
		h.headerLen = at + tcpLen
		if at+14 <= len(b) {
			h.headerLen = at + max(tcpLen, int(b[at+12]>>4)*4)
			h.flags = b[at+13]
		}
	case protoUDP:
		h.headerLen = at + udpLen
	}
}
