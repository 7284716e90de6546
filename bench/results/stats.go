package results

import (
	"math"
	"slices"
)

// Median is that of one value or more; of an even number it is the mean of the middle two.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Interval returns the interval that holds the true median of the values' distribution with a probability of coverage. It takes
// one value or more. It is from the k-th smallest value to the k-th largest, with the largest k whose coverage is 95 % or
// more. The distribution may be any; the values have to be independent (David and Nagaraja, Order Statistics, 3rd
// edition, §7.1).
//
//	values    6     7     8     9    10    11    12    15    20
//	k         1     1     1     2     2     2     3     4     6
//	coverage  .969  .984  .992  .961  .979  .988  .961  .965  .959
//
// With fewer than 6 values even the whole range covers less than 95 % (5: .938, 4: .875, 3: .75, 2: .5, 1: 0); then it is
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

// Confidence is the coverage that an interval needs for the verdict that a bound is missed.
const Confidence = 0.95

// coverageOf is the probability that the median is between the k-th smallest and the k-th largest of n values: that at
// least k of them are below it, and at least k above. The number below has the binomial distribution B(n, ½).
func coverageOf(n, k int) float64 {
	tail, p := 0.0, 1.0 // p: that exactly i of n are below
	for range n {
		p /= 2
	}
	for i := range k {
		tail += p
		p *= float64(n-i) / float64(i+1)
	}
	return 1 - 2*tail
}

// Verdicts about a figure with a bound.
const (
	OK          = "ok"
	WithinNoise = "within noise"   // the median misses the bound, the interval does not: the true median may keep it
	Below       = "below"          // the whole interval misses the bound
	Above       = "above"          // likewise, where lower is better
	TooFew      = "too few rounds" // for an interval of 95 %
)

// missed is the verdict of a whole interval that misses its bound.
func missed(lower bool) string {
	if lower {
		return Above
	}
	return Below
}

// misses says whether a verdict is that the bound is missed, beyond noise.
func misses(verdict string) bool { return verdict == Below || verdict == Above }

// judge compares a ratio with its bound: at least, or at most where lower is better.
func (r Ratio) judge(lower bool) string {
	off := func(v float64) bool { return lower && v > r.Bound || !lower && v < r.Bound }
	switch {
	case r.Coverage < Confidence:
		return TooFew
	case !off(r.Median):
		return OK
	case off(r.Low) && off(r.High):
		return missed(lower)
	}
	return WithinNoise
}

// Pairs is the number of rounds that count.
func (r Ratio) Pairs() int { return len(r.Values) + r.Failed }

// evaluate sets median, interval and verdict from the values. A round in which only tapestry failed counts as worse than any
// value: if it were left out, a tapestry that breaks under load would look as good as in its best rounds. Without a value
// there is no figure, but there may be a verdict.
func (r *Ratio) evaluate(lower bool) {
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
	// JSON has no infinity: the worst value stands for it.
	for _, v := range []*float64{&r.Median, &r.Low, &r.High} {
		if math.IsInf(*v, 1) {
			*v = 0
			if len(r.Values) > 0 {
				*v = slices.Max(r.Values)
			}
		}
	}
}
