package show

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/flow"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// A Top counts frames in intervals, by what top shows a row for.
type Top struct {
	// Not changed after NewTop.
	by    string   // flow, pair or port
	names Resolver // nil: there are none

	mu      sync.Mutex // guards what follows: one goroutine counts while another one reads
	counter *Counter   // guarded by mu
	begin   time.Time  // of this interval; guarded by mu
	total   flow.Sum   // of the intervals before this one; guarded by mu
	lost    uint64     // frames lost in the intervals before this one; guarded by mu
}

// NewTop begins the first interval.
func NewTop(by string, names Resolver) *Top {
	return &Top{by: by, names: names, counter: NewCounter(), begin: time.Now()}
}

// Begin is when this interval began.
func (o *Top) Begin() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.begin
}

// Total is what all intervals before this one have counted, and how many frames were lost since the first began.
func (o *Top) Total() (all flow.Sum, lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total, o.counter.Lost()
}

// Count counts all blocks, up to the stream's end. Its error is the stream's.
func (o *Top) Count(from BlockReader) error {
	return forEachBlock(from, func(b pcapng.Block) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.counter.Add(b)
	})
}

// Interval ends an interval, returns its counts and begins the next one.
func (o *Top) Interval() *api.Top {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, t := time.Now(), o.counter
	seconds, lost, total := now.Sub(o.begin).Seconds(), t.Lost(), t.Table.Total()
	gone, evicted := t.Table.Evicted()
	r := &api.Top{Time: now.UTC(), Seconds: seconds, Lost: lost - o.lost, Total: counts(total.Counts),
		Evicted: api.Evicted{Flows: gone, Counts: counts(evicted.Counts)}}
	o.begin, o.lost = now, lost
	o.total.Add(&total)
	pairs := map[pair]*flow.Flow{}
	t.Table.Take(func(f *flow.Flow) {
		switch o.by {
		case "flow":
			r.Flows = append(r.Flows, toFlow(t, o.names, f, seconds))
		case "pair":
			addToPair(pairs, f)
		}
	})
	for _, f := range pairs {
		both := toFlow(t, o.names, f, seconds)
		both.Proto = ""
		r.Flows = append(r.Flows, both)
	}
	for i := range t.Ports {
		if p := &t.Ports[i]; o.by == "port" && p.From.Frames+p.To.Frames > 0 {
			r.Ports = append(r.Ports, o.portTraffic(p, seconds))
		}
		t.Ports[i].From, t.Ports[i].To = flow.Sum{}, flow.Sum{}
	}
	slices.SortStableFunc(r.Flows, func(a, b api.Flow) int {
		return cmp.Or(flowOrders["bytes"](a, b), strings.Compare(a.A.Address, b.A.Address),
			strings.Compare(a.B.Address, b.B.Address))
	})
	slices.SortStableFunc(r.Ports, func(a, b api.PortTraffic) int { return cmp.Compare(b.Rate, a.Rate) })
	return r
}

// A pair is the two ends of a conversation, whatever the protocol.
type pair struct {
	network unique.Handle[string]
	a, b    flow.End
}

// addToPair adds a flow to that of its two ends.
func addToPair(pairs map[pair]*flow.Flow, f *flow.Flow) {
	both := *f
	both.Type, both.Proto, both.A.Port, both.B.Port, both.Sent, both.Got = 0, 0, 0, 0, 0, 0
	if both.A.Compare(&both.B) > 0 {
		both.A, both.B, both.Out, both.Back = both.B, both.A, both.Back, both.Out
	}
	k := pair{both.Network, both.A, both.B}
	if had := pairs[k]; had != nil {
		both.Out.Add(had.Out)
		both.Back.Add(had.Back)
		for v, n := range had.Verdicts {
			both.Verdicts[v] += n
		}
		both.Faults += had.Faults
		both.First, both.Last = min(had.First, both.First), max(had.Last, both.Last)
	}
	pairs[k] = &both
}

func (o *Top) portTraffic(p *PortStats, seconds float64) api.PortTraffic {
	r := api.PortTraffic{Network: p.Network, Kind: "container", Name: p.Name, From: counts(p.From.Counts),
		To: counts(p.To.Counts), Drops: p.From.Verdicts.Drops(), Rate: perSecond(p.From.Bytes+p.To.Bytes, seconds)}
	if p.Remote {
		r.Kind = "remote"
	} else if p.HostPort {
		r.Kind = "host"
	}
	if o.names == nil {
		return r
	}
	r.NetworkName = o.names.Network(p.Network)
	if !p.HostPort {
		r.Container = o.names.Container(p.Name)
	}
	return r
}

// TopHead is how many lines Print writes beside the rows of its table.
const TopHead = 3

// Print writes one interval as a table of at most so many rows.
func (o *Top) Print(w io.Writer, r *api.Top, rows int) error {
	rate := func(c api.Counts) string { return human.Rate(perSecond(c.Bytes, r.Seconds)) }
	frames := func(c api.Counts) string { return fmt.Sprintf("%.0f", perSecond(c.Frames, r.Seconds)) }
	head := []string{"NETWORK", "A", "B", "PROTO/PORTS", "FRAMES/S", "RATE", "DROPS"}
	lines := api.Map(r.Flows[:min(rows, len(r.Flows))], func(f api.Flow) []string {
		return []string{networkLabel(o.names, f.Network), endLabel(f.A), endLabel(f.B), flowWhat(&f), frames(f.Out) + "/" + frames(f.Back),
			rate(f.Out) + " / " + rate(f.Back), flowDrops(&f)}
	})
	switch o.by {
	case "pair":
		head = slices.Delete(head, 3, 4)
		for i := range lines {
			lines[i] = slices.Delete(lines[i], 3, 4)
		}
	case "port":
		head = []string{"NETWORK", "PORT", "FROM/S", "FROM", "TO/S", "TO", "DROPS"}
		lines = api.Map(r.Ports[:min(rows, len(r.Ports))], func(p api.PortTraffic) []string {
			return []string{networkLabel(o.names, p.Network), cmp.Or(p.Container, trafficLabel(&p)), frames(p.From), rate(p.From),
				frames(p.To), rate(p.To), human.Counts(p.Drops)}
		})
	}
	_, err := fmt.Fprintf(w, "%s  %d of %d rows, %s frames/s, %s%s\n\n", r.Time.Local().Format("15:04:05"),
		len(lines), len(r.Flows)+len(r.Ports), frames(r.Total), rate(r.Total), Missing(r.Lost, r.Evicted))
	if err != nil {
		return err
	}
	if err := human.PrintTable(w, head, lines); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w)
	return err
}

// trafficLabel returns a remote host's address, host:NETWORK, or a short id.
func trafficLabel(p *api.PortTraffic) string {
	switch p.Kind {
	case "remote":
		return api.RemoteLabel(p.Name)
	case "host":
		return api.HostPrefix + cmp.Or(p.NetworkName, api.ShortID(p.Network))
	}
	return api.ShortID(p.Name)
}
