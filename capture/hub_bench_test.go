package capture

import (
	"encoding/binary"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// Copying a frame allocates nothing.
func TestWatchAllocs(t *testing.T) {
	h := NewHub()
	n := newNet(h, "one")
	s := open(t, h, Options{Match: func(f []byte, _ int) bool { return f[14] == 1 }})
	s.SetTargets(Targets{Some: true, Endpoints: map[string]bool{"one-a": true}})
	f := to(mac(1), mac(2), 1)
	o := h.networks["one"]
	if allocs := testing.AllocsPerRun(1000, func() { o.Watch(n.ports[1], n.ports[2], vswitch.Forwarded, &f) }); allocs != 0 {
		t.Errorf("%v allocations a frame, want 0", allocs)
	}
	if s.Stats().Accepted == 0 {
		t.Error("nothing was taken")
	}
}

func BenchmarkWatch(b *testing.B) {
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"rejected", Options{Match: func([]byte, int) bool { return false }}},
		{"whole", Options{Overwrite: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := NewHub()
			n := newNet(h, "one")
			s, err := h.Subscribe(c.o)
			testhost.Must(b, err)
			defer s.Close()
			f := numbered(1, 1514)
			o := h.networks["one"]
			b.ReportAllocs()
			for b.Loop() {
				o.Watch(n.ports[1], n.ports[2], vswitch.Forwarded, &f)
			}
		})
	}
}

// The cost of the flight recorder for a segment that was received with others from the tunnel.
func BenchmarkRecord(b *testing.B) {
	const trains, segments, room = 16, 44, 1516
	h := NewHub()
	n := newNet(h, "one")
	rec := h.NewRecorder()
	testhost.Must(b, rec.Resize(32<<20))
	defer rec.Close()
	memory := make([]byte, trains*segments*room)
	var frames []ether.Frame
	for i := range trains * segments {
		f := ether.Lend(memory[i*room:][:ether.Headroom+1450], ether.Offload{})
		copy(f.Bytes()[12:], "\x08\x00\x45") // IPv4
		binary.BigEndian.PutUint16(f.Bytes()[16:], uint16(f.Len()-ether.HeaderLen))
		f.Bytes()[23] = 6      // TCP
		f.Bytes()[46] = 8 << 4 // with timestamps
		frames = append(frames, f)
	}
	o := h.networks["one"]
	b.ReportAllocs()
	for k := 0; b.Loop(); k++ {
		o.WatchRun(n.ports[1], n.ports[2], frames[k%trains*segments:][:segments])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*segments), "ns/frame")
}
