package bench

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// Table writes the report for people, in 120 columns.
func (r *Report) Table(w io.Writer) error {
	b := new(strings.Builder)
	r.head(b)
	for _, rung := range r.rungs() {
		fmt.Fprintf(b, "\n%s\n", strings.ToUpper(rung))
		table(b, []string{"MEASURE", "UNIT", "TAPESTRY", "AGAINST", "THEIRS", "RATIO", "INTERVAL", "BOUND", "AIM", "VERDICT"}, r.rows(rung))
		for _, note := range r.notes(rung) {
			fmt.Fprintln(b, note)
		}
	}
	if len(r.Parts) > 0 {
		fmt.Fprint(b, "\nPARTS, each alone in this process\n")
		var rows [][]string
		for _, p := range r.Parts {
			rows = append(rows, []string{p.Name, show(p.Gbps), show(p.Nanos), fmt.Sprintf("%.2f", p.Allocs)})
		}
		table(b, []string{"PART", "Gb/s, 60 KB FRAMES", "ns, 64 B FRAME", "ALLOCATIONS"}, rows)
	}
	if len(r.Curves) > 0 {
		fmt.Fprint(b, "\nCURVES\n")
		var rows [][]string
		for _, c := range r.Curves {
			rows = append(rows, c.row())
		}
		table(b, []string{"CURVE", "FROM", "TO", "FLAT"}, rows)
		for _, c := range r.Curves {
			if c.Note != "" {
				fmt.Fprintf(b, "%s: %s\n", c.Name, c.Note)
			}
		}
	}
	if len(r.Skipped) > 0 {
		fmt.Fprint(b, "\nNOT MEASURED\n")
		for _, s := range r.Skipped {
			fmt.Fprintf(b, "%s: %s\n", s.What, firstLine(s.Why))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) head(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%d cores (%s), %.0f GB, load %s, Linux %s", m.Cores, cmp.Or(m.CPU, "model not known"), m.MemoryMB/1000, m.Load, m.Kernel)
	if m.TCP != "" {
		fmt.Fprintf(w, ", TCP %s", m.TCP)
	}
	if m.Docker != "" {
		fmt.Fprintf(w, ", Docker %s", m.Docker)
	}
	if c := m.Costs.String(); c != "" {
		fmt.Fprintf(w, "\n%s", sentence(c))
	}
	fmt.Fprintf(w, "\ntapestry %s, %s %s; plan %s%s, %s\n", m.Version, m.Go, m.Arch, r.Plan, r.restricted(),
		minutes(time.Duration(r.Seconds*float64(time.Second))))
	if len(r.Runs) > 0 {
		fmt.Fprintf(w, "%s, medians of their medians.\n", sentence(runs(len(r.Runs))))
	}
	fmt.Fprint(w, `Medians. RATIO is tapestry's figure to the other's, of one round each; INTERVAL holds the true one with 95 % (with the
percentage that stands there, if there were too few rounds). BOUND is the worst that shall be, AIM what it shall become.
`)
	if slices.ContainsFunc(r.Cases, func(c Case) bool {
		return slices.ContainsFunc(c.Ratios, func(x Ratio) bool { return x.Against == wireguard{}.name() })
	}) {
		fmt.Fprintln(w, "wireguard-go encrypts, the others do not.")
	}
}

// restricted says what the run left out on request, "" if nothing.
func (r *Report) restricted() string {
	if len(r.Only) == 0 {
		return ""
	}
	return `, only "` + strings.Join(r.Only, `" and "`) + `"`
}

// runs counts them in words.
func runs(n int) string {
	if n < 7 {
		return []string{"no runs", "one run", "two runs", "three runs", "four runs", "five runs", "six runs"}[n]
	}
	return fmt.Sprintf("%d runs", n)
}

// rungs in the order of the cases.
func (r *Report) rungs() (names []string) {
	for _, c := range r.Cases {
		if len(names) == 0 || names[len(names)-1] != c.Rung {
			names = append(names, c.Rung)
		}
	}
	return names
}

// rows of a rung: one for each comparison, or one for a figure that stands alone.
func (r *Report) rows(rung string) (rows [][]string) {
	for _, c := range r.Cases {
		if c.Rung != rung {
			continue
		}
		first := []string{c.Measure, c.Unit, ""}
		theirs := map[string]float64{}
		for _, res := range c.Results {
			theirs[res.Way] = res.Median
			if res.Way == ourWay {
				first[2] = show(res.Median)
			}
		}
		if len(c.Ratios) == 0 {
			rows = append(rows, append(first, "", "", "", "", bounded(c.Bound, c.Lower), bare(c.Aim), c.Verdict))
		}
		for _, x := range c.Ratios {
			rows = append(rows, append(first, x.Against, show(theirs[x.Against]), show(x.Median), x.span(),
				bounded(x.Bound, c.Lower), bare(x.Aim), x.Verdict))
			first = []string{"", "", ""}
		}
	}
	return rows
}

// span is the interval, with its coverage if that is not what the head promises.
func (x Ratio) span() string {
	s := cmp.Or(show(x.Low), "0") + ".." + cmp.Or(show(x.High), "0")
	if x.Coverage < sure {
		s += fmt.Sprintf(" (%.0f %%)", 100*x.Coverage)
	}
	if x.Failed > 0 {
		s += fmt.Sprintf(", %d failed", x.Failed)
	}
	return s
}

// notes of a rung's results.
func (r *Report) notes(rung string) (all []string) {
	for _, c := range r.Cases {
		for _, x := range c.Results {
			if c.Rung == rung && x.Note != "" {
				all = append(all, fmt.Sprintf("%s, %s: %s", c.Measure, x.Way, x.Note))
			}
		}
	}
	return all
}

func (c Curve) row() []string {
	if len(c.Points) == 0 {
		return []string{c.Name, "", "", ""}
	}
	at := func(p traffic.Point) string { return fmt.Sprintf("%s %s at %.0f %s", show(p.Y), c.Y, p.X, c.X) }
	flat := "yes"
	if !c.Flat {
		flat = "no"
	}
	return []string{c.Name, at(c.Points[0]), at(c.Points[len(c.Points)-1]), flat}
}

// bounded writes a bound, "" if there is none.
func bounded(bound float64, lower bool) string {
	switch {
	case bound == 0:
		return ""
	case lower:
		return "≤ " + bare(bound)
	}
	return "≥ " + bare(bound)
}

// bare writes a bound as it stands in the plan.
func bare(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%g", v)
}

// show writes a figure with two or three digits that count, and all before the point; "" for none.
func show(v float64) string {
	switch {
	case v == 0:
		return ""
	case v < 0.1:
		return strconv.FormatFloat(v, 'f', 1-int(math.Floor(math.Log10(v))), 64)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// table writes rows under a head, in columns; an empty cell stays empty.
func table(w io.Writer, head []string, rows [][]string) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush() // into memory, it cannot fail
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// Verdict is an error that names what misses its bound for sure, with the whole interval, and what was not measured
// although the plan has a bound for it, or in too few rounds: who breaks down has the fewest. nil if there is neither.
// That no bound was held at all is an error too.
func (r *Report) Verdict() error {
	var errs []error
	held := map[bound]int{} // pairs
	for _, c := range r.Cases {
		for _, x := range c.Ratios {
			if x.Verdict != "" {
				held[boundOf(c.Rung, c.Measure, x.Against)] = x.pairs()
			}
			switch {
			case r.plan.least > 0 && x.Bound > 0 && x.Failed >= givenUp: // that is no noise
				errs = append(errs, fmt.Errorf("%s: %s: tapestry failed in %d of %d rounds, %s did not", c.Rung, c.Measure, x.Failed, x.pairs(), x.Against))
			case misses(x.Verdict):
				errs = append(errs, fmt.Errorf("%s: %s: %s of %s, %s with %.0f %%, want %s",
					c.Rung, c.Measure, cmp.Or(show(x.Median), "0"), x.Against, x.span(), 100*x.Coverage, bounded(x.Bound, c.Lower)))
			}
		}
		if c.Verdict != "" {
			held[boundOf(c.Rung, c.Measure, "")] = len(c.Results[0].Values)
		}
		if misses(c.Verdict) {
			errs = append(errs, fmt.Errorf("%s: %s: %s %s, want %s", c.Rung, c.Measure, show(c.Results[0].Median), c.Unit, bounded(c.Bound, c.Lower)))
		}
	}
	for _, b := range r.wanted {
		switch n := held[b]; {
		case n == 0:
			errs = append(errs, fmt.Errorf("%s: %s: not measured against %s", b.rung, b.measure, b.against))
		case n < r.plan.least:
			errs = append(errs, fmt.Errorf("%s: %s: only %d of %d pairs with %s", b.rung, b.measure, n, r.plan.rounds, b.against))
		}
	}
	if len(held) == 0 && len(errs) == 0 {
		return errors.New("nothing was held against a bound")
	}
	return errors.Join(errs...)
}
