package bench

import (
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/bed"
	"github.com/tapestry-net/tapestry/bench/results"
)

// A plan is how much of it is measured, and for how long.
type plan struct {
	name         string
	seconds      float64 // of a run
	rounds       int     // of the main measures; 9 and 12 give an interval of 96 % with few rounds: results.Interval
	sideRounds   int     // of the other measures
	slowRounds   int     // of slow ways, where one has a bound; half as many of the rest
	minRounds    int     // rounds that are done also when the time is up
	rungs        []rung
	checks       bool    // its bounds are the gates
	slowSyscalls bool    // system calls are dear on this machine
	parts        float64 // seconds that the ladder of parts takes; 0: it is left out
	curves       float64 // the same of the scale curves
}

// FewestPairs is how many rounds an interval of 95 % takes.
const FewestPairs = 6

// Defaults are a plan's number of rounds and the seconds of a run.
func Defaults(o Options) (pairs int, seconds float64) {
	p := newPlan(Options{Quick: o.Quick, Check: o.Check})
	return p.rounds, p.seconds
}

// runExtra is what a run takes besides its traffic, in seconds.
const runExtra = 0.15

// newPlan makes one of three plans. A run takes its length and 0.15 s, a rung's runs are ways × rounds × measures:
//
//	full, 16 min   one host      2 ways × (9 rounds × 3.3 s + 6 × 9.9 s), VDE 6 rounds × 1.1 s, beds 2 s        188 s
//	               two hosts     2 ways × (9 × 4.7 s + 6 × 7.4 s), 2 slow ways × (6 × 1.1 s + 3 × 3.6 s), beds  211 s
//	               Docker        2 ways × (9 × 2.8 s + 6 × 6.6 s) and 2 × (9 × 2.2 s + 6 × 7.4 s), beds 18 s    275 s
//	               what looking costs 120 s, parts 15 s, curves 120 s                                            255 s
//	quick, 2 min   6 rounds, the fewest with an interval of 95 %: 18 s, 41 s, Docker 41 s, parts 3 s            103 s
//	check, 4 min   2 ways × 12 rounds × (2.9 s on one host and 4.1 s on two), beds 4 s; once more what fails    170 s
//
// which leaves some for a slower machine; there a rung takes a fifth more time at most, then it has fewer rounds.
func newPlan(o Options) plan {
	p := plan{name: "full", seconds: 0.95, rounds: 9, sideRounds: 6, slowRounds: 6, minRounds: 6, parts: 15, curves: 120}
	switch {
	case o.Check:
		p = plan{name: "check", seconds: 0.8, rounds: 12, minRounds: 10}
	case o.Quick:
		p = plan{name: "quick", seconds: 0.2, rounds: 6, slowRounds: 1, minRounds: 3, parts: 3} // the curves take too long
	}
	p.rungs = allRungs(o)
	if o.Check {
		p.keepChecked()
	}
	p.restrict(o.Only)
	if o.Pairs > 0 {
		p.rounds, p.sideRounds, p.slowRounds = o.Pairs, min(p.sideRounds, o.Pairs), min(p.slowRounds, o.Pairs)
		if !o.Check || o.Pairs >= FewestPairs { // with fewer the check could not fail
			p.minRounds = o.Pairs
		}
		if len(o.Only) > 0 { // who asks for one thing means it
			p.sideRounds, p.slowRounds = o.Pairs, 2*o.Pairs
		}
	}
	if o.Seconds > 0 {
		p.seconds = o.Seconds
	}
	return p
}

// keepChecked leaves what --check holds.
func (p *plan) keepChecked() {
	p.checks = true
	for i, r := range p.rungs {
		p.rungs[i].setups = slices.DeleteFunc(r.setups, func(w bed.Setup) bool {
			return w.Name() != results.Tapestry && !slices.ContainsFunc(results.Bounds, func(b results.Bound) bool {
				return b.Check != 0 && b.Rung == r.name && b.Against == w.Name()
			})
		})
		p.rungs[i].measures = slices.DeleteFunc(r.measures, func(m measure) bool {
			return !slices.ContainsFunc(results.Bounds, func(b results.Bound) bool {
				return b.Check != 0 && b.Rung == r.name && m.gives(b.Measure)
			})
		})
	}
	p.dropEmpty()
}

// restrict leaves what has one of the words in the name of its rung or of a figure.
func (p *plan) restrict(words []string) {
	if len(words) == 0 {
		return
	}
	match := func(name string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(name), strings.ToLower(w)) })
	}
	for i, r := range p.rungs {
		if match(r.name) {
			continue
		}
		p.rungs[i].measures = slices.DeleteFunc(r.measures, func(m measure) bool {
			return !slices.ContainsFunc(m.figures, func(f figure) bool { return match(f.name) })
		})
	}
	p.dropEmpty()
	if !match("parts") {
		p.parts = 0
	}
	if !match("curves") {
		p.curves = 0
	} else if p.name == "quick" {
		p.curves = 60 // who asks for them has the time
	}
}

// again is the part of a plan that measures what these bounds are about, in as many rounds as there is time for, and
// says whether that is enough of them.
func (p plan) again(bounds []results.Bound, limit float64) (plan, bool) {
	all := p.rungs
	p.rungs = nil
	for _, r := range all {
		r.measures = slices.DeleteFunc(slices.Clone(r.measures), func(m measure) bool {
			return !slices.ContainsFunc(bounds, func(b results.Bound) bool { return b.Rung == r.name && m.gives(b.Measure) })
		})
		p.rungs = append(p.rungs, r)
	}
	p.dropEmpty()
	p.parts, p.curves = 0, 0
	for ; p.rounds >= FewestPairs; p.rounds-- {
		p.minRounds = min(p.minRounds, p.rounds)
		if _, seconds := p.all(); seconds <= limit {
			return p, len(p.rungs) > 0
		}
	}
	return p, false
}

// dropEmpty takes out rungs without a measure or without anything to compare with.
func (p *plan) dropEmpty() {
	p.rungs = slices.DeleteFunc(p.rungs, func(r rung) bool { return len(r.measures) == 0 || len(r.setups) < 2 })
}

// wanted are the bounds that this plan can hold something against.
func (p plan) wanted() (all []results.Bound) {
	for _, b := range results.Bounds {
		if slices.ContainsFunc(p.rungs, func(r rung) bool {
			return r.name == b.Rung && slices.ContainsFunc(r.measures, func(m measure) bool { return m.gives(b.Measure) }) &&
				slices.ContainsFunc(r.setups, func(w bed.Setup) bool { return w.Name() == b.Against })
		}) {
			all = append(all, b)
		}
	}
	return all
}

// takes says whether a lane takes part in round n of a measure.
func (p plan) takes(m measure, slow bool, n int) bool {
	rounds := p.rounds
	if m.rank == full {
		rounds = p.sideRounds
	}
	if slow {
		switch {
		case m.rank != always:
			rounds = 0
		case m.gives(results.TCPOneFlow):
			rounds = min(rounds, p.slowRounds)
		default:
			rounds = min(rounds, p.slowRounds/2)
		}
	}
	return n < rounds
}

// length of a run of m.
func (p plan) length(m measure) time.Duration {
	return time.Duration(max(p.seconds*m.length, m.least) * float64(time.Second))
}

// cost of a run of m, in seconds.
func (p plan) cost(m measure) float64 { return p.length(m).Seconds() + m.extra + runExtra }

// estimate says how many runs a rung has, and how many seconds it takes.
func (p plan) estimate(r rung) (runs int, seconds float64) {
	for _, w := range r.setups {
		seconds += r.bedSeconds
		for n := range p.rounds {
			for _, m := range r.measures {
				if p.takes(m, slow(w), n) {
					runs++
					seconds += p.cost(m)
				}
			}
		}
	}
	return runs, seconds
}

// all that reckon says of the rungs, with what stands beside them.
func (p plan) all() (runs int, seconds float64) {
	for _, r := range p.rungs {
		n, s := p.estimate(r)
		runs, seconds = runs+n, seconds+s
	}
	return runs, seconds + p.parts + p.curves
}

// observedRungs are the rungs where tapestry is measured against itself: what looking costs.
func observedRungs(binary string) []rung {
	nobody := func(name string) bed.Setup {
		return bed.Observed{Tapestry: bed.Tapestry{Binary: binary}, Label: name, Recorder: "0"}
	}
	one := func(name string, with bed.Observed, against string, across bool, more ...measure) rung {
		with.Tapestry, with.Label = bed.Tapestry{Binary: binary}, results.Tapestry
		flow := oneFlow()
		flow.rank = full
		return rung{name, []bed.Setup{with, nobody(against)}, across, 0.8, append([]measure{flow}, more...)}
	}
	return []rung{
		one(results.RecorderOn, bed.Observed{Recorder: "32MB"}, results.RecorderOff, false, smallPackets(full)),
		one(results.RecorderAcross, bed.Observed{Recorder: "32MB"}, results.RecorderOff, true),
		one(results.StuckReader, bed.Observed{Recorder: "0", Capture: "-w - | sleep 100000"}, results.CaptureOff, false),
		one(results.CaptureToFile, bed.Observed{Recorder: "0", Capture: "-s 128 -w /run/all.pcapng"}, results.CaptureOff, false, smallPackets(full)),
	}
}
