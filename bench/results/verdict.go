package results

import (
	"cmp"
	"errors"
	"fmt"
)

// MaxFailures is how many rounds of a measure may fail on a bed. Then the measure is not tried on it any more.
const MaxFailures = 2

// Verdict is an error that names what misses its bound with the whole interval; of Wanted, what was not measured or in fewer
// than MinRounds rounds; and cases in which tapestry failed in MaxFailures rounds. It is nil if there is none of these. It is
// an error too that nothing was compared with a bound.
func (r *Report) Verdict() error {
	var errs []error
	rounds := map[Bound]int{} // by bound, the number of rounds
	for _, c := range r.Cases {
		for _, x := range c.Ratios {
			if x.Verdict != "" {
				rounds[BoundOf(c.Rung, c.Measure, x.Against)] = x.Pairs()
			}
			switch {
			case r.MinRounds > 0 && x.Bound > 0 && x.Failed >= MaxFailures: // that is not noise
				errs = append(errs, fmt.Errorf("%s: %s: tapestry failed in %d of %d rounds, %s did not", c.Rung, c.Measure, x.Failed, x.Pairs(), x.Against))
			case misses(x.Verdict):
				errs = append(errs, fmt.Errorf("%s: %s: %s of %s, %s with %.0f %%, want %s",
					c.Rung, c.Measure, cmp.Or(Format(x.Median), "0"), x.Against, x.Span(), 100*x.Coverage, FormatBound(x.Bound, c.Lower)))
			}
		}
		if c.Verdict != "" {
			rounds[BoundOf(c.Rung, c.Measure, "")] = len(c.Results[0].Values)
		}
		if misses(c.Verdict) {
			errs = append(errs, fmt.Errorf("%s: %s: %s %s, want %s", c.Rung, c.Measure, Format(c.Results[0].Median), c.Unit, FormatBound(c.Bound, c.Lower)))
		}
	}
	for _, b := range r.Wanted {
		switch n := rounds[b]; {
		case n == 0:
			errs = append(errs, fmt.Errorf("%s: %s: not measured against %s", b.Rung, b.Measure, b.Against))
		case n < r.MinRounds:
			errs = append(errs, fmt.Errorf("%s: %s: only %d of %d pairs with %s", b.Rung, b.Measure, n, r.Rounds, b.Against))
		}
	}
	if len(rounds) == 0 && len(errs) == 0 {
		return errors.New("nothing was compared with a bound")
	}
	return errors.Join(errs...)
}
