package results

import (
	"math"
	"slices"
)

// Compare makes the ratio of ours to theirs, over the rounds that both have. It takes the median of the rounds' ratios,
// not the ratio of the medians: what the machine does besides changes slowly, and so touches both.
// Without a common round it has no values. Where we failed and the other did not, the round counts; where the other
// failed, it does not.
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
	r.Evaluate(lower)
	return r
}

// A Series is what a lane reached.
type Series struct {
	Rounds []int
	Values []float64 // one for each of these
	CDFs   [][]Point // likewise, or none
	Notes  []string  // likewise
	Failed []int     // rounds that gave no value, in the second try either
}

// Sample of a series: its distribution is that of the round which came nearest to the median, its note what most
// rounds say.
func (s *Series) Sample(way string) Sample {
	res := Sample{Setup: way, Values: s.Values, Median: Median(s.Values)}
	said := map[string]int{}
	for _, n := range s.Notes {
		if said[n]++; 2*said[n] > len(s.Notes) {
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
