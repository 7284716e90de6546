package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/flow"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

// topCommand is top with its flags and counters.
type topCommand struct {
	liveView
	by    string
	every time.Duration
	live  time.Duration // 0: until it is interrupted
	rows  int           // 0: as many as fit
	once  bool

	json          bool
	mu            sync.Mutex    // one goroutine counts while another one draws
	counter       *show.Counter // guarded by mu
	intervalStart time.Time
	total         flow.Sum // of the intervals before this one
	lost          uint64   // frames lost in the intervals before this one
}

func newTop(c *cli) *cobra.Command {
	o := &topCommand{by: "flow", every: time.Second}
	cmd := c.withJSON(&cobra.Command{
		Use:   "top [TARGET...] [-- EXPR]",
		Short: "Show live who talks most",
		Long: `Show live who talks most: the conversations with the most bytes in each interval, on a terminal in place until
Ctrl-C, elsewhere one table after another. Rates are bits per second on a wire, A to B / B to A, as in tapestry flows. With
--by pair there is one row for each pair of addresses, with --by port one for each port of the switches (a container's link
or a remote host): FROM is what came from it, TO what was sent to it and to no other port (flooded frames are in no TO). DROPS are those of the interval,
with the reason.

The daemon copies headers only, and never waits for this command: copies that it could not hand over are counted as lost.

` + targetHelp + fmt.Sprintf(jsonHelp, "one object in a line for each interval"),
		Example: `  tapestry top
  tapestry top network:mynet --by port
  tapestry top web --by pair --every 5s -- not port 22
  tapestry top --once --json | jq .total`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: c.completeTarget,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(c, cmd, args) },
	})
	o.filterFlag(cmd)
	cmd.Flags().Var(usage.Set(&o.by, "flow|port|pair", o.by, oneOf("flow", "port", "pair")), "by", "what a row is")
	cmd.Flags().Var(usage.Set(&o.every, "DURATION", "1s", parseEvery), "every", "length of an interval")
	cmd.Flags().Var(usage.Set(&o.live, "DURATION", "", parseSpan), "for", "end after `DURATION`")
	cmd.Flags().VarP(usage.Set(&o.rows, "N", "", parseRows), "rows", "n",
		"at most `N` rows (default: what fits the window, 20 elsewhere); JSON has all")
	cmd.Flags().BoolVar(&o.once, "once", false, "end after one interval")
	return cmd
}

func (o *topCommand) run(c *cli, cmd *cobra.Command, args []string) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	if err := o.resolve(ctx, c, cmd, args); err != nil {
		return err
	}
	if o.live > 0 {
		o.request.Seconds = o.live.Seconds()
	}
	from, end, err := o.open(ctx, c)
	if err != nil {
		return err
	}
	o.counter, o.json, o.intervalStart = show.NewCounter(), c.json, time.Now()
	began, ended := o.intervalStart, make(chan struct{})
	var broke error
	go func() {
		defer close(ended)
		broke = o.count(from)
	}()
	early, err := o.show(w, ended)
	took := time.Since(began)
	end()
	<-ended
	if err != nil { // nobody reads what would be said
		return err
	}
	if !c.json && !o.once {
		if _, err := fmt.Fprintf(w, "%s: %s, %s%s\n", human.Duration(took), human.Plural(o.total.Frames, "frame"), human.Bytes(o.total.Bytes),
			missing(o.counter.Lost(), api.Evicted{})); err != nil {
			return err
		}
	}
	if early {
		return nil
	}
	return o.endReason(ctx, broke)
}

// count counts all blocks, and holds mu for each of them.
func (o *topCommand) count(from show.BlockReader) error {
	return show.ForEachBlock(from, func(b pcapng.Block) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.counter.Add(b)
	})
}

// show draws a table for each interval. early says that it ended before the stream did.
func (o *topCommand) show(w io.Writer, ended <-chan struct{}) (early bool, err error) {
	var s *human.Screen
	var resized <-chan os.Signal
	if !o.json && !o.once {
		if on, ok := human.NewScreen(w); ok {
			defer on.Close()
			s, resized = on, on.Resized
		}
	}
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	last := &api.Top{Time: o.intervalStart}
	for printed := false; ; printed = true {
		if s != nil {
			rows, _ := s.Size()
			var text bytes.Buffer
			if err := o.print(&text, last, cmp.Or(o.rows, max(0, rows-headRows))); err != nil {
				return true, err
			}
			if err := s.Draw(text.Bytes()); err != nil {
				return true, err
			}
		}
		over := false
		select {
		case <-resized:
			continue
		case <-ended:
			over = true
		case <-tick.C:
		}
		last = o.interval()
		if s == nil && (!over || !printed || last.Total.Frames > 0) {
			if err := o.print(w, last, cmp.Or(o.rows, 20)); err != nil {
				return true, err
			}
		}
		if over || o.once {
			return !over, nil
		}
	}
}

// interval returns the counts since the previous call, and resets them.
func (o *topCommand) interval() *api.Top {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, t := time.Now(), o.counter
	seconds, lost, total := now.Sub(o.intervalStart).Seconds(), t.Lost(), t.Table.Total()
	gone, evicted := t.Table.Evicted()
	r := &api.Top{Time: now.UTC(), Seconds: seconds, Lost: lost - o.lost, Total: toCounts(total.Counts),
		Evicted: api.Evicted{Flows: gone, Counts: toCounts(evicted.Counts)}}
	o.intervalStart, o.lost = now, lost
	o.total.Add(&total)
	pairs := map[pair]*flow.Flow{}
	t.Table.Take(func(f *flow.Flow) {
		switch o.by {
		case "flow":
			r.Flows = append(r.Flows, toFlow(t, o.resolver(), f, seconds))
		case "pair":
			addToPair(pairs, f)
		}
	})
	for _, f := range pairs {
		both := toFlow(t, o.resolver(), f, seconds)
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

func (o *topCommand) portTraffic(p *show.PortStats, seconds float64) api.PortTraffic {
	r := api.PortTraffic{Network: p.Network, Kind: "container", Name: p.Name, From: toCounts(p.From.Counts),
		To: toCounts(p.To.Counts), Drops: p.From.Verdicts.Drops(), Rate: perSecond(p.From.Bytes+p.To.Bytes, seconds)}
	if p.Remote {
		r.Kind = "remote"
	} else if p.HostPort {
		r.Kind = "host"
	}
	r.NetworkName = o.names.Network(p.Network)
	if !p.HostPort {
		r.Container = o.names.Container(p.Name)
	}
	return r
}

const headRows = 3 // lines of print that are not rows of the table

// print writes one interval: JSON, or a table of at most so many rows.
func (o *topCommand) print(w io.Writer, r *api.Top, rows int) error {
	if o.json {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(r)
	}
	rate := func(c api.Counts) string { return human.Rate(perSecond(c.Bytes, r.Seconds)) }
	frames := func(c api.Counts) string { return fmt.Sprintf("%.0f", perSecond(c.Frames, r.Seconds)) }
	head := []string{"NETWORK", "A", "B", "PROTO/PORTS", "FRAMES/S", "RATE", "DROPS"}
	lines := api.Map(r.Flows[:min(rows, len(r.Flows))], func(f api.Flow) []string {
		return []string{o.networkLabel(f.Network), endLabel(f.A), endLabel(f.B), flowWhat(&f), frames(f.Out) + "/" + frames(f.Back),
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
			return []string{o.networkLabel(p.Network), cmp.Or(p.Container, trafficLabel(&p)), frames(p.From), rate(p.From),
				frames(p.To), rate(p.To), human.Counts(p.Drops)}
		})
	}
	_, err := fmt.Fprintf(w, "%s  %d of %d rows, %s frames/s, %s%s\n\n", r.Time.Local().Format("15:04:05"),
		len(lines), len(r.Flows)+len(r.Ports), frames(r.Total), rate(r.Total), missing(r.Lost, r.Evicted))
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
		return p.Name
	case "host":
		return docker.HostPrefix + cmp.Or(p.NetworkName, api.ShortID(p.Network))
	}
	return api.ShortID(p.Name)
}

func parseEvery(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 100*time.Millisecond {
		return 0, errors.New("want a duration of 100ms or more, such as 1s or 1m")
	}
	return d, nil
}
