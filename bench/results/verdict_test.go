package results

import (
	"slices"
	"testing"
)

func TestVerdict(t *testing.T) {
	r := judged()
	err := r.Verdict()
	if err == nil {
		t.Fatal("two misses pass")
	}
	want := "two hosts: UDP 64 B: 0.50 of kernel VXLAN, 0.45..0.55 with 96 %, want ≥ 0.8\n" +
		"alone: RSS, 1,000 idle endpoints: 70.0 MB, want ≤ 64"
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	r.Cases = r.Cases[:2] // one ok, one within noise
	if err := r.Verdict(); err != nil {
		t.Errorf("noise fails the check: %v", err)
	}
	r.Wanted = []Bound{BoundOf(OneHost, TCPOneFlow, "kernel bridge"), BoundOf(TwoHosts, UDPSmall, "kernel VXLAN")}
	if err := r.Verdict(); err == nil || err.Error() != "two hosts: UDP 64 B: not measured against kernel VXLAN" {
		t.Errorf("what was not measured: %v", err)
	}
	// A daemon that dies in the middle of a run leaves rounds without a value.
	r.Wanted, r.Rounds, r.MinRounds = r.Wanted[:1], 12, 10
	r.Cases[0].Ratios[0].Values = []float64{0.9, 0.9, 0.9}
	r.Cases[0].Ratios[0].Failed = 1
	if err := r.Verdict(); err == nil || err.Error() != "one host: TCP, 1 flow: only 4 of 12 pairs with kernel bridge" {
		t.Errorf("too few rounds: %v", err)
	}
	r.Cases[0].Ratios[0].Values = make([]float64, 9)
	if err := r.Verdict(); err != nil {
		t.Errorf("as many rounds as the plan wants: %v", err)
	}
	r.Cases[0].Ratios[0].Failed = 2
	if err := r.Verdict(); err == nil || err.Error() != "one host: TCP, 1 flow: tapestry failed in 2 of 11 rounds, kernel bridge did not" {
		t.Errorf("a daemon that dies near the end: %v", err)
	}
	if (&Report{}).Verdict() == nil {
		t.Error("a report of nothing passes")
	}
}

// judged is a report with a bound that is kept, one within noise, and two that are missed.
func judged() *Report {
	result := func(setup string, v float64) Sample { return Sample{Setup: setup, Values: []float64{v}, Median: v} }
	ratio := func(against string, low, median, high, bound float64, verdict string) Ratio {
		return Ratio{Against: against, Values: slices.Repeat([]float64{median}, 12), Low: low, Median: median, High: high, Coverage: 0.961, Bound: bound, Aim: 1, Verdict: verdict}
	}
	return &Report{Cases: []Case{
		{Rung: OneHost, Measure: TCPOneFlow, Unit: "Gb/s", Ratios: []Ratio{ratio("kernel bridge", 0.86, 0.9, 0.95, 0.85, OK)}},
		{Rung: TwoHosts, Measure: EchoP50, Unit: "µs", Lower: true, Ratios: []Ratio{ratio("kernel VXLAN", 1.35, 1.6, 1.7, 1.4, WithinNoise)}},
		{Rung: TwoHosts, Measure: UDPSmall, Unit: "packets/s", Ratios: []Ratio{ratio("kernel VXLAN", 0.45, 0.5, 0.55, 0.8, Below)}},
		{Rung: Alone, Measure: RSSIdle, Unit: "MB", Lower: true, Results: []Sample{result(Tapestry, 70)}, Bound: 64, Aim: 40, Verdict: Above},
	}}
}
