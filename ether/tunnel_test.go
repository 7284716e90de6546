package ether

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

// inTunnel is the super-frame inner in a UDP tunnel of the given header, as the kernel of a container with a VXLAN or
// Geneve device leaves it: the tunnel's checksum is the sum of its pseudo-header, or there is none.
func inTunnel(t testing.TB, inner Frame, v6 bool, tags int, header []byte, sum bool) Frame {
	t.Helper()
	f := packet{V6: v6, UDP: true, Tags: vlans[:tags], ID: 0xfffe, Payload: append(bytes.Clone(header), inner.Bytes()...)}.frame(t)
	b := f.Bytes()
	o, ok := dissect(b)
	if !ok {
		t.Fatal("no tunnel")
	}
	field := uint16(0)
	if sum {
		field = slowPseudo(b, o, len(b)-o.l4)
	}
	binary.BigEndian.PutUint16(b[o.l4+6:], field)
	l, ok := dissect(inner.Bytes())
	if !ok {
		t.Fatal("nothing in the tunnel")
	}
	at := uint16(o.head + len(header))
	off := inner.Off
	off.Kind = off.Kind.InTunnel()
	off.Head += at
	off.ChecksumStart += at
	off.Outer, off.Inner = uint16(o.l4), at+uint16(l.ip)
	f.Off = off
	return f
}

// vxlan and geneve are the tunnels' own headers, the latter with an option of 12 bytes (RFC 8926 section 3.5).
var (
	vxlan  = []byte{8, 0, 0, 0, 0, 0, 9, 0}
	geneve = append([]byte{3, 0, 0x65, 0x58, 0, 0, 9, 0}, 1, 2, 3, 2, 5, 6, 7, 8, 9, 10, 11, 12)
)

type nested struct {
	name string
	f    Frame
	sum  bool
}

// nests are super-frames in every kind of tunnel.
func nests(t testing.TB) (all []nested) {
	for _, inner := range []packet{stream(700), {V6: true, TCP: stream(0).TCP, Payload: packets.Data(901)}, {UDP: true, ID: 65535, Payload: packets.Data(700)}} {
		for _, v6 := range []bool{false, true} {
			for _, sum := range []bool{false, true} {
				for _, header := range [][]byte{vxlan, geneve} {
					for tags := range 2 {
						f := inTunnel(t, inner.super(t, 200), v6, tags, header, sum)
						all = append(all, nested{fmt.Sprintf("%v, outer IPv6 %v, outer sum %v, %d bytes, %d tags", f.Off.Kind, v6, sum, len(header), tags), f, sum})
					}
				}
			}
		}
	}
	return all
}

// wantWrapped holds a segment of f against what a kernel's GSO makes of it: the tunnel's lengths, checksums and
// identification; the inner frame by wantSegment.
func wantWrapped(t *testing.T, f, segment *Frame, i int, sum bool) {
	t.Helper()
	b := segment.Bytes()
	o, ok := dissect(b)
	if !ok || o.kind != UDP || o.l4 != int(f.Off.Outer) || o.end(b) != len(b) {
		t.Fatalf("segment %d: a tunnel of %+v, %v, that ends at %d of %d bytes", i, o, ok, o.end(b), len(b))
	}
	if !o.v6 {
		if got := packets.Sum(b[o.ip:o.l4], 0); got != 0xffff {
			t.Errorf("segment %d: the outer IPv4 header has the sum %#04x", i, got)
		}
		first := binary.BigEndian.Uint16(f.Bytes()[o.ip+4:])
		if got := binary.BigEndian.Uint16(b[o.ip+4:]); got != first+uint16(i) {
			t.Errorf("segment %d: outer identification %d, the first has %d", i, got, first)
		}
	}
	if got := int(binary.BigEndian.Uint16(b[o.l4+4:])); got != len(b)-o.l4 {
		t.Errorf("segment %d: outer UDP length %d, want %d", i, got, len(b)-o.l4)
	}
	if field := binary.BigEndian.Uint16(b[o.l4+6:]); sum != (field != 0) {
		t.Errorf("segment %d: outer checksum %#04x, want one: %v", i, field, sum)
	} else if got := packets.Sum(b[o.l4:], uint32(slowPseudo(b, o, len(b)-o.l4))); sum && got != 0xffff {
		t.Errorf("segment %d: the tunnel has the sum %#04x", i, got)
	}
	at := int(f.Off.Inner) - HeaderLen
	inner, whole := lend(b[at:], Offload{}), lend(f.Bytes()[at:], f.Off)
	whole.Off.Kind, whole.Off.Head = f.Off.Kind.segments(), f.Off.Head-uint16(at)
	wantSegment(t, &whole, &inner, i)
}

func TestTunnelCut(t *testing.T) {
	for _, n := range nests(t) {
		t.Run(n.name, func(t *testing.T) {
			off := n.f.Off
			n.f.Off.Head, n.f.Off.Outer = 1, 2 // claims
			if err := n.f.Check(); err != nil || n.f.Off != off {
				t.Fatalf("Check: %v, %+v, want %+v", err, n.f.Off, off)
			}
			frames := cutAll(t, &n.f)
			want := (n.f.Len() - int(off.Head) + int(off.Segment) - 1) / int(off.Segment)
			if len(frames) != want {
				t.Fatalf("%d segments, want %d", len(frames), want)
			}
			var payload []byte
			for i := range frames {
				wantWrapped(t, &n.f, &frames[i], i, n.sum)
				payload = append(payload, frames[i].Bytes()[off.Head:]...)
			}
			if !bytes.Equal(payload, n.f.Bytes()[off.Head:]) {
				t.Error("the payload is another")
			}
		})
	}
}

// A segment whose inner checksum is left partial is the ordinary one once its checksum has been completed.
func TestTunnelPartialChecksum(t *testing.T) {
	for _, n := range nests(t) {
		want := cutAll(t, &n.f)
		c := Cutter{PartialChecksum: true}
		c.Reset(&n.f)
		var head [MaxHead]byte
		for i := range want {
			size, payload, ok := c.Next(head[:])
			if !ok {
				t.Fatalf("%s: %d segments, want %d", n.name, i, len(want))
			}
			got := lend(append(bytes.Clone(head[:size]), payload...), Offload{PartialChecksum: true, ChecksumStart: n.f.Off.ChecksumStart, ChecksumOffset: n.f.Off.ChecksumOffset})
			if err := got.Check(); err != nil {
				t.Fatal(err)
			}
			if got.CompleteChecksum(); !bytes.Equal(got.Bytes(), want[i].Bytes()) {
				t.Errorf("%s: segment %d is\n%x, want\n%x", n.name, i, got.Bytes(), want[i].Bytes())
			}
		}
	}
}

// A super-frame that is shown whole gets all of its checksums.
func TestTunnelCompleteChecksum(t *testing.T) {
	for _, n := range nests(t) {
		f := lend(n.f.Bytes(), n.f.Off)
		f.Off.Kind = None
		f.CompleteChecksum()
		b := f.Bytes()
		o, _ := dissect(b)
		l, _ := dissect(b[n.f.Off.Inner-HeaderLen:])
		if in := b[n.f.Off.Inner-HeaderLen:]; !l.checksumsValid(in, len(in)) {
			t.Errorf("%s: the inner checksum is wrong", n.name)
		}
		if field := binary.BigEndian.Uint16(b[o.l4+6:]); n.sum && !o.checksumsValid(b, len(b)) || n.sum != (field != 0) {
			t.Errorf("%s: the outer checksum is %#04x", n.name, field)
		}
		if f.Off.PartialChecksum || f.Off.Outer != 0 || f.Off.Inner != 0 {
			t.Errorf("%s: left undone: %+v", n.name, f.Off)
		}
	}
}

func TestTunnelLies(t *testing.T) {
	for _, lie := range []struct {
		name string
		tell func(*Frame)
	}{
		{"no tunnel at all", func(f *Frame) { *f = stream(700).super(t, 200); f.Off.Kind, f.Off.Inner = TunnelTCP4, 14 }},
		{"the inner header is the outer one", func(f *Frame) { f.Off.Inner = HeaderLen }},
		{"no room for a tunnel's header", func(f *Frame) { f.Off.Inner = f.Off.Outer + 8 + HeaderLen + 7 }},
		{"an odd inner header", func(f *Frame) { f.Off.Inner++ }},
		{"an inner header behind the end", func(f *Frame) { f.Off.Inner = 65000 }},
		{"another EtherType inside", func(f *Frame) { f.Bytes()[f.Off.Inner-1] = 6 }},
		{"another kind inside", func(f *Frame) { f.Off.Kind = TunnelUDP }},
		{"a sum from elsewhere", func(f *Frame) { f.Off.ChecksumStart = f.Off.Outer }},
		{"a sum to elsewhere", func(f *Frame) { f.Off.ChecksumOffset = 6 }},
		{"no sum", func(f *Frame) { f.Off.PartialChecksum = false }},
		{"no segments", func(f *Frame) { f.Off.Segment = 0 }},
		{"the tunnel is TCP", func(f *Frame) { f.Bytes()[HeaderLen+9] = protoTCP }},
		{"the tunnel is a fragment", func(f *Frame) { f.Bytes()[HeaderLen+6] = 0x20 }},
		{"an unknown kind", func(f *Frame) { f.Off.Kind = Kinds }},
	} {
		f := inTunnel(t, stream(700).super(t, 200), false, 0, vxlan, true)
		if lie.tell(&f); f.Check() != ErrOffload {
			t.Errorf("%s: %v", lie.name, f.Check())
		}
	}
	f := inTunnel(t, stream(700).super(t, 200), false, 0, append(vxlan[:8:8], make([]byte, MaxHead)...), true)
	if f.Check() != ErrOffload {
		t.Error("headers of more than MaxHead bytes pass")
	}
}

func TestTunnelAllocs(t *testing.T) {
	f := inTunnel(t, stream(700).super(t, 200), false, 0, vxlan, true)
	var c Cutter
	var head [MaxHead]byte
	if n := testing.AllocsPerRun(100, func() {
		if f.Check() != nil {
			t.Fatal("Check")
		}
		for c.Reset(&f); ; {
			if _, _, ok := c.Next(head[:]); !ok {
				return
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever bytes with whatever inner header: what passes Check is cut into whole segments with all checksums right.
func FuzzTunnel(f *testing.F) {
	for _, n := range nests(f) {
		f.Add(n.f.Bytes(), uint8(n.f.Off.Kind), n.f.Off.Segment, n.f.Off.Inner)
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, segment, inner uint16) {
		fr := lend(b, Offload{Kind: Kind(kind), PartialChecksum: true, Segment: segment, Inner: inner})
		if !fr.Off.Kind.Tunnelled() {
			return
		}
		l, o, ok := fr.tunnel()
		fr.Off.ChecksumStart, fr.Off.ChecksumOffset = uint16(l.l4), uint16(l.checksumOffset())
		if err := fr.Check(); err != nil {
			return
		} else if !ok {
			t.Fatal("passed without a layout")
		}
		sum := binary.BigEndian.Uint16(b[o.l4+6:]) != 0
		frames := cutAll(t, &fr)
		if len(frames) == 0 || len(frames) > MaxSegments {
			t.Fatalf("%d segments", len(frames))
		}
		if o.l4-o.ip != o.ipLen() || l.l4-l.ip != l.ipLen() {
			return // IPv6 extension headers may name another destination: only its lengths are the test's
		}
		for i := range frames {
			wantWrapped(t, &fr, &frames[i], i, sum)
		}
	})
}
