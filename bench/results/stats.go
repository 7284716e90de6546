package results

import (
	"math"
	"slices"
)

// Median of one value or more; of an even number the mean of the middle two.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Interval holds the true median of what values, one or more, were drawn from, with a probability of coverage. It
// lies between the k-th smallest value and the k-th largest, with the largest k whose coverage is 95 % or more. It
// asks nothing of the values' distribution, only that one round does not depend on another (David and Nagaraja,
// Order Statistics, 3rd edition, §7.1).
//
//	values    6     7     8     9    10    11    12    15    20
//	k         1     1     1     2     2     2     3     4     6
//	coverage  .969  .984  .992  .961  .979  .988  .961  .965  .959
//
// Of fewer than 6 values even the whole range does not reach 95 % (5: .938, 4: .875, 3: .75, 2: .5, 1: 0); then it is
// that range.
func Interval(values []float64) (low, high, coverage float64) {
	v := slices.Sorted(slices.Values(values))
	k, coverage := 1, coverageOf(len(v), 1)
	for 2*(k+1) <= len(v) && coverageOf(len(v), k+1) >= Confidence {
		k++
		coverage = coverageOf(len(v), k)
	}
	return v[k-1], v[len(v)-k], coverage
}

// Confidence is the coverage that it takes to say that a bound is missed.
const Confidence = 0.95

// coverageOf is the probability that the median lies between the k-th smallest and the k-th largest of n values:
// that neither fewer than k of them fall below it, nor fewer than k above. B(n, ½) counts those below.
func coverageOf(n, k int) float64 {
	tail, p := 0.0, 1.0 // p: that exactly i of n fall below
	for range n {
		p /= 2
	}
	for i := range k {
		tail += p
		p *= float64(n-i) / float64(i+1)
	}
	return 1 - 2*tail
}

// Verdicts on a figure with a bound.
const (
	Kept        = "ok"
	WithinNoise = "within noise"   // the median misses the bound, but for all that is known the true one does not
	Below       = "below"          // the whole interval misses the bound
	Above       = "above"          // the same, where lower is better
	TooFew      = "too few rounds" // to be sure of anything
)

// missed is the verdict of a whole interval that misses its bound.
func missed(lower bool) string {
	if lower {
		return Above
	}
	return Below
}

// misses says whether a verdict is that the bound is missed for sure.
func misses(verdict string) bool { return verdict == Below || verdict == Above }

// judge holds a ratio against its bound: at least, or at most where lower is better.
func (r Ratio) judge(lower bool) string {
	off := func(v float64) bool { return lower && v > r.Bound || !lower && v < r.Bound }
	switch {
	case r.Coverage < Confidence:
		return TooFew
	case !off(r.Median):
		return Kept
	case off(r.Low) && off(r.High):
		return missed(lower)
	}
	return WithinNoise
}

// Pairs is the number of rounds that say something.
func (r Ratio) Pairs() int { return len(r.Values) + r.Failed }

// Evaluate makes median, interval and verdict of the values. A round in which tapestry alone failed is worse than any
// other: left out, a way that breaks under load would look as good as in its best rounds. Without a value there is no
// figure, but there may be a verdict.
func (r *Ratio) Evaluate(lower bool) {
	if r.Pairs() == 0 {
		return
	}
	worst := 0.0
	if lower {
		worst = math.Inf(1)
	}
	all := slices.Concat(r.Values, slices.Repeat([]float64{worst}, r.Failed))
	r.Low, r.High, r.Coverage = Interval(all)
	if r.Median = Median(all); len(r.Runs) > 0 && 2*r.Failed < r.Pairs() {
		r.Median = Median(r.Runs)
	}
	if r.Bound > 0 {
		r.Verdict = r.judge(lower)
	}
	// JSON has no infinity: what lies beyond the worst value is shown as that.
	for _, v := range []*float64{&r.Median, &r.Low, &r.High} {
		if math.IsInf(*v, 1) {
			*v = 0
			if len(r.Values) > 0 {
				*v = slices.Max(r.Values)
			}
		}
	}
}
