package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/bed"
	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
)

// A rung is one kind of network and what is measured on it.
type rung struct {
	name       string
	setups     []bed.Setup // tapestry's first
	twoHosts   bool        // two hosts
	bedSeconds float64     // seconds that it takes to build one, about
	measures   []measure
}

// A contender is a way on its bed, in a rung.
type contender struct {
	setup    bed.Setup
	bed      *bed.Bed
	slow     bool
	series   map[string]*results.Series // by figure
	failures map[string]int             // rounds of a measure, by its name, that failed
}

// climb builds the rung's beds, measures them in turn, and makes a case of each figure. What fails is a skip; an error
// is the context's.
func (r rung) climb(ctx context.Context, p plan, say *progress) (cases []results.Case, skips []results.Skip, err error) {
	lanes, skips, err := r.buildBeds(ctx, say)
	defer func() {
		for _, l := range lanes {
			l.bed.Close()
		}
	}()
	if err != nil || len(lanes) == 0 {
		return nil, skips, err
	}
	_, reckoned := p.estimate(r)
	late := time.Now().Add(time.Duration(1.2 * reckoned * float64(time.Second))) // the others shall have theirs
	for n := range p.rounds {
		if n >= p.minRounds && time.Now().After(late) {
			skips = append(skips, results.Skip{What: fmt.Sprintf("%s: rounds %d to %d", r.name, n+1, p.rounds), Why: "the time for it was up"})
			break
		}
		for _, m := range r.measures {
			failed, err := r.round(ctx, p, n, m, lanes, say)
			if skips = append(skips, failed...); err != nil {
				return nil, skips, err
			}
		}
	}
	for _, m := range r.measures {
		for _, f := range m.figures {
			if c := r.summarize(f, lanes, p); len(c.Results) > 0 {
				cases = append(cases, c)
			}
		}
	}
	return cases, skips, nil
}

// buildBeds builds a bed for each way that stands here. Without tapestry there is no rung.
func (r rung) buildBeds(ctx context.Context, say *progress) (lanes []*contender, skips []results.Skip, err error) {
	leave := func(what, why string) {
		say.line("%s is left out: %s", what, results.FirstLine(why))
		skips = append(skips, results.Skip{What: what, Why: why})
	}
	for i, w := range r.setups {
		why := w.Missing()
		if why == "" {
			b, first, err := r.buildTwice(ctx, w, say)
			if skips = append(skips, first...); ctx.Err() != nil {
				return lanes, skips, ctx.Err()
			}
			if err == nil {
				lanes = append(lanes, &contender{setup: w, bed: b, slow: slow(w), series: map[string]*results.Series{}, failures: map[string]int{}})
				say.advance(0, r.bedSeconds)
				continue
			}
			why = "make the network: " + err.Error()
		}
		leave(strings.TrimSuffix(r.name+": "+w.Name(), ": "+results.Tapestry), why)
		if i == 0 {
			return nil, skips, nil
		}
	}
	return lanes, skips, nil
}

// buildTwice makes a bed ready, in a second try if the first fails, which is a skip.
func (r rung) buildTwice(ctx context.Context, w bed.Setup, say *progress) (b *bed.Bed, skips []results.Skip, err error) {
	say.status("%s: making it with %s", r.name, w.Name())
	if b, err = r.buildWarm(ctx, w); err == nil || ctx.Err() != nil {
		return b, nil, err
	}
	what := fmt.Sprintf("%s: %s, first try to make the network", r.name, w.Name())
	say.line("%s failed: %s", what, results.FirstLine(err.Error()))
	skips = []results.Skip{{What: what, Why: err.Error()}}
	b, err = r.buildWarm(ctx, w)
	return b, skips, err
}

// buildWarm builds a bed and warms it up: neighbours get known, windows and queues grow.
func (r rung) buildWarm(ctx context.Context, w bed.Setup) (*bed.Bed, error) {
	b, err := bed.Build(ctx, w, r.twoHosts)
	if err != nil {
		return nil, err
	}
	_, err = b.Stream(ctx, 1, traffic.Forward, false, 500*time.Millisecond)
	for _, m := range r.measures {
		if m.warm && err == nil {
			_, err = m.take(ctx, b, 0)
		}
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("warm up: %w", err)
	}
	return b, nil
}

// round takes a measure of each lane once. What fails is a skip.
func (r rung) round(ctx context.Context, p plan, n int, m measure, lanes []*contender, say *progress) (skips []results.Skip, err error) {
	name := m.figures[0].name
	var shown []string
	for _, l := range lanes {
		if !p.takes(m, l.slow, n) {
			continue
		}
		say.advance(1, p.cost(m))
		if l.failures[name] == results.MaxFailures {
			continue
		}
		say.status("%s: %s, %s, round %d of %d", r.name, name, l.setup.Name(), n+1, p.rounds)
		what := fmt.Sprintf("%s: %s, %s, round %d", r.name, name, l.setup.Name(), n+1)
		leave := func(what string, err error) {
			say.line("%s failed: %s", what, results.FirstLine(err.Error()))
			skips = append(skips, results.Skip{What: what, Why: err.Error()})
		}
		got, first, err := l.take(ctx, m, p.length(m))
		if ctx.Err() != nil {
			return skips, ctx.Err()
		}
		if first != nil {
			leave(what+", first try", first)
		}
		if err != nil {
			l.fail(n, m)
			if l.failures[name] == results.MaxFailures {
				what += " and later"
			}
			leave(what, err)
		}
		if err == nil && len(got.values) > 0 {
			l.add(n, m.figures, got)
			shown = append(shown, fmt.Sprintf("%s %s", l.setup.Name(), results.Format(got.values[0])))
		}
	}
	if len(shown) > 0 {
		say.line("%s: %s  %d/%d  %s %s", r.name, name, n+1, p.rounds, strings.Join(shown, ", "), m.figures[0].unit)
	}
	return skips, nil
}

// take takes a measure, a second time if the first fails: a flow may not come about on a machine that is busy. It
// tells of the first failure as well, or who breaks under load now and then would not be seen.
func (l *contender) take(ctx context.Context, m measure, d time.Duration) (got outcome, first, err error) {
	for try := range 2 {
		if err := awaitQuiet(ctx); err != nil {
			return outcome{}, first, err
		}
		if got, err = m.take(ctx, l.bed, d); err == nil {
			break
		}
		if try == 0 {
			first = err
		}
	}
	return got, first, err
}

// awaitQuiet waits until the machine does little, for a tenth of a second at most: what the run before it leaves to be done,
// flows to be closed and garbage to be collected, is not the next one's.
func awaitQuiet(ctx context.Context) error {
	before, err := traffic.CPUSeconds()
	for range 4 {
		if err != nil {
			return err
		}
		if err = traffic.Sleep(ctx, 25*time.Millisecond); err != nil {
			return err
		}
		var after float64
		if after, err = traffic.CPUSeconds(); after-before < 0.015 { // one tick of its clock, which may be anybody's
			return err
		}
		before = after
	}
	return err
}

func (l *contender) add(round int, figures []figure, got outcome) {
	for i, f := range figures {
		s := l.seriesOf(f)
		s.Rounds, s.Values = append(s.Rounds, round), append(s.Values, got.values[i])
		if i > 0 {
			continue
		}
		if s.Notes = append(s.Notes, got.note); got.cdf != nil {
			s.CDFs = append(s.CDFs, got.cdf)
		}
	}
}

// fail notes a round of a measure that came to nothing.
func (l *contender) fail(round int, m measure) {
	l.failures[m.figures[0].name]++
	for _, f := range m.figures {
		l.seriesOf(f).Failed = append(l.seriesOf(f).Failed, round)
	}
}

// seriesOf gives the series of a figure.
func (l *contender) seriesOf(f figure) *results.Series {
	if l.series[f.name] == nil {
		l.series[f.name] = new(results.Series)
	}
	return l.series[f.name]
}

// summarize makes the case of a figure: the first lane's ratios to the others.
func (r rung) summarize(f figure, lanes []*contender, p plan) results.Case {
	c := results.Case{Rung: r.name, Measure: f.name, Unit: f.unit, Lower: f.lower, Results: []results.Sample{}, Ratios: []results.Ratio{}}
	for i, l := range lanes {
		theirs := l.series[f.name]
		if theirs == nil || len(theirs.Values) == 0 {
			continue
		}
		c.Results = append(c.Results, theirs.Sample(l.setup.Name()))
		ours := lanes[0].series[f.name]
		if i == 0 || ours == nil {
			continue
		}
		b := results.BoundOf(r.name, f.name, l.setup.Name())
		if p.checks {
			b.Limit = b.CheckLimit(p.slowSyscalls)
		}
		if x := results.Compare(l.setup.Name(), ours, theirs, b, f.lower); x.Pairs() > 0 {
			c.Ratios = append(c.Ratios, x)
		}
	}
	return c
}

// slow ways are so much slower than the rest that a few rounds of the measures for all say enough.
func slow(w bed.Setup) bool {
	switch w.(type) {
	case bed.OpenVSwitch, bed.VDE, bed.WireGuard:
		return true
	}
	return false
}
