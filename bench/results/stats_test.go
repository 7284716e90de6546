package results

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   float64
	}{
		"one":           {[]float64{3}, 3},
		"odd, unsorted": {[]float64{9, 1, 5}, 5},
		"even, mean":    {[]float64{4, 1, 2, 100}, 3},
		"one outlier":   {[]float64{1, 1, 1, 1, 1000}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(c.values)
			if got := Median(c.values); got != c.want {
				t.Errorf("median(%v) = %v, want %v", before, got, c.want)
			}
			if !slices.Equal(c.values, before) {
				t.Fatalf("median changed its argument: %v to %v", before, c.values)
			}
		})
	}
}

// Ends and coverage are those in tables of the sign test.
func TestInterval(t *testing.T) {
	for _, c := range []struct {
		n, k     int
		coverage float64
	}{{1, 1, 0}, {2, 1, 0.5}, {3, 1, 0.75}, {5, 1, 0.9375}, {6, 1, 0.96875}, {8, 1, 0.9921875}, {9, 2, 0.9609375},
		{10, 2, 0.978515625}, {12, 3, 0.96142578125}, {15, 4, 0.96484375}, {20, 6, 0.9586105346679688}, {100, 40, 0.9647997997822952}} {
		values := make([]float64, c.n)
		for i := range values {
			values[i] = float64(c.n - i) // n..1
		}
		low, high, coverage := Interval(values)
		if low != float64(c.k) || high != float64(c.n+1-c.k) || math.Abs(coverage-c.coverage) > 1e-12 {
			t.Errorf("of %d values: %v..%v, %v; want %d..%d, %v", c.n, low, high, coverage, c.k, c.n+1-c.k, c.coverage)
		}
	}
}

// The interval holds the true median as often as its coverage says, for any distribution of the values.
func TestIntervalCoverage(t *testing.T) {
	const trials = 20_000
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		draw func() float64
		true float64
	}{
		"normal":                    {rnd.NormFloat64, 0},
		"skewed":                    {func() float64 { return math.Exp(rnd.NormFloat64()) }, 1},
		"a tenth are outliers":      {func() float64 { return rnd.NormFloat64() * (1 + 50*math.Floor(rnd.Float64()+0.1)) }, 0},
		"two speeds of the machine": {func() float64 { return rnd.NormFloat64() + 5*math.Copysign(1, rnd.NormFloat64()) }, 0},
	} {
		for _, n := range []int{3, 6, 9, 10, 12} {
			inside, says := 0, 0.0
			values := make([]float64, n)
			for range trials {
				for i := range values {
					values[i] = c.draw()
				}
				low, high, coverage := Interval(values)
				if low <= c.true && c.true <= high {
					inside++
				}
				says = coverage
			}
			// Five standard deviations of what 20,000 trials show.
			if got, off := float64(inside)/trials, 5*math.Sqrt(says*(1-says)/trials); math.Abs(got-says) > off {
				t.Errorf("%s, %d values: the median is inside in %.4f of the trials, the coverage is %.4f", name, n, got, says)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		low, median, high, bound float64
		lower                    bool
		want                     string
	}{
		"above":                       {0.86, 0.9, 0.95, 0.85, false, OK},
		"at the bound":                {0.85, 0.85, 0.85, 0.85, false, OK},
		"median above, low end below": {0.8, 0.9, 0.95, 0.85, false, OK},
		"median below, high end not":  {0.7, 0.8, 0.85, 0.85, false, WithinNoise},
		"all below":                   {0.7, 0.8, 0.84, 0.85, false, Below},
		"lower is better, under":      {1.0, 1.1, 1.3, 1.2, true, OK},
		"lower is better, median not": {1.1, 1.3, 1.5, 1.2, true, WithinNoise},
		"lower is better, all over":   {1.21, 1.3, 1.5, 1.2, true, Above},
	} {
		r := Ratio{Low: c.low, Median: c.median, High: c.high, Bound: c.bound, Coverage: 0.96}
		if got := r.judge(c.lower); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		r.Coverage = 0.94
		if got := r.judge(c.lower); got != TooFew {
			t.Errorf("%s, of too few rounds: %q, want %q", name, got, TooFew)
		}
	}
}

// The machine changes its speed within a run: the ratio of the medians would be 1, that of most rounds is 0.5.
func TestCompareTakesRatiosWithinRounds(t *testing.T) {
	ours := inTurn(8, 4, 8)
	r := Compare("kernel", ours, inTurn(16, 8, 4), Bound{Limit: 0.6}, false)
	if r.Median != 0.5 || r.Low != 0.5 || r.High != 2 || r.Coverage != 0.75 || r.Verdict != TooFew {
		t.Errorf("got %+v, want 0.5 in 0.5..2 with 0.75, %s", r, TooFew)
	}
	holed := Compare("slow", ours, &Series{Rounds: []int{1, 2, 5}, Values: []float64{2, 16, 1}}, Bound{}, false)
	if !slices.Equal(holed.Values, []float64{2, 0.5}) || holed.Verdict != "" {
		t.Errorf("a setup that lacks rounds: %+v, want 2 and 0.5 without a verdict", holed)
	}
	if none := Compare("gone", ours, new(Series), Bound{Limit: 1}, false); len(none.Values) != 0 || none.Verdict != "" {
		t.Errorf("a setup without rounds: %+v", none)
	}
}

// A setup that fails in most rounds misses its bound, however well it does in the others.
func TestCompareCountsFailures(t *testing.T) {
	theirs := inTurn(1, 1, 1, 1, 1, 1)
	ours := &Series{Rounds: []int{0}, Values: []float64{1}, Failed: []int{1, 2, 3, 4, 5, 6}} // theirs has no round 6
	for lower, want := range map[bool]string{false: WithinNoise, true: WithinNoise} {
		if r := Compare("kernel", ours, theirs, Bound{Limit: 1}, lower); r.Failed != 5 || r.Verdict != want || math.IsInf(r.High, 0) || math.IsInf(r.Median, 0) {
			t.Errorf("lower %v: %+v, want %s", lower, r, want)
		}
		none := &Series{Failed: []int{0, 1, 2, 3, 4, 5}}
		if r := Compare("kernel", none, theirs, Bound{Limit: 1}, lower); r.Verdict != missed(lower) || r.Median != 0 {
			t.Errorf("no round has a value, lower %v: %+v", lower, r)
		}
	}
}

// inTurn is a series of the rounds 0, 1, 2, …
func inTurn(values ...float64) *Series {
	s := &Series{Values: values}
	for i := range values {
		s.Rounds = append(s.Rounds, i)
	}
	return s
}

// False alarms are rare even on a noisy machine: when the true ratio is 3 % above the bound and rounds scatter by 10 %, at most
// one check in 200 fails, although an interval of 95 % alone would allow one in 20.
func TestCheckHasFewFalseAlarms(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	const trials = 20_000
	alarms, seen := 0, 0
	for range trials {
		theirs, same, half := make([]float64, 12), make([]float64, 12), make([]float64, 12)
		for i := range theirs {
			theirs[i] = 1 + 0.1*rnd.NormFloat64()
			same[i] = 0.85 * 1.03 * (1 + 0.1*rnd.NormFloat64())
			half[i] = same[i] * 0.7
		}
		if Compare("", inTurn(same...), inTurn(theirs...), Bound{Limit: 0.85}, false).Verdict == Below {
			alarms++
		}
		if Compare("", inTurn(half...), inTurn(theirs...), Bound{Limit: 0.85}, false).Verdict == Below {
			seen++
		}
	}
	if alarms > trials/200 {
		t.Errorf("%d of %d checks are false alarms", alarms, trials)
	}
	if seen < trials*99/100 {
		t.Errorf("a loss of 30 %% is seen in %d of %d checks", seen, trials)
	}
}

// The distribution that is shown is that of the round nearest to the median.
func TestSeriesResult(t *testing.T) {
	s := inTurn(50, 90, 60)
	for _, v := range s.Values {
		s.CDFs = append(s.CDFs, []Point{{X: v, Y: 0.5}})
	}
	if r := s.Sample("any"); r.Median != 60 || len(r.CDF) != 1 || r.CDF[0].X != 60 {
		t.Errorf("got %+v, want the distribution around 60", r)
	}
}
