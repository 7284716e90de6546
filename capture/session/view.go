package session

import (
	"context"
	"io"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
)

// A View is the targets, the filter and the stream of a command that looks at frames: flows, top, trace --live, recorder dump.
type View struct {
	Filter  string         // in tcpdump's language
	Include docker.Include // of the targets
	Names   *docker.Names  // nil: there are none
	Request api.CaptureRequest
	targets *docker.Targets
	stream  *client.Stream
}

// Resolve finds names and the targets that words name, and makes the request, which is for headers only. commandLine names the
// capture in the daemon.
func (l *View) Resolve(ctx context.Context, c *client.Client, words []string, commandLine string, messages io.Writer) (err error) {
	if l.Names, err = docker.LoadNames(ctx, c); err != nil {
		return err
	}
	if l.targets, err = docker.FindTargets(ctx, c, l.Names, words, l.Include); err != nil {
		return err
	}
	l.targets.PrintNotes(messages)
	_, f, err := docker.CompileFilter(l.Filter, l.Names.Addrs)
	if err != nil {
		return err
	}
	l.Request = api.CaptureRequest{Targets: l.targets.Request(), Filter: f, Headers: true, Snap: 128, Detail: true, Offload: "raw",
		Annotate: "none", Bytes: -1, Seconds: -1, Name: commandLine}
	return nil
}

// HangTimeout is how long a daemon may take to end a capture of Open: then it is left. Only tests change it.
var HangTimeout = 2 * time.Second

// Open begins a capture. When ctx ends it is stopped, and what was seen up to then can still be read. The caller calls end.
func (l *View) Open(ctx context.Context, c *client.Client) (from *docker.Follower, end func(), err error) {
	own, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	opening := context.AfterFunc(ctx, hangUp)
	s, err := c.OpenStream(own, api.CapturesPath, l.Request)
	if err != nil {
		hangUp()
		return nil, nil, err
	}
	opening()
	l.stream = s
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(HangTimeout, hangUp)
		if s.Stop(own) != nil {
			hangUp()
		}
	})
	return docker.Follow(own, s, l.Names, l.targets, l.Filter), func() {
		stop()
		hangUp()
		_ = s.Close() // nothing is lost by it
	}, nil
}

// EndReason returns why a capture of Open ended early; nil if it ended as asked for, or was interrupted. broke is the error of its
// stream; nil: the stream has ended without one, and the daemon is asked why.
func (l *View) EndReason(ctx context.Context, broke error) error {
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

// Resolver returns the names, nil if there are none. It makes no interface of a nil *docker.Names, which would not be nil.
func (l *View) Resolver() show.Resolver {
	if l.Names == nil {
		return nil
	}
	return l.Names
}
