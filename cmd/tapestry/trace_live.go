package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/trace"
)

// liveTrace is trace --live and its flags.
type liveTrace struct {
	liveView
	on     bool
	frames uint64
	drops  bool
	during time.Duration
}

func (l *liveTrace) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&l.on, "live", false, "explain real frames, as they pass")
	l.filterFlag(cmd)
	f.VarP(usage.Set(&l.frames, "N", "5", parseFrames), "count", "n", "with --live: stop after so many frames")
	f.BoolVar(&l.drops, "drops", false, "with --live: only frames that the switch dropped")
	f.Var(usage.Set(&l.during, "TIME", "", parseSpan), "for", "with --live: stop after this time, such as 30s")
}

// check refuses the flags of real frames without --live, and those of a made-up frame with it.
func (l *liveTrace) check(cmd *cobra.Command) error {
	names, format := []string{"filter", "count", "drops", "for"}, "--%s is of real frames: want --live, too"
	if l.on {
		names = []string{"tcp", "udp", "icmp", "arp", "sport", "size", "network", "inject"}
		format = "--%s is of a frame that is made up, --live is of real ones: leave out one of them"
	}
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return exit.Errorf(exit.Usage, format, name)
		}
	}
	return nil
}

// run explains the next frames that match.
func (l *liveTrace) run(ctx context.Context, c *cli, cmd *cobra.Command, args []string) error {
	if err := l.resolve(ctx, c, cmd, args); err != nil {
		return err
	}
	l.Request.Headers, l.Request.Snap, l.Request.Drops = false, 0, l.drops
	l.Request.Annotate = "all" // a comment names the port that a frame left by, also one that is no target
	l.Request.Name = "tapestry " + human.ShellQuote(commandWords(cmd))
	if l.during > 0 {
		l.Request.Seconds = l.during.Seconds()
	}
	if !l.Request.Targets.New { // with New the daemon sends more than is wanted, and cannot count
		l.Request.Frames = l.frames
	}
	from, end, err := l.Open(ctx, c.Client)
	if err != nil {
		return err
	}
	defer end()
	lines, out := &show.LinePrinter{Labels: show.Labels{Resolver: l.Names}}, cmd.OutOrStdout()
	var seen, dropped uint64
	lost := map[int]uint64{} // by interface: frames that came faster than they were read
	for seen < l.frames && ctx.Err() == nil {
		b, err := from.Next()
		if ctx.Err() != nil || err == io.EOF {
			break
		}
		if err != nil {
			return exit.Errorf(exit.Failure, "the daemon went away in the middle: %w", exit.WithoutURL(err))
		}
		if i, ok := b.(*pcapng.Interface); ok {
			lines.Labels.AddInterface(i)
		}
		if s, ok := b.(*pcapng.Stats); ok {
			lost[s.Interface] = max(lost[s.Interface], s.Dropped)
		}
		p, ok := b.(*pcapng.Packet)
		if !ok {
			continue
		}
		d := l.Names.Engine()
		r, err := trace.ExplainSeen(ctx, c.Client, d, lines, p)
		if ctx.Err() != nil {
			break
		}
		if err == nil && c.json {
			err = json.NewEncoder(out).Encode(r)
		} else if err == nil {
			err = r.Print(out, lines, d, seen > 0)
		}
		if err != nil {
			return err
		}
		seen++
		if r.Frame.Reason != "" {
			dropped++
		}
	}
	var short error // why there are fewer than were wanted
	if seen < l.frames {
		short = l.EndReason(ctx, nil)
	}
	switch {
	case dropped > 0 && short != nil:
		return exit.Errorf(exit.Failure, "%d of %s dropped, and %w", dropped, human.Count(seen, "frame"), short)
	case dropped > 0:
		return exit.Errorf(exit.Failure, "%d of %s dropped", dropped, human.Count(seen, "frame"))
	case short != nil:
		return short
	case seen == 0:
		return l.noneSeen(cmd.ErrOrStderr(), lost)
	}
	return nil
}

// noneSeen says that no frame was seen. If some were lost it is an error: it is not known whether one has passed.
func (l *liveTrace) noneSeen(w io.Writer, lost map[int]uint64) error {
	var all uint64
	for _, n := range lost {
		all += n
	}
	if all > 0 {
		return exit.Errorf(exit.Failure, "no such frame was seen%s", show.Missing(all, api.Evicted{}))
	}
	_, err := fmt.Fprintln(w, "no such frame has passed")
	return err
}
