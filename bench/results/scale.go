package results

import (
	"fmt"
	"math"
	"time"
)

// A Scale is the result of one run of `tapestry bench scale`: what its --json prints.
type Scale struct {
	Machine Machine   `json:"machine"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // that the whole run took
	Parts   []Growth  `json:"parts"`
	Skipped []Skip    `json:"skipped"`
}

// A Growth is one part of a Scale.
type Growth struct {
	Name    string  `json:"name"`
	What    string  `json:"what"` // in a few words
	Seconds float64 `json:"seconds"`
	Curves  []Curve `json:"curves"`
}

// Fit sets Law: how Y grows with X, which it calls N. It is the power of N that fits best, or a fixed part and a part for each if that fits
// better. Flat is that the highest Y is at most 1.5 times the lowest, or that no growth is to be seen.
func (c *Curve) Fit() {
	c.Law, c.Flat = "", false
	var p []Point
	low, high := math.Inf(1), 0.0
	for _, q := range c.Points {
		if q.X > 0 && q.Y > 0 && !math.IsInf(q.Y, 0) {
			p = append(p, q)
			low, high = min(low, q.Y), max(high, q.Y)
		}
	}
	if len(p) < 2 || p[0].X == p[len(p)-1].X {
		return
	}
	a, b := line(p, math.Log, 1)
	power := func(x float64) float64 { return math.Exp(a + b*math.Log(x)) }
	fixed, each := line(p, func(v float64) float64 { return v }, -2)
	linear := func(x float64) float64 { return fixed + each*x }
	switch {
	case high <= 1.5*low || math.Abs(b) < 0.12:
		c.Law, c.Flat = "flat", true
	case b < 0:
		c.Law = "falls"
	case len(p) > 2 && fixed > 0 && each > 0 && off(p, linear) < off(p, power):
		c.Law = fmt.Sprintf("grows with N: %s + %s N", Format(fixed), short(each))
	case math.Abs(b-1) < 0.15:
		c.Law = "grows with N"
	case math.Abs(b-2) < 0.2:
		c.Law = "grows with N²"
	default:
		c.Law = fmt.Sprintf("grows with N^%.1f", b)
	}
}

// line fits of = a + b·of(X) to the points by least squares; each weighs Y to the power of weight, or the same with 1.
func line(p []Point, of func(float64) float64, weight float64) (a, b float64) {
	var n, x, y, xx, xy float64
	for _, q := range p {
		w := 1.0
		if weight != 1 {
			w = math.Pow(q.Y, weight)
		}
		u, v := of(q.X), of(q.Y)
		n, x, y, xx, xy = n+w, x+w*u, y+w*v, xx+w*u*u, xy+w*u*v
	}
	b = (n*xy - x*y) / (n*xx - x*x)
	return (y - b*x) / n, b
}

// off is how far the points are from a law: the sum of squares of what they differ by, as factors.
func off(p []Point, law func(float64) float64) (sum float64) {
	for _, q := range p {
		v := law(q.X)
		if v <= 0 {
			return math.Inf(1)
		}
		d := math.Log(q.Y / v)
		sum += d * d
	}
	return sum
}

func short(v float64) string { return fmt.Sprintf("%.2g", v) }
