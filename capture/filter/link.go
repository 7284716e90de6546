package filter

import (
	"encoding/binary"
	"fmt"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// offsetsOf is where a frame's headers are by its link type, a LINKTYPE_ number.
func offsetsOf(link int) (offsets, bool) {
	switch link {
	case pcapng.Ethernet:
		return ethernet, true
	case pcapng.LinuxSLL:
		return offsets{link: link, etherType: 14, payload: 16}, true
	case pcapng.LinuxSLL2:
		return offsets{link: link, etherType: 0, payload: 20}, true
	case pcapng.Null, pcapng.Loop:
		return offsets{link: link, payload: 4}, true
	case pcapng.Raw, pcapng.RawBSD, pcapng.RawOpen:
		return offsets{link: pcapng.Raw}, true
	case pcapng.IPv4, pcapng.IPv6:
		return offsets{link: link}, true
	}
	return offsets{}, false
}

// linkName is what people call a link type.
func linkName(link int) string {
	switch link {
	case pcapng.LinuxSLL, pcapng.LinuxSLL2:
		return "Linux cooked frames (tcpdump -i any)"
	case pcapng.Null, pcapng.Loop:
		return "frames of a BSD loopback"
	}
	return "raw IP packets"
}

// ethernetOnly refuses what has a meaning for Ethernet only.
func (p *parser) ethernetOnly(t token, what string) {
	if p.at.link != pcapng.Ethernet {
		p.fail(t, "%s have no %s", linkName(p.at.link), what)
	}
}

// always is a test that holds, or never does.
func always(holds bool) *node {
	k := uint32(1)
	if holds {
		k = 0
	}
	return masked(loadLen, 0, 0, equal, k)
}

// otherLinkType is linkType of frames that are not Ethernet.
func (at offsets) otherLinkType(v uint32) *node {
	switch at.link {
	case pcapng.LinuxSLL:
		return at.cooked(v)
	case pcapng.LinuxSLL2:
		return test(load16, at.etherType, equal, v)
	case pcapng.Null, pcapng.Loop:
		return at.loopback(v)
	case pcapng.IPv4:
		return always(v == typeIP)
	case pcapng.IPv6:
		return always(v == typeIP6)
	}
	switch v {
	case typeIP:
		return masked(load8, at.payload, 0xf0, equal, 0x40)
	case typeIP6:
		return masked(load8, at.payload, 0xf0, equal, 0x60)
	}
	return always(false)
}

// Protocols of Linux that stand for a length in a cooked header (LINKTYPE_LINUX_SLL).
const (
	cooked8023 = 1
	cookedLLC  = 4
)

func (at offsets) cooked(v uint32) *node {
	is := func(v uint32) *node { return test(load16, at.etherType, equal, v) }
	switch {
	case v == sapISO || v == sapIP || v == sapNetBEUI:
		return and(is(cookedLLC), test(load16, at.payload, equal, v<<8|v))
	case v == sapIPX:
		llc := or(test(load8, at.payload, equal, sapIPX), at.snap(0, typeIPX))
		return or(is(typeIPX), or(is(cooked8023), and(is(cookedLLC), llc)))
	case v == typeATalk:
		return or(is(v), and(is(cookedLLC), at.snap(0x080007, v)))
	case v == typeAARP:
		return or(is(v), and(is(cookedLLC), at.snap(0, v)))
	case v <= maxLength:
		return and(is(cookedLLC), test(load8, at.payload, equal, v))
	}
	return is(v)
}

// Address families. That of IPv6 is another one on NetBSD and OpenBSD, FreeBSD, and macOS: any is taken, since a file does
// not say where it comes from. Linux writes no such files.
const familyIP = 2

var familiesIP6 = []uint32{24, 28, 30}

func (at offsets) loopback(v uint32) *node {
	is := func(family uint32) *node {
		if at.link == pcapng.Null { // little-endian
			family = binary.BigEndian.Uint32(binary.LittleEndian.AppendUint32(nil, family))
		}
		return test(load32, 0, equal, family)
	}
	switch v {
	case typeIP:
		return is(familyIP)
	case typeIP6:
		n := is(familiesIP6[0])
		for _, f := range familiesIP6[1:] {
			n = or(n, is(f))
		}
		return n
	}
	return always(false)
}

// typeOf is a frame's Ethernet type, 0 if it says none.
func (at offsets) typeOf(frame []byte) uint16 {
	switch at.link {
	case pcapng.Ethernet, pcapng.LinuxSLL, pcapng.LinuxSLL2:
		return binary.BigEndian.Uint16(frame[at.etherType:])
	}
	switch frame[at.payload] >> 4 {
	case 4:
		return typeIP
	case 6:
		return typeIP6
	}
	return 0
}

// cookedOnly reads what cooked frames only can say: which way they went, and by which interface. nil: it cannot.
func (p *parser) cookedOnly(t token) *node {
	const outgoing = 4
	kind := test(load16, 0, equal, outgoing)
	if p.at.link == pcapng.LinuxSLL2 {
		kind = test(load8, 10, equal, outgoing)
	}
	switch {
	case p.at.link != pcapng.LinuxSLL && p.at.link != pcapng.LinuxSLL2:
		return nil
	case t.text == "outbound":
		return kind
	case t.text == "inbound":
		return not(kind)
	case t.text == "ifindex" && p.at.link == pcapng.LinuxSLL2:
		p.next()
		if p.tok.kind != tokNumber {
			p.want("an interface's number")
		}
		return test(load32, 4, equal, p.tok.num)
	}
	return nil
}

// unknownLink is the error of a link type that filters cannot look into.
func unknownLink(link int, expr string) error {
	return &SyntaxError{Expr: expr, Found: expr, Why: fmt.Sprintf("filters cannot look into frames of link type %d: "+
		"want Ethernet, Linux cooked (tcpdump -i any), raw IP or BSD loopback", link)}
}
