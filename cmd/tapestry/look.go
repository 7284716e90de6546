package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// A look is what a command that counts frames looks at.
type look struct {
	expr string // --filter
	n    *names
	t    *targets
	want captureRequest
	of   tense // of the targets
	s    *stream
}

// flag adds what all looks have.
func (l *look) flag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&l.expr, "filter", "f", "", "only frames that match `EXPR`, as tcpdump has it")
}

// words are the targets among args; what stands behind -- is the filter.
func (l *look) words(cmd *cobra.Command, args []string) ([]string, error) {
	dash := cmd.ArgsLenAtDash()
	if dash < 0 {
		return args, nil
	}
	if l.expr != "" && dash < len(args) {
		return nil, failf(exitUsage, "a filter behind --filter and another one behind --: want one")
	}
	if dash < len(args) {
		l.expr = strings.Join(args[dash:], " ")
	}
	return args[:dash], nil
}

// find asks for names and targets, and makes the request: headers only.
func (l *look) find(ctx context.Context, c *client, cmd *cobra.Command, args []string) (err error) {
	words, err := l.words(cmd, args)
	if err != nil {
		return err
	}
	if l.n, err = c.names(ctx); err != nil {
		return err
	}
	if l.t, err = c.targets(ctx, l.n, words, l.of); err != nil {
		return err
	}
	l.t.tell(cmd.ErrOrStderr())
	_, f, err := compile(l.expr, l.n.Host)
	if err != nil {
		return err
	}
	l.want = captureRequest{Targets: l.t.Request(), Filter: f, Headers: true, Snap: 128, Detail: true, Offload: "raw",
		Annotate: "none", Bytes: -1, Seconds: -1, Name: strings.Join(append([]string{cmd.CommandPath()}, args...), " ")}
	return nil
}

// open begins a capture that ends in order when ctx does: what was seen until then still comes. The caller ends it.
func (l *look) open(ctx context.Context, c *client) (from *followed, end func(), err error) {
	own, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, hangUp)
	s, err := c.openStream(own, "/v1/captures", l.want)
	if err != nil {
		hangUp()
		return nil, nil, err
	}
	opening()
	l.s = s
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(2*time.Second, hangUp) // a daemon that hangs
		if s.Stop(own) != nil {
			hangUp()
		}
	})
	return c.follow(own, s, l.n, l.t, l.expr), func() {
		stop()
		hangUp()
		_ = s.Close() // nothing is lost by it
	}, nil
}

// ended says why what open began has ended before its time: nil if it has not, or was interrupted. broke is why it broke off;
// nil: it ended in order, and the daemon knows why.
func (l *look) ended(ctx context.Context, broke error) error {
	switch {
	case ctx.Err() != nil:
		return nil
	case broke != nil:
		return broke
	}
	asking, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	switch b, err := l.s.Books(asking); {
	case ctx.Err() != nil:
		return nil
	case err != nil || b.State == "shutdown":
		return failf(exitNo, "the daemon was stopped")
	case b.State == "failed":
		return failf(exitNo, "the capture failed in the daemon: see its log (%s)", l.s.c.log())
	}
	return nil
}

// networkLabel is what a table shows for a network, of which a file may tell the name instead of the id.
func (l *look) networkLabel(id string) string {
	if l.n != nil {
		if name := l.n.Network(id); name != "" {
			return name
		}
	}
	if wholeID(id) {
		return short(id)
	}
	return id
}

func wholeID(s string) bool { return len(s) == 64 }

func parseRows(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, errors.New("want a number of rows, 1 or more")
	}
	return n, nil
}

// secondsText writes a duration as people say it: 40 ms, 12.4 s, 5m 10s.
func secondsText(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return agoText(int64(d.Round(time.Second) / time.Second))
	case d >= time.Second || d == 0:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	}
	return fmt.Sprintf("%d ms", max(1, d.Milliseconds()))
}

// plural writes how many of something there are.
func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// rateText writes bytes in a second as bits, in decimal units as networks have them.
func rateText(bytesPerSecond float64) string {
	f, units := bytesPerSecond*8, []string{"b/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"}
	for f >= 999.5 && len(units) > 1 {
		f, units = f/1000, units[1:]
	}
	if f < 9.95 && units[0] != "b/s" {
		return fmt.Sprintf("%.1f %s", f, units[0])
	}
	return fmt.Sprintf("%.0f %s", f, units[0])
}
