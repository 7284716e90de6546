// Package bench measures tapestry against what a user would pick instead, on this machine, in one run: `tapestry
// bench`, as root. All that it makes is in namespaces of its own, and is removed when it ends, also by Ctrl-C.
//
// A rung is a topology of two containers: on one host, on two, or on Docker. The bench climbs the rungs one by one. On a rung
// each setup (tapestry, the kernel's own, Open vSwitch, …) gets a bed, and each measure is taken of the beds in turn,
// A B C A B C …: on a busy machine only the ratio within a round means something. The results are medians of those ratios,
// and the intervals that hold the true ones.
//
// Its figures can be reproduced: plan.go says what is measured, package results how sure it is and which bounds apply. They
// say nothing about other machines, and between two hosts on one machine there is no network card.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/bed"
	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
)

// Options of one run.
type Options struct {
	Binary    string    // path of the tapestry to measure, absolute; default the one beside this program
	Agent     string    // path of tapestry-bench, absolute, a static binary: the agent in Docker's containers; default this program
	Wireguard string    // path of wireguard-go; default the one beside Binary, then that in PATH
	Quick     bool      // 2 minutes instead of 16
	Check     bool      // only what has a bound for --check, 4 minutes
	Only      []string  // parts of names of rungs and measures; default all
	Pairs     int       // number of rounds; 0: as the plan says
	Seconds   float64   // of one transfer; 0: as the plan says
	Progress  io.Writer // lines about what is measured, with its figures; default none
}

// Run measures what the options say. If the machine cannot run the bench at all, the error is an Unable; if Only matches
// nothing, a NothingMatches. What keeps one setup from being measured is in the report's Skipped.
func Run(ctx context.Context, o Options) (*results.Report, error) {
	// What the bench starts ends with the thread that started it: PR_SET_PDEATHSIG(2const).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := o.complete(); err != nil {
		return nil, err
	}
	p := newPlan(o)
	if len(p.rungs) == 0 && p.parts == 0 && p.curves == 0 && p.scrapes == 0 {
		return nil, NothingMatches(o.Only)
	}
	if err := bed.Ready(); err != nil {
		return nil, Unable(err.Error())
	}
	r := &results.Report{Plan: p.name, Only: o.Only, Began: time.Now(), Cases: []results.Case{}, Parts: []results.Part{}, Curves: []results.Curve{}, Skipped: []results.Skip{},
		Wanted: p.wanted(), Rounds: p.rounds, MinRounds: p.minRounds}
	var err error
	if r.Machine, err = bed.Describe(ctx, o.Binary, o.Wireguard); err == nil {
		if r.Machine.Busy() {
			fmt.Fprintf(o.Progress, "the machine is busy (load %s, %d cores): figures and ratios suffer from it\n", r.Machine.Load, r.Machine.Cores)
		}
		if r.Machine.SlowSyscalls() {
			fmt.Fprintf(o.Progress, "a system call takes %.0f ns here: what works in user space has worse ratios than elsewhere\n", r.Machine.SyscallNS)
		}
		p.slowSyscalls = r.Machine.SlowSyscalls()
		before, stolenBefore, _ := traffic.Stolen()
		err = fill(ctx, r, p, o.Binary, o.Progress)
		if after, stolenAfter, e := traffic.Stolen(); e == nil && after > before {
			r.Machine.Steal = (stolenAfter - stolenBefore) / (after - before)
		}
	}
	if err == nil && o.Check {
		err = measureAgain(ctx, r, p, o.Binary, o.Progress)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(r.Began).Seconds()
	return r, nil
}

// Describe describes this machine, and the tapestry beside this program.
func Describe(ctx context.Context) (results.Machine, error) {
	var o Options
	if err := o.complete(); err != nil {
		return results.Machine{}, err
	}
	return bed.Describe(ctx, o.Binary, o.Wireguard)
}

// fill carries out the plan.
func fill(ctx context.Context, r *results.Report, p plan, binary string, w io.Writer) error {
	transfers, cost := p.all()
	prog := newProgress(w, transfers, cost)
	defer prog.end()
	transfers, cost = 0, 0
	for _, rung := range p.rungs {
		cases, skips, err := rung.climb(ctx, p, prog)
		r.Cases, r.Skipped = append(r.Cases, cases...), append(r.Skipped, skips...)
		if err != nil {
			return err
		}
		n, seconds := p.estimate(rung)
		transfers, cost = transfers+n, cost+seconds
		prog.advanceTo(transfers, cost)
	}
	if p.scrapes > 0 {
		c, err := scrapeCase(ctx, p, binary, prog)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Skipped = append(r.Skipped, results.Skip{What: results.Scraping, Why: err.Error()})
		} else {
			r.Cases = append(r.Cases, c)
		}
		cost += p.scrapes
		prog.advanceTo(transfers, cost)
	}
	if p.parts > 0 {
		prog.status("the parts, each alone")
		all, skips, err := bed.Parts(ctx, p.name == "quick", prog)
		r.Parts, r.Skipped = append(r.Parts, all...), append(r.Skipped, skips...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Skipped = append(r.Skipped, results.Skip{What: "the parts", Why: err.Error()})
		}
		prog.advanceTo(transfers, cost+p.parts)
	}
	if p.curves > 0 {
		prog.status("the scale curves")
		all, skips, err := bed.Curves(ctx, binary, p.name == "quick", prog)
		r.Curves, r.Skipped = append(r.Curves, all...), append(r.Skipped, skips...)
		if err != nil {
			return err // the context's
		}
	}
	r.Cases = append(r.Cases, absoluteCases(r)...)
	return nil
}

// retrySeconds is how long --check may measure again, in seconds, so that it ends within 4 minutes.
const retrySeconds = 45

// measureAgain measures again, on new beds, what fails --check, if there is time for it: the machine may have put a bed at a
// disadvantage that lasts for all of its rounds. The second result counts.
func measureAgain(ctx context.Context, r *results.Report, p plan, binary string, w io.Writer) error {
	missed := failing(r)
	if len(missed) == 0 {
		return nil
	}
	second, fits := p.again(missed, retrySeconds)
	if !fits {
		r.Skipped = append(r.Skipped, results.Skip{What: "a second measurement of what fails", Why: "it would take too long"})
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 4*retrySeconds/3*time.Second)
	defer cancel()
	transfers, cost := second.all()
	prog := newProgress(w, transfers, cost)
	defer prog.end()
	prog.line("measuring again what fails, on new beds")
	if second.scrapes > 0 {
		if c, err := scrapeCase(limited, second, binary, prog); err == nil {
			replaceCases(r, []results.Case{c}, missed, second.rounds)
		} else if ctx.Err() == nil {
			r.Skipped = append(r.Skipped, results.Skip{What: results.Scraping + ": a second measurement", Why: err.Error()})
		}
	}
	for _, rung := range second.rungs {
		cases, skips, err := rung.climb(limited, second, prog)
		r.Skipped = append(r.Skipped, skips...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the time was up: the first result stays
			r.Skipped = append(r.Skipped, results.Skip{What: rung.name + ": a second measurement", Why: err.Error()})
			continue
		}
		replaceCases(r, cases, missed, second.rounds)
	}
	return nil
}

// failing are the bounds that Verdict finds missed, and that a second measurement may find kept. Where tapestry failed in
// MaxFailures rounds there is no second one.
func failing(r *results.Report) (all []results.Bound) {
	for _, b := range r.Wanted {
		one := *r
		one.Wanted = []results.Bound{b}
		one.Cases = nil
		for _, c := range r.Cases {
			if c.Rung == b.Rung && c.Measure == b.Measure {
				one.Cases = append(one.Cases, c)
			}
		}
		broken := slices.ContainsFunc(one.Cases, func(c results.Case) bool {
			return slices.ContainsFunc(c.Ratios, func(x results.Ratio) bool { return x.Failed >= results.MaxFailures })
		})
		if !broken && one.Verdict() != nil {
			all = append(all, b)
		}
	}
	return all
}

// replaceCases replaces cases that failed by second results, and lists the first ones under Skipped.
func replaceCases(r *results.Report, cases []results.Case, missed []results.Bound, rounds int) {
	for _, c := range cases {
		if !slices.ContainsFunc(missed, func(b results.Bound) bool { return b.Rung == c.Rung && b.Measure == c.Measure }) {
			continue // another figure of a measure that failed
		}
		i := slices.IndexFunc(r.Cases, func(old results.Case) bool { return old.Rung == c.Rung && old.Measure == c.Measure })
		if i < 0 {
			r.Cases = append(r.Cases, c)
			continue
		}
		for _, x := range r.Cases[i].Ratios {
			r.Skipped = append(r.Skipped, results.Skip{What: fmt.Sprintf("%s: %s, the first measurement", c.Rung, c.Measure), Why: fmt.Sprintf("%s of %s (%s) in %d rounds; measured again in %d", results.Format(x.Median), x.Against, x.Span(), x.Pairs(), rounds)})
		}
		r.Cases[i] = c
	}
	r.MinRounds = min(r.MinRounds, FewestPairs)
}

// absoluteCases are cases of figures that have a bound of their own, without another setup.
func absoluteCases(r *results.Report) (cases []results.Case) {
	add := func(measure, unit string, value float64) {
		b, verdict := results.BoundOf(results.Alone, measure, ""), results.OK
		if value > b.Limit {
			verdict = results.Above
		}
		cases = append(cases, results.Case{Rung: results.Alone, Measure: measure, Unit: unit, Lower: true, Ratios: []results.Ratio{},
			Results: []results.Sample{{Setup: results.Tapestry, Values: []float64{value}, Median: value}},
			Bound:   b.Limit, Aim: b.Aim, Verdict: verdict})
	}
	for _, p := range r.Parts {
		if p.Name == "switch alone, one flow" {
			add(results.Decision, "ns/frame", p.Nanos)
		}
	}
	if mb, ok := bed.IdleRSS(r.Curves); ok {
		add(results.RSSIdle, "MB", mb)
	}
	return cases
}

// complete fills in defaults.
func (o *Options) complete() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	o.Agent = cmp.Or(o.Agent, self)
	o.Binary = cmp.Or(o.Binary, filepath.Join(filepath.Dir(self), "tapestry"))
	if o.Wireguard == "" {
		next := filepath.Join(filepath.Dir(o.Binary), "wireguard-go")
		if _, err := os.Stat(next); err == nil {
			o.Wireguard = next
		} else if path, err := exec.LookPath("wireguard-go"); err == nil {
			o.Wireguard = path
		}
	}
	o.Progress = cmp.Or[io.Writer](o.Progress, io.Discard)
	return nil
}

// Unable says what the bench needs and the machine lacks.
type Unable string

func (u Unable) Error() string { return string(u) }

// NothingMatches are the words of Options.Only, of which none is in the name of a rung or a measure.
type NothingMatches []string

func (n NothingMatches) Error() string {
	return fmt.Sprintf("no rung and no measure of this plan has \"%s\" in its name", strings.Join(n, `" or "`))
}
