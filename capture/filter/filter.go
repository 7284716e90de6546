// Package filter is the filter language of tcpdump, pcap-filter(7), for Ethernet frames, and for what files have besides.
//
// A filter means what libpcap 1.10's unoptimised program means ("tcpdump -O"), on every frame, whole or cut short. Four
// facts that surprise are part of that meaning:
//
//   - "and" and "or" have equal precedence and group from the left;
//   - a look beyond the end of the frame rejects the frame, even under "not";
//   - "vlan", "mpls" and "vxlan" move the offsets of everything written after them, "or" or not;
//   - in arithmetic only the left operand's protocol is tested: len - tcp[9] > 3 also looks into UDP.
//
// Names are never looked up in the DNS. Of what pcap-filter(7) has, these are refused: gateway, protochain, inbound and
// outbound (a frame does not say where it came from), pppoes, geneve, DECnet addresses, networks by name, and the words
// for other links than Ethernet. "ip broadcast" knows no netmask, as when tcpdump reads a file: it is 0.0.0.0 and
// 255.255.255.255.
//
// "vxlan [VNI]" came with a later libpcap only: a VXLAN datagram to port 4789. What stands behind it is of the frame
// inside, and does not hold where there is none; "len" stays the whole frame's.
package filter

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// Names returns the addresses of a host by its name, none if it does not know the name.
type Names func(name string) []netip.Addr

// A Filter is a compiled expression. It may be used by many goroutines at once.
type Filter struct {
	expr    string
	prog    []step
	entry   int32
	tunnels []offsets // where the frames are that have frames inside, by vxlan word
}

// Compile reads an expression of pcap-filter(7), of up to 16 KiB; an empty one matches every frame. names, which may be
// nil, resolves the words after host, src and dst that are neither addresses nor keywords. Every error is a
// *SyntaxError.
func Compile(expr string, names Names) (f *Filter, err error) {
	return CompileFor(pcapng.Ethernet, expr, names)
}

// CompileFor is Compile for frames of another link type, a LINKTYPE_ number: Ethernet, LINUX_SLL, LINUX_SLL2, RAW, IPV4,
// IPV6, NULL (little-endian) and LOOP. An expression means on each what tcpdump means when it reads a file of it. What a
// link type does not have, such as Ethernet addresses in RAW, is an error.
func CompileFor(link int, expr string, names Names) (f *Filter, err error) {
	return compileFor(link, expr, names, false)
}

// compileFor is CompileFor; plain: its errors have no hints that need another Compile.
func compileFor(link int, expr string, names Names, plain bool) (f *Filter, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*SyntaxError)
			if !ok {
				panic(r)
			}
			f, err = nil, e
		}
	}()
	at, ok := offsetsOf(link)
	if !ok && strings.TrimSpace(expr) != "" {
		return nil, unknownLink(link, expr)
	}
	p := parser{lexer: lexer{expr: expr}, names: names, plain: plain, at: at}
	n := p.filter()
	f = &Filter{expr: expr, prog: make([]step, 2), entry: accept, tunnels: p.tunnels}
	if n != nil {
		f.entry = f.emit(n, accept, reject)
	}
	return f, nil
}

// String returns the expression as it was written.
func (f *Filter) String() string { return f.expr }

// A step is one test of a frame and where to go on. The first two places of a program stand for its two ends.
type step struct {
	load   loader
	cmp    comparison
	off    uint32
	mask   uint32
	k      uint32
	yes    int32
	no     int32
	header uint32 // of the IPv4 header, for loads behind it
	value  value
}

const (
	reject = 0
	accept = 1
)

type loader uint8

const (
	load8 loader = iota
	load16
	load32
	load16AfterIPv4 // 16 bits behind the IPv4 header
	loadLen         // the length on the wire
	loadValue       // what step.value gives
	loadVNI         // of VXLAN; step.off is the number of the word, from 0
	enterInner      // the same, and from there on the frame inside is the frame: no step goes back
)

type comparison uint8

const (
	equal comparison = iota
	greater
	atLeast
)

// Match tells if a frame is wanted. frame starts with the link type's header and may have been cut short; wireLen is its
// length in bytes before that.
func (f *Filter) Match(frame []byte, wireLen int) bool {
	size, prog, pc := uint64(len(frame)), f.prog, f.entry
	outer := frame
	for uint32(pc) > accept {
		s := &prog[pc]
		var v uint32
		off := uint64(s.off)
		switch s.load {
		case load8:
			if off >= size {
				return false
			}
			v = uint32(frame[off])
		case load16:
			if off+2 > size {
				return false
			}
			v = uint32(binary.BigEndian.Uint16(frame[off:]))
		case load32:
			if off+4 > size {
				return false
			}
			v = binary.BigEndian.Uint32(frame[off:])
		case load16AfterIPv4:
			if uint64(s.header) >= size {
				return false
			}
			off += headerLen(frame[s.header])
			if off+2 > size {
				return false
			}
			v = uint32(binary.BigEndian.Uint16(frame[off:]))
		case loadLen:
			v = uint32(wireLen)
		case loadValue:
			var ok bool
			if v, ok = s.value(frame, wireLen); !ok {
				return false
			}
		case loadVNI, enterInner:
			inner, vni, ok := f.decapsulate(s.off, outer)
			if !ok {
				pc = s.no
				continue
			}
			if v = vni; s.load == enterInner {
				frame, size = inner, uint64(len(inner))
			}
		}
		v &= s.mask
		var holds bool
		switch s.cmp {
		case equal:
			holds = v == s.k
		case greater:
			holds = v > s.k
		case atLeast:
			holds = v >= s.k
		}
		if holds {
			pc = s.yes
		} else {
			pc = s.no
		}
	}
	return pc == accept
}

// headerLen returns the length of an IPv4 header by its first byte.
func headerLen(first byte) uint64 { return 4 * uint64(first&15) }
