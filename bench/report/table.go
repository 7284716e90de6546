package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// WriteTable writes the report as tables for a terminal of 120 columns.
func WriteTable(w io.Writer, r *results.Report) error {
	b := new(strings.Builder)
	writeHead(r, b)
	for _, rung := range rungs(r) {
		fmt.Fprintf(b, "\n%s\n", strings.ToUpper(rung))
		writeColumns(b, []string{"MEASURE", "UNIT", "TAPESTRY", "AGAINST", "THEIRS", "RATIO", "INTERVAL", "BOUND", "AIM", "VERDICT"}, rows(r, rung))
		for _, note := range notes(r, rung) {
			fmt.Fprintln(b, note)
		}
	}
	if len(r.Parts) > 0 {
		fmt.Fprint(b, "\nPARTS, each alone in this process\n")
		var rows [][]string
		for _, p := range r.Parts {
			rows = append(rows, []string{p.Name, results.Format(p.Gbps), results.Format(p.Nanos), fmt.Sprintf("%.2f", p.Allocs)})
		}
		writeColumns(b, []string{"PART", "Gb/s, 60 KB FRAMES", "ns, 64 B FRAME", "ALLOCATIONS"}, rows)
	}
	if len(r.Curves) > 0 {
		fmt.Fprint(b, "\nCURVES\n")
		var rows [][]string
		for _, c := range r.Curves {
			rows = append(rows, row(c))
		}
		writeColumns(b, []string{"CURVE", "FROM", "TO", "FLAT"}, rows)
		for _, c := range r.Curves {
			if c.Note != "" {
				fmt.Fprintf(b, "%s: %s\n", c.Name, c.Note)
			}
		}
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

func writeHead(r *results.Report, w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%d cores (%s), %.0f GB, load %s, Linux %s", m.Cores, cmp.Or(m.CPU, "model not known"), m.MemoryMB/1000, m.Load, m.Kernel)
	if m.TCP != "" {
		fmt.Fprintf(w, ", TCP %s", m.TCP)
	}
	if m.Docker != "" {
		fmt.Fprintf(w, ", Docker %s", m.Docker)
	}
	if c := m.Costs.String(); c != "" {
		fmt.Fprintf(w, "\n%s", capitalized(c))
	}
	fmt.Fprintf(w, "\ntapestry %s, %s %s; plan %s%s, %s\n", m.Version, m.Go, m.Arch, r.Plan, r.Restriction(),
		results.Minutes(time.Duration(r.Seconds*float64(time.Second))))
	if len(r.Runs) > 0 {
		fmt.Fprintf(w, "%s, medians of their medians.\n", capitalized(runs(len(r.Runs))))
	}
	fmt.Fprint(w, `Medians. RATIO is tapestry's figure to the other's, of one round each; INTERVAL holds the true one with 95 % (or with
the percentage behind it, if there were too few rounds). BOUND is the limit, AIM the goal for later.
`)
	if slices.ContainsFunc(r.Cases, func(c results.Case) bool {
		return slices.ContainsFunc(c.Ratios, func(x results.Ratio) bool { return x.Against == "wireguard-go" })
	}) {
		fmt.Fprintln(w, "wireguard-go encrypts, the others do not.")
	}
}

// runs counts them in words.
func runs(n int) string {
	if n < 7 {
		return []string{"no runs", "one run", "two runs", "three runs", "four runs", "five runs", "six runs"}[n]
	}
	return fmt.Sprintf("%d runs", n)
}

// rungs in the order of the cases.
func rungs(r *results.Report) (names []string) {
	for _, c := range r.Cases {
		if len(names) == 0 || names[len(names)-1] != c.Rung {
			names = append(names, c.Rung)
		}
	}
	return names
}

// rows of a rung: one for each comparison, or one for a figure that is compared with nothing.
func rows(r *results.Report, rung string) (rows [][]string) {
	for _, c := range r.Cases {
		if c.Rung != rung {
			continue
		}
		first := []string{c.Measure, c.Unit, ""}
		theirs := map[string]float64{}
		for _, res := range c.Results {
			theirs[res.Setup] = res.Median
			if res.Setup == results.Tapestry {
				first[2] = results.Format(res.Median)
			}
		}
		if len(c.Ratios) == 0 {
			rows = append(rows, append(first, "", "", "", "", results.FormatBound(c.Bound, c.Lower), results.FormatPlain(c.Aim), c.Verdict))
		}
		for _, x := range c.Ratios {
			rows = append(rows, append(first, x.Against, results.Format(theirs[x.Against]), results.Format(x.Median), x.Span(),
				results.FormatBound(x.Bound, c.Lower), results.FormatPlain(x.Aim), x.Verdict))
			first = []string{"", "", ""}
		}
	}
	return rows
}

// notes of a rung's results.
func notes(r *results.Report, rung string) (all []string) {
	for _, c := range r.Cases {
		for _, x := range c.Results {
			if c.Rung == rung && x.Note != "" {
				all = append(all, fmt.Sprintf("%s, %s: %s", c.Measure, x.Setup, x.Note))
			}
		}
	}
	return all
}

func row(c results.Curve) []string {
	if len(c.Points) == 0 {
		return []string{c.Name, "", "", ""}
	}
	at := func(p results.Point) string {
		return fmt.Sprintf("%s %s at %.0f %s", results.Format(p.Y), c.Y, p.X, c.X)
	}
	flat := "yes"
	if !c.Flat {
		flat = "no"
	}
	return []string{c.Name, at(c.Points[0]), at(c.Points[len(c.Points)-1]), flat}
}

// writeColumns writes a head and rows in columns.
func writeColumns(w io.Writer, head []string, rows [][]string) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush() // cannot fail: it writes into memory
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}
