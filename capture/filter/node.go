package filter

import "github.com/tapestry-net/tapestry/capture/pcapng"

// A node is an expression that is true, false, or rejects the frame.
type node struct {
	kind    nodeKind
	a, b, c *node
	test    step
	framed  bool // it is known in which frame it looks
}

type nodeKind uint8

const (
	leaf nodeKind = iota
	andNode
	orNode
	notNode
	chooseNode
)

// and tests in the order of its arguments, and no further than needed: a test that would look beyond the frame does no
// harm behind one that fails.
func and(first *node, more ...*node) *node { return chain(andNode, first, more) }

func or(first *node, more ...*node) *node { return chain(orNode, first, more) }

func chain(kind nodeKind, n *node, more []*node) *node {
	for _, m := range more {
		n = &node{kind: kind, a: n, b: m}
	}
	return n
}

func not(n *node) *node { return &node{kind: notNode, a: n} }

// choose tests then if the condition holds, and otherwise others. It is or(and(condition, then), others) where others
// cannot hold if the condition does, for they look at the same bytes for something else.
func choose(condition, then, others *node) *node {
	return &node{kind: chooseNode, a: condition, b: then, c: others}
}

// emit writes n, which goes on at yes or no, and gives the place where it begins. What comes last is written first, so
// that each place is known when it is needed.
func (f *Filter) emit(n *node, yes, no int32) int32 {
	switch n.kind {
	case andNode:
		return f.emit(n.a, f.emit(n.b, yes, no), no)
	case orNode:
		return f.emit(n.a, yes, f.emit(n.b, yes, no))
	case notNode:
		return f.emit(n.a, no, yes)
	case chooseNode:
		others := f.emit(n.c, yes, no)
		return f.emit(n.a, f.emit(n.b, yes, no), others)
	}
	s := n.test
	s.yes, s.no = yes, no
	f.prog = append(f.prog, s)
	return int32(len(f.prog) - 1)
}

const allBits = 0xffffffff

// test compares a part of the frame: off counts from the frame's start.
func test(load loader, off uint32, cmp comparison, k uint32) *node {
	return masked(load, off, allBits, cmp, k)
}

func masked(load loader, off, mask uint32, cmp comparison, k uint32) *node {
	return &node{test: step{load: load, off: off, mask: mask, cmp: cmp, k: k}}
}

// bytesAt compares several bytes, the last ones first, as libpcap does: what a frame lacks then decides as there.
func bytesAt(off uint32, b []byte) *node {
	var n *node
	for len(b) > 0 {
		var t *node
		switch i := len(b); {
		case i >= 4:
			t, b = test(load32, off+uint32(i)-4, equal, be32(b[i-4:])), b[:i-4]
		default:
			t, b = test(load16, off+uint32(i)-2, equal, be32(b[:2])>>16), b[:i-2]
		}
		if n == nil {
			n = t
		} else {
			n = and(n, t)
		}
	}
	return n
}

func be32(b []byte) (v uint32) {
	for i := range 4 {
		v <<= 8
		if i < len(b) {
			v |= uint32(b[i])
		}
	}
	return v
}

// A offsets is where the headers are after the vlan and mpls words read so far, in bytes from the frame's start.
type offsets struct {
	link      int // LINKTYPE_ number
	depth     int // how many vxlan words: each leads into the frame inside
	etherType uint32
	payload   uint32 // behind the Ethernet header and the tags
	labels    uint32 // bytes of MPLS labels in the payload before the network header
}

var ethernet = offsets{link: pcapng.Ethernet, etherType: 12, payload: 14}

// net gives where a byte of the network header is.
func (at offsets) net(off uint32) uint32 { return at.payload + at.labels + off }
