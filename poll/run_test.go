package poll

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Remove answers when nobody runs: before Run, when Run has been called, after it has ended.
func TestRemoveWithoutRun(t *testing.T) {
	p := newPoller(t, 1)
	early, late, between := ready(t), ready(t), ready(t)
	h := add(t, p, early)
	h.Remove()
	p.Sync()
	hLate := add(t, p, late)
	hBetween := add(t, p, between)
	stop := start(t, p)
	hBetween.Remove()
	stop()
	hLate.Remove()
	hLate.Remove()
	p.Sync()
	if n := early.calls.Load(); n != 0 {
		t.Errorf("a source that was removed before Run was drained %d times", n)
	}
	if n := load(p.workers[0]); n != 0 {
		t.Errorf("%d sources are left", n)
	}
}

// Removes and Syncs that race with the end of Run all return.
func TestSyncAtTheEnd(t *testing.T) {
	for range 50 {
		p := newPoller(t, 2)
		var wg sync.WaitGroup
		stop := start(t, p)
		for range 4 {
			h := add(t, p, ready(t))
			wg.Go(func() { p.Sync(); h.Remove(); p.Sync() })
		}
		stop()
		wg.Wait()
	}
}

// Sync waits for the round that a worker is in.
func TestSync(t *testing.T) {
	p := newPoller(t, 1)
	start(t, p)
	entered, release := make(chan bool), make(chan bool)
	var left atomic.Bool
	add(t, p, ready(t))
	s := newPipe(t, func(p *pipe, arena []byte) error {
		p.read(arena)
		entered <- true
		<-release
		left.Store(true)
		return nil
	})
	add(t, p, s)
	other := add(t, p, newPipe(t, s.drain)) // never ready
	for _, tc := range []struct {
		name string
		wait func()
	}{{"Sync", p.Sync}, {"Remove", other.Remove}} {
		left.Store(false)
		s.write(t, 1)
		<-entered
		var wg sync.WaitGroup
		wg.Go(func() {
			tc.wait()
			if !left.Load() {
				t.Errorf("%s returned in the middle of a round", tc.name)
			}
		})
		w := p.workers[0]
		for waiting := 0; waiting == 0; {
			w.mu.Lock()
			waiting = len(w.pending)
			w.mu.Unlock()
			runtime.Gosched()
		}
		release <- true
		wg.Wait()
	}
}

func TestRunEnds(t *testing.T) {
	for name, cancelFirst := range map[string]bool{"before Run": true, "while it runs": false} {
		t.Run(name, func(t *testing.T) {
			p := newPoller(t, 3)
			s := ready(t)
			add(t, p, s)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if cancelFirst {
				cancel()
			} else {
				s.drain = func(*pipe, []byte) error { cancel(); return nil }
			}
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// One worker that cannot go on ends Run: its sources would be silent for ever.
func TestWorkerBreaks(t *testing.T) {
	p := newPoller(t, 2)
	add(t, p, ready(t))
	// No epoll set any more, but another kind of descriptor under its number.
	if err := unix.Dup3(newPipe(t, nil).r, p.workers[1].epoll, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Run: %v, want %v", err, unix.EINVAL)
	}
}

// After Run nothing touches the descriptors any more, which Close gives back.
func TestCloseAfterRun(t *testing.T) {
	before := openFiles(t)
	for range 300 {
		p, err := New(2)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(p.Sync)
		wg.Go(cancel)
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
