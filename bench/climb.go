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

// A rung is a topology and what is measured on it.
type rung struct {
	name       string
	setups     []bed.Setup // tapestry first
	twoHosts   bool
	bedSeconds float64 // about the seconds that it takes to build one bed
	measures   []measure
}

// A contender is a setup with its bed on a rung, and what was measured of it.
type contender struct {
	setup    bed.Setup
	bed      *bed.Bed
	slow     bool
	series   map[string]*results.Series // by the figure's name
	failures map[string]int             // by the name of a measure's first figure: rounds that failed
}

// climb builds the rung's beds, measures them in turn, and makes a case of each figure. What fails is in skips; an error
// is the context's.
func (r rung) climb(ctx context.Context, p plan, prog *progress) (cases []results.Case, skips []results.Skip, err error) {
	contenders, skips, err := r.buildBeds(ctx, prog)
	defer func() {
		for _, c := range contenders {
			c.bed.Close()
		}
	}()
	if err != nil || len(contenders) == 0 {
		return nil, skips, err
	}
	_, estimated := p.estimate(r)
	deadline := time.Now().Add(time.Duration(1.2 * estimated * float64(time.Second))) // so that the other rungs get their time
	for n := range p.rounds {
		if n >= p.minRounds && time.Now().After(deadline) {
			skips = append(skips, results.Skip{What: fmt.Sprintf("%s: rounds %d to %d", r.name, n+1, p.rounds), Why: "the time for it was up"})
			break
		}
		for _, m := range r.measures {
			failed, err := r.round(ctx, p, n, m, contenders, prog)
			if skips = append(skips, failed...); err != nil {
				return nil, skips, err
			}
		}
	}
	for _, m := range r.measures {
		for _, f := range m.figures {
			if c := r.summarize(f, contenders, p); len(c.Results) > 0 {
				cases = append(cases, c)
			}
		}
	}
	return cases, skips, nil
}

// buildBeds builds a bed for each setup that this machine has. Without tapestry's it builds none.
func (r rung) buildBeds(ctx context.Context, prog *progress) (contenders []*contender, skips []results.Skip, err error) {
	skip := func(what, why string) {
		prog.line("%s is left out: %s", what, results.FirstLine(why))
		skips = append(skips, results.Skip{What: what, Why: why})
	}
	for i, s := range r.setups {
		why := s.Missing()
		if why == "" {
			b, first, err := r.buildWithRetry(ctx, s, prog)
			if skips = append(skips, first...); ctx.Err() != nil {
				return contenders, skips, ctx.Err()
			}
			if err == nil {
				contenders = append(contenders, &contender{setup: s, bed: b, slow: slow(s), series: map[string]*results.Series{}, failures: map[string]int{}})
				prog.advance(0, r.bedSeconds)
				continue
			}
			why = "make the network: " + err.Error()
		}
		skip(strings.TrimSuffix(r.name+": "+s.Name(), ": "+results.Tapestry), why)
		if i == 0 {
			return nil, skips, nil
		}
	}
	return contenders, skips, nil
}

// buildWithRetry builds a bed, with a second try if the first fails; then the first is in skips.
func (r rung) buildWithRetry(ctx context.Context, s bed.Setup, prog *progress) (b *bed.Bed, skips []results.Skip, err error) {
	prog.status("%s: building the bed of %s", r.name, s.Name())
	if b, err = r.buildWarm(ctx, s); err == nil || ctx.Err() != nil {
		return b, nil, err
	}
	what := fmt.Sprintf("%s: %s, first try to make the network", r.name, s.Name())
	prog.line("%s failed: %s", what, results.FirstLine(err.Error()))
	skips = []results.Skip{{What: what, Why: err.Error()}}
	b, err = r.buildWarm(ctx, s)
	return b, skips, err
}

// buildWarm builds a bed and warms it up: neighbours are discovered, windows and queues grow.
func (r rung) buildWarm(ctx context.Context, s bed.Setup) (*bed.Bed, error) {
	b, err := bed.Build(ctx, s, r.twoHosts)
	if err != nil {
		return nil, err
	}
	_, err = b.Stream(ctx, 1, traffic.Forward, false, 500*time.Millisecond)
	for _, m := range r.measures {
		if m.warm && err == nil {
			_, err = m.run(ctx, b, 0)
		}
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("warm up: %w", err)
	}
	return b, nil
}

// round takes a measure of each contender once. What fails is in skips.
func (r rung) round(ctx context.Context, p plan, n int, m measure, contenders []*contender, prog *progress) (skips []results.Skip, err error) {
	name := m.figures[0].name
	var shown []string
	for _, c := range contenders {
		if !p.takes(m, c.slow, n) {
			continue
		}
		prog.advance(1, p.cost(m))
		if c.failures[name] == results.MaxFailures {
			continue
		}
		prog.status("%s: %s, %s, round %d of %d", r.name, name, c.setup.Name(), n+1, p.rounds)
		what := fmt.Sprintf("%s: %s, %s, round %d", r.name, name, c.setup.Name(), n+1)
		skip := func(what string, err error) {
			prog.line("%s failed: %s", what, results.FirstLine(err.Error()))
			skips = append(skips, results.Skip{What: what, Why: err.Error()})
		}
		got, first, err := c.measureWithRetry(ctx, m, p.length(m))
		if ctx.Err() != nil {
			return skips, ctx.Err()
		}
		if first != nil {
			skip(what+", first try", first)
		}
		if err != nil {
			c.fail(n, m)
			if c.failures[name] == results.MaxFailures {
				what += " and later"
			}
			skip(what, err)
		}
		if err == nil && len(got.values) > 0 {
			c.add(n, m.figures, got)
			shown = append(shown, fmt.Sprintf("%s %s", c.setup.Name(), results.Format(got.values[0])))
		}
	}
	if len(shown) > 0 {
		prog.line("%s: %s  %d/%d  %s %s", r.name, name, n+1, p.rounds, strings.Join(shown, ", "), m.figures[0].unit)
	}
	return skips, nil
}

// measureWithRetry takes a measure, with a second try if the first fails: on a busy machine a connection may time out. It returns
// the first failure too, so that a setup that sometimes fails under load is seen.
func (c *contender) measureWithRetry(ctx context.Context, m measure, d time.Duration) (got outcome, first, err error) {
	for try := range 2 {
		if err := awaitQuiet(ctx); err != nil {
			return outcome{}, first, err
		}
		if got, err = m.run(ctx, c.bed, d); err == nil {
			break
		}
		if try == 0 {
			first = err
		}
	}
	return got, first, err
}

// awaitQuiet waits until the machine does little, for a tenth of a second at most: so the work that a transfer leaves, like
// flows to close and garbage to collect, is not counted for the next one.
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
		if after, err = traffic.CPUSeconds(); after-before < 0.015 { // one tick of the clock, which any process may have caused
			return err
		}
		before = after
	}
	return err
}

func (c *contender) add(round int, figures []figure, got outcome) {
	for i, f := range figures {
		s := c.seriesOf(f)
		s.Rounds, s.Values = append(s.Rounds, round), append(s.Values, got.values[i])
		if i > 0 {
			continue
		}
		if s.Notes = append(s.Notes, got.note); got.cdf != nil {
			s.CDFs = append(s.CDFs, got.cdf)
		}
	}
}

// fail records a round of a measure that failed.
func (c *contender) fail(round int, m measure) {
	c.failures[m.figures[0].name]++
	for _, f := range m.figures {
		c.seriesOf(f).Failed = append(c.seriesOf(f).Failed, round)
	}
}

// seriesOf returns the series of a figure.
func (c *contender) seriesOf(f figure) *results.Series {
	if c.series[f.name] == nil {
		c.series[f.name] = new(results.Series)
	}
	return c.series[f.name]
}

// summarize makes the case of a figure: the first contender's ratios to the others.
func (r rung) summarize(f figure, contenders []*contender, p plan) results.Case {
	out := results.Case{Rung: r.name, Measure: f.name, Unit: f.unit, Lower: f.lower, Results: []results.Sample{}, Ratios: []results.Ratio{}}
	for i, c := range contenders {
		theirs := c.series[f.name]
		if theirs == nil || len(theirs.Values) == 0 {
			continue
		}
		out.Results = append(out.Results, theirs.Sample(c.setup.Name()))
		ours := contenders[0].series[f.name]
		if i == 0 || ours == nil {
			continue
		}
		b := results.BoundOf(r.name, f.name, c.setup.Name())
		if p.checks {
			b.Limit = b.CheckLimit(p.slowSyscalls)
		}
		if x := results.Compare(c.setup.Name(), ours, theirs, b, f.lower); x.Pairs() > 0 {
			out.Ratios = append(out.Ratios, x)
		}
	}
	return out
}

// slow says whether a setup is so much slower than the others that a few rounds are enough.
func slow(s bed.Setup) bool {
	switch s.(type) {
	case bed.OpenVSwitch, bed.VDE, bed.WireGuard:
		return true
	}
	return false
}
