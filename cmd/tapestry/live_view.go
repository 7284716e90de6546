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

// A liveView is the targets, the filter and the stream of a command that looks at frames: flows, top, trace --live, recorder dump.
type liveView struct {
	expr    string // --filter
	names   *docker.Names
	targets *docker.Targets
	request api.CaptureRequest
	period  docker.Include // of the targets
	stream  *client.Stream
}

// filterFlag adds --filter.
func (l *liveView) filterFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&l.expr, "filter", "f", "", "only frames that match `EXPR`, as tcpdump has it")
}

// takeFilter stores the words behind -- as the filter, and returns the targets before it.
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

// resolve finds names and targets, and makes the request, which is for headers only.
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

// open begins a capture. When ctx ends it is stopped, and what was seen up to then can still be read. The caller calls end.
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

// endReason returns why a capture of open ended early; nil if it ended as asked for, or was interrupted. broke is the error of its
// stream; nil: the stream has ended without one, and the daemon is asked why.
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

// resolver returns the names, nil if there are none. It makes no interface of a nil *docker.Names, which would not be nil.
func (l *liveView) resolver() show.Resolver {
	if l.names == nil {
		return nil
	}
	return l.names
}

// networkLabel returns what a table shows for a network. id is the network's id, or its name if it comes from a file.
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
