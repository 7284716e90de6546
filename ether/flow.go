package ether

import (
	"encoding/binary"
	"math/bits"
)

// Odd constants with as many ones as zeros (SplitMix64 and its like), so that a product mixes well.
const (
	mixA = 0x9e3779b97f4a7c15
	mixB = 0xbf58476d1ce4e5b9
	mixC = 0x94d049bb133111eb
)

// Flow is a hash of the flow that f belongs to, the same for both directions: IP addresses, protocol and
// ports; for fragments, of which only the first carries ports, addresses and protocol; for what is not IP,
// MAC addresses and type. An IPv6 atomic fragment (RFC 6946) is a whole packet. All bits are well mixed, and the same in
// every process.
func (f *Frame) Flow() uint32 {
	b := f.Bytes()
	if len(b) < HeaderLen {
		return 0
	}
	typ, ip := etherType(b)
	p := b[ip:]
	proto, at, _ := transport(typ, p)
	var from, to uint64 // ports
	switch proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if at > 0 && at+4 <= len(p) {
			from, to = uint64(binary.BigEndian.Uint16(p[at:])), uint64(binary.BigEndian.Uint16(p[at+2:]))
		}
	}
	switch {
	case typ == TypeIPv4 && len(p) >= ipv4Len:
		word := binary.BigEndian.Uint32
		return hashPair(uint64(word(p[12:]))<<16|from, uint64(word(p[16:]))<<16|to, uint64(proto))
	case typ == TypeIPv6 && len(p) >= ipv6Len:
		word := binary.BigEndian.Uint64
		a, b := mix(word(p[8:])^mixA, word(p[16:])^mixB), mix(word(p[24:])^mixA, word(p[32:])^mixB)
		return hashPair(a+from*mixC, b+to*mixC, uint64(proto))
	}
	word := binary.BigEndian.Uint64
	return hashPair(word(b)>>16, word(b[4:])<<16>>16, uint64(typ))
}

// hashPair hashes two ends, whichever is the first, and what is spoken between them.
func hashPair(a, b, what uint64) uint32 {
	return finalize(mix(min(a, b)^mixA, max(a, b)^what<<56^what<<48^mixB))
}

// mix multiplies to 128 bits and folds them.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func finalize(h uint64) uint32 {
	h = mix(h, mixC)
	return uint32(h>>32) ^ uint32(h)
}
