package fault

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// timed is an output that records when each frame came out.
type timed struct {
	output
	began time.Time
	at    []time.Duration
}

func (s *timed) take(frames []ether.Frame) {
	for range frames {
		s.at = append(s.at, time.Since(s.began))
	}
	s.output.take(frames)
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &timed{began: time.Now()}
		g := checked(t, Spec{Delay: 50 * time.Millisecond}, s.take)
		lent := numbered(0, 60)
		var sent []time.Duration
		for i := range 1000 {
			copy(lent.Bytes()[ether.HeaderLen:], numberedBytes(i))
			sent = append(sent, time.Since(s.began))
			g.Process([]ether.Frame{lent})
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		copy(lent.Bytes()[ether.HeaderLen:], "used for another")
		rest(g, time.Second)
		want := make([]int, 1000)
		for i := range want {
			want[i] = i
			if i < len(s.at) && s.at[i]-sent[i] != 50*time.Millisecond {
				t.Fatalf("frame %d took %v", i, s.at[i]-sent[i])
			}
		}
		if !slices.Equal(s.passed(), want) || s.with(ether.FaultDelayed) != 1000 || g.Stats().Delayed != 1000 {
			t.Errorf("%d frames came, %+v", len(s.frames), g.Stats())
		}
	})
}

// rest lets the time d pass, so that the timer's goroutine sends what is due.
func rest(g *Injector, d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	g.Sync()
}

func numberedBytes(n int) []byte {
	f := numbered(n, 60)
	return f.Bytes()[ether.HeaderLen:]
}

// The delay varies between its bounds around its mean, whether frames come at a high or a low rate, and none overtakes another.
func TestJitter(t *testing.T) {
	for _, every := range []time.Duration{20 * time.Microsecond, 3 * time.Millisecond, time.Second} {
		t.Run(every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 40_000
				s := &timed{began: time.Now()}
				g := checked(t, Spec{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond, Seed: 9}, s.take)
				for i := range n {
					g.Process([]ether.Frame{numbered(i, 60)})
					time.Sleep(every)
				}
				rest(g, time.Second)
				var sum, least, most time.Duration = 0, time.Hour, 0
				for i := range s.at {
					d := s.at[i] - time.Duration(i)*every
					sum, least, most = sum+d, min(least, d), max(most, d)
				}
				if mean := sum / n; math.Abs(mean.Seconds()-0.050) > 0.0025 {
					t.Errorf("the mean delay is %v, want 50 ms within 5 %%", mean)
				}
				if least < 40*time.Millisecond || most > 60*time.Millisecond || least > 42*time.Millisecond || most < 58*time.Millisecond {
					t.Errorf("delays are from %v to %v, want 40 to 60 ms", least, most)
				}
				if got := s.passed(); len(got) != n || !slices.IsSorted(got) {
					t.Errorf("%d of %d frames came, in order: %v", len(got), n, slices.IsSorted(got))
				}
			})
		})
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		rate          int64
		length, burst int
		every         time.Duration // about twice the rate
	}{{10e6, 1250, 1, 500 * time.Microsecond}, {1e9, 1500, 10, 60 * time.Microsecond}, {500e3, 100, 1, 800 * time.Microsecond}} {
		synctest.Test(t, func(t *testing.T) {
			s := &timed{began: time.Now()}
			g := checked(t, Spec{Rate: c.rate}, s.take)
			n := 0
			for time.Since(s.began) < 2*time.Second {
				var frames []ether.Frame
				for range c.burst {
					frames = append(frames, numbered(n, c.length))
					n++
				}
				g.Process(frames)
				time.Sleep(c.every)
			}
			rest(g, 0)
			over := s.with(ether.FaultRate | ether.FaultLost)
			passed := 0
			for i := range s.frames {
				if s.frames[i].Fault&ether.FaultLost == 0 {
					passed++
				}
			}
			if got := float64(passed*c.length*8) / 2; math.Abs(got/float64(c.rate)-1) > 0.05 {
				t.Errorf("%d bit/s passed where %d may", int(got), c.rate)
			}
			if stats := g.Stats(); over == 0 || int(stats.OverRate) != over || stats.Lost != 0 || stats.Overflow != 0 {
				t.Errorf("%d frames are lost for the rate, %+v", over, stats)
			}
			if bytes := g.Stats().WaitingBytes - g.Stats().Waiting*overhead; bytes > int(max(c.rate/8/10, rateBytes)) {
				t.Errorf("%d bytes wait in the rate's queue", bytes)
			}
			if got := s.passed(); !slices.IsSorted(got) {
				t.Error("frames came out of order")
			}
		})
	}
}

// What comes no faster than the rate is not lost, even in bursts of a super-frame.
func TestRateKeepsTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &timed{began: time.Now()}
		g := checked(t, Spec{Rate: 100e6}, s.take)
		for range 200 {
			if kept, _ := g.Process([]ether.Frame{tcp(60_000, 1400)}); kept != 1 {
				t.Fatal("a super-frame is lost")
			}
			time.Sleep(5 * time.Millisecond) // 60 kB at 100 Mb/s take 4.8, and their headers 0.2
		}
		rest(g, time.Second)
		if stats := g.Stats(); stats.OverRate != 0 || stats.Passed != 200*43 {
			t.Errorf("%+v, want 43 segments of each", stats)
		}
	})
}

// A frame that is longer than the queue passes if the queue is empty.
func TestRateLongFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &output{}
		g := checked(t, Spec{Rate: 8e6}, s.take)
		g.Process([]ether.Frame{numbered(0, 60_000), numbered(1, 60_000)})
		rest(g, time.Second)
		if got := s.passed(); len(got) != 1 || len(lost(s)) != 1 {
			t.Errorf("passed %v, lost %v", got, lost(s))
		}
	})
}

// A frame that is held back is overtaken by the next three, or waits 50 ms; with a delay too.
func TestReorder(t *testing.T) {
	for _, delay := range []time.Duration{0, 10 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s := &output{}
			g := checked(t, Spec{Reorder: 0.01, Delay: delay, Seed: 5}, s.take)
			const n = 20_000
			for i := range n {
				g.Process([]ether.Frame{numbered(i, 60)})
				time.Sleep(10 * time.Microsecond)
			}
			rest(g, time.Second)
			late := 0
			order := s.passed()
			for i, f := range s.frames {
				if f.Fault&ether.FaultReordered == 0 {
					continue
				}
				late++
				if ahead := i - number(&f); (ahead < reorderAfter || ahead > reorderAfter+3) && number(&f) < n-10 {
					t.Errorf("frame %d was overtaken by %d", number(&f), ahead)
				}
			}
			near(t, "held back", float64(late), n*0.01, math.Sqrt(n*0.01*0.99))
			if stats := g.Stats(); int(stats.Reordered) != late || stats.Passed != n {
				t.Errorf("%+v", stats)
			}
			straight := &output{frames: slices.DeleteFunc(slices.Clone(s.frames), func(f ether.Frame) bool { return f.Fault&ether.FaultReordered != 0 })}
			if !slices.IsSorted(straight.passed()) {
				t.Error("others overtook each other too")
			}
			if slices.Sort(order); order[0] != 0 || order[n-1] != n-1 || len(slices.Compact(order)) != n {
				t.Errorf("of %d frames %d came", n, len(order))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := &timed{began: time.Now()}
		g := checked(t, Spec{Reorder: 1}, s.take)
		feed(g, 2)
		rest(g, time.Second)
		if !slices.Equal(s.at, []time.Duration{maxHeld, maxHeld}) {
			t.Errorf("frames that nobody overtakes came after %v", s.at)
		}
	})
}

// What waits when an injector is closed comes out at once and in order; later frames pass unchanged.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &timed{began: time.Now()}
		g := checked(t, Spec{Delay: time.Second, Rate: 100e6, Loss: 0.1}, s.take)
		feed(g, 1000)
		gone := len(lost(&s.output))
		g.Close()
		g.Close()
		if got := s.passed(); len(got)+gone != 1000 || !slices.IsSorted(got) || gone == 0 {
			t.Errorf("%d came out, %d were lost; in order: %v", len(got), gone, slices.IsSorted(got))
		}
		if at := s.at[len(s.at)-1]; at != 0 {
			t.Errorf("the last came after %v", at)
		}
		feed(g, 100)
		if n := len(s.frames); n != 1100 {
			t.Errorf("%d frames came out in the end, want 1100", n)
		}
		rest(g, time.Minute)
		if n := len(s.frames); n != 1100 {
			t.Errorf("%d frames came out after a minute, want 1100", n)
		}
	})
}

func TestQueueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &output{}
		g := checked(t, Spec{Delay: 10 * time.Second}, s.take)
		const length = 60_000
		n := maxWaiting/(length+overhead) + 100
		for i := range n {
			g.Process([]ether.Frame{numbered(i, length)})
		}
		shown := s.with(ether.FaultDelayed | ether.FaultLost)
		if stats := g.Stats(); stats.Overflow != 100 || stats.WaitingBytes > maxWaiting || shown != 100 {
			t.Errorf("%+v, %d are shown as lost", stats, shown)
		}
		rest(g, 10*time.Second)
		if stats := g.Stats(); stats.WaitingBytes != 0 || int(stats.Passed) != n-100 {
			t.Errorf("%+v", stats)
		}
	})
}

// Several workers, a reader of the counters and a close at the same time: there is no data race, and the counters add up.
func TestConcurrent(t *testing.T) {
	var mu sync.Mutex
	out := 0
	g := checked(t, Spec{Delay: 2 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.1, Burst: 3, Duplicate: 0.1, Reorder: 0.1,
		Corrupt: 0.1, Rate: 1e9}, func(frames []ether.Frame) {
		if !mu.TryLock() {
			t.Error("frames come out at two places at once")
			return
		}
		out += len(frames)
		mu.Unlock()
	})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				g.Process([]ether.Frame{numbered(i, 100), tcp(5000, 1000)})
				if i%100 == 0 {
					balance(t, g)
				}
			}
		})
	}
	wg.Go(func() {
		time.Sleep(5 * time.Millisecond)
		g.Sync()
	})
	wg.Wait()
	g.Close()
	if s := g.Stats(); uint64(out) != s.Frames+s.Duplicated || s.Frames != 4*2000*6 {
		t.Errorf("%d frames came out of %+v", out, s)
	}
}

func BenchmarkPass(b *testing.B) {
	for name, spec := range map[string]Spec{"loss": {Loss: 0.01}, "delay": {Delay: time.Millisecond}} {
		for kind, f := range map[string]ether.Frame{"1500": numbered(0, 1500), "super": tcp(60_000, 1448)} {
			b.Run(name+" "+kind, func(b *testing.B) {
				g := New(spec, func([]ether.Frame) {})
				defer g.Close()
				b.ReportAllocs()
				b.SetBytes(int64(f.Len()))
				for b.Loop() {
					g.Process([]ether.Frame{f})
				}
			})
		}
	}
}
