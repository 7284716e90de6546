package ether

import (
	"bytes"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

// setClass gives an IP packet behind n VLAN tags another traffic class, with an IPv4 header's checksum.
func setClass(frame []byte, tags int, class uint8) {
	ip := frame[HeaderLen+tags*tagLen:]
	if ip[0]>>4 == 6 {
		ip[0], ip[1] = 0x60|class>>4, class<<4|ip[1]&15
		return
	}
	ip[1] = class
	takeAndZero16(ip[10:])
	sum := ^Sum(ip[:ipv4Len], 0)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
}

// All 16 cases of RFC 6040 §4.2, figure 4: the row is the inner header's ECN, the column the outer one's, and -1 is a drop.
var combined = [4][4]int{
	NotECT: {NotECT: NotECT, ECT0: NotECT, ECT1: NotECT, CE: -1},
	ECT0:   {NotECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
	ECT1:   {NotECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
	CE:     {NotECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}

func TestCombineECN(t *testing.T) {
	const dscp = 46 << 2
	for name, p := range map[string]packet{
		"IPv4": {Payload: packets.Data(99)}, "IPv4, other sums": {ID: 0xfffe, UDP: true}, "IPv6": {V6: true, Label: 0xfffff, Payload: packets.Data(99)},
		"two tags": {Tags: vlans[:2], Payload: packets.Data(9)}, "IPv6, a tag": {V6: true, Tags: vlans[:1]},
	} {
		for inner := range uint8(4) {
			for outer := range uint8(4) {
				whole := p.frame(t)
				b := whole.Bytes()
				setClass(b, len(p.Tags), dscp|inner)
				want, keep := bytes.Clone(b), combined[inner][outer] >= 0
				if keep {
					setClass(want, len(p.Tags), dscp|uint8(combined[inner][outer]))
				}
				if got := CombineECN(b, 0xfc|outer); got != keep || !bytes.Equal(b, want) {
					t.Errorf("%s, inner %d, outer %d: %v\n%x, want %v\n%x", name, inner, outer, got, b, keep, want)
				}
				f := lend(b, Offload{})
				if class, ttl, ok := f.Class(); keep && (class != dscp|uint8(combined[inner][outer]) || ttl != 64 || !ok) {
					t.Errorf("%s: class %#x, TTL %d, %v", name, class, ttl, ok)
				}
			}
		}
	}
	whole := packet{}.frame(t)
	wrong := whole.Bytes() // a wrong checksum stays wrong
	setClass(wrong, 0, ECT0)
	right := bytes.Clone(wrong)
	wrong[HeaderLen+11] ^= 1
	if CombineECN(wrong, CE); !CombineECN(right, CE) || wrong[HeaderLen+11] == right[HeaderLen+11] {
		t.Error("a wrong checksum became right")
	}
}

// What is not IP, or not all of a header, has no class, and stays as it is.
func TestNoClass(t *testing.T) {
	one := packet{}.frame(t)
	whole := one.Bytes()
	for _, b := range [][]byte{nil, whole[:13], whole[:14], whole[:33], packets.Ethernet(TypeARP, whole[14:]), packets.Ethernet(TypeIPv6, whole[14:]), packets.Ethernet(TypeIPv4, make([]byte, 40))} {
		before, f := bytes.Clone(b), lend(b, Offload{})
		if _, _, ok := f.Class(); ok || !CombineECN(b, CE) || !bytes.Equal(b, before) {
			t.Errorf("%x has a class", b)
		}
	}
}

// Whatever the bytes are, only the ECN field and the checksum change, and a second time nothing does.
func FuzzCombineECN(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s.Bytes(), uint8(CE))
	}
	short := packet{V6: true, Tags: vlans[:2]}.frame(f)
	f.Add(short.Bytes()[:50], uint8(ECT1))
	f.Fuzz(func(t *testing.T, b []byte, outer uint8) {
		before, changed := bytes.Clone(b), 0
		keep := CombineECN(b, outer)
		for i := range b {
			if b[i] != before[i] {
				changed++
			}
		}
		after := bytes.Clone(b)
		if changed > 3 || !keep && changed > 0 || CombineECN(b, outer) != keep || !bytes.Equal(b, after) {
			t.Errorf("%d bytes have changed, kept %v", changed, keep)
		}
	})
}
