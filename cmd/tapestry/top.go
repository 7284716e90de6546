package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

// topCommand is top with its flags.
type topCommand struct {
	liveView
	by    string
	every time.Duration
	live  time.Duration // 0: until it is interrupted
	rows  int           // 0: as many as fit
	once  bool
	json  bool
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
		o.Request.Seconds = o.live.Seconds()
	}
	from, end, err := o.Open(ctx, c.Client)
	if err != nil {
		return err
	}
	o.json = c.json
	counts := show.NewTop(o.by, o.Resolver())
	began, ended := counts.Begin(), make(chan struct{})
	var broke error
	go func() {
		defer close(ended)
		broke = counts.Count(from)
	}()
	early, err := o.show(w, counts, ended)
	took := time.Since(began)
	end()
	<-ended
	if err != nil { // nobody reads what would be said
		return err
	}
	if !c.json && !o.once {
		all, lost := counts.Total()
		if _, err := fmt.Fprintf(w, "%s: %s, %s%s\n", human.Duration(took), human.Plural(all.Frames, "frame"), human.Bytes(all.Bytes),
			show.Missing(lost, api.Evicted{})); err != nil {
			return err
		}
	}
	if early {
		return nil
	}
	return o.EndReason(ctx, broke)
}

// show draws a table for each interval. early says that it ended before the stream did.
func (o *topCommand) show(w io.Writer, counts *show.Top, ended <-chan struct{}) (early bool, err error) {
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
	last := &api.Top{Time: counts.Begin()}
	for printed := false; ; printed = true {
		if s != nil {
			rows, _ := s.Size()
			var text bytes.Buffer
			if err := o.print(&text, counts, last, cmp.Or(o.rows, max(0, rows-show.TopHead))); err != nil {
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
		last = counts.Interval()
		if s == nil && (!over || !printed || last.Total.Frames > 0) {
			if err := o.print(w, counts, last, cmp.Or(o.rows, 20)); err != nil {
				return true, err
			}
		}
		if over || o.once {
			return !over, nil
		}
	}
}

// print writes one interval: JSON, or a table of at most so many rows.
func (o *topCommand) print(w io.Writer, counts *show.Top, r *api.Top, rows int) error {
	if !o.json {
		return counts.Print(w, r, rows)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func parseEvery(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 100*time.Millisecond {
		return 0, errors.New("want a duration of 100ms or more, such as 1s or 1m")
	}
	return d, nil
}
