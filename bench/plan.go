package bench

import (
	"slices"
	"strings"
	"time"
)

// Names of rungs and figures that have bounds.
const (
	oneHost        = "one host"
	twoHosts       = "two hosts"
	dockerOneHost  = "docker, one host"
	dockerTwoHosts = "docker, two hosts"
	alone          = "alone"
	recorderOn     = "flight recorder on"
	recorderAcross = "flight recorder on, two hosts"
	stuckReader    = "capture whose reader is stuck"
	toFile         = "capture of 128 B of every frame to a file"

	ourWay = "tapestry" // the way that the others are compared with

	recorderOff = "recorder off" // tapestry too, as in the one below
	nobodyLooks = "capture off"

	tcpOne     = "TCP, 1 flow"
	tcpEight   = "TCP, 8 flows"
	tcpNested  = "TCP, 1 flow, in a VXLAN of the containers"
	cpuTCP     = "CPU, TCP, 1 flow"
	udpSmall   = "UDP 64 B"
	echoP50    = "TCP echo p50"
	firstPing  = "docker run to first ping"
	pingNoExit = "docker run to first ping, external=off"
	rssIdle    = "RSS, 1,000 idle endpoints"
	decision   = "forwarding decision, one flow"
)

// A bound is what tapestry's figure has to be of another way's: at least, or at most where lower is better.
// The aim is what it shall become.
type bound struct {
	rung, measure, against string
	bound, aim             float64
	gate, dear             float64 // what --check holds instead, and that where system calls are dear; 0: nothing. It is for whoever breaks something: no goal, and not missed on a bad day
}

// held is what --check holds.
func (b bound) held(dear bool) float64 {
	if dear {
		return b.dear
	}
	return b.gate
}

// bounds are ratios, but where there is nothing to compare with. The gates of the echo leave room for machines whose sleeping
// processors wake fast: the kernel gains more by it.
var bounds = []bound{
	{oneHost, tcpOne, "kernel bridge", 0.85, 1.0, 0.7, 0.5},
	{oneHost, tcpEight, "kernel bridge", 0.9, 1.1, 0.4, 0.3},
	{oneHost, tcpNested, "kernel bridge", 0.8, 1.0, 0, 0},
	{oneHost, echoP50, "kernel bridge", 1.2, 0.9, 2, 2.4},
	{twoHosts, tcpOne, "kernel VXLAN", 0.85, 1.05, 0.6, 0.4},
	{twoHosts, tcpOne, "Open vSwitch", 9, 13, 0, 0},
	{twoHosts, cpuTCP, "kernel VXLAN", 1.25, 1.0, 2, 3},
	{twoHosts, udpSmall, "kernel VXLAN", 0.8, 1.5, 0.8, 0.6},
	{twoHosts, echoP50, "kernel VXLAN", 1.4, 1.1, 2.8, 3.8},
	{dockerTwoHosts, tcpOne, "Docker overlay", 0.85, 1.05, 0, 0},
	{dockerOneHost, pingNoExit, "Docker bridge", 1.0, 0.9, 0, 0},
	{dockerOneHost, firstPing, "Docker bridge", 1.2, 1.1, 0, 0},
	{recorderOn, tcpOne, recorderOff, 0.97, 1.0, 0, 0},
	{recorderAcross, tcpOne, recorderOff, 0.97, 1.0, 0, 0},
	{stuckReader, tcpOne, nobodyLooks, 0.95, 1.0, 0, 0},
	{toFile, tcpOne, nobodyLooks, 0.8, 0.9, 0, 0},
	{alone, rssIdle, "", 64, 40, 0, 0},
	{alone, decision, "", 15, 8, 0, 0},
}

// boundOf is zero where there is none.
func boundOf(rung, measure, against string) bound {
	for _, b := range bounds {
		if b.rung == rung && b.measure == measure && b.against == against {
			return b
		}
	}
	return bound{}
}

// A plan is how much of it is measured, and for how long.
type plan struct {
	name    string
	seconds float64 // of a run
	rounds  int     // of the main measures; 9 and 12 give an interval of 96 % with few rounds: stats.go
	side    int     // of the other measures
	slow    int     // of slow ways, where one has a bound; half as many of the rest
	least   int     // rounds that are done also when the time is up
	rungs   []rung
	gated   bool    // its bounds are the gates
	dear    bool    // system calls are dear on this machine
	parts   float64 // seconds that the ladder of parts takes; 0: it is left out
	curves  float64 // the same of the scale curves
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
	p := plan{name: "full", seconds: 0.95, rounds: 9, side: 6, slow: 6, least: 6, parts: 15, curves: 120}
	switch {
	case o.Check:
		p = plan{name: "check", seconds: 0.8, rounds: 12, least: 10}
	case o.Quick:
		p = plan{name: "quick", seconds: 0.2, rounds: 6, slow: 1, least: 3, parts: 3} // the curves take too long
	}
	p.rungs = ladder(o)
	if o.Check {
		p.gate()
	}
	p.only(o.Only)
	if o.Pairs > 0 {
		p.rounds, p.side, p.slow = o.Pairs, min(p.side, o.Pairs), min(p.slow, o.Pairs)
		if !o.Check || o.Pairs >= FewestPairs { // with fewer the check could not fail
			p.least = o.Pairs
		}
		if len(o.Only) > 0 { // who asks for one thing means it
			p.side, p.slow = o.Pairs, 2*o.Pairs
		}
	}
	if o.Seconds > 0 {
		p.seconds = o.Seconds
	}
	return p
}

// gate leaves what --check holds.
func (p *plan) gate() {
	p.gated = true
	for i, r := range p.rungs {
		p.rungs[i].ways = slices.DeleteFunc(r.ways, func(w way) bool {
			return w.name() != ourWay && !slices.ContainsFunc(bounds, func(b bound) bool {
				return b.gate != 0 && b.rung == r.name && b.against == w.name()
			})
		})
		p.rungs[i].measures = slices.DeleteFunc(r.measures, func(m measure) bool {
			return !slices.ContainsFunc(bounds, func(b bound) bool {
				return b.gate != 0 && b.rung == r.name && m.gives(b.measure)
			})
		})
	}
	p.drop()
}

// only leaves what has one of the words in the name of its rung or of a figure.
func (p *plan) only(words []string) {
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
	p.drop()
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
func (p plan) again(bounds []bound, limit float64) (plan, bool) {
	all := p.rungs
	p.rungs = nil
	for _, r := range all {
		r.measures = slices.DeleteFunc(slices.Clone(r.measures), func(m measure) bool {
			return !slices.ContainsFunc(bounds, func(b bound) bool { return b.rung == r.name && m.gives(b.measure) })
		})
		p.rungs = append(p.rungs, r)
	}
	p.drop()
	p.parts, p.curves = 0, 0
	for ; p.rounds >= FewestPairs; p.rounds-- {
		p.least = min(p.least, p.rounds)
		if _, seconds := p.all(); seconds <= limit {
			return p, len(p.rungs) > 0
		}
	}
	return p, false
}

// drop takes out rungs without a measure or without anything to compare with.
func (p *plan) drop() {
	p.rungs = slices.DeleteFunc(p.rungs, func(r rung) bool { return len(r.measures) == 0 || len(r.ways) < 2 })
}

// wanted are the bounds that this plan can hold something against.
func (p plan) wanted() (all []bound) {
	for _, b := range bounds {
		if slices.ContainsFunc(p.rungs, func(r rung) bool {
			return r.name == b.rung && slices.ContainsFunc(r.measures, func(m measure) bool { return m.gives(b.measure) }) &&
				slices.ContainsFunc(r.ways, func(w way) bool { return w.name() == b.against })
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
		rounds = p.side
	}
	if slow {
		switch {
		case m.rank != always:
			rounds = 0
		case m.gives(tcpOne):
			rounds = min(rounds, p.slow)
		default:
			rounds = min(rounds, p.slow/2)
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

// reckon says how many runs a rung has, and how many seconds it takes.
func (p plan) reckon(r rung) (runs int, seconds float64) {
	for _, w := range r.ways {
		seconds += r.bed
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
		n, s := p.reckon(r)
		runs, seconds = runs+n, seconds+s
	}
	return runs, seconds + p.parts + p.curves
}
