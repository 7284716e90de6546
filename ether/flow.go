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

// Flow is a hash of the flow that f belongs to: IP addresses, protocol and ports; for fragments,
// which carry no ports but the first, addresses and protocol; for what is not IP, MAC addresses and
// type. All bits are well mixed, and the same in every process.
func (f *Frame) Flow() uint32 {
	b := f.Bytes()
	if len(b) < HeaderLen {
		return 0
	}
	typ, ip := etherType(b)
	p := b[ip:]
	proto, at := transport(typ, p)
	ports := uint64(proto) << 32
	switch proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if at > 0 && at+4 <= len(p) {
			ports |= uint64(binary.LittleEndian.Uint32(p[at:]))
		}
	}
	word := binary.LittleEndian.Uint64
	switch {
	case typ == typeIPv4 && len(p) >= ipv4Len:
		return finish(mix(word(p[12:])^mixA, ports^mixB))
	case typ == typeIPv6 && len(p) >= ipv6Len:
		h := mix(word(p[8:])^mixA, word(p[16:])^mixB)
		h ^= mix(word(p[24:])^mixB, word(p[32:])^mixC)
		return finish(mix(h^mixA, ports^mixB))
	}
	return finish(mix(word(b)^mixA, uint64(binary.LittleEndian.Uint32(b[8:]))<<16^uint64(typ)^mixC))
}

// mix multiplies to 128 bits and folds them.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func finish(h uint64) uint32 {
	h = mix(h, mixC)
	return uint32(h>>32) ^ uint32(h)
}
