package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
)

// A liveView is what a command that counts frames looks at.
type liveView struct {
	expr string // --filter
	n    *docker.Names
	t    *docker.Targets
	want api.CaptureRequest
	of   docker.Include // of the targets
	s    *client.Stream
}

// flag adds what all looks have.
func (l *liveView) flag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&l.expr, "filter", "f", "", "only frames that match `EXPR`, as tcpdump has it")
}

// words are the targets among args; what stands behind -- is the filter.
func (l *liveView) words(cmd *cobra.Command, args []string) ([]string, error) {
	dash := cmd.ArgsLenAtDash()
	if dash < 0 {
		return args, nil
	}
	if l.expr != "" && dash < len(args) {
		return nil, exit.Errorf(exit.Usage, "a filter behind --filter and another one behind --: want one")
	}
	if dash < len(args) {
		l.expr = strings.Join(args[dash:], " ")
	}
	return args[:dash], nil
}

// find asks for names and targets, and makes the request: headers only.
func (l *liveView) find(ctx context.Context, c *cli, cmd *cobra.Command, args []string) (err error) {
	words, err := l.words(cmd, args)
	if err != nil {
		return err
	}
	if l.n, err = docker.LoadNames(ctx, c.Client); err != nil {
		return err
	}
	if l.t, err = docker.FindTargets(ctx, c.Client, l.n, words, l.of); err != nil {
		return err
	}
	l.t.PrintNotes(cmd.ErrOrStderr())
	_, f, err := docker.CompileFilter(l.expr, l.n.Host)
	if err != nil {
		return err
	}
	l.want = api.CaptureRequest{Targets: l.t.Request(), Filter: f, Headers: true, Snap: 128, Detail: true, Offload: "raw",
		Annotate: "none", Bytes: -1, Seconds: -1, Name: strings.Join(append([]string{cmd.CommandPath()}, args...), " ")}
	return nil
}

// open begins a capture that ends in order when ctx does: what was seen until then still comes. The caller ends it.
func (l *liveView) open(ctx context.Context, c *cli) (from *docker.Follower, end func(), err error) {
	own, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, hangUp)
	s, err := c.OpenStream(own, api.CapturesPath, l.want)
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
	return docker.Follow(own, s, l.n, l.t, l.expr), func() {
		stop()
		hangUp()
		_ = s.Close() // nothing is lost by it
	}, nil
}

// ended says why what open began has ended before its time: nil if it has not, or was interrupted. broke is why it broke off;
// nil: it ended in order, and the daemon knows why.
func (l *liveView) ended(ctx context.Context, broke error) error {
	switch {
	case ctx.Err() != nil:
		return nil
	case broke != nil:
		return broke
	}
	asking, cancel := context.WithTimeout(ctx, show.StopWait)
	defer cancel()
	switch b, err := l.s.Books(asking); {
	case ctx.Err() != nil:
		return nil
	case err != nil || b.State == "shutdown":
		return exit.Errorf(exit.No, "the daemon was stopped")
	case b.State == "failed":
		return exit.Errorf(exit.No, "the capture failed in the daemon: see its log (%s)", l.s.C.Log())
	}
	return nil
}

// who names containers, nil if nobody does.
func (l *liveView) who() show.Naming {
	if l.n == nil {
		return nil
	}
	return l.n
}

// networkLabel is what a table shows for a network, of which a file may tell the name instead of the id.
func (l *liveView) networkLabel(id string) string {
	if l.n != nil {
		if name := l.n.Network(id); name != "" {
			return name
		}
	}
	if show.WholeID(id) {
		return api.ShortID(id)
	}
	return id
}

func parseRows(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, errors.New("want a number of rows, 1 or more")
	}
	return n, nil
}
