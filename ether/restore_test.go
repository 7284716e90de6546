package ether

import (
	"bytes"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

func TestRestoreOffload(t *testing.T) {
	const mtu = 1450
	partial := func(f Frame) Frame { f.Off = Offload{}; return f }
	six := stream(5000)
	six.V6 = true
	for _, tc := range []struct {
		name    string
		f       Frame
		want    Offload
		segment int
	}{
		{"TCP, one segment", partial(stream(100).super(t, 1398)), Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}, 0},
		{"TCP, a whole super-frame", partial(stream(5000).super(t, 1398)), Offload{Kind: TCP4, PartialChecksum: true, Head: 66, Segment: mtu - 52, ChecksumStart: 34, ChecksumOffset: 16}, 0},
		{"TCP over IPv6, a whole super-frame", partial(six.super(t, 1378)), Offload{Kind: TCP6, PartialChecksum: true, Head: 86, Segment: mtu - 72, ChecksumStart: 54, ChecksumOffset: 16}, 0},
		{"UDP", partial(packet{UDP: true, Payload: packets.Data(100)}.super(t, 100)), Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}, 0},
		{"UDP, too long: its segments cannot be told", partial(packet{UDP: true, Payload: packets.Data(5000)}.super(t, 1000)), Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}, 0},
		{"UDP, a whole super-frame", partial(packet{UDP: true, Payload: packets.Data(5000)}.super(t, 1000)), Offload{Kind: UDP, PartialChecksum: true, Head: 42, Segment: 1000, ChecksumStart: 34, ChecksumOffset: 6}, 1000},
		{"UDP, one segment", partial(packet{UDP: true, Payload: packets.Data(1000)}.super(t, 1000)), Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}, 1000},
		{"behind a VLAN tag", partial(packet{UDP: true, Tags: vlans[:1], Payload: packets.Data(99)}.super(t, 100)), Offload{PartialChecksum: true, ChecksumStart: 38, ChecksumOffset: 6}, 0},
		{"complete", stream(100).frame(t), Offload{}, 0},
		{"complete and long", stream(5000).frame(t), Offload{}, 0},
		{"wrong sum", func() Frame { f := stream(100).frame(t); f.Bytes()[50] ^= 1; return f }(), Offload{}, 0},
		{"padded", func() Frame {
			f := partial(stream(0).super(t, 100))
			return lend(append(f.Bytes(), 0, 0), Offload{})
		}(), Offload{}, 0},
		{"claims already", stream(100).super(t, 50), stream(100).super(t, 50).Off, 0},
		{"no IP", lend(make([]byte, 60), Offload{}), Offload{}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := bytes.Clone(tc.f.Bytes())
			tc.f.RestoreOffload(mtu, tc.segment)
			if tc.f.Off != tc.want {
				t.Errorf("got %+v, want %+v", tc.f.Off, tc.want)
			}
			if !bytes.Equal(tc.f.Bytes(), before) {
				t.Error("the bytes have changed")
			}
			if err := tc.f.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A sender's kernel on the same machine does not cut at a small MTU either.
func TestRestoreOffloadSmallMTU(t *testing.T) {
	for _, mtu := range []int{68, 200, 576} {
		f := stream(min(65469, MaxSegments*(mtu-52))).super(t, mtu-52)
		f.Off = Offload{}
		f.RestoreOffload(mtu, 0)
		if err := f.Check(); err != nil || f.Off.Kind != TCP4 || f.WireLen() != mtu+HeaderLen {
			t.Errorf("MTU %d: %+v, %v", mtu, f.Off, err)
		}
	}
}

// A frame whose right checksum happens to be its pseudo-header's sum is complete.
func TestRestoreOffloadByChance(t *testing.T) {
	p := packet{UDP: true, Payload: packets.Data(100)}
	for i := range 1 << 16 {
		p.Payload[0], p.Payload[1] = byte(i>>8), byte(i)
		f := p.frame(t)
		b := f.Bytes()
		l, _ := dissect(b)
		if got := uint16(b[40])<<8 | uint16(b[41]); got == l.pseudoSum(b, len(b)-l.l4) {
			f.RestoreOffload(1450, 0)
			if f.Off != (Offload{}) {
				t.Errorf("taken for partial: %+v", f.Off)
			}
			return
		}
	}
	t.Fatal("no payload gives that sum")
}

func TestUncut(t *testing.T) {
	udp, tcp := packet{UDP: true, Payload: packets.Data(100)}.super(t, 20), stream(100).super(t, 20)
	complete := packet{UDP: true, Payload: packets.Data(100)}.frame(t)
	lie := func(length byte) Frame {
		b := bytes.Clone(udp.WithHeadroom())
		b[Headroom+17] = length
		return Lend(b, Offload{})
	}
	for _, tc := range []struct {
		name    string
		f       Frame
		segment int
		want    bool
	}{
		{"segments shorter than the headers", udp, 20, true},
		{"two segments", udp, 99, true},
		{"one", udp, 100, false},
		{"one byte less", lend(udp.Bytes()[:udp.Len()-1], Offload{}), 20, false},
		{"padded", lend(append(bytes.Clone(udp.Bytes()), 0), Offload{}), 20, false},
		{"its length is a lie", lie(20 + 8 + 20), 20, false},
		{"complete", complete, 20, false},
		{"TCP", tcp, 20, false},
		{"nothing", lend(nil, Offload{}), 20, false},
	} {
		if got := tc.f.MaybeUnsegmented(tc.segment); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
