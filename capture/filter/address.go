package filter

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// id reads an address or a name, and perhaps a mask, and tests for it as q says.
func (p *parser) id(q qualifier) *node {
	t := p.tok
	p.next()
	switch t.kind {
	case tokName:
		return p.named(t, q)
	case tokDotted:
		return p.dotted(t, q)
	case tokIPv6:
		return p.ipv6(t, q)
	}
	if q.proto != "ether" || q.what != "" && q.what != "host" {
		p.fail(t, "an Ethernet address stands after ether host, ether src or ether dst only")
	}
	p.ethernetOnly(t, "Ethernet addresses that can be looked for")
	return etherHost(mac(t.text), q.dir)
}

// number32 tests for a number: a port, a protocol or an IPv4 address.
func (p *parser) number32(t token, q qualifier) *node {
	switch q.what {
	case "port", "portrange":
		return p.ports(t, q, t.num, t.num, "")
	case "proto":
		return p.carries(t, t.num, q.proto)
	}
	if !q.given {
		p.failWithHint(t, "port "+t.text, "%s alone has no meaning: want host, net, port, proto or a comparison", t.text)
	}
	addr, mask := t.num, uint32(allBits)
	if q.what == "net" && addr != 0 {
		shift := bits.LeadingZeros32(addr) &^ 7
		addr, mask = addr<<shift, mask<<shift
	}
	return p.host4(t, q, addr, mask)
}

func (p *parser) named(t token, q qualifier) *node {
	switch q.what {
	case "port":
		n, transport := p.service(t, q, t.text)
		return p.ports(t, q, n, n, transport)
	case "portrange":
		low, high, transport := p.portRange(t, q)
		return p.ports(t, q, low, high, transport)
	case "proto":
		return p.carries(t, p.protoName(t, q), q.proto)
	case "net":
		p.rejectWiresharkTerm(t, q)
		p.fail(t, "%s is no network: want one as 10.1.0.0/16, 10.1 or 2001:db8::/32", t.text)
	}
	if q.proto == "ether" {
		p.rejectWiresharkTerm(t, q)
		p.fail(t, "%s is no Ethernet address: want one as 02:42:0a:4d:00:02", t.text)
	}
	var n *node
	if p.names != nil {
		for _, a := range p.names(t.text) {
			if a = a.Unmap(); !a.IsValid() || q.proto == "ip6" && a.Is4() || q.proto == "ip" && a.Is6() {
				continue
			}
			h := p.host(t, q, netip.PrefixFrom(a, a.BitLen()))
			if n != nil {
				h = or(n, h)
			}
			n = h
		}
	}
	if n == nil {
		p.rejectWiresharkTerm(t, q)
		if strings.Trim(t.text, "0123456789.") == "" { // 10.0.0.*
			p.failWithHint(t, strings.TrimSpace(q.dir+" net "+strings.TrimSuffix(t.text, ".")), "%s is no address", t.text)
		}
		e := &SyntaxError{Expr: p.expr, Pos: t.pos, Found: t.text}
		e.Why = "no address is known for the name " + t.text + ", and the DNS is not asked"
		if q.what == "" {
			e.Hint = nearest(t.text, []string{"host", "net", "port", "portrange"})
		}
		panic(e)
	}
	return n
}

func (p *parser) host(t token, q qualifier, net netip.Prefix) *node {
	if net.Addr().Is4() {
		b := net.Addr().As4()
		return p.host4(t, q, binary.BigEndian.Uint32(b[:]), allBits)
	}
	return p.host6(t, q, net)
}

// dotted tests for an IPv4 address or a part of one, with a mask or the length of one if it follows.
func (p *parser) dotted(t token, q qualifier) *node {
	addr, n := p.quad(t)
	mask := uint32(allBits) << (32 - n)
	switch {
	case p.is(":"):
		dir := q.dir + " "
		p.failWithHint(t, strings.TrimSpace(dir+"host ")+" "+t.text+" and "+strings.TrimSpace(dir+"port ")+" "+p.argument(), "a port stands behind an address only as a term of its own")
	case p.take("/"):
		m := p.tok
		if m.kind == tokDotted {
			p.failWithHint(m, "net "+t.text+" mask "+m.text, "want a mask of 0 to 32 bits")
		}
		if p.literal() > 32 {
			p.fail(m, "want a mask of 0 to 32 bits")
		}
		mask = uint32(uint64(allBits) << (32 - m.num))
	case p.take("mask"):
		m := p.tok
		if m.kind != tokDotted {
			p.want("a mask as 255.255.0.0")
		}
		p.next()
		mask, _ = p.quad(m)
	default:
		if q.what == "port" || q.what == "portrange" || q.what == "proto" {
			p.fail(t, "%s is an address: want %s", t.text, wanted(q.what))
		}
		return p.host4(t, q, addr, mask)
	}
	if q.what != "net" {
		net := fmt.Sprintf("net %s mask %s", netip.AddrFrom4(be4(addr&mask)), netip.AddrFrom4(be4(mask)))
		if n := bits.OnesCount32(mask); mask == uint32(uint64(allBits)<<(32-n)) {
			net = fmt.Sprintf("net %s/%d", netip.AddrFrom4(be4(addr&mask)), n)
		}
		p.failWithHint(t, strings.TrimSpace(q.dir+" "+net), "a mask stands after net only")
	}
	if addr&^mask != 0 {
		p.fail(t, "%s has bits set behind its mask: want %s", t.text, netip.AddrFrom4(be4(addr&mask)))
	}
	return p.host4(t, q, addr, mask)
}

func be4(v uint32) (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], v)
	return b
}

// quad reads up to four numbers with dots between, and gives how many bits they fill from the left.
func (p *parser) quad(t token) (addr uint32, n int) {
	for s := range strings.SplitSeq(t.text, ".") {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil || v > 255 {
			p.fail(t, "%s is no IPv4 address: each number is 0 to 255", t.text)
		}
		addr, n = addr<<8|uint32(v), n+8
	}
	return addr << (32 - n), n
}

func (p *parser) ipv6(t token, q qualifier) *node {
	addr, _ := netip.ParseAddr(t.text) // the lexer has tried
	n := 128
	if p.take("/") {
		m := p.tok
		if p.literal() > 128 {
			p.fail(m, "want a mask of 0 to 128 bits")
		}
		n = int(m.num)
	}
	net := netip.PrefixFrom(addr, n)
	switch {
	case q.what == "port" || q.what == "portrange" || q.what == "proto":
		p.fail(t, "%s is an address: want %s", t.text, wanted(q.what))
	case q.what != "net" && n != 128:
		p.failWithHint(t, strings.TrimSpace(q.dir+" net "+net.Masked().String()), "a mask stands after net only")
	case net.Masked() != net:
		p.fail(t, "%s has bits set behind its mask: want %s", t.text, net.Masked())
	case p.is("%"):
		p.failWithHint(t, "host "+t.text, "frames do not say an address's zone")
	}
	return p.host6(t, q, net)
}

// host4 looks for an IPv4 address in IPv4, ARP and RARP, or in one of them.
func (p *parser) host4(t token, q qualifier, addr, mask uint32) *node {
	at := func(src, dst uint32) *node {
		return either(q.dir, src, dst, func(off uint32) *node {
			return masked(load32, p.at.net(off), mask, equal, addr)
		})
	}
	inIP, inARP := at(12, 16), at(14, 24)
	switch {
	case q.proto == "ip", q.proto == "" && p.at.labels > 0:
		return and(p.linkType(t, typeIP), inIP)
	case q.proto == "":
		return choose(p.linkType(t, typeIP), inIP, and(or(p.linkType(t, typeARP), p.linkType(t, typeRARP)), inARP))
	case q.proto == "arp", q.proto == "rarp":
		return and(p.linkType(t, protos[q.proto].linkType), inARP)
	}
	if hint := q.proto + " and " + strings.TrimSpace(q.dir+" host "+t.text); protos[q.proto].numbers != nil && mask == allBits {
		p.failWithHint(t, hint, "%s has no addresses", q.proto)
	}
	p.fail(t, "%s has no IPv4 addresses: want ip, arp or rarp before the address", q.proto)
	return nil
}

func (p *parser) host6(t token, q qualifier, net netip.Prefix) *node {
	if q.proto != "" && q.proto != "ip6" {
		if hint := q.proto + " and " + strings.TrimSpace(q.dir+" host "+t.text); protos[q.proto].numbers != nil && net.Bits() == 128 {
			p.failWithHint(t, hint, "%s has no addresses", q.proto)
		}
		p.fail(t, "%s has no IPv6 addresses: want ip6 before the address", q.proto)
	}
	addr := net.Addr().As16()
	return and(p.linkType(t, typeIP6), either(q.dir, 8, 24, func(off uint32) *node {
		var words [4]*node
		for i := range words {
			mask := uint32(uint64(allBits) << (32 - min(32, max(0, net.Bits()-32*i))))
			words[i] = masked(load32, p.at.net(off+4*uint32(i)), mask, equal, binary.BigEndian.Uint32(addr[4*i:]))
		}
		return and(words[0], words[1:]...)
	}))
}

func etherHost(addr [6]byte, dir string) *node {
	return either(dir, 6, 0, func(off uint32) *node { return bytesAt(off, addr[:]) })
}

// either makes the test of the source's place, the destination's or both.
func either(dir string, src, dst uint32, test func(off uint32) *node) *node {
	switch dir {
	case "src":
		return test(src)
	case "dst":
		return test(dst)
	case "src and dst":
		return and(test(src), test(dst))
	}
	return or(test(src), test(dst))
}

// mac reads an Ethernet address in one of the forms the lexer knows: without signs between, or with some after each two
// or four digits, where a byte of two may lack its first.
func mac(s string) (addr [6]byte) {
	for i := range addr {
		s = strings.TrimLeft(s, ":.-")
		n := 1
		if len(s) > 1 && hexDigit(s[1]) {
			n = 2
		}
		v, _ := strconv.ParseUint(s[:n], 16, 8)
		addr[i], s = byte(v), s[n:]
	}
	return addr
}
