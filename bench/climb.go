package bench

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/bench/traffic"
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
	values []float64         // one for each of these
	cdfs   [][]traffic.Point // likewise, or none
	notes  []string          // likewise
	failed []int             // rounds that gave no value, in the second try either
}

// givenUp is how many rounds of a measure may fail before it is not tried on that bed any more.
const givenUp = 2

// climb builds the rung's beds, measures them in turn, and makes a case of each figure. What fails is a skip; an error
// is the context's.
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
			if c := r.summarize(f, lanes, p); len(c.Results) > 0 {
				cases = append(cases, c)
			}
		}
	}
	return cases, skips, nil
}

// settle builds a bed for each way that stands here. Without tapestry there is no rung.
func (r rung) settle(ctx context.Context, say *progress) (lanes []*lane, skips []Skip, err error) {
	leave := func(what, why string) {
		say.line("%s is left out: %s", what, firstLine(why))
		skips = append(skips, Skip{what, why})
	}
	for i, w := range r.ways {
		why := w.missing()
		if why == "" {
			b, first, err := r.lay(ctx, w, say)
			if skips = append(skips, first...); ctx.Err() != nil {
				return lanes, skips, ctx.Err()
			}
			if err == nil {
				lanes = append(lanes, &lane{way: w, bed: b, slow: slow(w), took: map[string]*series{}, lost: map[string]int{}})
				say.pass(0, r.bed)
				continue
			}
			why = "make the network: " + err.Error()
		}
		leave(strings.TrimSuffix(r.name+": "+w.name(), ": "+ourWay), why)
		if i == 0 {
			return nil, skips, nil
		}
	}
	return lanes, skips, nil
}

// lay makes a bed ready, in a second try if the first fails, which is a skip.
func (r rung) lay(ctx context.Context, w way, say *progress) (b *bed, skips []Skip, err error) {
	say.now("%s: making it with %s", r.name, w.name())
	if b, err = r.warm(ctx, w); err == nil || ctx.Err() != nil {
		return b, nil, err
	}
	what := fmt.Sprintf("%s: %s, first try to make the network", r.name, w.name())
	say.line("%s failed: %s", what, firstLine(err.Error()))
	skips = []Skip{{what, err.Error()}}
	b, err = r.warm(ctx, w)
	return b, skips, err
}

// warm builds a bed and warms it up: neighbours get known, windows and queues grow.
func (r rung) warm(ctx context.Context, w way) (*bed, error) {
	b, err := build(ctx, w, r.across)
	if err != nil {
		return nil, err
	}
	_, err = b.stream(ctx, 1, traffic.Forward, false, 500*time.Millisecond)
	for _, m := range r.measures {
		if m.warm && err == nil {
			_, err = m.take(ctx, b, 0)
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
		what := fmt.Sprintf("%s: %s, %s, round %d", r.name, name, l.way.name(), n+1)
		leave := func(what string, err error) {
			say.line("%s failed: %s", what, firstLine(err.Error()))
			skips = append(skips, Skip{what, err.Error()})
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
			if l.lost[name] == givenUp {
				what += " and later"
			}
			leave(what, err)
		}
		if err == nil && len(got.values) > 0 {
			l.add(n, m.figures, got)
			shown = append(shown, fmt.Sprintf("%s %s", l.way.name(), show(got.values[0])))
		}
	}
	if len(shown) > 0 {
		say.line("%s: %s  %d/%d  %s %s", r.name, name, n+1, p.rounds, strings.Join(shown, ", "), m.figures[0].unit)
	}
	return skips, nil
}

// take takes a measure, a second time if the first fails: a flow may not come about on a machine that is busy. It
// tells of the first failure as well, or who breaks under load now and then would not be seen.
func (l *lane) take(ctx context.Context, m measure, d time.Duration) (got outcome, first, err error) {
	for try := range 2 {
		if err := rest(ctx); err != nil {
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

// rest waits until the machine does little, for a tenth of a second at most: what the run before it leaves to be done,
// flows to be closed and garbage to be collected, is not the next one's.
func rest(ctx context.Context) error {
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

func (l *lane) add(round int, figures []figure, got outcome) {
	for i, f := range figures {
		s := l.of(f)
		s.rounds, s.values = append(s.rounds, round), append(s.values, got.values[i])
		if i > 0 {
			continue
		}
		if s.notes = append(s.notes, got.note); got.cdf != nil {
			s.cdfs = append(s.cdfs, got.cdf)
		}
	}
}

// fail notes a round of a measure that came to nothing.
func (l *lane) fail(round int, m measure) {
	l.lost[m.figures[0].name]++
	for _, f := range m.figures {
		l.of(f).failed = append(l.of(f).failed, round)
	}
}

// of gives the series of a figure.
func (l *lane) of(f figure) *series {
	if l.took[f.name] == nil {
		l.took[f.name] = new(series)
	}
	return l.took[f.name]
}

// result of a series: its distribution is that of the round which came nearest to the median, its note what most
// rounds say.
func (s *series) result(way string) Result {
	res := Result{Way: way, Values: s.values, Median: median(s.values)}
	said := map[string]int{}
	for _, n := range s.notes {
		if said[n]++; 2*said[n] > len(s.notes) {
			res.Note = n
		}
	}
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
func (r rung) summarize(f figure, lanes []*lane, p plan) Case {
	c := Case{Rung: r.name, Measure: f.name, Unit: f.unit, Lower: f.lower, Results: []Result{}, Ratios: []Ratio{}}
	for i, l := range lanes {
		theirs := l.took[f.name]
		if theirs == nil || len(theirs.values) == 0 {
			continue
		}
		c.Results = append(c.Results, theirs.result(l.way.name()))
		ours := lanes[0].took[f.name]
		if i == 0 || ours == nil {
			continue
		}
		b := boundOf(r.name, f.name, l.way.name())
		if p.gated {
			b.bound = b.held(p.dear)
		}
		if x := compare(l.way.name(), ours, theirs, b, f.lower); x.pairs() > 0 {
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
