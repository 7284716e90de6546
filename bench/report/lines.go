package report

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/bench/results"
)

// ratioChart has a line for each ratio: the median, the interval around it, 1, and the bound. Right is always better:
// of times and costs it shows the inverse, the other setup's figure over tapestry's. The figures at the right are as in the
// tables.
func ratioChart(name, title string, rows []target) chart {
	const step, names, numbers = 17.0, 270.0, 96.0
	f := chart{name: name, title: capitalized(title), width: pageWidth, height: 104 + step*float64(len(rows))}
	f.note = "Right of the line tapestry is better. The dot is the median of the rounds' ratios, the bar the interval around it. " +
		"↓: lower is better, and the inverse of the ratio is drawn (1.25 at 0.8)."
	f.about = "Medians of tapestry's ratio to each other setup, with the interval of each: " +
		"right of 1 tapestry is better"
	a := axis{min: .5, max: 2, from: margin + names, to: pageWidth - margin - numbers, scale: math.Log2}
	top, foot := f.top()+5, f.height-38
	f.draw = func(p pen) {
		p.rect(a.at(1), top, a.to, foot, color.RGBA{0x00, 0x11, 0x0c, 0x12})
		for _, t := range []float64{.5, .6, .7, .8, .9, 1, 1.2, 1.5, 2} {
			p.line(grid, .6, 0, a.at(t), top, a.at(t), foot)
			p.text(a.at(t), foot+11, trimmed(t), small.aligned(.5))
		}
		p.line(ink, 1, 0, a.at(1), top-4, a.at(1), foot)
		p.text(pageWidth-margin, top-4, "ratio (interval)", small.aligned(1))
		before := ""
		for i, t := range rows {
			y := top + step*(float64(i)+.5)
			label := t.measure + " · " + t.rung
			if strings.HasPrefix(name, "ratios") { // of one rung: the measure once
				if label = t.measure; label == before {
					label = ""
				} else if i > 0 {
					p.line(grid, .6, 0, margin, y-step/2, pageWidth-margin, y-step/2)
				}
				before = t.measure
			}
			if t.lower && label != "" {
				label += " ↓"
			}
			p.text(margin, y+3, normal.fit(clean(label), names-90), normal)
			p.text(margin+names-8, y+3, normal.fit(clean(t.Against), 78), aside.aligned(1))
			p.text(pageWidth-margin, y+3, t.figures(), style{size: 8.5, align: 1})
			p.ratio(t, a, y, step)
		}
		p.ratioLegend(foot + 28)
	}
	return f
}

// ratio draws one line of a ratioChart around y.
func (p pen) ratio(t target, a axis, y, step float64) {
	inverse := func(v float64) float64 {
		if t.lower {
			return 1 / v
		}
		return v
	}
	inside := func(v float64) bool { return v >= a.min && v <= a.max }
	if bound := inverse(t.Bound); t.Bound > 0 && inside(bound) {
		x := a.at(bound)
		p.line(ink, 1.6, 0, x, y-step*.38, x, y+step*.38)
	}
	m := inverse(t.Median)
	if !finite(m) || m <= 0 {
		return
	}
	c := verdictColor(t.Verdict)
	if low, high := inverse(t.Low), inverse(t.High); finite(low) && finite(high) && low > 0 && high > 0 {
		p.line(c, 2.2, 0, a.at(low), y, a.at(high), y)
	}
	x := a.at(m)
	switch {
	case m > a.max:
		p.shape(c, x-6, y-4.5, x+3, y, x-6, y+4.5)
	case m < a.min:
		p.shape(c, x+6, y-4.5, x-3, y, x+6, y+4.5)
	default:
		p.mark(t.Verdict, x, y)
	}
}

// mark draws a verdict's mark, which differs in colour and shape.
func (p pen) mark(verdict string, x, y float64) {
	c := verdictColor(verdict)
	switch verdict {
	case results.Below, results.Above:
		p.shape(c, x, y-5, x+5, y, x, y+5, x-5, y)
	case results.WithinNoise, results.TooFew:
		p.dot(x, y, 4.2, c)
		p.dot(x, y, 2.2, paper)
	default:
		p.dot(x, y, 4, c)
	}
}

func (p pen) ratioLegend(y float64) {
	x := margin
	for _, v := range []string{results.OK, results.WithinNoise, results.Below, ""} {
		p.mark(v, x+5, y-3)
		name := cmp.Or(v, "no bound")
		switch v {
		case results.WithinNoise:
			name += " or " + results.TooFew
		case results.Below:
			name += " or " + results.Above
		}
		p.text(x+14, y, name, normal)
		x += 14 + normal.width(name) + 14
	}
	p.line(ink, 1.6, 0, x+3, y-9, x+3, y+3)
	p.text(x+10, y, "bound", normal)
	x += 10 + normal.width("bound") + 16
	p.shape(faint, x, y-7.5, x+9, y-3, x, y+1.5)
	p.text(x+14, y, "beyond the scale", normal)
}

func verdictColor(verdict string) color.RGBA {
	switch verdict {
	case results.OK:
		return good
	case results.WithinNoise, results.TooFew:
		return unsure
	case results.Below, results.Above:
		return bad
	}
	return slate
}

// withoutPercentile is a measure's name without its percentile: "TCP echo" of "TCP echo p99.9".
func withoutPercentile(measure string) string {
	words := strings.Fields(measure)
	if n := len(words); n > 1 && len(words[n-1]) > 1 && words[n-1][0] == 'p' && strings.Trim(words[n-1][1:], "0123456789.") == "" {
		words = words[:n-1]
	}
	return strings.Join(words, " ")
}

// cdfChart shows which share of answers took no longer than what. The scale of shares is that of the normal
// distribution, so that the tail is as wide as the middle; a line for each setup.
func cdfChart(rung, kind string, samples []results.Sample) chart {
	setups, points := []string(nil), [][]results.Point(nil)
	low, high := math.Inf(1), 0.0
	for _, r := range samples {
		s := drawable(r.CDF)
		if len(s) < 2 {
			continue
		}
		setups, points = append(setups, r.Setup), append(points, s)
		low, high = min(low, s[0].X), max(high, s[len(s)-1].X)
	}
	const top, tall = 50.0, 230.0
	f := chart{name: rung + " " + kind, title: capitalized(rung + ": " + kind + ", how long answers took"), width: pageWidth}
	f.note = "Left is better. Share of answers that took no longer; the scale is stretched to show the tail. Of the round nearest to the median."
	f.about = "Share of answers by µs, a line for each setup: " + strings.Join(setups, ", ")
	foot := top + tall
	f.height = foot + 46 + 14*float64(len(setups))
	x, xticks := logAxis(low, high, margin+38, pageWidth-margin-8)
	y := axis{min: .01, max: .9995, from: foot, to: top, scale: probit}
	f.draw = func(p pen) {
		for _, share := range []float64{.01, .1, .25, .5, .75, .9, .99, .999} {
			c, s := grid, small.aligned(1)
			if share == .5 || share == .99 {
				c, s.bold, s.color = faint, true, ink
			}
			p.line(c, .6, 0, x.from, y.at(share), x.to, y.at(share))
			p.text(x.from-4, y.at(share)+3, fmt.Sprintf("%g %%", 100*share), s)
		}
		for _, t := range xticks {
			p.line(grid, .6, 0, x.at(t), top, x.at(t), foot)
			p.text(x.at(t), foot+12, trimmed(t), small.aligned(.5))
		}
		p.text(x.to, foot+24, "µs, logarithmic", small.aligned(1))
		for i := len(setups) - 1; i >= 0; i-- { // tapestry's on top
			p.cdf(points[i], x, y, colorOf(setups[i], i), i)
		}
		for i, setup := range setups {
			at := foot + 38 + 14*float64(i)
			p.line(colorOf(setups[i], i), 2, dash(i), margin+38, at-3, margin+62, at-3)
			p.text(margin+68, at, normal.fit(clean(setup), 120), style{size: 9, bold: i == 0})
			for j, q := range []struct {
				name  string
				share float64
			}{{"p50", .5}, {"p99", .99}, {"p99.9", .999}} {
				p.text(margin+200+100*float64(j), at, q.name+" "+threeDigits(quantile(points[i], q.share))+" µs", normal)
			}
		}
	}
	return f
}

// cdf draws the line of the i-th setup, with dots at p50 and p99.
func (p pen) cdf(points []results.Point, x, y axis, c color.RGBA, i int) {
	var xy []float64
	for _, pt := range points {
		px, py := x.at(pt.X), y.at(pt.Y)
		if n := len(xy); n == 0 || math.Hypot(px-xy[n-2], py-xy[n-1]) > .5 {
			xy = append(xy, px, py)
		}
	}
	width := 1.4
	if i == 0 {
		width = 2.2
	}
	p.line(c, width, dash(i), xy...)
	for _, share := range []float64{.5, .99} {
		if v := quantile(points, share); finite(v) {
			p.dot(x.at(v), y.at(share), 1.6+width/2, c)
		}
	}
}

// dash distinguishes the lines of setups without colour.
func dash(i int) float64 { return []float64{0, 7, 3, 1.5, 11}[i%5] }

func probit(share float64) float64 { return math.Sqrt2 * math.Erfinv(2*share-1) }

// drawable is the part of a distribution that can be drawn: finite, sorted, shares from 1 % to 99.95 %.
func drawable(cdf []results.Point) []results.Point {
	s := slices.DeleteFunc(slices.Clone(cdf), func(p results.Point) bool {
		return !finite(p.X) || p.X <= 0 || !(p.Y >= .01 && p.Y <= 1)
	})
	slices.SortStableFunc(s, func(a, b results.Point) int { return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y)) })
	for i, p := range s {
		if p.Y >= .9995 {
			return s[:i+1]
		}
	}
	return s
}

// quantile is the first X whose share is large enough; NaN if there is none.
func quantile(cdf []results.Point, share float64) float64 {
	for _, p := range cdf {
		if p.Y >= share {
			return p.X
		}
	}
	return math.NaN()
}

// curveChart shows a figure at growing sizes: y from zero, x logarithmic if all sizes are above zero.
func curveChart(c results.Curve) chart {
	const top, foot = 60.0, 176.0
	points := slices.DeleteFunc(slices.Clone(c.Points), func(p results.Point) bool { return !finite(p.X) || !finite(p.Y) })
	slices.SortStableFunc(points, func(a, b results.Point) int { return cmp.Compare(a.X, b.X) })
	f := chart{name: "curve " + c.Name, title: capitalized(c.Name), width: halfWidth, height: 212}
	f.about = fmt.Sprintf("%s by %s, %d points", c.Y, c.X, len(points))
	if f.note = c.Y + ", from zero. Lower is better. " + flat(c); len(points) == 0 {
		f.note = "No point was measured."
		f.draw = func(pen) {}
		return f
	}
	f.draw = func(p pen) {
		high := 0.0
		for _, pt := range points {
			high = max(high, pt.Y)
		}
		y, yticks := zeroTo(high*1.12, 4, foot, top)
		for _, t := range yticks {
			p.line(grid, .6, 0, margin+30, y.at(t), halfWidth-margin, y.at(t))
			p.text(margin+26, y.at(t)+3, trimmed(t), small.aligned(1))
		}
		from, to := margin+40, halfWidth-margin-12
		first, last := points[0].X, points[len(points)-1].X
		x, xticks := axis{min: first, max: last, from: from, to: to}, []float64{first, last}
		if first > 0 {
			x, xticks = logAxis(first, last, from, to)
		}
		p.abscissa(c.X, x, xticks, foot)
		p.curve(points, x, y)
	}
	return f
}

// abscissa draws a half-width chart's axis of x at the height foot, with its ticks and what it shows.
func (p pen) abscissa(about string, x axis, ticks []float64, foot float64) {
	for _, t := range ticks {
		p.line(faint, .8, 0, x.at(t), foot, x.at(t), foot+3)
		p.text(x.at(t), foot+13, trimmed(t), small.aligned(.5))
	}
	p.line(faint, .8, 0, margin+30, foot, halfWidth-margin, foot)
	p.text((x.from+x.to)/2, foot+27, normal.fit(clean(about), halfWidth), normal.aligned(.5))
}

func (p pen) curve(points []results.Point, x, y axis) {
	var xy []float64
	for _, pt := range points {
		xy = append(xy, x.at(pt.X), y.at(pt.Y))
	}
	p.line(strong, 1.8, 0, xy...)
	for i, pt := range points {
		p.dot(xy[2*i], xy[2*i+1], 2.6, strong)
		if i == 0 || i == len(points)-1 {
			align := 0.0
			if i > 0 {
				align = 1
			}
			p.text(xy[2*i]-4+8*align, xy[2*i+1]-6, threeDigits(pt.Y), style{size: 8.5, bold: true, align: align})
		}
	}
}

// flat says in words whether a curve is flat.
func flat(c results.Curve) string {
	if c.Flat {
		return "Flat."
	}
	return "Not flat."
}
