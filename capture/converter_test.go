package capture

import (
	"bytes"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/packets"
)

// plainSum is RFC 1071's sum, word by word: of b as the words of an IPv4 or IPv6 frame's TCP or UDP with its pseudo-header.
// It is 0xffff if the checksum is right.
func plainSum(frame []byte) uint16 {
	l4, addresses, proto := 34, frame[26:34], frame[23]
	if frame[12] == 0x86 {
		l4, addresses, proto = 54, frame[22:54], frame[20]
	}
	return packets.Sum(append(bytes.Clone(addresses), frame[l4:]...), uint32(proto)+uint32(len(frame)-l4))
}

// left is a frame as a container's kernel leaves it: TCP or UDP, with n bytes of payload, its checksum field the
// pseudo-header's sum, segments of size bytes to be cut if size is not 0.
func left(t *testing.T, v6, udp bool, n, size int) ether.Frame {
	p := packets.Packet{V6: v6, UDP: udp, TCP: packets.Flags(0x18), Payload: packets.Data(n)}
	p.TCP.Seq = 77
	l4, checksum := p.Layout()
	off := ether.Offload{PartialChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: uint16(checksum - l4)}
	if size > 0 {
		off.Segment = uint16(size)
		switch {
		case udp:
			off.Kind = ether.UDP
		case v6:
			off.Kind = ether.TCP6
		default:
			off.Kind = ether.TCP4
		}
	}
	f := ether.Lend(append(make([]byte, ether.Headroom), p.Partial()...), off)
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	return f
}

// recorded is what a ring keeps of f.
func recorded(f *ether.Frame, snap int) *Record {
	data := bytes.Clone(f.Bytes())
	return &Record{Len: f.Len(), Data: data[:min(len(data), snap)], Off: f.Off, Verdict: vswitch.Forwarded}
}

func TestWire(t *testing.T) {
	const all = 1 << 20
	for _, c := range []struct {
		name       string
		v6, udp    bool
		n, segment int
	}{
		{"TCP", false, false, 100, 0}, {"TCP, odd", false, false, 101, 0}, {"TCP, IPv6", true, false, 100, 0},
		{"UDP", false, true, 33, 0}, {"UDP, IPv6", true, true, 33, 0},
		{"super-frame", false, false, 30_001, 1400}, {"super-frame, IPv6", true, false, 30_001, 1400},
		{"UDP super-frame", false, true, 10_001, 1000}, {"UDP super-frame, IPv6", true, true, 10_001, 1000},
	} {
		f := left(t, c.v6, c.udp, c.n, c.segment)
		for mode := range Mode(len(modes)) {
			w := Converter{Mode: mode}
			var frames [][]byte
			r := recorded(&f, all)
			if !w.Convert(r, func(b []byte, length int) {
				if length != len(b) {
					t.Errorf("%s, %v: %d bytes of %d", c.name, mode, len(b), length)
				}
				frames = append(frames, bytes.Clone(b))
			}) {
				t.Errorf("%s, %v: not done", c.name, mode)
			}
			if !bytes.Equal(r.Data, f.Bytes()) {
				t.Errorf("%s, %v: the record is changed", c.name, mode)
			}
			want := 1
			if mode == Segment && c.segment > 0 {
				want = (c.n + c.segment - 1) / c.segment
			}
			if len(frames) != want {
				t.Fatalf("%s, %v: %d frames, want %d", c.name, mode, len(frames), want)
			}
			for i, b := range frames {
				if right := plainSum(b) == 0xffff; right != (mode != Raw) {
					t.Errorf("%s, %v: checksum of frame %d right: %v", c.name, mode, i, right)
				}
			}
			var payload []byte
			head := f.Len() - c.n
			for _, b := range frames {
				payload = append(payload, b[head:]...)
			}
			if !bytes.Equal(payload, f.Bytes()[head:]) {
				t.Errorf("%s, %v: the payload differs", c.name, mode)
			}
			if mode == Raw && !bytes.Equal(frames[0], f.Bytes()) {
				t.Errorf("%s: raw is not as it was", c.name)
			}
		}
	}
}

// The checksum of a frame that is cut short cannot be completed: the frame is shown as it is, and Convert says so.
func TestWireSnapped(t *testing.T) {
	f := left(t, false, false, 30_000, 1400)
	for mode, want := range map[Mode]bool{Fix: false, Segment: false, Raw: true} {
		w := Converter{Mode: mode}
		n := 0
		if done := w.Convert(recorded(&f, 128), func(b []byte, length int) {
			n++
			if !bytes.Equal(b, f.Bytes()[:128]) || length != f.Len() {
				t.Errorf("%v: %d bytes of %d", mode, len(b), length)
			}
		}); done != want || n != 1 {
			t.Errorf("%v: done %v, %d frames", mode, done, n)
		}
	}
}

// A frame whose offload contradicts its bytes was dropped, and is shown as it is.
func TestWireLies(t *testing.T) {
	f := left(t, false, false, 300, 100)
	r := recorded(&f, 1<<20)
	r.Off.Segment = 0
	w := Converter{Mode: Segment}
	n := 0
	w.Convert(r, func([]byte, int) { n++ })
	if n != 1 {
		t.Errorf("%d frames, want 1", n)
	}
}

func TestWireAllocs(t *testing.T) {
	f := left(t, false, false, 30_000, 1400)
	r := recorded(&f, 1<<20)
	for mode := range Mode(len(modes)) {
		w, total := Converter{Mode: mode}, 0
		fn := func(b []byte, _ int) { total += len(b) }
		if n := testing.AllocsPerRun(100, func() { w.Convert(r, fn) }); n != 0 {
			t.Errorf("%v: %v allocations, want 0", mode, n)
		}
		if total == 0 {
			t.Errorf("%v: nothing was shown", mode)
		}
	}
}

func TestParseMode(t *testing.T) {
	for m := range Mode(len(modes)) {
		if got, err := ParseMode(m.String()); got != m || err != nil {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	if _, err := ParseMode("fixed"); err == nil {
		t.Error("fixed is a mode")
	}
}

func FuzzWire(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45}, byte(1), true, uint16(54), uint16(1000), uint16(34), uint16(16), byte(1))
	f.Add(make([]byte, 1514), byte(3), false, uint16(0), uint16(0), uint16(0), uint16(6), byte(0))
	f.Fuzz(func(t *testing.T, data []byte, kind byte, sum bool, head, segment, start, offset uint16, mode byte) {
		r := &Record{Len: len(data), Data: data, Off: ether.Offload{Kind: ether.Kind(kind % 5), PartialChecksum: sum, Head: head,
			Segment: segment, ChecksumStart: start, ChecksumOffset: offset}}
		w := Converter{Mode: Mode(mode) % Mode(len(modes))}
		n, total := 0, 0
		w.Convert(r, func(b []byte, length int) { n++; total += length })
		if n == 0 || n > ether.MaxSegments {
			t.Errorf("%d frames of %d bytes in all", n, total)
		}
	})
}
