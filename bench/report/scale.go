package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tapestry-net/tapestry/bench/results"
)

// WriteScaleTable writes a scale as tables for a terminal: a line for each curve, a column for each size.
func WriteScaleTable(w io.Writer, r *results.Scale) error {
	b := new(strings.Builder)
	m := r.Machine
	fmt.Fprintf(b, "%d cores (%s), %.0f GB, load %s, Linux %s\ntapestry %s, %s %s; %s\n", m.Cores, cmp.Or(m.CPU, "model not known"), m.MemoryMB/1000, m.Load, m.Kernel,
		m.Version, m.Go, m.Arch, results.Minutes(time.Duration(r.Seconds*float64(time.Second))))
	for _, p := range r.Parts {
		head, rows := scaleTable(p)
		fmt.Fprintf(b, "\n%s: %s\n", strings.ToUpper(p.Name), p.What)
		writeColumns(b, head, rows)
	}
	if len(r.Skipped) > 0 {
		fmt.Fprint(b, "\nNOT MEASURED\n")
		for _, s := range r.Skipped {
			fmt.Fprintf(b, "%s: %s\n", s.What, results.FirstLine(s.Why))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// scaleTable is a part as a table.
func scaleTable(p results.Growth) (head []string, rows [][]string) {
	var sizes []float64
	for _, c := range p.Curves {
		for _, pt := range c.Points {
			if !slices.Contains(sizes, pt.X) {
				sizes = append(sizes, pt.X)
			}
		}
	}
	slices.Sort(sizes)
	head = []string{p.Curves[0].X}
	for _, x := range sizes {
		head = append(head, fmt.Sprintf("%.0f", x))
	}
	for _, c := range p.Curves {
		row := []string{strings.TrimPrefix(c.Name, p.Name+": ") + ", " + c.Y}
		for _, x := range sizes {
			cell := "–"
			if i := slices.IndexFunc(c.Points, func(pt results.Point) bool { return pt.X == x }); i >= 0 {
				cell = threeDigits(c.Points[i].Y)
			}
			row = append(row, cell)
		}
		rows = append(rows, append(row, c.Law))
	}
	return append(head, "law"), rows
}

// WriteScalePlots writes a plot of each curve, as SVG, into a directory that exists.
func WriteScalePlots(dir string, r *results.Scale) error {
	var s section
	for _, p := range r.Parts {
		for _, c := range p.Curves {
			s.charts = append(s.charts, scaleChart(c))
		}
	}
	for _, c := range distinct([]section{s})[0].charts {
		var b bytes.Buffer
		if err := c.write(&b, "svg"); err != nil {
			return fmt.Errorf("draw %s: %w", c.name, err)
		}
		if err := renameio.WriteFile(filepath.Join(dir, "scale-"+c.name+".svg"), b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write plots: %w", err)
		}
	}
	return nil
}

// scaleChart shows a curve on two logarithmic scales, where a power of N is a straight line: of slope 1 if it grows with N. One that is flat
// is shown from zero.
func scaleChart(c results.Curve) chart {
	points := slices.DeleteFunc(slices.Clone(c.Points), func(p results.Point) bool { return !finite(p.Y) || p.X <= 0 || p.Y <= 0 })
	slices.SortStableFunc(points, func(a, b results.Point) int { return cmp.Compare(a.X, b.X) })
	f := curveChart(c)
	f.name = c.Name
	law := cmp.Or(capitalized(c.Law), "No law: too few points")
	if c.Flat || len(points) < 2 || points[0].X == points[len(points)-1].X {
		f.note = c.Y + ", from zero. " + law + "."
		return f
	}
	const top, foot = 60.0, 176.0
	f.note = c.Y + ". " + law + "."
	low, high := points[0].Y, points[0].Y
	for _, p := range points {
		low, high = min(low, p.Y), max(high, p.Y)
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high*1.01)))
	f.draw = func(p pen) {
		y := axis{min: low, max: high, from: foot, to: top, scale: math.Log10}
		for v := low; v <= high*1.01; v *= 10 {
			p.line(grid, .6, 0, margin+30, y.at(v), halfWidth-margin, y.at(v))
			p.text(margin+26, y.at(v)+3, trimmed(v), small.aligned(1))
		}
		from, to := margin+40, halfWidth-margin-12
		x, ticks := logAxis(points[0].X, points[len(points)-1].X, from, to)
		p.abscissa(c.X, x, ticks, foot)
		p.curve(points, x, y)
	}
	return f
}
