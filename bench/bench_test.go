package bench

import (
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/bench/results"
)

// What fails the check is measured again, unless tapestry failed in too many rounds.
func TestFailing(t *testing.T) {
	x := results.Ratio{Against: "kernel bridge", Values: []float64{0.9, 0.9, 0.9}, Failed: 1, Low: 0.86, Median: 0.9, High: 0.95, Coverage: 0.961, Bound: 0.85, Aim: 1, Verdict: results.OK}
	r := &results.Report{Wanted: []results.Bound{results.BoundOf(results.OneHost, results.TCPOneFlow, "kernel bridge")}, Rounds: 12, MinRounds: 10,
		Cases: []results.Case{{Rung: results.OneHost, Measure: results.TCPOneFlow, Unit: "Gb/s", Ratios: []results.Ratio{x}}}}
	if got := failing(r); !slices.Equal(got, r.Wanted) {
		t.Errorf("too few rounds: failing are %v", got)
	}
	r.Cases[0].Ratios[0].Values = make([]float64, 9)
	if got := failing(r); len(got) > 0 {
		t.Errorf("as many rounds as the plan wants: failing are %v", got)
	}
	r.Cases[0].Ratios[0].Failed = 2
	if got := failing(r); r.Verdict() == nil || len(got) > 0 {
		t.Errorf("a daemon that dies near the end: %v, to be measured again %v", r.Verdict(), got)
	}
}
