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
	expr    string // --filter
	names   *docker.Names
	targets *docker.Targets
	request api.CaptureRequest
	period  docker.Include // of the targets
	stream  *client.Stream
}

// filterFlag adds what all looks have.
func (l *liveView) filterFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&l.expr, "filter", "f", "", "only frames that match `EXPR`, as tcpdump has it")
}

// takeFilter are the targets among args; what stands behind -- is the filter.
func (l *liveView) takeFilter(cmd *cobra.Command, args []string) ([]string, error) {
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

// resolve asks for names and targets, and makes the request: headers only.
func (l *liveView) resolve(ctx context.Context, c *cli, cmd *cobra.Command, args []string) (err error) {
	words, err := l.takeFilter(cmd, args)
	if err != nil {
		return err
	}
	if l.names, err = docker.LoadNames(ctx, c.Client); err != nil {
		return err
	}
	if l.targets, err = docker.FindTargets(ctx, c.Client, l.names, words, l.period); err != nil {
		return err
	}
	l.targets.PrintNotes(cmd.ErrOrStderr())
	_, f, err := docker.CompileFilter(l.expr, l.names.Host)
	if err != nil {
		return err
	}
	l.request = api.CaptureRequest{Targets: l.targets.Request(), Filter: f, Headers: true, Snap: 128, Detail: true, Offload: "raw",
		Annotate: "none", Bytes: -1, Seconds: -1, Name: strings.Join(append([]string{cmd.CommandPath()}, args...), " ")}
	return nil
}

// open begins a capture that ends in order when ctx does: what was seen until then still comes. The caller ends it.
func (l *liveView) open(ctx context.Context, c *cli) (from *docker.Follower, end func(), err error) {
	own, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, hangUp)
	s, err := c.OpenStream(own, api.CapturesPath, l.request)
	if err != nil {
		hangUp()
		return nil, nil, err
	}
	opening()
	l.stream = s
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(2*time.Second, hangUp) // a daemon that hangs
		if s.Stop(own) != nil {
			hangUp()
		}
	})
	return docker.Follow(own, s, l.names, l.targets, l.expr), func() {
		stop()
		hangUp()
		_ = s.Close() // nothing is lost by it
	}, nil
}

// endReason says why what open began has ended before its time: nil if it has not, or was interrupted. broke is why it broke off;
// nil: it ended in order, and the daemon knows why.
func (l *liveView) endReason(ctx context.Context, broke error) error {
	switch {
	case ctx.Err() != nil:
		return nil
	case broke != nil:
		return broke
	}
	asking, cancel := context.WithTimeout(ctx, show.StopTimeout)
	defer cancel()
	switch b, err := l.stream.Stats(asking); {
	case ctx.Err() != nil:
		return nil
	case err != nil || b.State == "shutdown":
		return exit.Errorf(exit.Failure, "the daemon was stopped")
	case b.State == "failed":
		return exit.Errorf(exit.Failure, "the capture failed in the daemon: see its log (%s)", l.stream.Client.LogCommand())
	}
	return nil
}

// resolver names containers, nil if nobody does.
func (l *liveView) resolver() show.Resolver {
	if l.names == nil {
		return nil
	}
	return l.names
}

// networkLabel is what a table shows for a network, of which a file may tell the name instead of the id.
func (l *liveView) networkLabel(id string) string {
	if l.names != nil {
		if name := l.names.Network(id); name != "" {
			return name
		}
	}
	if show.IsFullID(id) {
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
