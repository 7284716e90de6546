package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/session"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

// flowsCommand is flows with its flags.
type flowsCommand struct {
	liveView
	last, live time.Duration // 0: not given
	path, sort string
	rows       int
	coverage   session.Coverage // of the recorder
}

func newFlows(c *cli) *cobra.Command {
	o := &flowsCommand{sort: "bytes", rows: 20}
	cmd := c.withJSON(&cobra.Command{
		Use:   "flows [TARGET...] [-- EXPR]",
		Short: "Show who talks to whom, and how much",
		Long: `Show the conversations: who talks to whom, by which protocol, and how much. It reads the flight recorder, so
the answer comes at once and is about the past; the last line says which time it covers (dropped frames are kept for
longer). With --for it shows the frames from now on, with -r those of a file.

A is who began: who sent TCP's SYN, else who was seen first. FRAMES is A to B / B to A, a super-frame once; BYTES, both
ways together, are those on a wire. DROPS are frames that the switch did not pass on, with the reason. A TCP
conversation that was refused, got no answer, was reset or closed says so.

` + targetHelp + fmt.Sprintf(jsonHelp, "one object"),
		Example: `  tapestry flows web
  tapestry flows --last 30s --sort drops
  tapestry flows network:mynet --for 10s -- tcp port 5432
  tapestry flows -r before.pcapng --json | jq '.flows[] | select(.state == "no answer")'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: c.completeTarget,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(c, cmd, args) },
	})
	o.filterFlag(cmd)
	cmd.Flags().Var(usage.Set(&o.last, "DURATION", "", parseSpan), "last", "only what the recorder holds of the last `DURATION`")
	cmd.Flags().Var(usage.Set(&o.live, "DURATION", "", parseSpan), "for",
		"look for `DURATION` from now on, not into the recorder")
	cmd.Flags().StringVarP(&o.path, "read", "r", "", "look into `FILE` (- for stdin), pcapng or pcap")
	cmd.Flags().Var(usage.Set(&o.sort, "bytes|frames|drops|last", o.sort, oneOf("bytes", "frames", "drops", "last")), "sort",
		"what stands first")
	cmd.Flags().VarP(usage.Set(&o.rows, "N", "20", parseRows), "rows", "n", "at most `N` rows; JSON has all")
	return cmd
}

func (o *flowsCommand) run(c *cli, cmd *cobra.Command, args []string) error {
	ctx, t := cmd.Context(), show.NewCounter()
	var r api.Flows
	var err error
	switch {
	case o.last > 0 && o.live > 0:
		return exit.Errorf(exit.Usage, "--last looks back and --for ahead: want one of them")
	case o.path != "" && (o.last > 0 || o.live > 0):
		return exit.Errorf(exit.Usage, "-r looks into a file, without --last and --for")
	case o.path != "":
		r, err = o.read(ctx, c, cmd, args, t)
	default:
		if o.live == 0 {
			o.Include = docker.Stopped
		}
		if err = o.resolve(ctx, c, cmd, args); err != nil {
			return err
		}
		if o.live > 0 {
			r, err = o.watch(ctx, c, t)
		} else {
			r, err = o.recorded(ctx, c, t)
		}
	}
	if err != nil && t.Last == 0 {
		return err
	}
	if told := o.show(cmd.OutOrStdout(), c, t, &r); told != nil {
		return told
	}
	if err == nil && r.Source == "recorder" {
		err = o.Names.CheckStopped()
	}
	return err
}

// recorded counts the frames in the flight recorder.
func (o *flowsCommand) recorded(ctx context.Context, c *cli, t *show.Counter) (r api.Flows, err error) {
	s, covers, err := o.OpenDump(ctx, c.Client, o.last)
	if errors.Is(err, session.ErrRecorderOff) {
		return r, exit.Errorf(exit.Failure, "%w, or look at what comes from now on with --for 10s", err)
	}
	if err != nil {
		return r, err
	}
	defer s.Close()
	if err = t.CountAll(s); err != nil { // the oldest come first
		s.Until = max(s.Since, t.Last)
		covers.Covered, covers.Ended, covers.Why = time.Duration(s.Until-s.Since), true, "the frames broke off"
		if ctx.Err() != nil {
			covers.Why, err = "interrupted", nil
		}
	}
	r.Source, r.Why, o.coverage = "recorder", covers.Why, covers
	setSpan(&r, s.Since, s.Until)
	return r, err
}

// watch counts the frames that pass from now on.
func (o *flowsCommand) watch(ctx context.Context, c *cli, t *show.Counter) (r api.Flows, err error) {
	o.Request.Seconds = o.live.Seconds()
	from, end, err := o.Open(ctx, c.Client)
	if err != nil {
		return r, err
	}
	defer end()
	since := time.Now()
	err = t.CountAll(from)
	until := time.Now()
	switch err = o.EndReason(ctx, err); {
	case ctx.Err() != nil:
		r.Why = "interrupted"
	case err != nil:
		r.Why = "the daemon went away"
	}
	r.Source = "live"
	setSpan(&r, since.UnixNano(), until.UnixNano())
	return r, err
}

// read counts the frames in a file. Names are those in the file; in the filter today's too.
func (o *flowsCommand) read(ctx context.Context, c *cli, cmd *cobra.Command, args []string, t *show.Counter) (
	r api.Flows, err error) {
	words, err := o.takeFilter(cmd, args)
	if err != nil {
		return r, err
	}
	if len(words) > 0 {
		return r, exit.Errorf(exit.Usage, "%q: a file has no targets, want a filter (-f 'host web')", words[0])
	}
	f, from, name, err := session.OpenFile(ctx, c.Client, o.path, cmd.InOrStdin(), o.Filter)
	if err != nil {
		return r, err
	}
	defer from.Close()
	if o.Names, err = docker.LoadNames(ctx, c.Client); err != nil {
		o.Names = nil // the file's own remain
	}
	t.FileNames = &f.Names
	if err = t.CountAll(f); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	for i, n := range f.Lost() {
		t.Ports[i].Lost += n
	}
	if r.Source = "file"; ctx.Err() != nil {
		r.Why = "interrupted"
	}
	setSpan(&r, t.First, t.Last)
	return r, err
}

// show prints the flows.
func (o *flowsCommand) show(w io.Writer, c *cli, t *show.Counter, r *api.Flows) error {
	t.Fill(r, o.Resolver(), o.sort)
	if c.json {
		return human.PrintJSON(w, r)
	}
	until, err := time.Parse(time.RFC3339Nano, r.Until)
	if err != nil {
		until = time.Unix(0, t.Last)
	}
	rows := min(o.rows, len(r.Flows))
	if err := show.PrintFlows(w, r.Flows[:rows], o.Resolver(), until); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s\n", o.text(r, rows))
	return err
}

// text returns the line below the table.
func (o *flowsCommand) text(r *api.Flows, rows int) string {
	text := human.Plural(uint64(len(r.Flows)), "flow")
	if rows < len(r.Flows) {
		text = fmt.Sprintf("%d of %s", rows, text)
	}
	text += fmt.Sprintf(", %s, %s", human.Plural(r.Total.Frames, "frame"), human.Bytes(r.Total.Bytes))
	if r.Source == "recorder" {
		text += " in the flight recorder: " + o.coverage.String()
	} else {
		text += " in " + human.Duration(time.Duration(r.Seconds*float64(time.Second)))
		if r.Why != "" {
			text += " (" + r.Why + ")"
		}
	}
	return text + show.Missing(r.Lost, r.Evicted)
}

// setSpan fills in the time that is covered. since and until are ns since 1970.
func setSpan(r *api.Flows, since, until int64) {
	if until <= since {
		return
	}
	r.Since, r.Until = time.Unix(0, since).UTC().Format(time.RFC3339Nano),
		time.Unix(0, until).UTC().Format(time.RFC3339Nano)
	r.Seconds = time.Duration(until - since).Seconds()
}
