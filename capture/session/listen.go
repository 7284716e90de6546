package session

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
)

// listen starts a capture for each TCP connection, until ctx ends.
func (j *Job) listen(ctx context.Context) error {
	if err := j.check(ctx); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", j.Listen)
	if err != nil {
		return exit.Errorf(exit.Failure, "--listen: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	j.Messages = &lockedWriter{w: j.Messages}
	fmt.Fprintf(j.Messages, "listening, Ctrl-C ends it: wireshark -k -i TCP@%s\n", l.Addr())
	var running sync.WaitGroup
	defer running.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return exit.Errorf(exit.Failure, "--listen: %w", err)
		}
		running.Go(func() {
			if err := j.serve(ctx, conn); err != nil {
				fmt.Fprintf(j.Messages, "%s: %v\n", conn.RemoteAddr(), err)
			}
		})
	}
}

// check returns the error of a wrong filter or target before anyone connects.
func (j *Job) check(ctx context.Context) error {
	n, err := docker.LoadNames(ctx, j.Client)
	if err != nil {
		return err
	}
	if _, _, err := docker.CompileFilter(j.Filter, n.Addrs); err != nil {
		return err
	}
	if j.Wait {
		return nil // each connection waits for itself
	}
	_, err = docker.FindTargets(ctx, j.Client, n, j.Targets, docker.OnlyRunning)
	return err
}

// serve runs the capture of one connection.
func (j *Job) serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	h, err := j.start(ctx)
	if err != nil {
		return err
	}
	defer h.end()
	w := show.NewStreamWriter(conn, false, j.section(), pcapng.Ethernet, 0)
	w.Labels.Resolver, w.Filter = h.names, j.Filter
	m := show.NewProgress(w, j.Messages, false)
	fmt.Fprintln(j.Messages, j.startText(conn.RemoteAddr().String()))
	where := destinationOf(conn.RemoteAddr().String())
	left := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { // Wireshark sends nothing: the read ends when it disconnects, and with it the capture, even if no frame comes
		_, _ = io.Copy(io.Discard, conn)
		close(left)
		h.stream.Close()
	})
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(show.StopTimeout)) }) // a reader that is stuck
	defer stop()
	src, dst := h.copyTo(ctx, m)
	dst = cmp.Or(dst, m.Close())
	b := h.stats(ctx)
	select {
	case <-left:
		if ctx.Err() == nil {
			src, dst = io.EOF, nil
			where = destinationOf(conn.RemoteAddr().String() + ", which hung up: the last of them may not have come there")
		}
	default:
	}
	conn.Close()
	reading.Wait()
	return j.report(ctx, m, where, b, src, dst)
}

// A lockedWriter lets several goroutines write to w.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
