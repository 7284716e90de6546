package bench

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// named is a way that cannot make anything.
type named string

func (n named) name() string                   { return string(n) }
func (named) missing() string                  { return "" }
func (named) open(context.Context, site) error { return errors.New("cannot be opened") }
func (named) container(context.Context, site, int) (*host, error) {
	return nil, errors.New("no container")
}
func laneOf(name string, b *bed) *lane {
	return &lane{way: named(name), bed: b, took: map[string]*series{}, lost: map[string]int{}}
}

// Rounds are taken in turn, and a run that fails leaves a hole in its round alone; who fails twice is not asked again.
func TestRounds(t *testing.T) {
	good, bad := new(bed), new(bed)
	var turns []string
	tries := 0
	m := measure{figures: []figure{{name: "speed", unit: "Gb/s"}, {name: "cost", unit: "s/GB", lower: true}}, length: 1,
		take: func(_ context.Context, b *bed, d time.Duration) ([]float64, []Point, error) {
			if d != 2*time.Second {
				t.Errorf("a run of %v, want 2s", d)
			}
			if b == good {
				turns = append(turns, "A")
				return []float64{8, 2}, nil, nil
			}
			turns = append(turns, "B")
			if tries++; tries > 1 { // the first round holds, then it fails for good
				return nil, nil, errors.New("broken")
			}
			return []float64{4, 4}, nil, nil
		}}
	lanes := []*lane{laneOf(ourWay, good), laneOf("other", bad)}
	r, p := rung{name: "here", measures: []measure{m}}, plan{rounds: 5, seconds: 2}
	var skips []Skip
	for n := range p.rounds {
		failed, err := r.round(t.Context(), p, n, m, lanes, newProgress(io.Discard, 10, 20))
		if err != nil {
			t.Fatal(err)
		}
		skips = append(skips, failed...)
	}
	// Each failing round is tried twice.
	if got := strings.Join(turns, ""); got != "AB"+"ABB"+"ABB"+"A"+"A" {
		t.Errorf("turns %s", got)
	}
	want := []Skip{{"here: speed, other, round 2", "broken"}, {"here: speed, other, round 3 and later", "broken"}}
	if !slices.Equal(skips, want) {
		t.Errorf("skips %q, want %q", skips, want)
	}
	c := r.summarize(m.figures[1], lanes)
	if len(c.Results) != 2 || len(c.Results[0].Values) != 5 || c.Results[0].Way != ourWay || !c.Lower ||
		len(c.Ratios) != 1 || !slices.Equal(c.Ratios[0].Values, []float64{0.5}) {
		t.Errorf("the case of the second figure: %+v", c)
	}
}

func TestRoundEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := measure{figures: []figure{{name: "speed"}}, take: func(context.Context, *bed, time.Duration) ([]float64, []Point, error) {
		cancel()
		return nil, nil, errors.New("killed")
	}}
	skips, err := rung{}.round(ctx, plan{rounds: 1}, 0, m, []*lane{laneOf(ourWay, new(bed))}, newProgress(io.Discard, 1, 1))
	if !errors.Is(err, context.Canceled) || len(skips) > 0 {
		t.Errorf("skips %v, error %v", skips, err)
	}
}

// The distribution that is shown is that of the round nearest to the median.
func TestSeriesResult(t *testing.T) {
	s := inTurn(50, 90, 60)
	for _, v := range s.values {
		s.cdfs = append(s.cdfs, []Point{{X: v, Y: 0.5}})
	}
	if r := s.result("any"); r.Median != 60 || len(r.CDF) != 1 || r.CDF[0].X != 60 {
		t.Errorf("got %+v, want the distribution around 60", r)
	}
}

// Without a way a rung goes on; without tapestry there is none.
func TestSettle(t *testing.T) {
	say := newProgress(io.Discard, 0, 0)
	if _, _, err := (rung{name: "here", ways: []way{absent{named(ourWay)}}}).settle(t.Context(), say); err != nil {
		t.Errorf("a machine that lacks what tapestry needs there: %v", err)
	}
	lanes, skips, err := rung{name: "here", ways: []way{absent{named(ourWay)}, named("other")}}.settle(t.Context(), say)
	if err != nil || len(lanes) != 0 || !slices.Equal(skips, []Skip{{"here", "needs a thing"}}) {
		t.Errorf("lanes %v, skips %v, %v", lanes, skips, err)
	}
}

// absent is a way that the machine lacks something for.
type absent struct{ named }

func (absent) missing() string { return "needs a thing" }
