package report

import (
	"image/color"
	"math"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/bench/results"
)

// A panel is one measure's bars.
type panel struct {
	results.Case
	width float64 // that its bars need
}

const (
	barWidth  = 29.0
	barsHigh  = 122.0
	barsLabel = 32.0 // below, for the measure's name
	barsAxis  = 30.0 // left, for the scale
	barsGap   = 16.0
)

// barChart has a bar for each setup of each measure of one unit. All have one scale, unless the figures differ so much that
// the small ones could not be seen.
func barChart(rung, unit string, cases []results.Case) chart {
	setups := setupsOf(cases)
	low, high, needed := math.Inf(1), 0.0, barsAxis
	var panels []panel
	for _, c := range cases {
		panels = append(panels, panel{c, max(barWidth*float64(len(c.Results)), 62)})
		needed += panels[len(panels)-1].width + barsGap
		if top := highest(c); top > 0 {
			low, high = min(low, top), max(high, top)
		}
	}
	apart := high > 5*low
	f := chart{name: rung + " " + quantity(unit), title: capitalized(rung + ": " + quantity(unit)), width: pageWidth}
	if needed <= halfWidth-2*margin {
		f.width = halfWidth
	}
	f.note = better(cases[0].Lower) + ". " + unit + "; medians; the thin line spans the middle half of the rounds."
	if apart {
		f.note += " Each measure has a scale of its own."
	}
	f.about = "Bars of each setup's median in " + unit + ": " + strings.Join(measuresOf(cases), "; ")
	keys, top := legend(setups, f.top()+8, f.width)
	rows := rowsOf(panels, f.width-2*margin-barsAxis)
	f.height = top + float64(len(rows))*(barsHigh+barsLabel)
	f.draw = func(p pen) {
		for i, k := range keys {
			p.rect(k.x, k.y-8, k.x+9, k.y+1, colorOf(setups[i], i))
			p.text(k.x+14, k.y, k.name, normal)
		}
		for i, row := range rows {
			p.bars(row, setups, top+float64(i)*(barsHigh+barsLabel), f.width-margin, high, apart)
		}
	}
	return f
}

// rowsOf distributes panels over rows of a width, about as many in each.
func rowsOf(panels []panel, width float64) [][]panel {
	fill := func(most int) (rows [][]panel) {
		room := 0.0
		for _, n := range panels {
			if last := len(rows) - 1; last < 0 || room < n.width+barsGap || len(rows[last]) == most {
				rows, room = append(rows, nil), width
			}
			rows[len(rows)-1] = append(rows[len(rows)-1], n)
			room -= n.width + barsGap
		}
		return rows
	}
	n := len(fill(len(panels)))
	return fill((len(panels) + n - 1) / n)
}

// bars draws a row of panels; y is its upper end.
func (p pen) bars(row []panel, setups []string, y, right, high float64, apart bool) {
	left, foot := margin+barsAxis, y+barsHigh
	if apart {
		left = margin
	} else {
		a, ticks := zeroTo(high, 4, foot, y+16)
		for _, t := range ticks {
			p.line(grid, .6, 0, left, a.at(t), right, a.at(t))
			p.text(left-4, a.at(t)+3, trimmed(t), small.aligned(1))
		}
	}
	p.line(faint, .8, 0, left, foot, right, foot)
	needed := 0.0
	for _, n := range row {
		needed += n.width
	}
	gap := (right - left - needed) / float64(len(row))
	x := left + gap/2
	for _, n := range row {
		if apart {
			high = highest(n.Case)
		}
		a, _ := zeroTo(high, 4, foot, y+16)
		at := x + (n.width-barWidth*float64(len(n.Results)))/2
		for _, r := range n.Results {
			p.bar(r, at, foot, a, colorOf(r.Setup, slices.Index(setups, r.Setup)))
			at += barWidth
		}
		for i, line := range normal.wrap(clean(n.Measure), n.width+gap-4) {
			if i < 2 {
				p.text(x+n.width/2, foot+12+float64(i)*11, line, normal.aligned(.5))
			}
		}
		x += n.width + gap
	}
}

// bar draws one, its figure above it, and a line over the middle half of its rounds.
func (p pen) bar(r results.Sample, x, foot float64, a axis, c color.Color) {
	if !measured(r) {
		p.text(x+barWidth/2, foot-4, "–", small.aligned(.5))
		return
	}
	top, mid := a.at(r.Median), x+barWidth/2
	p.rect(x+2, top, x+barWidth-2, foot, c)
	if low, high, ok := middleHalf(r.Values); ok {
		p.line(ink, .8, 0, mid, a.at(low), mid, a.at(high))
		top = math.Min(top, a.at(high))
	}
	s := style{size: 8, align: .5, bold: r.Setup == results.Tapestry}
	text := threeDigits(r.Median)
	w := s.width(text)/2 + 1
	p.rect(mid-w, top-10, mid+w, top-2, paper) // over the grid
	p.text(mid, top-3, text, s)
}

// highest is the highest figure that a scale has to show.
func highest(c results.Case) float64 {
	top := 0.0
	for _, r := range c.Results {
		if measured(r) {
			top = max(top, r.Median)
		}
		if _, high, ok := middleHalf(r.Values); ok {
			top = max(top, high)
		}
	}
	return top
}

// middleHalf is the range of the middle half of the finite values, on which an outlier has no effect.
func middleHalf(values []float64) (low, high float64, ok bool) {
	v := slices.Sorted(slices.Values(slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return !finite(v) })))
	if len(v) < 2 {
		return 0, 0, false
	}
	n := len(v) / 4
	return v[n], v[len(v)-1-n], true
}

// partsChart shows what each part of a frame's path reaches alone.
func partsChart(parts []results.Part) chart {
	const step, names, gap = 19.0, 176.0, 16.0
	f := chart{name: "parts", title: "The parts of a frame's path, each alone", width: pageWidth}
	f.about = "Bars of Gb/s with super-frames of 60 KB, and of nanoseconds for each frame of 64 bytes"
	f.height = 56 + step*float64(len(parts)) + 6
	wide := (f.width - 2*margin - names - gap) / 2
	columns := []column{
		{margin + names, "Gb/s, 60 KB super-frames; higher is better", func(p results.Part) float64 { return p.Gbps },
			func(p results.Part) string { return threeDigits(p.Gbps) }},
		{margin + names + wide + gap, "ns, frame of 64 bytes; lower is better", func(p results.Part) float64 { return p.Nanos }, nanos},
	}
	f.draw = func(p pen) {
		for _, c := range columns {
			p.column(c, parts, wide, step)
		}
		for i, part := range parts {
			p.text(margin+names-6, 62+step*float64(i), normal.fit(clean(part.Name), names-6), normal.aligned(1))
		}
	}
	return f
}

// A column is a figure of all parts.
type column struct {
	left  float64
	head  string
	value func(results.Part) float64
	say   func(results.Part) string
}

// column draws horizontal bars. Their scale is logarithmic where short ones could not be seen otherwise; the head says so.
func (p pen) column(c column, parts []results.Part, wide, step float64) {
	const figures = 74.0
	has := func(part results.Part) bool { return finite(c.value(part)) && c.value(part) > 1e-9 }
	low, high := math.Inf(1), 0.0
	for _, part := range parts {
		if has(part) {
			low, high = min(low, c.value(part)), max(high, c.value(part))
		}
	}
	a := axis{max: high, from: c.left, to: c.left + wide - figures}
	head := c.head
	if high > 20*low {
		a.min, a.scale = math.Pow(10, math.Floor(math.Log10(low*.9))), math.Log10
		head += ", log. scale"
	}
	s := style{size: 8.5, color: faint}
	p.text(c.left, 40, s.fit(head, wide+8), s)
	p.line(faint, .8, 0, c.left, 47, c.left, p.height-6)
	for i, part := range parts {
		if y := 52 + step*float64(i); has(part) {
			end := max(a.at(c.value(part)), c.left+1)
			p.rect(c.left, y, end, y+step-6, strong)
			p.text(end+4, y+10, c.say(part), normal)
		}
	}
}

// nanos formats the time of a part, and its allocations if there are any.
func nanos(p results.Part) string {
	if finite(p.Allocs) && p.Allocs > 0 {
		return threeDigits(p.Nanos) + " + " + trimmed(p.Allocs) + " allocs"
	}
	return threeDigits(p.Nanos)
}
