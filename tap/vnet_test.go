package tap

import (
	"bytes"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

func TestVnetRoundTrip(t *testing.T) {
	tests := []struct {
		name string
		off  ether.Offload
		want []byte // flags, gso_type; the four words follow as they are
	}{
		{"ordinary", ether.Offload{}, []byte{0, 0}},
		{"partial sum", ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}, []byte{1, 0}},
		{"TCP over IPv4", ether.Offload{Kind: ether.TCP4, PartialChecksum: true, Head: 66, Segment: 1448, ChecksumStart: 34, ChecksumOffset: 16}, []byte{1, 1}},
		{"TCP over IPv6", ether.Offload{Kind: ether.TCP6, PartialChecksum: true, Head: 86, Segment: 1428, ChecksumStart: 54, ChecksumOffset: 16}, []byte{1, 4}},
		{"UDP", ether.Offload{Kind: ether.UDP, PartialChecksum: true, Head: 42, Segment: 1200, ChecksumStart: 34, ChecksumOffset: 6}, []byte{1, 5}},
		{"largest", ether.Offload{Kind: ether.TCP4, PartialChecksum: true, Head: 0xffff, Segment: 0xffff, ChecksumStart: 0xffff, ChecksumOffset: 0xffff}, []byte{1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Repeat([]byte{0xee}, vnetLen+1) // no bit of what was there may stay
			encodeVnet(b[:vnetLen], tt.off)
			want := bytes.Clone(tt.want)
			for _, v := range []uint16{tt.off.Head, tt.off.Segment, tt.off.ChecksumStart, tt.off.ChecksumOffset} {
				want = native.AppendUint16(want, v)
			}
			if want = append(want, 0xee); !bytes.Equal(b, want) {
				t.Errorf("encoded %x, want %x", b, want)
			}
			if got := decodeVnet(b); got != tt.off {
				t.Errorf("decoded %+v, want %+v", got, tt.off)
			}
		})
	}
}

func TestVnetDecode(t *testing.T) {
	header := func(flags, typ byte) []byte {
		return native.AppendUint16(native.AppendUint16(native.AppendUint16(native.AppendUint16([]byte{flags, typ}, 54), 1000), 34), 16)
	}
	const unknown = 0xff
	tests := []struct {
		name       string
		flags, typ byte
		want       ether.Offload
	}{
		{"nothing, with words that mean nothing", 0, 0, ether.Offload{}},
		{"DATA_VALID is no offload", 2, 0, ether.Offload{}},
		{"every flag", 0xff, 0, ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}},
		{"sum already there", 0, 1, ether.Offload{Kind: ether.TCP4, Head: 54, Segment: 1000}},
		{"ECN on TCP4", 1, 0x81, ether.Offload{Kind: ether.TCP4, PartialChecksum: true, Head: 54, Segment: 1000, ChecksumStart: 34, ChecksumOffset: 16}},
		{"ECN on TCP6", 0, 0x84, ether.Offload{Kind: ether.TCP6, Head: 54, Segment: 1000}},
		{"ECN on nothing", 0, 0x80, ether.Offload{}},
		{"UDP_L4", 0, 5, ether.Offload{Kind: ether.UDP, Head: 54, Segment: 1000}},
		{"UFO", 0, 3, ether.Offload{Kind: unknown, Head: 54, Segment: 1000}},
		{"type 2", 0, 2, ether.Offload{Kind: unknown, Head: 54, Segment: 1000}},
		{"type 0x7f", 0, 0x7f, ether.Offload{Kind: unknown, Head: 54, Segment: 1000}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := decodeVnet(header(tt.flags, tt.typ))
			if got != tt.want {
				t.Errorf("decoded %+v, want %+v", got, tt.want)
			}
			if got.Kind == unknown {
				f := tcp(2000).super(t, 1000)
				f.Off.Kind = unknown
				if f.Check() == nil {
					t.Error("a frame of unknown kind passes Check")
				}
			}
		})
	}
}

// Whatever a header is, what it is decoded as is written as the same again, and nothing that is not known passes Check.
func FuzzVnet(f *testing.F) {
	super := tcp(3000).super(f, 1000)
	for _, h := range [][]byte{
		make([]byte, vnetLen),
		{1, 0, 0, 0, 0, 0, 34, 0, 16, 0},                // a partial checksum
		{1, 1, 54, 0, 0x78, 5, 34, 0, 16, 0},            // TCP over IPv4
		{1, 4, 74, 0, 0x64, 5, 54, 0, 16, 0},            // TCP over IPv6
		{1, 5, 42, 0, 0xb0, 4, 34, 0, 6, 0},             // UDP
		{1, 0x81, 54, 0, 0x78, 5, 34, 0, 16, 0},         // with ECN
		{2, 0, 0, 0, 0, 0, 0, 0, 0, 0},                  // DATA_VALID
		{1, 3, 42, 0, 0xb0, 4, 34, 0, 6, 0},             // UFO
		{0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255}, // no such type, and too short
		bytes.Repeat([]byte{0xff}, vnetLen),
	} {
		f.Add(h, super.Bytes())
	}
	f.Add(make([]byte, vnetLen), []byte{})
	f.Fuzz(func(t *testing.T, header, frame []byte) {
		if len(header) < vnetLen {
			return // Drain looks at none
		}
		before := bytes.Clone(header)
		off := decodeVnet(header)
		if !bytes.Equal(header, before) {
			t.Error("decoding changed the header")
		}
		known := off.Kind <= ether.UDP
		if !off.PartialChecksum && (off.ChecksumStart != 0 || off.ChecksumOffset != 0) || off.Kind == ether.None && (off.Head != 0 || off.Segment != 0) {
			t.Errorf("%x: %+v has words that mean nothing", header, off)
		}
		if off.PartialChecksum != (header[0]&needsCsum != 0) {
			t.Errorf("%x: %+v", header, off)
		}
		if known {
			written := make([]byte, vnetLen)
			encodeVnet(written, off)
			if again := decodeVnet(written); again != off {
				t.Errorf("%x: %+v is written as %x, which is %+v", header, off, written, again)
			}
		}
		g := ether.Lend(append(make([]byte, ether.Headroom), frame...), off)
		if g.Check() != nil {
			return
		}
		if !known {
			t.Errorf("%x: %+v passes Check", header, off)
		}
		if n := len(cut(&g)); g.Off.Kind != ether.None && (n == 0 || n > ether.MaxSegments) {
			t.Errorf("%x, %d bytes: %d segments", header, g.Len(), n)
		}
	})
}
