package ether

import (
	"bytes"
	"testing"
)

func TestRecover(t *testing.T) {
	const mtu = 1450
	unfinished := func(f Frame) Frame { f.Off = Offload{}; return f }
	six := stream(5000)
	six.v6 = true
	for _, tc := range []struct {
		name string
		f    Frame
		want Offload
	}{
		{"TCP, one segment", unfinished(stream(100).super(t, 1398)), Offload{NeedsSum: true, SumStart: 34, SumOffset: 16}},
		{"TCP, a whole super-frame", unfinished(stream(5000).super(t, 1398)), Offload{Kind: TCP4, NeedsSum: true, Head: 66, Segment: mtu - 52, SumStart: 34, SumOffset: 16}},
		{"TCP over IPv6, a whole super-frame", unfinished(six.super(t, 1378)), Offload{Kind: TCP6, NeedsSum: true, Head: 86, Segment: mtu - 72, SumStart: 54, SumOffset: 16}},
		{"UDP", unfinished(packet{udp: true, payload: data(100)}.super(t, 100)), Offload{NeedsSum: true, SumStart: 34, SumOffset: 6}},
		{"UDP, too long: its segments cannot be told", unfinished(packet{udp: true, payload: data(5000)}.super(t, 1000)), Offload{NeedsSum: true, SumStart: 34, SumOffset: 6}},
		{"behind a VLAN tag", unfinished(packet{udp: true, tags: 1, payload: data(99)}.super(t, 100)), Offload{NeedsSum: true, SumStart: 38, SumOffset: 6}},
		{"finished", stream(100).frame(t), Offload{}},
		{"finished and long", stream(5000).frame(t), Offload{}},
		{"wrong sum", func() Frame { f := stream(100).frame(t); f.Bytes()[50] ^= 1; return f }(), Offload{}},
		{"padded", func() Frame {
			f := unfinished(stream(0).super(t, 100))
			return lend(append(f.Bytes(), 0, 0), Offload{})
		}(), Offload{}},
		{"claims already", stream(100).super(t, 50), stream(100).super(t, 50).Off},
		{"no IP", lend(make([]byte, 60), Offload{}), Offload{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := bytes.Clone(tc.f.Bytes())
			tc.f.Recover(mtu)
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

// A frame whose right checksum happens to be its pseudo-header's sum is finished.
func TestRecoverByChance(t *testing.T) {
	p := packet{udp: true, payload: data(100)}
	for i := range 1 << 16 {
		p.payload[0], p.payload[1] = byte(i>>8), byte(i)
		f := p.frame(t)
		b := f.Bytes()
		l, _ := dissect(b)
		if got := uint16(b[40])<<8 | uint16(b[41]); got == l.pseudoSum(b, len(b)-l.l4) {
			f.Recover(1450)
			if f.Off != (Offload{}) {
				t.Errorf("taken for unfinished: %+v", f.Off)
			}
			return
		}
	}
	t.Fatal("no payload gives that sum")
}
