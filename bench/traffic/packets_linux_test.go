package traffic

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// A path forwards so many datagrams a second. A flooded one may forward fewer, since it spends time on what it then drops.
type path struct {
	sender, capacity, flooded float64
	hiccup                    int // in every so many trials something else runs, and 1 % is lost
	starved                   int // in every so many trials the sender runs only half of the time
	lucky                     int // the trial in which everything arrives
	tries                     int
}

func (p *path) try(rate float64) (trial, error) {
	const seconds = 0.25
	p.tries++
	offered := min(rate, p.sender)
	arrived := min(offered, p.capacity)
	if rate == 0 {
		offered, arrived = p.sender, min(p.sender, p.flooded)
	}
	if p.tries == p.lucky {
		arrived = offered
	}
	if p.starved > 0 && p.tries%p.starved == 0 {
		offered /= 2
		arrived = min(offered, arrived)
	}
	if p.hiccup > 0 && p.tries%p.hiccup == 0 {
		arrived = min(arrived, 0.99*offered)
	}
	return trial{Rate: rate, Offered: offered, Arrived: arrived, Sent: int(offered * seconds), Received: int(arrived * seconds)}, nil
}

func TestSearch(t *testing.T) {
	for name, p := range map[string]path{
		"the path is slower":                 {sender: 900e3, capacity: 300e3, flooded: 300e3},
		"a flood slows it down":              {sender: 900e3, capacity: 300e3, flooded: 90e3},
		"a flood nearly stops it":            {sender: 900e3, capacity: 300e3, flooded: 10e3},
		"the sender is slower":               {sender: 200e3, capacity: 300e3, flooded: 300e3},
		"both are equally fast":              {sender: 300e3, capacity: 299e3, flooded: 299e3},
		"a sender whose flood slows it down": {sender: 300e3, capacity: 400e3, flooded: 200e3},
		"slow":                               {sender: 300e3, capacity: 2e3, flooded: 1e3},
		"a machine with hiccups":             {sender: 900e3, capacity: 300e3, flooded: 200e3, hiccup: 4},
		"a sender with hiccups":              {sender: 900e3, capacity: 300e3, flooded: 290e3, starved: 2},
	} {
		t.Run(name, func(t *testing.T) {
			best, err := search(p.try, func() bool { return p.tries < 16 })
			if err != nil {
				t.Fatal(err)
			}
			want := min(p.sender, p.capacity)
			if best.Arrived < 0.95*want || best.Arrived > want || !best.passes() {
				t.Errorf("%+v after %d trials, want %v", best, p.tries, want)
			}
		})
	}
}

// One trial that passed does not confirm a rate.
func TestSearchIsNotLuck(t *testing.T) {
	for lucky := range 12 {
		p := path{sender: 900e3, capacity: 300e3, flooded: 290e3, lucky: lucky}
		best, err := search(p.try, func() bool { return p.tries < 10 })
		if err != nil || best.Arrived > 300e3 || best.Arrived < 150e3 {
			t.Errorf("a lucky trial %d: %+v, %v", lucky, best, err)
		}
	}
}

func TestSearchOfADeadPath(t *testing.T) {
	p := path{sender: 900e3}
	if best, err := search(p.try, func() bool { return p.tries < 16 }); err == nil {
		t.Errorf("a path that forwards nothing passes %+v", best)
	}
}

func datagram(trial, flow, n uint32) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b, trial)
	binary.BigEndian.PutUint32(b[4:], flow)
	binary.BigEndian.PutUint32(b[8:], n)
	return b
}

func TestSequences(t *testing.T) {
	type d = [3]uint32 // trial, flow, number
	for name, c := range map[string]struct {
		got  []d
		want tally
	}{
		"in order":              {[]d{{2, 0, 0}, {2, 0, 1}, {2, 0, 2}}, tally{Received: 3}},
		"with loss":             {[]d{{2, 0, 3}, {2, 0, 70}, {2, 0, 4000}}, tally{Received: 3}},
		"flows are independent": {[]d{{2, 0, 5}, {2, 1, 0}, {2, 0, 6}, {2, 1, 1}}, tally{Received: 4}},
		"one is overtaken":      {[]d{{2, 0, 0}, {2, 0, 2}, {2, 0, 1}, {2, 0, 3}}, tally{Received: 4, Reordered: 1}},
		"a block is overtaken":  {[]d{{2, 0, 2}, {2, 0, 3}, {2, 0, 0}, {2, 0, 1}, {2, 0, 4}}, tally{Received: 5, Reordered: 2}},
		"twice":                 {[]d{{2, 0, 0}, {2, 0, 0}, {2, 0, 1}}, tally{Received: 2, Duplicates: 1}},
		"twice, much later":     {[]d{{2, 0, 0}, {2, 0, 1}, {2, 0, 0}}, tally{Received: 2, Duplicates: 1}},
		"late, still in order":  {[]d{{1, 0, 9}, {2, 0, 0}}, tally{Received: 1, Late: 1}},
		"late and overtaken":    {[]d{{2, 0, 0}, {1, 0, 9}}, tally{Received: 1, Reordered: 1}},
		"of a later trial":      {[]d{{3, 0, 0}}, tally{Foreign: 1}},
		"of no flow":            {[]d{{2, 2, 0}}, tally{Foreign: 1}},
		"beyond all numbers":    {[]d{{2, 0, maxSeen}, {2, 0, 1<<32 - 1}}, tally{Foreign: 2}},
		"the last number":       {[]d{{2, 0, maxSeen - 1}}, tally{Received: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSequences(2)
			s.begin(1)
			for n := range uint32(100) {
				s.count(datagram(1, n%2, n))
			}
			s.begin(2) // what the first trial left must not count
			for _, d := range c.got {
				s.count(datagram(d[0], d[1], d[2]))
			}
			if s.tally != c.want {
				t.Errorf("got %+v, want %+v", s.tally, c.want)
			}
		})
	}
	t.Run("too short", func(t *testing.T) {
		s := newSequences(1)
		s.begin(1)
		s.count(nil)
		s.count(make([]byte, headerSize-1))
		if s.tally != (tally{Foreign: 2}) {
			t.Errorf("got %+v", s.tally)
		}
	})
}

func TestDistribution(t *testing.T) {
	many := make([]uint32, 100_000)
	for i := range many {
		many[i] = uint32(20_000 + rand.ExpFloat64()*5_000)
	}
	for name, times := range map[string][]uint32{
		"one": {1500}, "two": {1500, 2500}, "all alike": {7000, 7000, 7000}, "many": many,
	} {
		t.Run(name, func(t *testing.T) {
			a := summary(times) // sorts them
			points := a.CDF
			if len(points) == 0 || len(points) > 200 || a.Count != len(times) {
				t.Fatalf("%d points of %d times", len(points), a.Count)
			}
			for i, p := range points {
				within := 0
				for _, d := range times {
					if float64(d)/1e3 <= p.X {
						within++
					}
				}
				if p.Y != float64(within)/float64(len(times)) {
					t.Errorf("%v µs: a share of %v, want %d of %d", p.X, p.Y, within, len(times))
				}
				if i > 0 && (p.X <= points[i-1].X || p.Y <= points[i-1].Y) {
					t.Errorf("%v does not rise over %v", p, points[i-1])
				}
			}
			if end := points[len(points)-1]; end != (Point{float64(times[len(times)-1]) / 1e3, 1}) {
				t.Errorf("it ends at %v", end)
			}
			if a.P50 > a.P99 || a.P99 > a.P999 {
				t.Errorf("%v, %v, %v do not rise", a.P50, a.P99, a.P999)
			}
		})
	}
	if a := summary([]uint32{4000, 1000, 3000, 2000}); a.P50 != 3 || a.P999 != 4 {
		t.Errorf("of 1 to 4 µs: p50 %v, p99.9 %v, want 3 and 4", a.P50, a.P999)
	}
}

func TestParseCPU(t *testing.T) {
	for name, c := range map[string]struct {
		stat string
		want float64 // 0: an error
	}{
		"all but idle, iowait, steal and guest": {"cpu  100 20 300 9000 800 40 50 6000 70 7\ncpu0 1 2 3\nintr 5\n", 5.1},
		"one line":                              {"cpu  1 0 0 0 0 0 0 0", 0.01},
		"an old kernel's":                       {"cpu 1 2 3 4\n", 0},
		"not the first line":                    {"cpu0 1 2 3 4 5 6 7 8 9 10\n", 0},
		"no number":                             {"cpu 1 2 x 4 5 6 7 8 9 10\n", 0},
		"negative":                              {"cpu 1 2 -3 4 5 6 7 8 9 10\n", 0},
		"nothing":                               {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseCPU([]byte(c.stat))
			if got != c.want || (err != nil) != (c.want == 0) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
	if got, err := CPUSeconds(); err != nil || got <= 0 {
		t.Errorf("this machine: %v, %v", got, err)
	}
}

func TestStolen(t *testing.T) {
	all, steal, err := parseStolen([]byte("cpu  10 20 30 40 1 2 3 4 50 60\ncpu0 1\n"))
	if err != nil || all != 110 || steal != 4 {
		t.Errorf("%v ticks, %v of them stolen, %v: want 110 and 4", all, steal, err)
	}
	for _, bad := range []string{"", "cpu", "cpu 1 2 3 4 5 6 7", "cpu 1 2 3 4 5 6 7 x", "intr 1 2 3 4 5 6 7 8"} {
		if _, _, err := parseStolen([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
