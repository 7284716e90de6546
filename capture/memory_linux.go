//go:build !race

package capture

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// memory is a ring's, zeroed. It is not the collector's: of a heap with some tens of MB that never go away, the collector
// lets as much garbage lie again before it looks. Pages that were never written take none.
type memory struct {
	buf    []byte
	unused runtime.Cleanup // of a ring that nobody has any more, if it was not given back
}

func (r *ring) allocate(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("get %d bytes of memory: %w", size, err)
	}
	r.memory = memory{b, runtime.AddCleanup(r, func(b []byte) { _ = unix.Munmap(b) }, b)}
	return nil
}

// release leaves a closed ring empty. It needs the lock, and nobody may have what it lent.
func (r *ring) release() {
	if r.buf != nil {
		r.unused.Stop()
		_ = unix.Munmap(r.buf)
	}
	r.buf, r.head = nil, r.tail
}
