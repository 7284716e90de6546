package ether

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

// rewritten is the frame as gopacket writes it after reading it, lengths and checksums made anew.
func rewritten(t *testing.T, b []byte) []byte {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatal(e.Error())
	}
	for _, l := range p.Layers() {
		if s, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			s.SetNetworkLayerForChecksum(p.NetworkLayer())
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializePacket(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, p); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestCut(t *testing.T) {
	all := stream(0).TCP
	all.FIN, all.PSH, all.CWR, all.ECE = true, true, true, true
	for _, tc := range []struct {
		name    string
		p       packet
		segment int
		sizes   []int
	}{
		{"tcp4", stream(3000), 1398, []int{1398, 1398, 204}},
		{"tcp4 all flags", packet{TCP: all, Payload: packets.Data(500), ID: 65535}, 200, []int{200, 200, 100}},
		{"tcp6", packet{V6: true, TCP: all, Payload: packets.Data(2000)}, 1000, []int{1000, 1000}},
		{"tcp6 tagged twice", packet{V6: true, Tags: vlans[:2], TCP: all, Payload: packets.Data(2001)}, 1000, []int{1000, 1000, 1}},
		{"udp4 odd size", packet{UDP: true, ID: 9, Payload: packets.Data(1000)}, 333, []int{333, 333, 333, 1}},
		{"udp6", packet{UDP: true, V6: true, Payload: packets.Data(1000)}, 400, []int{400, 400, 200}},
		{"one segment, full", stream(1398), 1398, []int{1398}},
		{"one segment, flags stay", packet{TCP: all, Payload: packets.Data(100)}, 1398, []int{100}},
		{"no payload", packet{V6: true, TCP: all}, 1398, []int{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.p.super(t, tc.segment)
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			frames := cutAll(t, &f)
			if len(frames) != len(tc.sizes) {
				t.Fatalf("%d segments, want %d", len(frames), len(tc.sizes))
			}
			at := 0
			for i, size := range tc.sizes {
				// A segment is what the sender would have made of its share of the payload.
				want, last := tc.p, i == len(tc.sizes)-1
				want.Payload = tc.p.Payload[at : at+size]
				want.ID += uint16(i)
				want.TCP.Seq += uint32(at)
				want.TCP.CWR = want.TCP.CWR && i == 0
				want.TCP.FIN = want.TCP.FIN && last
				want.TCP.PSH = want.TCP.PSH && last
				at += size
				got, wanted := frames[i].Bytes(), want.frame(t)
				trimmed := wanted.Bytes()[:min(wanted.Len(), len(got))] // gopacket pads to 60 bytes
				if !bytes.Equal(got, trimmed) {
					t.Errorf("segment %d is\n%x, want\n%x", i, got, trimmed)
				}
				if again := rewritten(t, got); !bytes.Equal(got, again[:len(got)]) {
					t.Errorf("segment %d is\n%x, gopacket makes of it\n%x", i, got, again)
				}
			}
		})
	}
}

// IPv4 options and IPv6 extension headers are repeated in every segment.
func TestCutOptions(t *testing.T) {
	p := stream(3000)
	plain := p.super(t, 1000)
	b := plain.Bytes()
	options := append(bytes.Clone(b[:34]), 7, 7, 4, 0, 0, 0, 0, 0) // record route
	options[14] = 0x47
	f := lend(append(options, b[34:]...), plain.Off)
	f.Off.ChecksumStart += 8
	p.V6 = true
	six := hops(p.super(t, 1000), 3, protoHopByHop)
	for name, f := range map[string]*Frame{"ipv4": &f, "ipv6": &six} {
		if err := f.Check(); err != nil {
			t.Fatal(name, err)
		}
		frames := cutAll(t, f)
		if len(frames) != 3 {
			t.Errorf("%s: %d segments, want 3", name, len(frames))
		}
		for i := range frames {
			wantSegment(t, f, &frames[i], i)
		}
	}
}

// wantSegment holds the i-th segment of f against what must be so of every one.
func wantSegment(t *testing.T, f, segment *Frame, i int) {
	t.Helper()
	b := segment.Bytes()
	l, ok := dissect(b)
	if !ok {
		t.Fatalf("segment %d is no TCP or UDP packet: %x", i, b)
	}
	if l.head != int(f.Off.Head) || l.kind != f.Off.Kind || len(b) > f.WireLen() {
		t.Fatalf("segment %d: header %d, %v, %d bytes; want %d, %v, at most %d",
			i, l.head, l.kind, len(b), f.Off.Head, f.Off.Kind, f.WireLen())
	}
	if l.end(b) != len(b) {
		t.Errorf("segment %d: IP ends at %d of %d bytes", i, l.end(b), len(b))
	}
	if !l.v6 {
		if got := packets.Sum(b[l.ip:l.l4], 0); got != 0xffff {
			t.Errorf("segment %d: IPv4 header has the sum %#04x", i, got)
		}
		first := binary.BigEndian.Uint16(f.Bytes()[l.ip+4:])
		if got := binary.BigEndian.Uint16(b[l.ip+4:]); got != first+uint16(i) {
			t.Errorf("segment %d: identification %d, the first has %d", i, got, first)
		}
	}
	if got := packets.Sum(b[l.l4:], uint32(slowPseudo(b, l, len(b)-l.l4))); got != 0xffff {
		t.Errorf("segment %d: %v has the sum %#04x", i, l.kind, got)
	}
	if l.kind == UDP {
		if got := int(binary.BigEndian.Uint16(b[l.l4+4:])); got != len(b)-l.l4 {
			t.Errorf("segment %d: UDP length %d, want %d", i, got, len(b)-l.l4)
		}
		if binary.BigEndian.Uint16(b[l.l4+6:]) == 0 {
			t.Errorf("segment %d: no UDP checksum", i)
		}
	} else {
		first := binary.BigEndian.Uint32(f.Bytes()[l.l4+4:])
		if got := binary.BigEndian.Uint32(b[l.l4+4:]); got != first+uint32(i)*uint32(f.Off.Segment) {
			t.Errorf("segment %d: sequence number %d, the first has %d", i, got, first)
		}
	}
}

func TestCutZeroSum(t *testing.T) {
	p := zeroSum(t)
	p.Payload = bytes.Repeat(p.Payload, 3)
	f := p.super(t, 100)
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	for i, segment := range cutAll(t, &f) {
		if got := binary.BigEndian.Uint16(segment.Bytes()[40:]); got != 0xffff {
			t.Errorf("segment %d: checksum %#04x, want 0xffff", i, got)
		}
	}
}

func TestCutNothing(t *testing.T) {
	ordinary, bad := stream(100).frame(t), stream(3000).super(t, 1000)
	bad.Bytes()[14] = 0
	for name, f := range map[string]*Frame{"zero": {}, "ordinary": &ordinary, "unchecked": &bad} {
		if frames := cutAll(t, f); len(frames) != 0 {
			t.Errorf("%s: %d segments, want none", name, len(frames))
		}
	}
	var c Cutter
	if _, _, ok := c.Next(make([]byte, MaxHead)); ok {
		t.Error("the zero Cutter has a segment")
	}
}
