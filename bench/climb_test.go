package bench

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/bench/bed"
	"github.com/tapestry-net/tapestry/bench/results"
)

// named is a setup that cannot make anything.
type named string

func (n named) Name() string                         { return string(n) }
func (named) Missing() string                        { return "" }
func (named) Create(context.Context, bed.Host) error { return errors.New("cannot be opened") }
func (named) AddContainer(context.Context, bed.Host, int) (*bed.Node, error) {
	return nil, errors.New("no container")
}
func contenderOf(name string, b *bed.Bed) *contender {
	return &contender{setup: named(name), bed: b, series: map[string]*results.Series{}, failures: map[string]int{}}
}

// Rounds are taken in turn. A failure is missing in its round only; a contender that fails in two rounds is not measured again.
func TestRounds(t *testing.T) {
	good, bad := new(bed.Bed), new(bed.Bed)
	var turns []string
	tries := 0
	m := measure{figures: []figure{{name: "speed", unit: "Gb/s"}, {name: "cost", unit: "s/GB", lower: true}}, length: 1,
		run: func(_ context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			if d != 2*time.Second {
				t.Errorf("a run of %v, want 2s", d)
			}
			if b == good {
				turns = append(turns, "A")
				return outcome{values: []float64{8, 2}}, nil
			}
			turns = append(turns, "B")
			if tries++; tries > 1 { // the first round succeeds, all others fail
				return outcome{}, errors.New("broken")
			}
			return outcome{values: []float64{4, 4}}, nil
		}}
	contenders := []*contender{contenderOf(results.Tapestry, good), contenderOf("other", bad)}
	r, p := rung{name: "here", measures: []measure{m}}, plan{rounds: 5, seconds: 2}
	var skips []results.Skip
	for n := range p.rounds {
		failed, err := r.round(t.Context(), p, n, m, contenders, newProgress(io.Discard, 10, 20))
		if err != nil {
			t.Fatal(err)
		}
		skips = append(skips, failed...)
	}
	// Each failing round is tried twice.
	if got := strings.Join(turns, ""); got != "AB"+"ABB"+"ABB"+"A"+"A" {
		t.Errorf("turns %s", got)
	}
	want := []results.Skip{{What: "here: speed, other, round 2, first try", Why: "broken"}, {What: "here: speed, other, round 2", Why: "broken"},
		{What: "here: speed, other, round 3, first try", Why: "broken"}, {What: "here: speed, other, round 3 and later", Why: "broken"}}
	if !slices.Equal(skips, want) {
		t.Errorf("skips %q, want %q", skips, want)
	}
	c := r.summarize(m.figures[1], contenders, plan{})
	if len(c.Results) != 2 || len(c.Results[0].Values) != 5 || c.Results[0].Setup != results.Tapestry || !c.Lower ||
		len(c.Ratios) != 1 || !slices.Equal(c.Ratios[0].Values, []float64{0.5}) {
		t.Errorf("the case of the second figure: %+v", c)
	}
}

func TestRoundEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := measure{figures: []figure{{name: "speed"}}, run: func(context.Context, *bed.Bed, time.Duration) (outcome, error) {
		cancel()
		return outcome{}, errors.New("killed")
	}}
	skips, err := rung{}.round(ctx, plan{rounds: 1}, 0, m, []*contender{contenderOf(results.Tapestry, new(bed.Bed))}, newProgress(io.Discard, 1, 1))
	if !errors.Is(err, context.Canceled) || len(skips) > 0 {
		t.Errorf("skips %v, error %v", skips, err)
	}
}

// A first try that fails is listed, and rounds in which tapestry fails twice count as the worst; they are not left out.
func TestOurFailuresCount(t *testing.T) {
	ours, theirs := new(bed.Bed), new(bed.Bed)
	tries := 0
	m := measure{figures: []figure{{name: results.TCPOneFlow, unit: "Gb/s"}, {name: "time", unit: "s", lower: true}},
		run: func(_ context.Context, b *bed.Bed, _ time.Duration) (outcome, error) {
			if b == ours {
				if tries++; tries == 2 || tries >= 4 { // in the second round once, in the third and fourth twice
					return outcome{}, errors.New("broken")
				}
			}
			return outcome{values: []float64{4, 4}}, nil
		}}
	contenders := []*contender{contenderOf(results.Tapestry, ours), contenderOf("kernel bridge", theirs)}
	r, p := rung{name: results.OneHost}, plan{rounds: 6}
	var skips []results.Skip
	for n := range p.rounds {
		failed, err := r.round(t.Context(), p, n, m, contenders, newProgress(io.Discard, 1, 1))
		if err != nil {
			t.Fatal(err)
		}
		skips = append(skips, failed...)
	}
	if len(skips) != 5 || skips[0] != (results.Skip{What: "one host: TCP, 1 flow, tapestry, round 2, first try", Why: "broken"}) {
		t.Errorf("skips %q", skips)
	}
	speed, took := r.summarize(m.figures[0], contenders, plan{}).Ratios[0], r.summarize(m.figures[1], contenders, plan{}).Ratios[0]
	if speed.Failed != 2 || len(speed.Values) != 2 || speed.Low != 0 || speed.Median != 0.5 || speed.High != 1 {
		t.Errorf("higher is better: %+v", speed)
	}
	if took.Failed != 2 || took.Low != 1 || took.High != 1 {
		t.Errorf("lower is better: %+v", took)
	}
	if _, err := json.Marshal(took); err != nil {
		t.Error(err)
	}
}

// A setup that cannot be built is left out; without tapestry the rung is.
func TestBuildBeds(t *testing.T) {
	prog := newProgress(io.Discard, 0, 0)
	if _, _, err := (rung{name: "here", setups: []bed.Setup{absent{named(results.Tapestry)}}}).buildBeds(t.Context(), prog); err != nil {
		t.Errorf("a machine that lacks what tapestry needs there: %v", err)
	}
	if _, skips, err := (rung{name: "here", setups: []bed.Setup{unable{named(results.Tapestry)}}}).buildBeds(t.Context(), prog); err != nil || len(skips) != 2 || skips[1].What != "here" {
		t.Errorf("a bed of tapestry's that cannot be made, tried twice: %v, %v", skips, err)
	}
	contenders, skips, err := rung{name: "here", setups: []bed.Setup{absent{named(results.Tapestry)}, named("other")}}.buildBeds(t.Context(), prog)
	if err != nil || len(contenders) != 0 || !slices.Equal(skips, []results.Skip{{What: "here", Why: "needs a thing"}}) {
		t.Errorf("contenders %v, skips %v, %v", contenders, skips, err)
	}
}

// unable is a setup whose bed cannot be built, also without root.
type unable struct{ named }

// absent is a setup that the machine lacks something for.
type absent struct{ named }

func (absent) Missing() string { return "needs a thing" }
