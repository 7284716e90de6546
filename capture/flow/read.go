package flow

import (
	"encoding/binary"
	"net/netip"
	"unique"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

const (
	typeIPv4 = 0x0800
	typeVLAN = 0x8100
	typeIPv6 = 0x86dd
	typeQinQ = 0x88a8
	maxTags  = 2
	tagLen   = 4

	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoDCCP     = 33
	protoRouting  = 43
	protoFragment = 44
	protoDestOpts = 60
	protoSCTP     = 132
	protoUDPLite  = 136

	ipv4Len       = 20
	ipv6Len       = 40
	tcpLen        = 20
	udpLen        = 8
	maxExtensions = 8
)

// headers are what a frame says of its flow.
type headers struct {
	typ      uint16
	proto    uint8
	flags    uint8 // TCP's
	src, dst End
	head     int // bytes, Ethernet to TCP or UDP, as far as they can be seen
}

// A key is a flow without direction: low is the end that is less.
type key struct {
	network   unique.Handle[string]
	low, high End
	typ       uint16
	proto     uint8
}

// key gives the flow, and whether the frame went from its high end to the low one.
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

// wire is what p is on a wire. The switch cuts no super-frame that contradicts itself.
func (h *headers) wire(p *Packet) Counts {
	n, length := uint64(1), uint64(max(p.Len, len(p.Data)))
	head := uint64(h.head)
	if p.Segment > 0 && p.Verdict != vswitch.Offload && length > head {
		n = (length - head + uint64(p.Segment) - 1) / uint64(p.Segment)
	}
	return Counts{1, n, length + (n-1)*head}
}

// read reads the headers of a frame, of whatever bytes.
func read(b []byte) (h headers) {
	at := len(b)
	for i := ether.HeaderLen; i <= len(b); i += tagLen {
		h.typ = binary.BigEndian.Uint16(b[i-2:])
		if at = i; h.typ != typeVLAN && h.typ != typeQinQ || i == ether.HeaderLen+maxTags*tagLen {
			break
		}
	}
	h.head = at
	p := b[at:]
	switch {
	case h.typ == typeIPv4 && len(p) >= ipv4Len && p[0]>>4 == 4:
		h.src.Addr, h.dst.Addr = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
		h.proto = p[9]
		if n := int(p[0]&15) * 4; n >= ipv4Len && binary.BigEndian.Uint16(p[6:])&0x3fff == 0 {
			h.transport(p, n)
		}
	case h.typ == typeIPv6 && len(p) >= ipv6Len && p[0]>>4 == 6:
		h.src.Addr, h.dst.Addr = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
		if n, whole := h.extensions(p); whole {
			h.transport(p, n)
		}
	case len(b) >= ether.HeaderLen:
		h.dst.MAC, h.src.MAC = ether.MAC(b), ether.MAC(b[6:])
	}
	return h
}

// extensions finds the protocol behind IPv6's extension headers, and where that begins; whole is false in a fragment
// (but not in one that is the whole packet, RFC 8200 §4.5), and where the headers do not end in what is here.
func (h *headers) extensions(p []byte) (at int, whole bool) {
	h.proto, at = p[6], ipv6Len
	for range maxExtensions {
		length := 8
		switch h.proto {
		case protoHopByHop, protoRouting, protoDestOpts, protoFragment:
			if at+length > len(p) {
				return at, false
			}
			if h.proto != protoFragment {
				length += int(p[at+1]) * 8
			} else if binary.BigEndian.Uint16(p[at+2:])&0xfff9 != 0 {
				h.proto = p[at]
				return at, false
			}
			h.proto = p[at]
		default:
			return at, true
		}
		at += length
	}
	return at, false
}

// transport reads the ports and the flags of what begins at p[at].
func (h *headers) transport(p []byte, at int) {
	ip := h.head
	h.head = ip + min(at, len(p))
	switch h.proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if at+4 > len(p) {
			return
		}
		h.src.Port, h.dst.Port = binary.BigEndian.Uint16(p[at:]), binary.BigEndian.Uint16(p[at+2:])
	}
	switch h.proto {
	case protoTCP:
		h.head = ip + at + tcpLen
		if at+14 <= len(p) {
			h.head = ip + at + max(tcpLen, int(p[at+12]>>4)*4)
			h.flags = p[at+13]
		}
	case protoUDP:
		h.head = ip + at + udpLen
	}
}
