package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Read reads the report of one run from a file, as --json prints it.
func Read(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const most = 64 << 20 // a report has some 100 KB
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s is not what tapestry bench --json prints: %w", path, err)
	}
	if r.Plan == "" || r.Began.IsZero() {
		return nil, fmt.Errorf("%s is not what tapestry bench --json prints: no plan, or no time when it began", path)
	}
	if len(r.Runs) > 0 {
		return nil, fmt.Errorf("%s is merged already, want the reports that it was merged of", path)
	}
	return r, nil
}

// Merge makes one report of two or more runs of one plan, on one machine, of one tapestry, in the order of their time. Each
// setup's values are those of all runs. A ratio's median is that of the runs' medians, since the state of the machine
// affects a run as a whole; its interval is that of all rounds. Parts and curves are those of the last run that has them.
func Merge(all []*Report) (*Report, error) {
	if len(all) < 2 {
		return nil, errors.New("one report is no more than itself: want two reports or more")
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *Report) int { return a.Began.Compare(b.Began) })
	first, last := all[0], all[len(all)-1]
	m := &Report{Machine: last.Machine, Plan: first.Plan, Only: first.Only, Began: first.Began,
		Cases: []Case{}, Parts: []Part{}, Curves: []Curve{}, Skipped: []Skip{}}
	for i, r := range all {
		if err := sameSubject(first, r); err != nil {
			return nil, err
		}
		if i > 0 && r.Began.Equal(all[i-1].Began) {
			return nil, fmt.Errorf("two reports are of one run, that of %s: want different runs", r.Began.UTC().Format("2006-01-02 15:04:05 UTC"))
		}
		m.Runs = append(m.Runs, Run{r.Began, r.Seconds, r.Machine.Load})
		m.Seconds += r.Seconds
		for _, c := range r.Cases {
			m.addCase(c)
		}
		if len(r.Parts) > 0 {
			m.Parts = r.Parts
		}
		if len(r.Curves) > 0 {
			m.Curves = r.Curves
		}
		for _, s := range r.Skipped {
			if !slices.Contains(m.Skipped, s) {
				m.Skipped = append(m.Skipped, s)
			}
		}
	}
	for i := range m.Cases {
		m.Cases[i].evaluate()
	}
	return m, nil
}

// sameSubject is an error if a report is not of the same plan, machine and tapestry as the first.
func sameSubject(first, r *Report) error {
	a, b := first.Machine, r.Machine
	for _, x := range []struct{ what, first, other string }{
		{"plan", first.Plan + first.Restriction(), r.Plan + r.Restriction()},
		{"version of tapestry", a.Version, b.Version},
		{"commit", a.Commit, b.Commit},
		{"kernel", a.Kernel, b.Kernel},
		{"congestion control", a.TCP, b.TCP},
		{"processor", fmt.Sprintf("%d × %s", a.Cores, a.CPU), fmt.Sprintf("%d × %s", b.Cores, b.CPU)},
	} {
		if x.first != x.other {
			return fmt.Errorf("the reports differ in their %s, %q and %q: want runs of one plan, on one machine, of one tapestry", x.what, x.first, x.other)
		}
	}
	return nil
}

// addCase adds a run's values of a case.
func (m *Report) addCase(c Case) {
	i := slices.IndexFunc(m.Cases, func(x Case) bool { return x.Rung == c.Rung && x.Measure == c.Measure })
	if i < 0 {
		i = len(m.Cases)
		for at := range m.Cases { // after the last of its rung
			if m.Cases[at].Rung == c.Rung {
				i = at + 1
			}
		}
		bare := c
		bare.Results, bare.Ratios = []Sample{}, []Ratio{}
		m.Cases = slices.Insert(m.Cases, i, bare)
	}
	to := &m.Cases[i]
	for _, r := range c.Results {
		at := slices.IndexFunc(to.Results, func(x Sample) bool { return x.Setup == r.Setup })
		if at < 0 {
			at = len(to.Results)
			to.Results = append(to.Results, Sample{Setup: r.Setup})
		}
		sum := &to.Results[at]
		sum.Values = slices.Concat(sum.Values, r.Values)
		sum.Runs = append(sum.Runs, r.Median)
		sum.CDF, sum.Note = r.CDF, r.Note
	}
	for _, r := range c.Ratios {
		at := slices.IndexFunc(to.Ratios, func(x Ratio) bool { return x.Against == r.Against })
		if at < 0 {
			at = len(to.Ratios)
			to.Ratios = append(to.Ratios, Ratio{Against: r.Against, Values: []float64{}, Bound: r.Bound, Aim: r.Aim})
		}
		sum := &to.Ratios[at]
		sum.Values, sum.Failed = slices.Concat(sum.Values, r.Values), sum.Failed+r.Failed
		if len(r.Values) > 0 {
			sum.Runs = append(sum.Runs, r.Median)
		}
	}
}

// evaluate sets medians, intervals and verdicts from the values.
func (c *Case) evaluate() {
	for i := range c.Results {
		if r := &c.Results[i]; len(r.Values) > 0 {
			r.Median = Median(r.Values)
		}
	}
	for i := range c.Ratios {
		c.Ratios[i].evaluate(c.Lower)
	}
	if c.Bound == 0 || len(c.Results) == 0 {
		return
	}
	c.Verdict = OK
	if v := c.Results[0].Median; c.Lower && v > c.Bound || !c.Lower && v < c.Bound {
		c.Verdict = missed(c.Lower)
	}
}

// Restriction says in words what --only asked for, "" if there was no --only.
func (r *Report) Restriction() string {
	if len(r.Only) == 0 {
		return ""
	}
	return `, only "` + strings.Join(r.Only, `" and "`) + `"`
}
