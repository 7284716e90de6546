package filter

import "encoding/binary"

// A value computes a number of 32 bits; false rejects the frame.
type value func(frame []byte, wireLen int) (uint32, bool)

// An arith is arithmetic and what must hold before it may be computed.
type arith struct {
	value value
	fixed bool // it is always k
	k     uint32
	guard *node
	// libpcap refuses to divide by an operand whose first number is 0, and to shift by one whose first is above 31.
	leading      bool
	leadingValue uint32
}

// precedence of the operators; ^ and % have none, and everything binds tighter to their right.
var precedence = map[string]int{
	"|": 1, "&": 2, "<<": 3, ">>": 3, "+": 4, "-": 4, "*": 5, "/": 5, "^": noPrecedence, "%": noPrecedence,
}

const (
	sign         = 6
	noPrecedence = 7
)

// compare reads on after a number or arithmetic: operators, and then a comparison.
func (p *parser) compare(it item) item {
	_, isOp := precedence[p.tok.text]
	op := p.comparison()
	if p.tok.kind != tokWord || !isOp && op == "" {
		return it
	}
	a := it.a
	if it.kind == isNumber {
		a = p.fixed(it.num)
	}
	a = p.operators(a, 0)
	if op = p.comparison(); op == "" {
		return item{kind: isArith, a: a}
	}
	p.next()
	return item{node: p.relation(op, a, p.operators(p.operand(), 0))}
}

func (p *parser) comparison() string {
	for _, op := range []string{"=", "!=", "<", "<=", ">", ">="} {
		if p.is(op) {
			return op
		}
	}
	return ""
}

// operators reads the operators after a that bind tighter than level.
func (p *parser) operators(a *arith, level int) *arith {
	for p.tok.kind == tokWord {
		op := p.tok
		prec, ok := precedence[op.text]
		if !ok || prec <= level {
			break
		}
		p.next()
		p.nest()
		right := prec
		if prec == noPrecedence {
			right = 0
		}
		b := p.operators(p.operand(), right)
		p.depth--
		a = p.binary(op, a, b)
	}
	return a
}

// operand reads one operand.
func (p *parser) operand() *arith {
	p.nest()
	defer func() { p.depth-- }()
	start := p.tok
	switch {
	case start.kind == tokNumber:
		p.next()
		return p.fixed(start)
	case p.take("len"):
		p.register(start)
		return &arith{value: func(_ []byte, wireLen int) (uint32, bool) { return uint32(wireLen), true }}
	case p.take("-"):
		a := p.operators(p.operand(), sign)
		v := a.value
		a.fixed = false
		a.value = func(frame []byte, wireLen int) (uint32, bool) {
			x, ok := v(frame, wireLen)
			return -x, ok
		}
		return a
	case p.take("("):
		a := p.operators(p.operand(), 0)
		p.expect(")")
		return a
	case start.kind == tokProto:
		p.next()
		if !p.is("[") {
			p.want("[")
		}
		return p.load(start)
	}
	p.rejectUnsupported()
	p.want("a number", "len", "a protocol with [", "(")
	return nil
}

// register takes one of libpcap's registers.
func (p *parser) register(t token) {
	if p.regs == 16 {
		p.fail(t, "the arithmetic keeps more than 16 numbers at once")
	}
	p.regs++
}

func (p *parser) fixed(t token) *arith {
	p.register(t)
	k := t.num
	return &arith{value: func([]byte, int) (uint32, bool) { return k, true }, fixed: true, k: k, leading: true, leadingValue: k}
}

// load reads what follows a protocol's name: an offset and perhaps a size in brackets.
func (p *parser) load(name token) *arith {
	p.expect("[")
	a := p.operators(p.operand(), 0)
	size := uint32(1)
	if p.take(":") {
		t := p.tok
		if size = p.literal(); size != 1 && size != 2 && size != 4 {
			p.fail(t, "want 1, 2 or 4 bytes, not %d", size)
		}
	}
	p.expect("]")
	p.register(name) // libpcap gives the index's back only then
	p.regs--

	pr, header := protos[name.text], p.at.net(0)
	base := header
	switch {
	case name.text == "ether":
		base = 0
	case name.text == "icmp6":
		a.guard = guard(a.guard, p.linkType(name, typeIP6), test(load8, p.at.net(6), equal, 58))
		base += 40
	case pr.linkType > maxLength && name.text != "aarp":
		a.guard = guard(a.guard, p.linkType(name, pr.linkType))
	case behindIPv4[name.text]:
		// The offset wraps around 32 bits together with the header's length, and only then is checked.
		g := guard(a.guard, p.abbreviation(name), not(masked(load16, p.at.net(6), 0x1fff, greater, 0)))
		a.guard = and(p.linkType(name, typeIP), g)
		a.loadAfterIPv4(header, size)
		return a
	default:
		p.fail(name, "%s has no bytes to look at: want ether, ip, ip6, arp, tcp, udp, icmp, icmp6 or the like", name.text)
	}
	a.loadFrom(base, size)
	return a
}

var behindIPv4 = set("tcp", "udp", "sctp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp")

func guard(g *node, more ...*node) *node {
	if g == nil {
		g, more = more[0], more[1:]
	}
	return and(g, more...)
}

// loadFrom replaces a by the value of the size bytes at offset base + a.
func (a *arith) loadFrom(base, size uint32) {
	index := a.value
	if k := a.k; a.fixed {
		off := uint64(base) + uint64(k)
		a.value = func(frame []byte, _ int) (uint32, bool) { return fetch(frame, off, size) }
	} else {
		a.value = func(frame []byte, wireLen int) (uint32, bool) {
			i, ok := index(frame, wireLen)
			if !ok {
				return 0, false
			}
			return fetch(frame, uint64(base)+uint64(i), size)
		}
	}
	a.fixed = false
}

// loadAfterIPv4 replaces a by the value of the size bytes at offset a from the end of the IPv4 header at header.
func (a *arith) loadAfterIPv4(header, size uint32) {
	index := a.value
	at := func(frame []byte, i uint32) (uint32, bool) {
		if uint64(header) >= uint64(len(frame)) {
			return 0, false
		}
		return fetch(frame, uint64(header)+uint64(i+uint32(headerLen(frame[header]))), size)
	}
	if k := a.k; a.fixed {
		a.value = func(frame []byte, _ int) (uint32, bool) { return at(frame, k) }
	} else {
		a.value = func(frame []byte, wireLen int) (uint32, bool) {
			i, ok := index(frame, wireLen)
			if !ok {
				return 0, false
			}
			return at(frame, i)
		}
	}
	a.fixed = false
}

func fetch(frame []byte, off uint64, size uint32) (uint32, bool) {
	if off+uint64(size) > uint64(len(frame)) {
		return 0, false
	}
	switch size {
	case 1:
		return uint32(frame[off]), true
	case 2:
		return uint32(binary.BigEndian.Uint16(frame[off:])), true
	}
	return binary.BigEndian.Uint32(frame[off:]), true
}

// binary joins two operands. Only a's guard stays.
func (p *parser) binary(op token, a, b *arith) *arith {
	switch {
	case (op.text == "/" || op.text == "%") && b.leading && b.leadingValue == 0:
		p.fail(op, "division by zero (the divisor begins with 0)")
	case (op.text == "<<" || op.text == ">>") && b.leading && b.leadingValue > 31:
		p.fail(op, "shift by more than 31 bits (the operand on the right begins with %d)", b.leadingValue)
	}
	p.regs--
	x, f := a.value, operations[op.text]
	a.fixed = false
	if k := b.k; b.fixed {
		a.value = func(frame []byte, wireLen int) (uint32, bool) {
			v, ok := x(frame, wireLen)
			if !ok {
				return 0, false
			}
			return f(v, k)
		}
		return a
	}
	y := b.value
	a.value = func(frame []byte, wireLen int) (uint32, bool) {
		v, ok := x(frame, wireLen)
		w, ok2 := y(frame, wireLen)
		if !ok || !ok2 {
			return 0, false
		}
		return f(v, w)
	}
	return a
}

// operations reject the frame when they divide by zero.
var operations = map[string]func(a, b uint32) (uint32, bool){
	"+":  func(a, b uint32) (uint32, bool) { return a + b, true },
	"-":  func(a, b uint32) (uint32, bool) { return a - b, true },
	"*":  func(a, b uint32) (uint32, bool) { return a * b, true },
	"&":  func(a, b uint32) (uint32, bool) { return a & b, true },
	"|":  func(a, b uint32) (uint32, bool) { return a | b, true },
	"^":  func(a, b uint32) (uint32, bool) { return a ^ b, true },
	"<<": func(a, b uint32) (uint32, bool) { return a << b, true },
	">>": func(a, b uint32) (uint32, bool) { return a >> b, true },
	"/": func(a, b uint32) (uint32, bool) {
		if b == 0 {
			return 0, false
		}
		return a / b, true
	},
	"%": func(a, b uint32) (uint32, bool) {
		if b == 0 {
			return 0, false
		}
		return a % b, true
	},
}

// relation compares two operands, after the conditions of both.
func (p *parser) relation(op string, a, b *arith) *node {
	p.regs -= 2
	n := &node{test: step{load: loadValue, mask: allBits, k: b.k, value: a.value}}
	if !b.fixed {
		// Neither is constant: the test compares a number with 1. The number is 0 if a < b, 1 if they are equal, 2 if a > b.
		x, y := a.value, b.value
		n.test.k = 1
		n.test.value = func(frame []byte, wireLen int) (uint32, bool) {
			v, ok := x(frame, wireLen)
			w, ok2 := y(frame, wireLen)
			switch {
			case !ok || !ok2:
				return 0, false
			case v < w:
				return 0, true
			case v > w:
				return 2, true
			}
			return 1, true
		}
	}
	switch op {
	case ">", "<=":
		n.test.cmp = greater
	case ">=", "<":
		n.test.cmp = atLeast
	}
	if op == "!=" || op == "<=" || op == "<" {
		n = not(n)
	}
	for _, g := range []*node{b.guard, a.guard} {
		if g != nil {
			n = and(g, n)
		}
	}
	return n
}
