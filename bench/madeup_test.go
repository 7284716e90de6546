package bench

import (
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// madeUp is a report as a full run gives it, always the same one. Its figures are invented.
func madeUp() *Report {
	rng := rand.New(rand.NewPCG(1, 2))
	r := &Report{
		Machine: Machine{Cores: 2, CPU: "AMD EPYC 7B13", MemoryMB: 8192, Load: "0.42", Kernel: "6.18.5", Docker: "20.10.24+dfsg1",
			Version: "v0.3.0-12-gabc1234", Commit: "abc1234", Modified: true, Go: "go1.26.8", Arch: "amd64"},
		Plan: "full", Began: time.Date(2026, 11, 21, 14, 30, 0, 0, time.UTC), Seconds: 874,
	}
	rungs := []struct {
		name string
		ways []string
		pace []float64 // of each way, the first one's is 1
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
			c := Case{Rung: rung.name, Measure: m.name, Unit: m.unit, Lower: m.lower}
			for i, way := range rung.ways {
				pace := rung.pace[i]
				if m.lower {
					pace = 1 / math.Sqrt(pace)
				}
				values := make([]float64, 10)
				for n := range values {
					values[n] = m.typical * pace * (1 + .06*rng.NormFloat64())
				}
				x := Result{Way: way, Values: values, Median: median(values)}
				if strings.Contains(m.name, "echo p50") {
					x.CDF = logNormal(x.Median, .28)
				}
				c.Results = append(c.Results, x)
				if i == 1 {
					c.Ratios = append(c.Ratios, ratio(way, c.Results[0].Values, values, m.bound, m.aim))
				} else if i > 1 {
					c.Ratios = append(c.Ratios, ratio(way, c.Results[0].Values, values, 0, 0))
				}
			}
			r.Cases = append(r.Cases, c)
		}
	}
	rss := Case{Bound: 64, Aim: 40, Verdict: fine, Rung: "alone", Measure: "RSS, 1,000 idle endpoints", Unit: "MB", Lower: true, Results: []Result{{Way: "tapestry", Values: []float64{37.4}, Median: 37.4}}}
	r.Cases = append(r.Cases, rss)
	r.Cases[0].Ratios[0].Verdict = noisy
	r.Cases[4].Ratios[0].Verdict = below
	r.Parts = []Part{{"memory copy", 92.4, 3.1, 0}, {"TAP read + write", 24.8, 1120, 0}, {"switch alone", 4100, 11.3, 0}, {"TAP → switch → TAP", 22.9, 1190, 0},
		{"UDP alone with GSO and GRO", 17.2, 890, 0}, {"VXLAN cut + join", 61, 240, .02}}
	curve := func(name, x, y, note string, of func(x float64) float64, xs ...float64) {
		c := Curve{Name: name, X: x, Y: y, Note: note, Flat: note == ""}
		for _, v := range xs {
			c.Points = append(c.Points, traffic.Point{X: v, Y: of(v) * (1 + .03*rng.NormFloat64())})
		}
		r.Curves = append(r.Curves, c)
	}
	curve("Cost of a frame by endpoints", "endpoints", "ns", "", func(float64) float64 { return 14 }, 2, 10, 50, 100, 250, 500, 1000)
	curve("RSS by endpoints", "endpoints", "MB", "each endpoint has a record and two links.", func(x float64) float64 { return 12 + .024*x }, 2, 10, 50, 100, 250, 500, 1000)
	curve("Start-up by networks", "networks", "ms", "each network is adopted: its record is read.", func(x float64) float64 { return 20 + 1.4*x }, 1, 10, 50, 100, 200)
	curve("Flood by peers", "peers", "µs a frame", "one copy leaves for each peer.", func(x float64) float64 { return 1 + .8*x }, 1, 10, 100, 1000)
	curve("Look-up by learned addresses", "learned addresses", "ns", "the table outgrows the caches.", func(x float64) float64 { return 18 + 12*math.Log10(x) }, 10, 100, 1000, 1e4, 1e5, 1e6)
	r.Skipped = []Skip{{"Docker overlay across real hosts", "one machine only"}, {"throughput with capture on", "capture does not exist yet"}}
	return r
}

func ratio(against string, ours, theirs []float64, bound, aim float64) Ratio {
	r := Ratio{Against: against, Bound: bound, Aim: aim}
	for i := range ours {
		r.Values = append(r.Values, ours[i]/theirs[i])
	}
	r.Median = median(r.Values)
	r.Low, r.High, r.Coverage = interval(r.Values)
	if bound > 0 {
		r.Verdict = fine
	}
	return r
}

// sick is a report with all that can be wrong with figures and names.
func sick() *Report {
	nan, inf := math.NaN(), math.Inf(1)
	strange := "<b>a|b`c` [d](e) </svg>\x00\x1b[31m\n\xff & \"q\""
	long := strings.Repeat("a very long name ", 40)
	r := &Report{Machine: Machine{CPU: strange, MemoryMB: nan, Version: long}, Plan: strange, Seconds: inf}
	for _, rung := range []string{strange, long, "", "same", "SAME"} {
		r.Cases = append(r.Cases,
			Case{Rung: rung},
			Case{Rung: rung, Measure: strange, Unit: strange, Results: []Result{{}, {Way: strange}, {Way: long, Median: nan}}},
			Case{Rung: rung, Measure: "not finite", Unit: "Gb/s", Bound: 1, Results: []Result{
				{Way: ourWay, Values: []float64{nan, inf, 1}, Median: inf, CDF: []traffic.Point{{X: nan, Y: 0.5}, {X: inf, Y: 1}}}, {Way: "VDE", Median: -inf}},
				Ratios: []Ratio{{Against: "VDE", Values: []float64{nan}, Median: nan, Low: -inf, High: inf, Bound: inf}, {Against: "gone", Bound: 1}}},
			Case{Rung: rung, Measure: "zero", Unit: "µs", Lower: true, Bound: 1, Results: []Result{
				{Way: ourWay, Values: []float64{0}, CDF: []traffic.Point{{X: 0, Y: 0.5}, {X: 1, Y: 1}}}, {Way: "VDE", Values: []float64{0, 0}, CDF: []traffic.Point{{X: 5, Y: 0.5}, {X: 5, Y: 1}}}},
				Ratios: []Ratio{{Against: strange, Values: []float64{0}, Bound: 1, Verdict: below}, {Against: long, Values: []float64{-1}, Median: -1, Low: -2, High: 0}}},
			Case{Rung: rung, Measure: "far apart", Unit: "ms", Results: []Result{{Way: ourWay, Values: []float64{5e-324}, Median: 5e-324},
				{Way: "VDE", Values: []float64{math.MaxFloat64}, Median: math.MaxFloat64}, {Way: "-", Values: []float64{-7}, Median: -7}},
				Ratios: []Ratio{{Against: "VDE", Values: []float64{5e-324}, Median: 5e-324, Low: 5e-324, High: math.MaxFloat64}}})
	}
	r.Parts = []Part{{}, {strange, nan, inf, nan}, {long, 5e-324, math.MaxFloat64, -inf}, {"negative", -1, -1, -1}}
	for _, points := range [][]traffic.Point{nil, {{X: 1, Y: 1}}, {{X: 0, Y: 0}}, {{X: -5, Y: -5}, {X: 5, Y: 5}}, {{X: nan, Y: 1}, {X: 1, Y: inf}}, {{X: 1, Y: 0}, {X: 1, Y: 0}}, {{X: 5e-324, Y: 5e-324}, {X: math.MaxFloat64, Y: math.MaxFloat64}}} {
		r.Curves = append(r.Curves, Curve{Name: strange, X: long, Y: strange, Note: strange, Points: points})
	}
	r.Skipped = []Skip{{}, {strange, long}}
	return r
}

// logNormal is a distribution around a median, with a tail.
func logNormal(median, sigma float64) []traffic.Point {
	var cdf []traffic.Point
	for z := -3.0; z <= 3.6; z += .05 {
		cdf = append(cdf, traffic.Point{X: median * math.Exp(sigma*z+.035*math.Max(0, z)*z*z*z/4), Y: .5 * math.Erfc(-z/math.Sqrt2)})
	}
	return cdf
}
