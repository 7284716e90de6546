package show

import (
	"context"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// Blocks are where a capture comes from: a stream of the daemon, or a file.
type Blocks interface {
	// Next gives the next block, lent until the next call; io.EOF behind the last.
	Next() (pcapng.Block, error)
}

// A Sink is what is done with a capture's blocks.
type Sink interface {
	put(pcapng.Block) error // keeps nothing of a packet
	flush() error           // lets the reader see what was put
	Close() error           // ends it in order, also after an error of the others
}

const flushEvery = 100 * time.Millisecond

// Pump puts all blocks into a sink, and flushes it while none come. It returns why each of both ended: from is never
// nil, and io.EOF at the end; to is nil if the sink took everything. hangUp must make a Next that waits return, and is
// called when the sink fails.
func Pump(src Blocks, dst Sink, hangUp func()) (from, to error) {
	var mu sync.Mutex // of dst and failed
	var failed error
	fail := func(err error) {
		if err != nil && failed == nil {
			failed = err
			hangUp()
		}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			mu.Lock()
			if failed == nil {
				fail(dst.flush())
			}
			mu.Unlock()
		}
	}()
	defer func() { <-ended }()
	defer close(end)
	for {
		b, err := src.Next()
		mu.Lock()
		if err == nil && failed == nil {
			fail(dst.put(b))
		}
		to = failed
		mu.Unlock()
		if err != nil || to != nil {
			return err, to
		}
	}
}

// endWait is how long a command may take to end in order.
const endWait = 2 * StopWait

// Within runs a command, and no longer waits for it some time after ctx has ended: it may read from a pipe that nobody
// writes to, or write to one that nobody reads.
func Within(ctx context.Context, run func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(endWait):
		return exit.Errorf(exit.No, "interrupted, in the middle of reading or writing: what was written last may be cut off")
	}
}

// StopWait is how long the daemon may take to end a capture, and to tell its books.
const StopWait = 5 * time.Second
