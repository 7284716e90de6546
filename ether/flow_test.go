package ether

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

func TestFlowSame(t *testing.T) {
	tcp, udp6 := stream(9000), packet{UDP: true, V6: true, Payload: packets.Data(9000)}
	for name, p := range map[string]packet{"tcp4": tcp, "udp6": udp6} {
		f := p.super(t, 1000)
		if err := f.Check(); err != nil {
			t.Fatal(err)
		}
		for i, segment := range cutAll(t, &f) {
			if segment.Flow() != f.Flow() {
				t.Errorf("%s: segment %d has another flow than the super-frame", name, i)
			}
		}
		tagged := p
		tagged.Tags = vlans[:2]
		if g := tagged.frame(t); g.Flow() != f.Flow() {
			t.Errorf("%s: behind tags the flow is another", name)
		}
	}
	a, b := udp6.frame(t), hops(udp6.frame(t), 2, protoDestOpts)
	if a.Flow() != b.Flow() {
		t.Error("behind extension headers the flow is another")
	}
}

// An answer is of the flow that it answers.
func TestFlowBothWays(t *testing.T) {
	swap := func(b []byte, at, n int) {
		for i := range n {
			b[at+i], b[at+n+i] = b[at+n+i], b[at+i]
		}
	}
	four, six := stream(100).frame(t), packet{V6: true, UDP: true, Payload: packets.Data(10)}.frame(t)
	arp := lend(append(append(append(append([]byte{}, macB[:]...), macA[:]...), 8, 6), make([]byte, 46)...), Offload{})
	for name, tc := range map[string]struct {
		f         *Frame
		at, n, l4 int
	}{"IPv4": {&four, 26, 4, 34}, "IPv6": {&six, 22, 16, 54}, "ARP": {&arp, 0, 6, 0}} {
		there := tc.f.Flow()
		swap(tc.f.Bytes(), tc.at, tc.n)
		if tc.l4 > 0 {
			if tc.f.Flow() == there {
				t.Errorf("%s: with the addresses changed over and not the ports it is another flow", name)
			}
			swap(tc.f.Bytes(), tc.l4, 2)
		}
		if tc.f.Flow() != there {
			t.Errorf("%s: the other direction is another flow", name)
		}
	}
}

// Only the first fragment carries ports, and all must go one way.
func TestFlowFragments(t *testing.T) {
	first, later := stream(100).frame(t), stream(100).frame(t)
	first.Bytes()[20], later.Bytes()[20] = 0x20, 0x01
	later.Bytes()[17] ^= 0xff // its length
	later.Bytes()[34] ^= 0xff
	if first.Flow() != later.Flow() {
		t.Error("IPv4 fragments have two flows")
	}
	p := stream(100)
	p.V6 = true
	first, later = hops(p.frame(t), 1, protoFragment), hops(p.frame(t), 1, protoFragment)
	first.Bytes()[54+3], later.Bytes()[54+3] = 1, 9 // more follow; the later one's offset is 8
	later.Bytes()[54] = protoUDP                    // which may differ from the first one's, RFC 8200 §4.5
	later.Bytes()[54+8] ^= 0xff
	if first.Flow() != later.Flow() {
		t.Error("IPv6 fragments have two flows")
	}
}

// atomic puts a fragment header before the transport header of an IPv6 packet that is whole.
func atomic(f Frame) Frame {
	f = hops(f, 1, protoFragment)
	copy(f.Bytes()[54+2:], []byte{0, 0})
	return f
}

// A packet with an IPv6 fragment header of offset 0 and M=0 is whole (RFC 6946): its flow is that of the same packet without
// that header. But nobody cuts or joins it.
func TestFlowAtomicFragment(t *testing.T) {
	p := stream(100)
	p.V6 = true
	plain, atomic := p.frame(t), atomic(p.frame(t))
	if plain.Flow() != atomic.Flow() {
		t.Error("an atomic fragment has another flow than its packet")
	}
	other := lend(bytes.Clone(atomic.Bytes()), Offload{})
	other.Bytes()[54+8] ^= 0xff // its source port
	if atomic.Flow() == other.Flow() {
		t.Error("atomic fragments with different ports have one flow")
	}
	if l := LayersOf(atomic.Bytes()); l != (Layers{Type: TypeIPv6, Network: 14, IP: true, Proto: protoTCP, Transport: 14 + 40 + 8}) {
		t.Errorf("its layers are %+v", l)
	}
	if _, ok := dissect(atomic.Bytes()); ok {
		t.Error("it is dissected for offloads")
	}
}

// Each bit that makes a flow moves about half the hash's bits, and fills equally the top bits, from which a
// port is chosen, and the bottom ones.
func TestFlowMixes(t *testing.T) {
	six := stream(100)
	six.V6 = true
	arp := lend(append(append(append(append([]byte{}, macB[:]...), macA[:]...), 8, 6), make([]byte, 46)...), Offload{})
	for _, tc := range []struct {
		name     string
		f        Frame
		from, to int // bytes of the frame
	}{
		{"ipv4 addresses and ports", stream(100).frame(t), 26, 38},
		{"ipv6 addresses", six.frame(t), 22, 54},
		{"ipv6 ports", six.frame(t), 54, 58},
		{"MACs", arp, 0, 12},
	} {
		t.Run(tc.name, func(t *testing.T) {
			base, moved, n := tc.f.Flow(), 0, 0
			for i := tc.from * 8; i < tc.to*8; i++ {
				tc.f.Bytes()[i/8] ^= 1 << (i % 8)
				moved += bits.OnesCount32(base ^ tc.f.Flow())
				tc.f.Bytes()[i/8] ^= 1 << (i % 8)
				n++
			}
			if mean := float64(moved) / float64(n); mean < 14 || mean > 18 {
				t.Errorf("one bit moves %.1f of 32, want 16", mean)
			}
			const buckets, each = 64, 1000
			var top, bottom [buckets]int
			for i := range buckets * each { // consecutive ports or addresses
				binary.BigEndian.PutUint16(tc.f.Bytes()[tc.to-2:], uint16(i))
				top[tc.f.Flow()>>26]++
				bottom[tc.f.Flow()&63]++
			}
			for i := range buckets {
				if min(top[i], bottom[i]) < each*3/4 || max(top[i], bottom[i]) > each*5/4 {
					t.Errorf("bucket %d: top bits %d, bottom bits %d, want about %d", i, top[i], bottom[i], each)
				}
			}
		})
	}
}

func bytesOf(t *testing.T, p packet) []byte {
	f := p.frame(t)
	return f.Bytes()
}

// The place of the checksum is found behind tags, options and extension headers, and nowhere else.
func TestChecksumField(t *testing.T) {
	p := stream(100)
	v6 := p
	v6.V6 = true
	tagged, udp, hop := p, v6, v6
	tagged.Tags, udp.UDP, hop.Hop = vlans, true, make([]byte, 6)
	fragment := p.frame(t)
	fragment.Bytes()[20] = 0x20 // more follow
	for _, c := range []struct {
		name          string
		frame         []byte
		start, offset uint16
	}{
		{"TCP over IPv4", bytesOf(t, p), 14 + 20, 16},
		{"with two tags", bytesOf(t, tagged), 22 + 20, 16},
		{"UDP over IPv6", bytesOf(t, udp), 14 + 40, 6},
		{"behind an extension header", bytesOf(t, hop), 14 + 48, 16},
		{"a fragment", fragment.Bytes(), 0, 0},
		{"cut short", bytesOf(t, p)[:30], 0, 0},
		{"no IP", make([]byte, 60), 0, 0},
		{"nothing", nil, 0, 0},
	} {
		if start, offset := ChecksumField(c.frame); start != c.start || offset != c.offset {
			t.Errorf("%s: %d and %d, want %d and %d", c.name, start, offset, c.start, c.offset)
		}
	}
}
