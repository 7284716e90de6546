package ether

import (
	"strconv"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

// big is a super-frame as a container with gso_max_size 61000 behind a VXLAN of MTU 1450 sends it.
func big(t testing.TB) Frame {
	f := stream(60000).super(t, 1398)
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	return f
}

// Nothing on a frame's way allocates.
func TestAllocs(t *testing.T) {
	f := big(t)
	frames, partials, partial := cutAll(t, &f), cutPartial(&f), Cutter{PartialChecksum: true}
	ordinary := stream(1000).super(t, 1)
	ordinary.Off.Kind = None
	undone := ordinary.Off
	six := packet{V6: true, UDP: true, Payload: packets.Data(1000)}.frame(t)
	lie := stream(1000).super(t, 1)
	var (
		c    Cutter
		j    Joiner
		head [MaxHead]byte
	)
	for name, fn := range map[string]func(){
		"Check":            func() { f.Check() },
		"Check, lie":       func() { lie.Check() },
		"CompleteChecksum": func() { ordinary.Off = undone; ordinary.CompleteChecksum() },
		"Flow, IPv4":       func() { f.Flow() },
		"Flow, IPv6":       func() { six.Flow() },
		"Cutter loop":      func() { cutLoop(&c, &f, head[:]) },
		"Joiner loop":      func() { joinLoop(t, &j, frames); j.Head(); j.Off(); j.Payloads() },
		"partial":          func() { cutLoop(&partial, &f, head[:]); joinLoop(t, &j, partials); j.Head() },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func cutLoop(c *Cutter, f *Frame, head []byte) (n int) {
	for c.Reset(f); ; n++ {
		if _, _, ok := c.Next(head); !ok {
			return n
		}
	}
}

func joinLoop(t testing.TB, j *Joiner, frames []Frame) {
	if !j.Start(&frames[0]) {
		t.Fatal("no run")
	}
	for i := range frames[1:] {
		if !j.Add(&frames[i+1]) {
			t.Fatal("the run is broken at", i+1)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1398, 61000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			p := packets.Data(n)
			b.SetBytes(int64(n))
			for b.Loop() {
				Sum(p, 0)
			}
		})
	}
}

// With complete checksums, and with partial ones that the other host completes.
func BenchmarkCut(b *testing.B) {
	f := big(b)
	var head [MaxHead]byte
	for name, c := range map[string]*Cutter{"complete": {}, "partial": {PartialChecksum: true}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(f.Len()))
			b.ReportAllocs()
			for b.Loop() {
				cutLoop(c, &f, head[:])
			}
		})
	}
}

func BenchmarkJoin(b *testing.B) {
	f := big(b)
	for name, frames := range map[string][]Frame{"complete": cutAll(b, &f), "partial": cutPartial(&f)} {
		b.Run(name, func(b *testing.B) {
			var j Joiner
			b.SetBytes(60000)
			b.ReportAllocs()
			for b.Loop() {
				joinLoop(b, &j, frames)
				j.Head()
			}
		})
	}
}

func BenchmarkFlow(b *testing.B) {
	six := stream(1000)
	six.V6 = true
	for name, p := range map[string]packet{"IPv4": stream(1000), "IPv6": six} {
		b.Run(name, func(b *testing.B) {
			f := p.frame(b)
			for b.Loop() {
				f.Flow()
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	plain := stream(1000).frame(b)
	super := big(b)
	for name, f := range map[string]*Frame{"ordinary": &plain, "super": &super} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if f.Check() != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
