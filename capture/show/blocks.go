package show

import (
	"context"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// A BlockReader gives the blocks of a capture: a stream of the daemon, or a file.
type BlockReader interface {
	// Next returns the next block, which is valid until the next call, and io.EOF after the last one.
	Next() (pcapng.Block, error)
}

// A BlockWriter prints a capture's blocks, or writes them to a file. CopyBlocks calls its methods.
type BlockWriter interface {
	put(pcapng.Block) error // must not keep a reference to a packet or its data
	flush() error           // writes out what is buffered
	Close() error           // flushes and closes; to be called after an error of the others too
}

const flushEvery = 100 * time.Millisecond

// CopyBlocks copies blocks from src to dst until either fails, and flushes dst every 100 ms, so that a reader sees a packet
// soon even if no other follows. from is the error of src, never nil, io.EOF at the end; to is the error of dst, nil if it
// took everything. hangUp is called when dst fails, and must make a blocked src.Next return.
func CopyBlocks(src BlockReader, dst BlockWriter, hangUp func()) (from, to error) {
	var mu sync.Mutex // guards dst and failed
	var failed error  // guarded by mu
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

// RunInterruptible runs a command and returns its error. Once ctx has ended it waits for StopTimeout twice, and then returns an error of
// code exit.Failure: the command may be blocked on a pipe that nobody writes to, or that nobody reads.
func RunInterruptible(ctx context.Context, run func(context.Context) error) error {
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
	case <-time.After(2 * StopTimeout):
		return exit.Errorf(exit.Failure, "interrupted, in the middle of reading or writing: what was written last may be cut off")
	}
}

// StopTimeout is how long the daemon may take to end a capture, and as long again to report its statistics.
// Only tests change it.
var StopTimeout = 5 * time.Second
