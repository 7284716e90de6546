package ether

import (
	"encoding/binary"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

// hops is a chain of n IPv6 extension headers of 8 bytes, put before the transport header.
func hops(f Frame, n int, of byte) Frame {
	b := f.Bytes()
	next := b[20]
	var chain []byte
	for i := range n {
		ext := []byte{of, 0, 1, 0, 0, 0, 0, 0}
		if i == n-1 {
			ext[0] = next
		}
		chain = append(chain, ext...)
	}
	out := append(append(append([]byte{}, b[:54]...), chain...), b[54:]...)
	out[20] = of
	f.Off.ChecksumStart += uint16(len(chain))
	return lend(out, f.Off)
}

func TestCheck(t *testing.T) {
	tcp4 := stream(5000)
	tcp6 := tcp4
	tcp6.V6 = true
	udp4 := packet{UDP: true, Payload: packets.Data(5000)}
	udp6 := packet{UDP: true, V6: true, Payload: packets.Data(5000)}
	udp64k := packet{UDP: true, Payload: packets.Data(65507)}.frame(t)
	tagged := tcp6
	tagged.Tags = vlans[:2]
	routed := func(left byte) Frame {
		f := hops(tcp6.super(t, 1000), 1, protoRouting)
		f.Bytes()[54+3] = left
		return f
	}
	edit := func(f Frame, fn func(b []byte, o *Offload)) Frame {
		fn(f.Bytes(), &f.Off)
		return f
	}
	claim := func(fn func(o *Offload)) Frame {
		return edit(tcp4.super(t, 1000), func(_ []byte, o *Offload) { fn(o) })
	}
	for _, tc := range []struct {
		name string
		f    Frame
		want error
		head int
	}{
		{"nothing", Frame{}, ErrRunt, 0},
		{"13 bytes", lend(make([]byte, 13), Offload{}), ErrRunt, 0},
		{"14 bytes", lend(make([]byte, 14), Offload{}), nil, 0},
		{"bad IP in an ordinary frame", edit(tcp4.frame(t), func(b []byte, _ *Offload) { b[14] = 0 }), nil, 0},
		{"ordinary frame", tcp4.frame(t), nil, 0},

		{"tcp4", tcp4.super(t, 1000), nil, 66},
		{"tcp6", tcp6.super(t, 1000), nil, 86},
		{"two tags", tagged.super(t, 1000), nil, 94},
		{"udp4", udp4.super(t, 1000), nil, 42},
		{"udp6", udp6.super(t, 1000), nil, 62},
		{"one segment", tcp4.super(t, 5000), nil, 66},
		{"less than one segment", tcp4.super(t, 60000), nil, 66},
		{"no payload", packet{TCP: tcp4.TCP}.super(t, 1000), nil, 66},
		{"without PartialChecksum", claim(func(o *Offload) { *o = Offload{Kind: TCP4, Segment: 1000} }), nil, 66},
		{"head is the whole frame", claim(func(o *Offload) { o.Head = 5066 }), nil, 66},
		{"head 0", claim(func(o *Offload) { o.Head = 0 }), nil, 66},
		{"IP length 0", edit(tcp4.super(t, 1000), func(b []byte, _ *Offload) { b[16], b[17] = 0, 0 }), nil, 66},
		{"256 segments", stream(256*20).super(t, 20), nil, 66},
		{"8 hop-by-hop headers", hops(tcp6.super(t, 1000), 8, protoHopByHop), nil, 86 + 64},
		{"routing header at its end", routed(0), nil, 86 + 8},

		{"segment 0", claim(func(o *Offload) { o.Segment = 0 }), ErrOffload, 0},
		{"segment 1", claim(func(o *Offload) { o.Segment = 1 }), ErrOffload, 0},
		{"256 segments of a byte", stream(256).super(t, 1), nil, 66},
		{"257 segments of a byte", stream(257).super(t, 1), ErrOffload, 0},
		{"257 segments", stream(256*16+1).super(t, 16), ErrOffload, 0},
		{"64 KiB of 256 segments", stream(65280).super(t, 255), nil, 66},
		{"64 KiB at MTU 200", stream(65469).super(t, 148), ErrOffload, 0},
		{"64 KiB at MTU 68", stream(65469).super(t, 16), ErrOffload, 0},
		{"64 KiB of UDP at MTU 68", lend(udp64k.Bytes(), Offload{Kind: UDP, Segment: 40}), ErrOffload, 0},
		{"64 KiB of a byte each", stream(65469).super(t, 1), ErrOffload, 0},
		{"unknown kind", claim(func(o *Offload) { o.Kind = 9 }), ErrOffload, 0},
		{"tcp6 on IPv4", claim(func(o *Offload) { o.Kind = TCP6 }), ErrOffload, 0},
		{"udp on TCP", claim(func(o *Offload) { o.Kind = UDP }), ErrOffload, 0},
		{"tcp4 on UDP", edit(udp4.super(t, 1000), func(_ []byte, o *Offload) { o.Kind = TCP4 }), ErrOffload, 0},
		{"sum at IP", claim(func(o *Offload) { o.ChecksumStart = 14 }), ErrOffload, 0},
		{"sum offset of UDP", claim(func(o *Offload) { o.ChecksumOffset = 6 }), ErrOffload, 0},
		{"ARP", edit(tcp4.super(t, 1000), func(b []byte, _ *Offload) { b[13] = 6 }), ErrOffload, 0},
		{"IP version 5", edit(tcp4.super(t, 1000), func(b []byte, _ *Offload) { b[14] = 0x55 }), ErrOffload, 0},
		{"IHL 0", edit(tcp4.super(t, 1000), func(b []byte, _ *Offload) { b[14] = 0x40 }), ErrOffload, 0},
		{"IHL behind the end", edit(packet{UDP: true}.super(t, 1000), func(b []byte, _ *Offload) { b[14] = 0x4f }), ErrOffload, 0},
		{"fragment", edit(tcp4.super(t, 1000), func(b []byte, _ *Offload) { b[20] |= 0x20 }), ErrOffload, 0},
		{"data offset 4", edit(tcp4.super(t, 1000), func(b []byte, _ *Offload) { b[46] = 0x40 }), ErrOffload, 0},
		{"data offset behind the end", edit(packet{}.super(t, 1000), func(b []byte, _ *Offload) { b[46] = 0xf0 }), ErrOffload, 0},
		{"9 hop-by-hop headers", hops(tcp6.super(t, 1000), 9, protoHopByHop), ErrOffload, 0},
		{"extension header behind the end", edit(hops(packet{V6: true, UDP: true}.super(t, 1000), 1, protoDestOpts),
			func(b []byte, _ *Offload) { b[55] = 255 }), ErrOffload, 0},
		{"header over MaxHead", edit(hops(tcp6.super(t, 1000), 1, protoDestOpts),
			func(b []byte, o *Offload) {
				b[55] = 24 // 200 bytes, then what happens to be there
				copy(b[54+200:], b[62:94])
				o.ChecksumStart = 254
			}), ErrOffload, 0},
		{"IPv6 fragment", hops(tcp6.super(t, 1000), 1, protoFragment), ErrOffload, 0},
		{"IPv6 atomic fragment", atomic(tcp6.super(t, 1000)), ErrOffload, 0},
		{"source route on its way", routed(1), ErrOffload, 0},
		{"segment over 65535 bytes of IP", lend(append(tcp4.super(t, 1000).buf[Headroom:], make([]byte, 62000)...),
			Offload{Kind: TCP4, Segment: 65535}), ErrOffload, 0},

		{"ordinary, sum at the last two bytes", lend(make([]byte, 60), Offload{PartialChecksum: true, ChecksumStart: 42, ChecksumOffset: 16}), nil, 0},
		{"ordinary, sum behind the end", lend(make([]byte, 60), Offload{PartialChecksum: true, ChecksumStart: 43, ChecksumOffset: 16}), ErrOffload, 0},
		{"ordinary, sum offset 65535", lend(make([]byte, 60), Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 65535}), ErrOffload, 0},
		{"ordinary, sum in the Ethernet header", lend(make([]byte, 60), Offload{PartialChecksum: true, ChecksumOffset: 6}), ErrOffload, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.f
			if err := f.Check(); err != tc.want {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if tc.want == nil && int(f.Off.Head) != tc.head {
				t.Errorf("header %d bytes, want %d", f.Off.Head, tc.head)
			}
		})
	}
}

func TestCompleteChecksum(t *testing.T) {
	zero := zeroSum(t)
	for name, p := range map[string]packet{
		"tcp4":         stream(999),
		"tcp6":         {V6: true, TCP: stream(0).TCP, Payload: packets.Data(1000)},
		"udp4":         {UDP: true, Payload: packets.Data(100)},
		"udp6 tagged":  {UDP: true, V6: true, Tags: vlans[:1], Payload: packets.Data(101)},
		"udp sum zero": zero,
	} {
		t.Run(name, func(t *testing.T) {
			want, f := p.frame(t), p.super(t, 1)
			f.Off.Kind = None
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			before, off := string(f.Bytes()), f.Off
			at, sum, partial := f.Checksum()
			if !partial || string(f.Bytes()) != before || f.Off != off {
				t.Errorf("partial %v, and the frame is %+v, %x", partial, f.Off, f.Bytes())
			}
			f.CompleteChecksum()
			if string(f.Bytes()) != before[:at]+string(sum[:])+before[at+2:] {
				t.Errorf("CompleteChecksum wrote something else than Checksum says, %x at %d", sum, at)
			}
			if name == "udp sum zero" {
				if got := binary.BigEndian.Uint16(f.Bytes()[40:]); got != 0xffff {
					t.Errorf("checksum %#04x, want 0xffff", got)
				}
			} else if string(f.Bytes()) != string(want.Bytes()) {
				t.Errorf("got\n%x, want\n%x", f.Bytes(), want.Bytes())
			}
			if f.Off != (Offload{}) {
				t.Errorf("left undone: %+v", f.Off)
			}
		})
	}
	t.Run("super-frame stays", func(t *testing.T) {
		f := stream(5000).super(t, 1000)
		before, off := string(f.Bytes()), f.Off
		_, _, partial := f.Checksum()
		f.CompleteChecksum()
		if partial || string(f.Bytes()) != before || f.Off != off {
			t.Error("a super-frame was changed")
		}
	})
}
