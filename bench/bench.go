// Package bench measures tapestry against what a user would pick instead, on this machine, in one run: `tapestry
// bench`, as root. All that it makes lives in namespaces of its own and is gone when it ends, also by Ctrl-C.
//
// A rung is a network of two containers. Each way to make it (tapestry, the kernel's own, Open vSwitch, …) gets a bed,
// and a measure is taken of the beds in turn, A B C A B C …: on a busy machine only the ratio within a round means
// something. The bench shows medians of those ratios, and the interval that holds the true one.
//
// It promises figures that can be had again: plan.go says what is measured, package results which bounds hold and how sure
// it is. It does not say what another machine would do, and two hosts on one machine lack a network card.
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
	Binary    string    // the tapestry to measure, an absolute path; default the one beside this program
	Agent     string    // tapestry-bench, a static binary, an absolute path: what sends and receives in Docker's containers; default this program
	Wireguard string    // wireguard-go; default the one beside Binary, then that in PATH
	Quick     bool      // 2 minutes instead of 12
	Check     bool      // only what has a bound that CI holds, 4 minutes
	Only      []string  // parts of names of rungs and measures, for working on one thing; default all
	Pairs     int       // rounds; 0: as the plan says
	Seconds   float64   // of a run; 0: as the plan says
	Progress  io.Writer // told what is measured, and what came out
}

// Run measures what the options say. What stands in the way of all of it is a Skipped error; what stands in the way of
// one way is in the report.
func Run(ctx context.Context, o Options) (*results.Report, error) {
	// What the bench starts ends with the thread that started it: PR_SET_PDEATHSIG(2const).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := o.complete(); err != nil {
		return nil, err
	}
	p := newPlan(o)
	if len(p.rungs) == 0 && p.parts == 0 && p.curves == 0 {
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
		err = measureAgain(ctx, r, p, o.Progress)
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

// fill carries the plan out.
func fill(ctx context.Context, r *results.Report, p plan, binary string, w io.Writer) error {
	runs, cost := p.all()
	say := newProgress(w, runs, cost)
	defer say.end()
	runs, cost = 0, 0
	for _, rung := range p.rungs {
		cases, skips, err := rung.climb(ctx, p, say)
		r.Cases, r.Skipped = append(r.Cases, cases...), append(r.Skipped, skips...)
		if err != nil {
			return err
		}
		n, seconds := p.estimate(rung)
		runs, cost = runs+n, cost+seconds
		say.advanceTo(runs, cost)
	}
	if p.parts > 0 {
		say.status("the parts, each alone")
		all, skips, err := bed.Parts(ctx, p.name == "quick", say)
		r.Parts, r.Skipped = append(r.Parts, all...), append(r.Skipped, skips...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Skipped = append(r.Skipped, results.Skip{What: "the parts", Why: err.Error()})
		}
		say.advanceTo(runs, cost+p.parts)
	}
	if p.curves > 0 {
		say.status("the scale curves")
		all, skips, err := bed.Curves(ctx, binary, p.name == "quick", say)
		r.Curves, r.Skipped = append(r.Curves, all...), append(r.Skipped, skips...)
		if err != nil {
			return err // the context's
		}
	}
	r.Cases = append(r.Cases, absoluteCases(r)...)
	return nil
}

// retrySeconds is how long the check may measure again, in seconds: all of it shall end within 4 minutes.
const retrySeconds = 45

// measureAgain measures anew, on fresh beds, what fails the check, if it is little enough for that: a bed may have had bad luck
// with the machine, which stays with it in all of its rounds. The second answer holds.
func measureAgain(ctx context.Context, r *results.Report, p plan, w io.Writer) error {
	failing := failing(r)
	if len(failing) == 0 {
		return nil
	}
	second, fits := p.again(failing, retrySeconds)
	if !fits {
		r.Skipped = append(r.Skipped, results.Skip{What: "a second measurement of what fails", Why: "it would take too long"})
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 4*retrySeconds/3*time.Second)
	defer cancel()
	runs, cost := second.all()
	say := newProgress(w, runs, cost)
	defer say.end()
	say.line("measuring again what fails, on fresh beds")
	for _, rung := range second.rungs {
		cases, skips, err := rung.climb(limited, second, say)
		r.Skipped = append(r.Skipped, skips...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the time was up: the first answer stays
			r.Skipped = append(r.Skipped, results.Skip{What: rung.name + ": a second measurement", Why: err.Error()})
			continue
		}
		replaceCases(r, cases, failing, second.rounds)
	}
	return nil
}

// failing are the bounds for which Verdict is an error that luck may explain. That tapestry breaks down is none such.
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

// replaceCases puts second answers in the place of those that failed, and notes what the first ones were.
func replaceCases(r *results.Report, cases []results.Case, failing []results.Bound, rounds int) {
	for _, c := range cases {
		if !slices.ContainsFunc(failing, func(b results.Bound) bool { return b.Rung == c.Rung && b.Measure == c.Measure }) {
			continue // came along
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

// absoluteCases makes cases of what has a bound and nothing to compare with.
func absoluteCases(r *results.Report) (cases []results.Case) {
	add := func(measure, unit string, value float64) {
		b, verdict := results.BoundOf(results.Alone, measure, ""), results.Kept
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
		beside := filepath.Join(filepath.Dir(o.Binary), "wireguard-go")
		if _, err := os.Stat(beside); err == nil {
			o.Wireguard = beside
		} else if path, err := exec.LookPath("wireguard-go"); err == nil {
			o.Wireguard = path
		}
	}
	o.Progress = cmp.Or[io.Writer](o.Progress, io.Discard)
	return nil
}

// Unable says what the bench cannot do without.
type Unable string

func (s Unable) Error() string { return string(s) }

// NothingMatches are Options.Only that no rung and no measure has in its name.
type NothingMatches []string

func (n NothingMatches) Error() string {
	return fmt.Sprintf("no rung and no measure of this plan has \"%s\" in its name", strings.Join(n, `" or "`))
}
