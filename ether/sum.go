package ether

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the bytes to initial as the Internet checksum does (RFC 1071): 16-bit big-endian words,
// ones' complement, an odd last byte padded with zero. The result is not inverted: a header's
// checksum is ^Sum of it with the field zero, and the Sum of a packet with a right checksum is 0xffff.
//
// initial may be an earlier Sum (of an even number of bytes), or the sum of several 16-bit words.
func Sum(b []byte, initial uint32) uint16 {
	// The sum may be taken in either byte order and swapped at the end (RFC 1071 §2.B), and in
	// words of any multiple of 16 bits, as long as carries come back in below.
	var sum, carry uint64
	for len(b) >= 64 {
		w := b[:64:64]
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[0:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var last uint64
		for i, x := range b {
			last |= uint64(x) << (8 * i)
		}
		sum, carry = bits.Add64(sum, last, carry)
	}
	sum = sum>>32 + sum&0xffffffff + carry
	return fold(uint64(bits.ReverseBytes16(fold(sum))) + uint64(initial))
}

// fold reduces a sum of 16-bit words to 16 bits; carries are added at the low end.
func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// nonZero is a checksum for a UDP header, where 0 means that there is none (RFC 768): 0xffff is the other zero of ones'
// complement.
func nonZero(sum uint16) uint16 {
	if sum == 0 {
		return 0xffff
	}
	return sum
}
