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
	seconds      float64 // of a transfer
	rounds       int     // of the main measures; with 9 and 12 the interval has 96 %, see results.Interval
	sideRounds   int     // of measures of rank full
	slowRounds   int     // of slow setups, for the measure that has a bound; half as many for others
	minRounds    int     // that are done even when the time is up
	rungs        []rung
	checks       bool    // it is for --check, with its laxer bounds
	slowSyscalls bool    // system calls are slow on this machine
	parts        float64 // seconds that the parts take; 0: they are left out
	curves       float64 // likewise of the scale curves
	scrapes      float64 // likewise of the metrics of many endpoints
}

// FewestPairs is the number of rounds that an interval of 95 % needs.
const FewestPairs = 6

// Defaults are the plan's number of rounds, and the seconds of a transfer.
func Defaults(o Options) (pairs int, seconds float64) {
	p := newPlan(Options{Quick: o.Quick, Check: o.Check})
	return p.rounds, p.seconds
}

// transferExtra is what a transfer takes besides its traffic, in seconds.
const transferExtra = 0.15

// newPlan makes one of three plans. A transfer takes its length and 0.15 s; a rung has setups × rounds × measures of them:
//
//	full, 16 min   one host      2 setups × (9 rounds × 3.3 s + 6 × 9.9 s), VDE 6 rounds × 1.1 s, beds 2 s      188 s
//	               two hosts     2 setups × (9 × 4.7 s + 6 × 7.4 s), 2 slow × (6 × 1.1 s + 3 × 3.6 s), beds     211 s
//	               Docker        2 setups × (9 × 2.8 s + 6 × 6.6 s) and 2 × (9 × 2.2 s + 6 × 7.4 s), beds 18 s  275 s
//	               recorder and captures 120 s, parts 15 s, curves 120 s                                        255 s
//	quick, 2 min   6 rounds, the fewest with an interval of 95 %: 18 s, 41 s, Docker 41 s, parts 3 s            103 s
//	check, 4 min   2 setups × 12 rounds × (2.9 s on one host and 4.1 s on two), beds 4 s; what fails again      170 s
//
// which leaves some time for a slower machine: a rung may take a fifth more, after that it has fewer rounds.
func newPlan(o Options) plan {
	p := plan{name: "full", seconds: 0.95, rounds: 9, sideRounds: 6, slowRounds: 6, minRounds: 6, parts: 15, curves: 120, scrapes: 15}
	switch {
	case o.Check:
		p = plan{name: "check", seconds: 0.8, rounds: 12, minRounds: 10, scrapes: 10}
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
		if !o.Check || o.Pairs >= FewestPairs { // with fewer --check could not fail
			p.minRounds = o.Pairs
		}
		if len(o.Only) > 0 { // one measure was asked for, so it gets all rounds
			p.sideRounds, p.slowRounds = o.Pairs, 2*o.Pairs
		}
	}
	if o.Seconds > 0 {
		p.seconds = o.Seconds
	}
	return p
}

// keepChecked keeps what --check has a limit for.
func (p *plan) keepChecked() {
	p.checks = true
	for i, r := range p.rungs {
		p.rungs[i].setups = slices.DeleteFunc(r.setups, func(s bed.Setup) bool {
			return s.Name() != results.Tapestry && !slices.ContainsFunc(results.Bounds, func(b results.Bound) bool {
				return b.Check != 0 && b.Rung == r.name && b.Against == s.Name()
			})
		})
		p.rungs[i].measures = slices.DeleteFunc(r.measures, func(m measure) bool {
			return !slices.ContainsFunc(results.Bounds, func(b results.Bound) bool {
				return b.Check != 0 && b.Rung == r.name && m.has(b.Measure)
			})
		})
	}
	p.dropEmpty()
}

// restrict keeps what has one of the words in the name of its rung or of a figure.
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
	if !match(results.Scraping) && !match(results.Scrape) {
		p.scrapes = 0
	}
	if !match("curves") {
		p.curves = 0
	} else if p.name == "quick" {
		p.curves = 60 // they were asked for, so there is time
	}
}

// again is the part of a plan that measures the figures of these bounds, in as many rounds as fit into limit seconds, and
// whether those are enough.
func (p plan) again(bounds []results.Bound, limit float64) (plan, bool) {
	all := p.rungs
	p.rungs = nil
	for _, r := range all {
		r.measures = slices.DeleteFunc(slices.Clone(r.measures), func(m measure) bool {
			return !slices.ContainsFunc(bounds, func(b results.Bound) bool { return b.Rung == r.name && m.has(b.Measure) })
		})
		p.rungs = append(p.rungs, r)
	}
	p.dropEmpty()
	p.parts, p.curves = 0, 0
	if !slices.ContainsFunc(bounds, func(b results.Bound) bool { return b.Rung == results.Scraping }) {
		p.scrapes = 0
	}
	for ; p.rounds >= FewestPairs; p.rounds-- {
		p.minRounds = min(p.minRounds, p.rounds)
		if _, seconds := p.all(); seconds <= limit {
			return p, len(p.rungs) > 0 || p.scrapes > 0
		}
	}
	return p, false
}

// dropEmpty removes rungs without a measure or with fewer than two setups.
func (p *plan) dropEmpty() {
	p.rungs = slices.DeleteFunc(p.rungs, func(r rung) bool { return len(r.measures) == 0 || len(r.setups) < 2 })
}

// wanted are the bounds that this plan measures.
func (p plan) wanted() (all []results.Bound) {
	for _, b := range results.Bounds {
		if b.Rung == results.Scraping && p.scrapes > 0 && (b.Check != 0 || !p.checks) || slices.ContainsFunc(p.rungs, func(r rung) bool {
			return r.name == b.Rung && slices.ContainsFunc(r.measures, func(m measure) bool { return m.has(b.Measure) }) &&
				slices.ContainsFunc(r.setups, func(s bed.Setup) bool { return s.Name() == b.Against })
		}) {
			all = append(all, b)
		}
	}
	return all
}

// takes says whether round n of a measure is taken of a setup; slow says whether that is a slow one.
func (p plan) takes(m measure, slow bool, n int) bool {
	rounds := p.rounds
	if m.rank == full {
		rounds = p.sideRounds
	}
	if slow {
		switch {
		case m.rank != always:
			rounds = 0
		case m.has(results.TCPOneFlow):
			rounds = min(rounds, p.slowRounds)
		default:
			rounds = min(rounds, p.slowRounds/2)
		}
	}
	return n < rounds
}

// length of a transfer of m.
func (p plan) length(m measure) time.Duration {
	return time.Duration(max(p.seconds*m.length, m.least) * float64(time.Second))
}

// cost of a transfer of m, in seconds.
func (p plan) cost(m measure) float64 { return p.length(m).Seconds() + m.extra + transferExtra }

// estimate is how many transfers a rung has, and how many seconds it takes.
func (p plan) estimate(r rung) (transfers int, seconds float64) {
	for _, s := range r.setups {
		seconds += r.bedSeconds
		for n := range p.rounds {
			for _, m := range r.measures {
				if p.takes(m, slow(s), n) {
					transfers++
					seconds += p.cost(m)
				}
			}
		}
	}
	return transfers, seconds
}

// all is the estimate of all rungs, with the time of the parts and the curves.
func (p plan) all() (transfers int, seconds float64) {
	for _, r := range p.rungs {
		n, s := p.estimate(r)
		transfers, seconds = transfers+n, seconds+s
	}
	return transfers, seconds + p.parts + p.curves + p.scrapes
}

// observedRungs are those where tapestry with a flight recorder or a capture is compared with itself without it.
func observedRungs(binary string) []rung {
	without := func(name string) bed.Setup {
		return bed.Observed{Tapestry: bed.Tapestry{Binary: binary}, Label: name, Recorder: "0"}
	}
	one := func(name string, with bed.Observed, against string, twoHosts bool, more ...measure) rung {
		with.Tapestry, with.Label = bed.Tapestry{Binary: binary}, results.Tapestry
		flow := oneFlow()
		flow.rank = full
		return rung{name, []bed.Setup{with, without(against)}, twoHosts, 0.8, append([]measure{flow}, more...)}
	}
	return []rung{
		one(results.RecorderOn, bed.Observed{Recorder: "32MB"}, results.RecorderOff, false, smallPackets(full)),
		one(results.RecorderAcross, bed.Observed{Recorder: "32MB"}, results.RecorderOff, true),
		one(results.StuckReader, bed.Observed{Recorder: "0", Capture: "-w - | sleep 100000"}, results.CaptureOff, false),
		one(results.CaptureToFile, bed.Observed{Recorder: "0", Capture: "-s 128 -w /run/all.pcapng"}, results.CaptureOff, false, smallPackets(full)),
	}
}
