package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/bench/results"
)

// A target is a ratio with the case that it is of. With Against "" it is tapestry's own figure.
type target struct {
	rung, measure, unit string
	lower               bool
	results.Ratio
}

func targetOf(c results.Case, r results.Ratio) target {
	return target{c.Rung, c.Measure, c.Unit, c.Lower, r}
}

// targets are all figures of a report that have a bound.
func targets(r *results.Report) []target {
	var all []target
	for _, c := range r.Cases {
		for _, x := range c.Ratios {
			if x.Bound > 0 {
				all = append(all, targetOf(c, x))
			}
		}
		if c.Bound > 0 {
			all = append(all, targetOf(c, alone(c)))
		}
	}
	return all
}

// alone is tapestry's figure as a ratio to 1 of its unit.
func alone(c results.Case) results.Ratio {
	x := results.Ratio{Bound: c.Bound, Aim: c.Aim, Verdict: c.Verdict}
	for _, r := range c.Results {
		if r.Setup == results.Tapestry && len(r.Values) > 0 {
			x.Values, x.Median, x.Runs = r.Values, r.Median, r.Runs
			x.Low, x.High, x.Coverage = results.Interval(r.Values)
		}
	}
	return x
}

func (t target) verdict() string { return cmp.Or(t.Verdict, "not judged") }

// show formats one of its figures.
func (t target) show(v float64) string {
	switch {
	case t.Against == "":
		return trimmed(v) + " " + t.unit
	case !finite(v):
		return "–"
	case v >= 100:
		return threeDigits(v)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// interval formats the interval of the true median, with its coverage if there were too few rounds.
func (t target) interval() string {
	if !finite(t.Low) || !finite(t.High) || len(t.Values) < 2 {
		return "–"
	}
	s := t.show(t.Low) + "–" + t.show(t.High)
	if t.Coverage < results.Confidence {
		s += fmt.Sprintf(", %.0f %%", 100*t.Coverage)
	}
	return s
}

// figures formats median and interval.
func (t target) figures() string {
	switch len(t.Values) {
	case 0:
		return "–"
	case 1:
		return t.show(t.Median)
	}
	return t.show(t.Median) + " (" + t.interval() + ")"
}

// eachRun formats the median of each run that was merged; "" for a report of one run.
func (t target) eachRun() string {
	var all []string
	for _, v := range t.Runs {
		all = append(all, t.show(v))
	}
	return strings.Join(all, ", ")
}

func (t target) sentence() string {
	want := "at least "
	if t.lower {
		want = "at most "
	}
	want += t.show(t.Bound) + " is wanted."
	s := capitalized(t.rung) + ", " + t.measure + ": "
	if t.Failed > 0 {
		want = fmt.Sprintf("failed in %d of %d rounds; ", t.Failed, t.Pairs()) + want
	}
	if each := t.eachRun(); each != "" {
		want = "each run " + each + "; " + want
	}
	switch {
	case len(t.Values) == 0 && t.Failed > 0:
		return s + want
	case len(t.Values) == 0:
		return s + "not measured; " + want
	case t.Against == "":
		return s + t.show(t.Median) + "; " + want
	}
	return s + t.figures() + " of " + t.Against + "; " + want
}

// An unmeasured bound is one for which a report has no figure, with the reason.
type unmeasured struct {
	results.Bound
	why string
}

// unmeasuredBounds are the bounds for which a report has no figure, so that they are not forgotten.
func unmeasuredBounds(r *results.Report) (all []unmeasured) {
	for _, b := range results.Bounds {
		if slices.ContainsFunc(targets(r), func(t target) bool { return t.rung == b.Rung && t.measure == b.Measure && t.Against == b.Against }) {
			continue
		}
		why := "it gave no value"
		switch {
		case len(r.Only) > 0:
			why = "left out by --only"
		case r.Plan != "" && r.Plan != "full":
			why = "not in a " + r.Plan + " run"
		}
		for _, s := range r.Skipped { // the run's own reason is more exact
			if s.What == b.Rung || s.What == b.Rung+": "+b.Against || b.Rung != results.Alone && strings.HasPrefix(s.What, b.Rung+": "+b.Measure+",") ||
				b.Measure == results.RSSIdle && strings.HasPrefix(s.What, "endpoints of one host") || b.Measure == results.Decision && strings.HasPrefix(s.What, "switch alone, one") {
				why = results.FirstLine(s.Why)
			}
		}
		all = append(all, unmeasured{b, why})
	}
	return all
}
