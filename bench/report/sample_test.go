package report

import (
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// madeUp is a report as that of a full run, always the same one. Its figures are invented.
func madeUp() *results.Report {
	rng := rand.New(rand.NewPCG(1, 2))
	r := &results.Report{
		Machine: results.Machine{Cores: 2, CPU: "AMD EPYC 7B13", MemoryMB: 8192, Load: "0.42", Kernel: "6.18.5", Docker: "20.10.24+dfsg1",
			Version: "v0.3.0-12-gabc1234", Commit: "abc1234", Modified: true, Go: "go1.26.8", Arch: "amd64"},
		Plan: "full", Began: time.Date(2026, 11, 21, 14, 30, 0, 0, time.UTC), Seconds: 874,
	}
	rungs := []struct {
		name   string
		setups []string
		speed  []float64 // of each setup, the first one's is 1
	}{
		{"one host", []string{"tapestry", "kernel bridge", "VDE"}, []float64{1, 1.04, .09}},
		{"two hosts", []string{"tapestry", "kernel VXLAN", "Open vSwitch", "wireguard-go"}, []float64{1, 1.06, .085, .3}},
		{"docker, one host", []string{"tapestry", "Docker bridge"}, []float64{1, 1.03}},
		{"docker, two hosts", []string{"tapestry", "Docker overlay"}, []float64{1, .97}},
	}
	measures := []struct {
		name, unit string
		typical    float64
		lower      bool
		bound, aim float64
	}{
		{"TCP, 1 flow", "Gb/s", 11.2, false, .85, 1},
		{"TCP, 8 flows", "Gb/s", 12.7, false, .9, 1.1},
		{"TCP, 1 flow, both directions", "Gb/s", 13.4, false, 0, 0},
		{"TCP over IPv6, 1 flow", "Gb/s", 10.9, false, 0, 0},
		{"UDP 64 B", "packets/s", 412e3, false, .8, 1.5},
		{"UDP 1400 B", "packets/s", 356e3, false, 0, 0},
		{"TCP echo p50", "µs", 43.2, true, 1.2, .9},
		{"TCP echo p99", "µs", 96, true, 0, 0},
		{"TCP echo p99.9", "µs", 340, true, 0, 0},
		{"UDP echo p50", "µs", 38.4, true, 0, 0},
		{"UDP echo p99", "µs", 88, true, 0, 0},
		{"UDP echo p99.9", "µs", 290, true, 0, 0},
		{"CPU for each GB", "s/GB", .91, true, 1.25, 1},
		{"CPU for each million packets", "s/Mpacket", 2.4, true, 0, 0},
	}
	for _, rung := range rungs {
		for _, m := range measures {
			c := results.Case{Rung: rung.name, Measure: m.name, Unit: m.unit, Lower: m.lower}
			for i, setup := range rung.setups {
				pace := rung.speed[i]
				if m.lower {
					pace = 1 / math.Sqrt(pace)
				}
				values := make([]float64, 10)
				for n := range values {
					values[n] = m.typical * pace * (1 + .06*rng.NormFloat64())
				}
				x := results.Sample{Setup: setup, Values: values, Median: results.Median(values)}
				if strings.Contains(m.name, "echo p50") {
					x.CDF = logNormal(x.Median, .28)
				}
				c.Results = append(c.Results, x)
				if i == 1 {
					c.Ratios = append(c.Ratios, ratio(setup, c.Results[0].Values, values, m.bound, m.aim))
				} else if i > 1 {
					c.Ratios = append(c.Ratios, ratio(setup, c.Results[0].Values, values, 0, 0))
				}
			}
			r.Cases = append(r.Cases, c)
		}
	}
	rss := results.Case{Bound: 64, Aim: 40, Verdict: results.OK, Rung: "alone", Measure: "RSS, 1,000 idle endpoints", Unit: "MB", Lower: true, Results: []results.Sample{{Setup: "tapestry", Values: []float64{37.4}, Median: 37.4}}}
	r.Cases = append(r.Cases, rss)
	r.Cases[0].Ratios[0].Verdict = results.WithinNoise
	r.Cases[4].Ratios[0].Verdict = results.Below
	r.Parts = []results.Part{{Name: "memory copy", Gbps: 92.4, Nanos: 3.1, Allocs: 0}, {Name: "TAP read + write", Gbps: 24.8, Nanos: 1120, Allocs: 0}, {Name: "switch alone", Gbps: 4100, Nanos: 11.3, Allocs: 0}, {Name: "TAP → switch → TAP", Gbps: 22.9, Nanos: 1190, Allocs: 0},
		{Name: "UDP alone with GSO and GRO", Gbps: 17.2, Nanos: 890, Allocs: 0}, {Name: "VXLAN cut + join", Gbps: 61, Nanos: 240, Allocs: .02}}
	curve := func(name, x, y, note string, of func(x float64) float64, xs ...float64) {
		c := results.Curve{Name: name, X: x, Y: y, Note: note, Flat: note == ""}
		for _, v := range xs {
			c.Points = append(c.Points, results.Point{X: v, Y: of(v) * (1 + .03*rng.NormFloat64())})
		}
		r.Curves = append(r.Curves, c)
	}
	curve("Cost of a frame by endpoints", "endpoints", "ns", "", func(float64) float64 { return 14 }, 2, 10, 50, 100, 250, 500, 1000)
	curve("RSS by endpoints", "endpoints", "MB", "each endpoint has a record and two links.", func(x float64) float64 { return 12 + .024*x }, 2, 10, 50, 100, 250, 500, 1000)
	curve("Start-up by networks", "networks", "ms", "each network is adopted: its record is read.", func(x float64) float64 { return 20 + 1.4*x }, 1, 10, 50, 100, 200)
	curve("Flood by peers", "peers", "µs a frame", "one copy leaves for each peer.", func(x float64) float64 { return 1 + .8*x }, 1, 10, 100, 1000)
	curve("Look-up by learned addresses", "learned addresses", "ns", "the table outgrows the caches.", func(x float64) float64 { return 18 + 12*math.Log10(x) }, 10, 100, 1000, 1e4, 1e5, 1e6)
	r.Skipped = []results.Skip{{What: "Docker overlay across real hosts", Why: "one machine only"}, {What: "throughput with capture on", Why: "capture does not exist yet"}}
	return r
}

func ratio(against string, ours, theirs []float64, bound, aim float64) results.Ratio {
	r := results.Ratio{Against: against, Bound: bound, Aim: aim}
	for i := range ours {
		r.Values = append(r.Values, ours[i]/theirs[i])
	}
	r.Median = results.Median(r.Values)
	r.Low, r.High, r.Coverage = results.Interval(r.Values)
	if bound > 0 {
		r.Verdict = results.OK
	}
	return r
}

// sick is a report with everything that can be wrong with figures and names.
func sick() *results.Report {
	nan, inf := math.NaN(), math.Inf(1)
	strange := "<b>a|b`c` [d](e) </svg>\x00\x1b[31m\n\xff & \"q\""
	long := strings.Repeat("a very long name ", 40)
	r := &results.Report{Machine: results.Machine{CPU: strange, MemoryMB: nan, Version: long}, Plan: strange, Seconds: inf}
	for _, rung := range []string{strange, long, "", "same", "SAME"} {
		r.Cases = append(r.Cases,
			results.Case{Rung: rung},
			results.Case{Rung: rung, Measure: strange, Unit: strange, Results: []results.Sample{{}, {Setup: strange}, {Setup: long, Median: nan}}},
			results.Case{Rung: rung, Measure: "not finite", Unit: "Gb/s", Bound: 1, Results: []results.Sample{
				{Setup: results.Tapestry, Values: []float64{nan, inf, 1}, Median: inf, CDF: []results.Point{{X: nan, Y: 0.5}, {X: inf, Y: 1}}}, {Setup: "VDE", Median: -inf}},
				Ratios: []results.Ratio{{Against: "VDE", Values: []float64{nan}, Median: nan, Low: -inf, High: inf, Bound: inf}, {Against: "gone", Bound: 1}}},
			results.Case{Rung: rung, Measure: "zero", Unit: "µs", Lower: true, Bound: 1, Results: []results.Sample{
				{Setup: results.Tapestry, Values: []float64{0}, CDF: []results.Point{{X: 0, Y: 0.5}, {X: 1, Y: 1}}}, {Setup: "VDE", Values: []float64{0, 0}, CDF: []results.Point{{X: 5, Y: 0.5}, {X: 5, Y: 1}}}},
				Ratios: []results.Ratio{{Against: strange, Values: []float64{0}, Bound: 1, Verdict: results.Below}, {Against: long, Values: []float64{-1}, Median: -1, Low: -2, High: 0}}},
			results.Case{Rung: rung, Measure: "far apart", Unit: "ms", Results: []results.Sample{{Setup: results.Tapestry, Values: []float64{5e-324}, Median: 5e-324},
				{Setup: "VDE", Values: []float64{math.MaxFloat64}, Median: math.MaxFloat64}, {Setup: "-", Values: []float64{-7}, Median: -7}},
				Ratios: []results.Ratio{{Against: "VDE", Values: []float64{5e-324}, Median: 5e-324, Low: 5e-324, High: math.MaxFloat64}}})
	}
	r.Parts = []results.Part{{}, {Name: strange, Gbps: nan, Nanos: inf, Allocs: nan}, {Name: long, Gbps: 5e-324, Nanos: math.MaxFloat64, Allocs: -inf}, {Name: "negative", Gbps: -1, Nanos: -1, Allocs: -1}}
	for _, points := range [][]results.Point{nil, {{X: 1, Y: 1}}, {{X: 0, Y: 0}}, {{X: -5, Y: -5}, {X: 5, Y: 5}}, {{X: nan, Y: 1}, {X: 1, Y: inf}}, {{X: 1, Y: 0}, {X: 1, Y: 0}}, {{X: 5e-324, Y: 5e-324}, {X: math.MaxFloat64, Y: math.MaxFloat64}}} {
		r.Curves = append(r.Curves, results.Curve{Name: strange, X: long, Y: strange, Note: strange, Points: points})
	}
	r.Skipped = []results.Skip{{}, {What: strange, Why: long}}
	return r
}

// logNormal is a distribution around a median, with a tail.
func logNormal(median, sigma float64) []results.Point {
	var cdf []results.Point
	for z := -3.0; z <= 3.6; z += .05 {
		cdf = append(cdf, results.Point{X: median * math.Exp(sigma*z+.035*math.Max(0, z)*z*z*z/4), Y: .5 * math.Erfc(-z/math.Sqrt2)})
	}
	return cdf
}
