package filter

import (
	"strings"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
)

// linkType tests the Ethernet type, or for the values of IEEE 802.2 the access point; behind MPLS labels, which have no
// type, the version of IP. t is the word that an error names.
func (p *parser) linkType(t token, v uint32) *node {
	at := p.at
	if at.labels > 0 {
		version := map[uint32]uint32{typeIP: 0x40, typeIP6: 0x60}[v]
		if version == 0 {
			p.fail(t, "only ip, ip6 and what they carry can be looked for behind mpls")
		}
		bottom := masked(load8, at.net(0)-2, 1, equal, 1)
		return and(bottom, masked(load8, at.net(0), 0xf0, equal, version))
	}
	if at.link != pcapng.Ethernet {
		return at.otherLinkType(v)
	}
	length := not(test(load16, at.etherType, greater, maxLength))
	exact := test(load16, at.etherType, equal, v)
	switch {
	case v == sapISO || v == sapIP || v == sapNetBEUI:
		return and(length, test(load16, at.payload, equal, v<<8|v))
	case v == sapIPX:
		return or(test(load16, at.etherType, equal, typeIPX), and(length, or(at.snap(0, typeIPX),
			or(test(load8, at.payload, equal, sapIPX), test(load16, at.payload, equal, 0xffff)))))
	case v == typeATalk:
		return or(exact, and(length, at.snap(0x080007, v)))
	case v == typeAARP:
		return or(exact, and(length, at.snap(0, v)))
	case v <= maxLength:
		return and(length, test(load8, at.etherType+2, equal, v))
	}
	return exact
}

// snap tests for an IEEE 802 SNAP header.
func (at offsets) snap(org, typ uint32) *node {
	header := []byte{0xaa, 0xaa, 3, byte(org >> 16), byte(org >> 8), byte(org), byte(typ >> 8), byte(typ)}
	return bytesAt(at.payload, header)
}

// abbreviation is a protocol's name alone.
func (p *parser) abbreviation(name token) *node {
	pr := protos[name.text]
	if pr.linkType != 0 {
		return p.linkType(name, pr.linkType)
	}
	var n *node
	for _, v := range pr.numbers {
		t := p.carries(name, v, pr.parent)
		if n != nil {
			t = or(n, t)
		}
		n = t
	}
	return n
}

// carries tests for protocol v in the header of another, "" for IPv4 or IPv6.
func (p *parser) carries(t token, v uint32, by string) *node {
	noSNAP := uint32(3) // an OSI header begins behind three bytes of IEEE 802.2
	if p.at.link != pcapng.Ethernet {
		noSNAP = 0 // so libpcap has it
	}
	switch by {
	case "":
		return choose(p.linkType(t, typeIP), test(load8, p.at.net(9), equal, v), p.carries(t, v, "ip6"))
	case "ether":
		return p.linkType(t, v)
	case "ip":
		return and(p.linkType(t, typeIP), test(load8, p.at.net(9), equal, v))
	case "ip6":
		const fragment = 44
		next := p.at.net(6)
		behind := and(test(load8, next, equal, fragment), test(load8, p.at.net(40), equal, v))
		return and(p.linkType(t, typeIP6), or(test(load8, next, equal, v), behind))
	case "iso":
		return and(p.linkType(t, sapISO), test(load8, p.at.net(noSNAP), equal, v))
	case "isis":
		return and(p.carries(t, protoISIS, "iso"), test(load8, p.at.net(noSNAP+4), equal, v))
	}
	p.fail(t, "%s proto has no meaning: want ether, ip, ip6, iso or isis before proto", by)
	return nil
}

// protoName returns the number of a protocol by its name.
func (p *parser) protoName(t token, q qualifier) uint32 {
	switch q.proto {
	case "", "ip", "ip6":
		if v, ok := protocolNumbers()[t.text]; ok {
			return v
		}
	case "ether":
		if v, ok := linkTypes[t.text]; ok {
			return v
		}
	case "iso":
		if pr := protos[t.text]; pr.parent == "iso" {
			return pr.numbers[0]
		}
	}
	p.rejectWiresharkTerm(t, q)
	p.fail(t, "unknown protocol %s: want its number, or another name", t.text)
	return 0
}

// vlan tests for a tag, with an id if one is given, and moves what follows behind it. A frame has one more tag for each
// word: "vlan 5 and vlan 7" are the outer and the inner.
func (p *parser) vlan(t token, id *token) *node {
	p.ethernetOnly(t, "VLAN tags")
	if p.at.labels > 0 {
		p.fail(t, "vlan cannot come after mpls")
	}
	n := or(p.linkType(t, ether.TypeVLAN), p.linkType(t, ether.TypeQinQ))
	n = or(n, p.linkType(t, 0x9100))
	if id != nil {
		if id.num > 0xfff {
			p.fail(*id, "VLAN %d: want 0 to 4095", id.num)
		}
		n = and(n, masked(load16, p.at.payload, 0xfff, equal, id.num))
	}
	p.at.etherType += 4
	p.at.payload += 4
	return n
}

// mpls tests for a label, with a number if one is given, and moves what follows behind it.
func (p *parser) mpls(t token, label *token) *node {
	p.ethernetOnly(t, "MPLS labels that can be looked for")
	var n *node
	if p.at.labels > 0 {
		n = masked(load8, p.at.net(0)-2, 1, equal, 0) // not the bottom of the stack
	} else {
		n = p.linkType(t, typeMPLS)
	}
	if label != nil {
		if label.num > 0xfffff {
			p.fail(*label, "MPLS label %d: want 0 to 1048575", label.num)
		}
		n = and(n, masked(load32, p.at.net(0), 0xfffff000, equal, label.num<<12))
	}
	p.at.labels += 4
	return n
}

// A control is a kind of IEEE 802.2 frame by its control byte.
type control struct{ mask, k uint32 }

var controls = map[string]control{
	"i": {1, 0}, "s": {3, 1}, "u": {3, 3},
	"rr": {0x0f, 0x01}, "rnr": {0x0f, 0x05}, "rej": {0x0f, 0x09},
	"ui": {0xef, 0x03}, "ua": {0xef, 0x63}, "disc": {0xef, 0x43}, "dm": {0xef, 0x0f}, "sabme": {0xef, 0x6f},
	"test": {0xef, 0xe3}, "xid": {0xef, 0xaf}, "frmr": {0xef, 0x87},
}

// llc tests for an IEEE 802.2 header, and for its kind if one is named.
func (p *parser) llc(t token) *node {
	p.ethernetOnly(t, "IEEE 802.2 headers that can be looked for")
	n := and(not(test(load16, p.at.etherType, greater, maxLength)), not(test(load16, p.at.payload, equal, 0xffff)))
	if p.tok.kind != tokName && !p.is("rnr") {
		return n
	}
	c, ok := controls[strings.ToLower(p.tok.text)]
	if !ok {
		p.fail(p.tok, "llc has no type %s: want i, s, u, rr, rnr, rej, ui, ua, disc, dm, sabme, test, xid or frmr",
			p.tok.text)
	}
	p.next()
	return and(n, masked(load8, p.at.payload+2, c.mask, equal, c.k))
}

func (p *parser) broadcast(t token, proto string) *node {
	switch proto {
	case "", "ether":
		p.ethernetOnly(t, "Ethernet broadcasts: write ip broadcast")
		return bytesAt(0, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	case "ip":
		// No netmask is known, as when tcpdump reads a file.
		dst := p.at.net(16)
		return and(p.linkType(t, typeIP), or(test(load32, dst, equal, 0), test(load32, dst, equal, allBits)))
	}
	p.fail(t, "%s has no broadcast: want ether or ip broadcast", proto)
	return nil
}

func (p *parser) multicast(t token, proto string) *node {
	switch proto {
	case "", "ether":
		p.ethernetOnly(t, "Ethernet multicasts: write ip multicast or ip6 multicast")
		return masked(load8, 0, 1, equal, 1)
	case "ip":
		return and(p.linkType(t, typeIP), test(load8, p.at.net(16), atLeast, 224))
	case "ip6":
		return and(p.linkType(t, typeIP6), test(load8, p.at.net(24), equal, 255))
	}
	p.fail(t, "%s has no multicast: want ether, ip or ip6 multicast", proto)
	return nil
}
