package fault

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

const many = 100_000

// near checks that a count is within three sigma of the expected one.
func near(t *testing.T, what string, got, want, sigma float64) {
	t.Helper()
	if math.Abs(got-want) > 3*sigma {
		t.Errorf("%s: %.4g, want %.4g ± %.2g", what, got, want, 3*sigma)
	}
}

func TestLoss(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		for _, p := range []float64{0.001, 0.02, 0.5, 0.999} {
			s := &output{}
			g := checked(t, Spec{Loss: p, Seed: seed}, s.take)
			feed(g, many)
			n := len(lost(s))
			near(t, fmt.Sprintf("frames lost at %v", p), float64(n), many*p, math.Sqrt(many*p*(1-p)))
			if got := g.Stats(); int(got.Lost) != n || got.Frames != many || len(s.passed()) != many-n {
				t.Errorf("%d lost, stats %+v", n, got)
			}
			if !slices.IsSorted(s.passed()) {
				t.Error("loss changed the order")
			}
		}
	}
}

func TestAllLost(t *testing.T) {
	for _, spec := range []Spec{{Loss: 1}, {Loss: 1, Burst: 5}} {
		s := &output{}
		feed(checked(t, spec, s.take), 1000)
		if n := len(lost(s)); n != 1000 {
			t.Errorf("%v: %d of 1000 frames lost", spec, n)
		}
	}
}

// Bursts have the length asked for, and in the long run no more is lost than without.
func TestBurst(t *testing.T) {
	for _, c := range []struct{ loss, burst float64 }{{0.02, 5}, {0.1, 1}, {0.2, 20}, {0.5, 2.5}} {
		s := &output{}
		feed(checked(t, Spec{Loss: c.loss, Burst: c.burst, Seed: 4}, s.take), many)
		gone := lost(s)
		runs := 0
		for i, n := range gone {
			if i == 0 || n != gone[i-1]+1 {
				runs++
			}
		}
		// The autocorrelation of a two-state Markov chain falls by the factor 1 - P(good to bad) - P(bad to good) with each step.
		memory := 1 - c.loss/(c.burst*(1-c.loss)) - 1/c.burst
		near(t, fmt.Sprintf("%v: frames lost", c), float64(len(gone)), many*c.loss, math.Sqrt(many*c.loss*(1-c.loss)*(1+memory)/(1-memory)))
		near(t, fmt.Sprintf("%v: mean burst", c), float64(len(gone))/float64(runs), c.burst,
			math.Sqrt(c.burst*(c.burst-1)/float64(runs))+1e-9)
	}
}

// The same seed makes the same choices, whatever else is set; another makes others.
func TestSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := func(spec Spec) ([]int, Stats) {
			s := &output{}
			g := checked(t, spec, s.take)
			feed(g, 10_000)
			rest(g, time.Minute)
			gone := lost(s)
			slices.Sort(gone)
			return gone, g.Stats()
		}
		spec := Spec{Loss: 0.1, Duplicate: 0.01, Reorder: 0.02, Corrupt: 0.03, Seed: 7}
		gone, stats := run(spec)
		if again, twice := run(spec); !slices.Equal(gone, again) || stats != twice {
			t.Errorf("seed 7 made %+v, and then %+v", stats, twice)
		}
		more := spec
		more.Delay, more.Jitter, more.Rate = 50*time.Millisecond, 10*time.Millisecond, 1e9
		again, twice := run(more)
		if !slices.Equal(gone, again) || stats.Duplicated != twice.Duplicated || stats.Reordered != twice.Reordered || stats.Corrupted != twice.Corrupted {
			t.Errorf("without a delay %+v, with one %+v", stats, twice)
		}
		other := spec
		other.Seed = 8
		if again, _ := run(other); slices.Equal(gone, again) {
			t.Error("seeds 7 and 8 lose the same frames")
		}
	})
}

func TestDuplicate(t *testing.T) {
	s := &output{}
	g := checked(t, Spec{Duplicate: 0.01, Seed: 7}, s.take)
	feed(g, many)
	near(t, "duplicates", float64(g.Stats().Duplicated), many*0.01, math.Sqrt(many*0.01*0.99))
	if n := s.with(ether.FaultDuplicate); n != wantDuplicates || g.Stats().Duplicated != wantDuplicates {
		t.Errorf("%d duplicates and %+v, seed 7 makes %d", n, g.Stats(), wantDuplicates)
	}
	for i := range s.frames {
		if f := &s.frames[i]; f.Fault != 0 && (number(f) != number(&s.frames[i-1]) || f.Len() != s.frames[i-1].Len()) {
			t.Fatalf("frame %d was followed by a duplicate that is another: %d", number(&s.frames[i-1]), number(f))
		}
	}
}

// wantDuplicates is the number of duplicates with seed 7 of many frames at 1 %: it changes only if the generator does.
const wantDuplicates = 1005

// One bit behind the Ethernet header is flipped, which the checksum shows; the lent frame is not changed.
func TestCorrupt(t *testing.T) {
	for _, c := range []struct {
		name string
		make func() ether.Frame
	}{
		{"complete", func() ether.Frame { f := tcp(500, 1000); f.Check(); f.CompleteChecksum(); return f }},
		{"partial", func() ether.Frame { return tcp(500, 1000) }},
		{"super-frame", func() ether.Frame { return tcp(1400, 500) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := &output{}, &output{}
			clean := checked(t, Spec{Loss: 1e-15}, before.take)
			g := checked(t, Spec{Corrupt: 1, Seed: 3}, after.take)
			f := c.make()
			lent := string(f.Bytes())
			clean.Process([]ether.Frame{f})
			g.Process([]ether.Frame{f})
			if string(f.Bytes()) != lent {
				t.Error("the lent frame was changed")
			}
			for i := range after.frames {
				a, b := before.frames[i], after.frames[i]
				a.Check()
				a.CompleteChecksum()
				if !right(&a) || right(&b) || b.Off != (ether.Offload{}) || b.Fault != ether.FaultCorrupt {
					t.Errorf("checksums are right: %v before, %v after; %+v, %v", right(&a), right(&b), b.Off, b.Fault)
				}
				flipped := 0
				for j, x := range b.Bytes() {
					n := bits.OnesCount8(x ^ a.Bytes()[j])
					if flipped += n; n > 0 && j < ether.HeaderLen {
						t.Errorf("byte %d is of the Ethernet header", j)
					}
				}
				if flipped != 1 || a.Len() != b.Len() {
					t.Errorf("%d bits are flipped", flipped)
				}
			}
			if n := g.Stats().Corrupted; int(n) != len(before.frames) {
				t.Errorf("%d frames are corrupt, of %d", n, len(before.frames))
			}
		})
	}
	s := &output{}
	bare := ether.Lend(make([]byte, ether.Headroom+ether.HeaderLen), ether.Offload{})
	checked(t, Spec{Corrupt: 1}, s.take).Process([]ether.Frame{bare})
	if s.frames[0].Fault != 0 {
		t.Error("a frame that is all header was corrupted")
	}
}

// A fault is decided for each segment of a super-frame by itself; the super-frame counts as kept if any segment is.
func TestSuperFrame(t *testing.T) {
	s := &output{}
	g := checked(t, Spec{Loss: 0.5, Seed: 1}, s.take)
	const segments = 40
	f := tcp(segments*1000-1, 1000)
	kept, bytes := g.Process([]ether.Frame{f})
	if kept != 1 || bytes != f.Len() {
		t.Errorf("kept %d frames of %d bytes, want 1 of %d", kept, bytes, f.Len())
	}
	if n := len(lostFrames(s)); len(s.frames) != segments || n < 5 || n > 35 {
		t.Errorf("%d of %d segments are lost, want about half of %d", n, len(s.frames), segments)
	}
	payload := 0
	for i := range s.frames {
		f := &s.frames[i]
		if payload += f.Len() - tcpHead; !right(f) || f.Len() > tcpHead+1000 || f.Check() != nil || f.Off.Kind != ether.None {
			t.Errorf("segment %d of %d bytes, %+v: checksums are right: %v", i, f.Len(), f.Off, right(f))
		}
	}
	if payload != segments*1000-1 {
		t.Errorf("segments carry %d bytes", payload)
	}
	all := checked(t, Spec{Loss: 1}, (&output{}).take)
	if kept, bytes := all.Process([]ether.Frame{f, numbered(1, 60)}); kept != 0 || bytes != 0 {
		t.Errorf("kept %d frames of %d bytes where all is lost", kept, bytes)
	}
}

func lostFrames(s *output) (all []ether.Frame) {
	return slices.DeleteFunc(slices.Clone(s.frames), func(f ether.Frame) bool { return f.Fault&ether.FaultLost == 0 })
}

// A frame that the switch drops as malformed passes unchanged; marks of other faults stay.
func TestStrange(t *testing.T) {
	s := &output{}
	g := checked(t, Spec{Loss: 1}, s.take)
	runt := ether.Lend(make([]byte, ether.Headroom+3), ether.Offload{})
	invalid := ether.Lend(make([]byte, ether.Headroom+60), ether.Offload{Kind: ether.TCP4, Segment: 1})
	marked := numbered(0, 60)
	marked.Fault = ether.FaultRate
	g.Process([]ether.Frame{runt, invalid, marked, ether.Lend(nil, ether.Offload{})})
	for i, want := range []ether.Fault{0, 0, ether.FaultRate | ether.FaultLost, 0} {
		if got := s.frames[i].Fault; got != want {
			t.Errorf("frame %d is marked %v, want %v", i, got, want)
		}
	}
}

func FuzzInjector(f *testing.F) {
	super := tcp(3000, 1000)
	f.Add(super.Bytes(), uint8(1), true, uint16(1000), uint16(34), uint16(16), uint64(1))
	f.Add([]byte{1, 2, 3}, uint8(3), true, uint16(0), uint16(9), uint16(9), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, needs bool, segment, start, offset uint16, seed uint64) {
		off := ether.Offload{Kind: ether.Kind(kind), PartialChecksum: needs, Segment: segment, ChecksumStart: start, ChecksumOffset: offset}
		fr := ether.Lend(append(make([]byte, ether.Headroom), b...), off)
		half := Spec{Delay: time.Hour, Loss: 0.5, Duplicate: 0.5, Reorder: 0.5, Corrupt: 0.5, Rate: 1e6, Seed: seed}
		g := New(half, func([]ether.Frame) {})
		g.Process([]ether.Frame{fr, fr, fr})
		balance(t, g)
		g.Close()
		balance(t, g)
		if string(fr.Bytes()) != string(b) {
			t.Error("the lent frame was changed")
		}
	})
}
