package results

import (
	"cmp"
	"errors"
	"fmt"
)

// MaxFailures is how many rounds of a measure may fail before it is not tried on that bed any more.
const MaxFailures = 2

// Verdict is an error that names what misses its bound for sure, with the whole interval, and what was not measured
// although the plan has a bound for it, or in too few rounds: who breaks down has the fewest. nil if there is neither.
// That no bound was held at all is an error too.
func (r *Report) Verdict() error {
	var errs []error
	held := map[Bound]int{} // pairs
	for _, c := range r.Cases {
		for _, x := range c.Ratios {
			if x.Verdict != "" {
				held[BoundOf(c.Rung, c.Measure, x.Against)] = x.Pairs()
			}
			switch {
			case r.MinRounds > 0 && x.Bound > 0 && x.Failed >= MaxFailures: // that is no noise
				errs = append(errs, fmt.Errorf("%s: %s: tapestry failed in %d of %d rounds, %s did not", c.Rung, c.Measure, x.Failed, x.Pairs(), x.Against))
			case misses(x.Verdict):
				errs = append(errs, fmt.Errorf("%s: %s: %s of %s, %s with %.0f %%, want %s",
					c.Rung, c.Measure, cmp.Or(Format(x.Median), "0"), x.Against, x.Span(), 100*x.Coverage, FormatBound(x.Bound, c.Lower)))
			}
		}
		if c.Verdict != "" {
			held[BoundOf(c.Rung, c.Measure, "")] = len(c.Results[0].Values)
		}
		if misses(c.Verdict) {
			errs = append(errs, fmt.Errorf("%s: %s: %s %s, want %s", c.Rung, c.Measure, Format(c.Results[0].Median), c.Unit, FormatBound(c.Bound, c.Lower)))
		}
	}
	for _, b := range r.Wanted {
		switch n := held[b]; {
		case n == 0:
			errs = append(errs, fmt.Errorf("%s: %s: not measured against %s", b.Rung, b.Measure, b.Against))
		case n < r.MinRounds:
			errs = append(errs, fmt.Errorf("%s: %s: only %d of %d pairs with %s", b.Rung, b.Measure, n, r.Rounds, b.Against))
		}
	}
	if len(held) == 0 && len(errs) == 0 {
		return errors.New("nothing was held against a bound")
	}
	return errors.Join(errs...)
}
