package results

import (
	"math"
	"slices"
)

// Compare makes the ratio of ours to theirs, over the rounds that both have. It takes the median of the rounds' ratios,
// not the ratio of the medians: what else the machine does changes slowly, so it affects both figures of a round.
// Without a common round it has no values. A round in which only ours failed counts; one in which theirs failed does not.
func Compare(against string, ours, theirs *Series, b Bound, lower bool) Ratio {
	r := Ratio{Against: against, Values: []float64{}, Bound: b.Limit, Aim: b.Aim}
	for i, round := range ours.Rounds {
		if j := slices.Index(theirs.Rounds, round); j >= 0 && theirs.Values[j] != 0 {
			r.Values = append(r.Values, ours.Values[i]/theirs.Values[j])
		}
	}
	for _, round := range ours.Failed {
		if slices.Contains(theirs.Rounds, round) {
			r.Failed++
		}
	}
	r.evaluate(lower)
	return r
}

// A Series is what a setup reached for one figure of a measure, round by round.
type Series struct {
	Rounds []int
	Values []float64 // one for each of Rounds
	CDFs   [][]Point // likewise, or none
	Notes  []string  // likewise
	Failed []int     // rounds that gave no value, also in a second try
}

// Sample summarizes a series, which has one value or more: its distribution is that of the round nearest to the median, its
// note that of most rounds.
func (s *Series) Sample(setup string) Sample {
	res := Sample{Setup: setup, Values: s.Values, Median: Median(s.Values)}
	count := map[string]int{}
	for _, n := range s.Notes {
		if count[n]++; 2*count[n] > len(s.Notes) {
			res.Note = n
		}
	}
	if len(s.CDFs) == len(s.Values) {
		off := func(i int) float64 { return math.Abs(s.Values[i] - res.Median) }
		near := 0
		for i := range s.Values {
			if off(i) < off(near) {
				near = i
			}
		}
		res.CDF = s.CDFs[near]
	}
	return res
}
