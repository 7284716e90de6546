package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// The plans take the time that they promise, by their own estimate, with a tenth to spare.
func TestPlansEndInTime(t *testing.T) {
	for _, c := range []struct {
		o     Options
		limit time.Duration
	}{{Options{}, 18 * time.Minute}, {Options{Quick: true}, 2 * time.Minute}, {Options{Check: true}, 4 * time.Minute}} {
		p := newPlan(c.o)
		for _, r := range p.rungs {
			n, s := p.estimate(r)
			t.Logf("%s, %s: %d setups, %d measures, %d transfers, %.0f s", p.name, r.name, len(r.setups), len(r.measures), n, s)
		}
		transfers, seconds := p.all()
		t.Logf("%s: %d transfers, %.0f s", p.name, transfers, seconds)
		if seconds > 0.9*c.limit.Seconds() {
			t.Errorf("%s takes %.0f s, want %v with a tenth to spare", p.name, seconds, c.limit)
		}
	}
}

// Every bound is measured by the full plan, and those of --check by its plan, in enough rounds for an interval of 95 %.
func TestBoundsAreMeasured(t *testing.T) {
	full, check := newPlan(Options{}).wanted(), newPlan(Options{Check: true})
	for _, b := range results.Bounds {
		if b.Rung != results.Alone && !slices.Contains(full, b) {
			t.Errorf("the full plan does not measure %+v", b)
		}
		if got := slices.Contains(check.wanted(), b); got != (b.Check != 0) {
			t.Errorf("the check measures %+v: %v", b, got)
		}
		if strict, wide := b.CheckLimit(false), b.CheckLimit(true); (strict == 0) != (wide == 0) || (b.Aim > b.Limit && wide > strict) || (b.Aim < b.Limit && wide < strict) {
			t.Errorf("%+v: the check is stricter where system calls are slow", b)
		}
	}
	if _, _, coverage := results.Interval(make([]float64, check.minRounds)); coverage < results.Confidence {
		t.Errorf("%d rounds cannot fail", check.minRounds)
	}
	if check.minRounds < 10 {
		t.Errorf("the check has %d rounds, want at least 10", check.minRounds)
	}
}

// Tapestry comes first on each rung, and no two figures of a rung have the same name.
func TestRungs(t *testing.T) {
	for _, r := range allRungs(Options{}) {
		if r.setups[0].Name() != results.Tapestry {
			t.Errorf("%s begins with %s", r.name, r.setups[0].Name())
		}
		seen := map[string]bool{}
		for _, m := range r.measures {
			for _, f := range m.figures {
				if seen[f.name] {
					t.Errorf("%s has %q twice", r.name, f.name)
				}
				seen[f.name] = true
			}
		}
	}
}

func TestOnly(t *testing.T) {
	for name, c := range map[string]struct {
		o      Options
		rungs  map[string]int // measures of each
		others string         // seconds of parts and curves
	}{
		"a measure":                   {Options{Only: []string{"tcp, 8 FLOWS"}}, map[string]int{results.OneHost: 1, results.TwoHosts: 1, results.DockerOneHost: 1}, "0 0"},
		"another figure of a measure": {Options{Only: []string{"p99.9"}}, map[string]int{results.OneHost: 1, results.TwoHosts: 1, results.DockerOneHost: 1, results.DockerTwoHosts: 1}, "0 0"},
		"a rung":                      {Options{Only: []string{"docker, two"}}, map[string]int{results.DockerTwoHosts: 5}, "0 0"},
		"the parts":                   {Options{Only: []string{"parts"}}, map[string]int{}, "15 0"},
		"curves of the quick":         {Options{Quick: true, Only: []string{"curves"}}, map[string]int{}, "0 60"},
		"what is not there":           {Options{Only: []string{"QUIC"}}, map[string]int{}, "0 0"},
		"within the check":            {Options{Check: true, Only: []string{"UDP"}}, map[string]int{results.TwoHosts: 1}, "0 0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(c.o)
			got := map[string]int{}
			for _, r := range p.rungs {
				got[r.name] = len(r.measures)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.rungs) || fmt.Sprint(p.parts, p.curves) != c.others {
				t.Errorf("%v, parts and curves %v %v; want %v, %s", got, p.parts, p.curves, c.rungs, c.others)
			}
		})
	}
}

func TestTakes(t *testing.T) {
	p := plan{rounds: 9, sideRounds: 6, slowRounds: 6}
	for _, c := range []struct {
		rank   rank
		slow   bool
		rounds int
	}{{always, false, 9}, {often, false, 9}, {full, false, 6}, {always, true, 3}, {often, true, 0}, {full, true, 0}} { // of any measure but TCP, 1 flow
		got := 0
		for n := range p.rounds {
			if p.takes(measure{rank: c.rank}, c.slow, n) {
				got++
			}
		}
		if got != c.rounds {
			t.Errorf("rank %d, slow %v: %d rounds, want %d", c.rank, c.slow, got, c.rounds)
		}
	}
}

// What has a bound against a slow setup gets enough rounds for an interval of 95 %.
func TestSlowSetupsCanMiss(t *testing.T) {
	p, n := newPlan(Options{}), 0
	for p.takes(oneFlow(), true, n) {
		n++
	}
	if _, _, coverage := results.Interval(make([]float64, n)); coverage < results.Confidence {
		t.Errorf("%d rounds", n)
	}
}

// A check of few pairs fails because of too few rounds; it does not pass because of too wide an interval.
func TestCheckOfFewPairs(t *testing.T) {
	if p := newPlan(Options{Check: true, Pairs: 5}); p.rounds >= p.minRounds {
		t.Errorf("%d rounds and %d at the least", p.rounds, p.minRounds)
	}
	if p := newPlan(Options{Check: true, Pairs: 6}); p.minRounds > 6 {
		t.Errorf("6 rounds and %d at the least", p.minRounds)
	}
}

// What fails the check is measured again alone, if there is time.
func TestAgain(t *testing.T) {
	p := newPlan(Options{Check: true})
	for _, b := range p.wanted() {
		second, fits := p.again([]results.Bound{b}, retrySeconds)
		if b.Rung == results.Scraping {
			if _, s := second.all(); !fits || s > retrySeconds || len(second.rungs) > 0 {
				t.Errorf("scrapes: %.0f s, %+v", s, second)
			}
			continue
		}
		if _, s := second.all(); !fits || s > retrySeconds || second.scrapes > 0 || len(second.rungs) != 1 || len(second.rungs[0].measures) != 1 || second.minRounds < FewestPairs {
			t.Errorf("%s, %s: %.0f s, %+v", b.Rung, b.Measure, s, second)
		}
	}
	if _, fits := p.again(p.wanted(), retrySeconds); fits {
		t.Error("all of it fits")
	}
	if n := len(p.rungs[0].measures); n < 2 {
		t.Errorf("the plan itself is left with %d measures", n)
	}
	_, first := p.all()
	if all := first + 4*retrySeconds/3; all > 240 {
		t.Errorf("with a second measurement the check takes %.0f s", all)
	}
}
