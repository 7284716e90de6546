package bench

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// A rung is one kind of network and what is measured on it.
type rung struct {
	name     string
	ways     []way   // tapestry's first
	across   bool    // two hosts
	bed      float64 // seconds that it takes to build one, about
	measures []measure
}

// A lane is a way on its bed, in a rung.
type lane struct {
	way  way
	bed  *bed
	slow bool
	took map[string]*series // by figure
	lost map[string]int     // rounds of a measure, by its name, that failed
}

// A series is what a lane reached.
type series struct {
	rounds []int
	values []float64 // one for each of these
	cdfs   [][]Point // likewise, or none
}

// givenUp is how many rounds of a measure may fail before it is not tried on that bed any more.
const givenUp = 2

// climb builds the rung's beds, measures them in turn, and makes a case of each figure. That tapestry's bed cannot be
// built is an error, that another's cannot is a skip.
func (r rung) climb(ctx context.Context, p plan, say *progress) (cases []Case, skips []Skip, err error) {
	lanes, skips, err := r.settle(ctx, say)
	defer func() {
		for _, l := range lanes {
			l.bed.close()
		}
	}()
	if err != nil || len(lanes) == 0 {
		return nil, skips, err
	}
	_, reckoned := p.reckon(r)
	late := time.Now().Add(time.Duration(1.2 * reckoned * float64(time.Second))) // the others shall have theirs
	for n := range p.rounds {
		if n >= p.least && time.Now().After(late) {
			skips = append(skips, Skip{fmt.Sprintf("%s: rounds %d to %d", r.name, n+1, p.rounds), "the time for it was up"})
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
			if c := r.summarize(f, lanes); len(c.Results) > 0 {
				cases = append(cases, c)
			}
		}
	}
	return cases, skips, nil
}

// settle builds a bed for each way that stands here, and warms it up. Without tapestry there is no rung.
func (r rung) settle(ctx context.Context, say *progress) (lanes []*lane, skips []Skip, err error) {
	leave := func(what, why string) {
		say.line("%s is left out: %s", what, firstLine(why))
		skips = append(skips, Skip{what, why})
	}
	for i, w := range r.ways {
		why := w.missing()
		if why != "" && i == 0 {
			leave(r.name, why)
			return nil, skips, nil
		}
		if why == "" {
			say.now("%s: making it with %s", r.name, w.name())
			b, err := r.lay(ctx, w)
			if err == nil {
				lanes = append(lanes, &lane{way: w, bed: b, slow: slow(w), took: map[string]*series{}, lost: map[string]int{}})
				say.pass(0, r.bed)
				continue
			}
			if err = fmt.Errorf("make the network: %w", err); i == 0 || ctx.Err() != nil {
				return lanes, skips, fmt.Errorf("%s: %s: %w", r.name, w.name(), err)
			}
			why = err.Error()
		}
		leave(r.name+": "+w.name(), why)
	}
	return lanes, skips, nil
}

// lay builds a bed and warms it up: neighbours get known, windows and queues grow.
func (r rung) lay(ctx context.Context, w way) (*bed, error) {
	b, err := build(ctx, w, r.across)
	if err != nil {
		return nil, err
	}
	_, err = b.stream(ctx, 1, forward, false, 500*time.Millisecond)
	for _, m := range r.measures {
		if m.warm && err == nil {
			_, _, err = m.take(ctx, b, 0)
		}
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("warm up: %w", err)
	}
	return b, nil
}

// round takes a measure of each lane once. What fails is a skip.
func (r rung) round(ctx context.Context, p plan, n int, m measure, lanes []*lane, say *progress) (skips []Skip, err error) {
	name := m.figures[0].name
	var shown []string
	for _, l := range lanes {
		if !p.takes(m, l.slow, n) {
			continue
		}
		say.pass(1, p.cost(m))
		if l.lost[name] == givenUp {
			continue
		}
		say.now("%s: %s, %s, round %d of %d", r.name, name, l.way.name(), n+1, p.rounds)
		values, cdf, err := l.take(ctx, m, p.length(m))
		if ctx.Err() != nil {
			return skips, ctx.Err()
		}
		if err != nil {
			l.lost[name]++
			what := fmt.Sprintf("%s: %s, %s, round %d", r.name, name, l.way.name(), n+1)
			if l.lost[name] == givenUp {
				what += " and later"
			}
			say.line("%s failed: %s", what, firstLine(err.Error()))
			skips = append(skips, Skip{what, err.Error()})
		}
		if err == nil && len(values) > 0 {
			l.add(n, m.figures, values, cdf)
			shown = append(shown, fmt.Sprintf("%s %s", l.way.name(), show(values[0])))
		}
	}
	if len(shown) > 0 {
		say.line("%s: %s  %d/%d  %s %s", r.name, name, n+1, p.rounds, strings.Join(shown, ", "), m.figures[0].unit)
	}
	return skips, nil
}

// take takes a measure, a second time if the first fails: a flow may not come about on a machine that is busy.
func (l *lane) take(ctx context.Context, m measure, d time.Duration) (values []float64, cdf []Point, err error) {
	for range 2 {
		if err := rest(ctx); err != nil {
			return nil, nil, err
		}
		values, cdf, err = m.take(ctx, l.bed, d)
		if err == nil {
			break
		}
	}
	return values, cdf, err
}

// rest waits until the machine does little, for a tenth of a second at most: what the run before it leaves to be done,
// flows to be closed and garbage to be collected, is not the next one's.
func rest(ctx context.Context) error {
	before, err := cpuSeconds()
	for range 4 {
		if err != nil {
			return err
		}
		if err = sleep(ctx, 25*time.Millisecond); err != nil {
			return err
		}
		var after float64
		if after, err = cpuSeconds(); after-before < 0.015 { // one tick of its clock, which may be anybody's
			return err
		}
		before = after
	}
	return err
}

func (l *lane) add(round int, figures []figure, values []float64, cdf []Point) {
	for i, f := range figures {
		s := l.took[f.name]
		if s == nil {
			s = new(series)
			l.took[f.name] = s
		}
		s.rounds, s.values = append(s.rounds, round), append(s.values, values[i])
		if i == 0 && cdf != nil {
			s.cdfs = append(s.cdfs, cdf)
		}
	}
}

// result of a series: its distribution is that of the round which came nearest to the median.
func (s *series) result(way string) Result {
	res := Result{Way: way, Values: s.values, Median: median(s.values)}
	if len(s.cdfs) == len(s.values) {
		off := func(i int) float64 { return math.Abs(s.values[i] - res.Median) }
		near := 0
		for i := range s.values {
			if off(i) < off(near) {
				near = i
			}
		}
		res.CDF = s.cdfs[near]
	}
	return res
}

// summarize makes the case of a figure: the first lane's ratios to the others.
func (r rung) summarize(f figure, lanes []*lane) Case {
	c := Case{Rung: r.name, Measure: f.name, Unit: f.unit, Lower: f.lower, Results: []Result{}, Ratios: []Ratio{}}
	for i, l := range lanes {
		theirs := l.took[f.name]
		if theirs == nil {
			continue
		}
		c.Results = append(c.Results, theirs.result(l.way.name()))
		ours := lanes[0].took[f.name]
		if i == 0 || ours == nil {
			continue
		}
		if x := compare(l.way.name(), ours, theirs, boundOf(r.name, f.name, l.way.name()), f.lower); len(x.Values) > 0 {
			c.Ratios = append(c.Ratios, x)
		}
	}
	return c
}

// firstLine of what a tool said.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// slow ways are so much slower than the rest that a few rounds of the measures for all say enough.
func slow(w way) bool {
	switch w.(type) {
	case openVSwitch, vde, wireguard:
		return true
	}
	return false
}
