package capture

import (
	"testing"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

func TestRingAllocs(t *testing.T) {
	r := makeRing(t, 1<<18, false)
	f := numbered(1, 1514)
	if n := testing.AllocsPerRun(1000, func() {
		r.add(1, 2, vswitch.Forwarded, &f, 1514) // in room, and then in a full ring
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkRing(b *testing.B) {
	for _, size := range []int{64, 128, 1514, 60000} {
		b.Run(map[int]string{64: "64 bytes", 128: "128 bytes", 1514: "1514 bytes", 60000: "60 KB"}[size], func(b *testing.B) {
			r := makeRing(b, 1<<25, true)
			f := numbered(1, size)
			b.ReportAllocs()
			for b.Loop() {
				r.add(1, 2, vswitch.Forwarded, &f, size)
			}
		})
	}
}

// What a full ring has dropped is reported with the next frame of the same port, or, if none follows, at the end.
func TestRingLosses(t *testing.T) {
	r := makeRing(t, 1<<18, false)
	f := numbered(1, 1000)
	for r.add(1, 2, 0, &f, 1000) {
	}
	put := func(port uint32, times int) {
		for range times {
			r.add(port, 9, 0, &f, 1000)
		}
	}
	put(1, 1) // with the one above, two
	put(257, 3)
	r.add(0, 7, 0, &f, 1000) // on its way out
	const many = 300         // ports, more than are told apart
	for i := range uint32(many) {
		put(1000+i, 1)
	}
	r.read(func(rec *Record) {
		if rec.Lost != 0 {
			t.Fatal("a frame from before tells of losses")
		}
	})
	for _, c := range []struct{ port, lost uint32 }{{1, 2}, {257, 3}, {2, 0}, {1, 0}} {
		put(c.port, 1)
		r.read(func(rec *Record) {
			if rec.In != c.port || rec.Lost != c.lost {
				t.Errorf("port %d has lost %d, want %d", rec.In, rec.Lost, c.lost)
			}
		})
	}
	s := &Subscriber{ring: r}
	tail, sum := s.TrailingDrops(), uint64(2+3)
	for _, n := range tail {
		sum += n
	}
	if tail[7] != 1 || tail[0] == 0 || sum != r.dropped {
		t.Errorf("%d were dropped, %d are told of; at the way out %d, of ports not told apart %d", r.dropped, sum, tail[7], tail[0])
	}
}
