package poll

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe is a Source: what is written into it is there to be drained.
type pipe struct {
	r, w  int
	drain func(p *pipe, arena []byte) error
	calls atomic.Int64
}

func (p *pipe) Fd() int { return p.r }

func (p *pipe) Drain(arena []byte) error {
	p.calls.Add(1)
	return p.drain(p, arena)
}

func (p *pipe) write(t *testing.T, b ...byte) {
	t.Helper()
	if _, err := unix.Write(p.w, b); err != nil {
		t.Fatal(err)
	}
}

// read takes out what is there.
func (p *pipe) read(arena []byte) []byte {
	n, err := unix.Read(p.r, arena)
	if err != nil {
		return nil
	}
	return arena[:n]
}

func newPipe(t *testing.T, drain func(p *pipe, arena []byte) error) *pipe {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return &pipe{r: fds[0], w: fds[1], drain: drain}
}

// ready is a pipe that always has something, and counts its rounds.
func ready(t *testing.T) *pipe {
	p := newPipe(t, func(*pipe, []byte) error { return nil })
	p.write(t, 1)
	return p
}

// echo is a pipe that hands on what it reads.
func echo(t *testing.T) (*pipe, <-chan []byte) {
	got := make(chan []byte, 64)
	return newPipe(t, func(p *pipe, arena []byte) error {
		got <- bytes.Clone(p.read(arena))
		return nil
	}), got
}

func unbroken(t *testing.T) func(error) {
	return func(err error) { t.Errorf("a source that works has failed: %v", err) }
}

func newPoller(t *testing.T, workers int) *Poller {
	t.Helper()
	p, err := New(workers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// start runs p; stop ends it and waits.
func start(t *testing.T, p *Poller) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func add(t *testing.T, p *Poller, s Source) *Handle {
	t.Helper()
	h, err := p.Add(s, 0, unbroken(t))
	if err != nil {
		t.Fatal(err)
	}
	return h
}
