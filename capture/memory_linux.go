//go:build !race

package capture

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// memory is a ring's memory, zeroed. It is not on the heap: with some tens of MB there that are never freed, the garbage
// collector would let as much garbage again pile up before it runs. Pages that were never written use no memory.
type memory struct {
	buf    []byte
	unused runtime.Cleanup // unmaps a ring that is unreachable and was not released
}

func (r *ring) allocate(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("get %d bytes of memory: %w", size, err)
	}
	r.memory = memory{b, runtime.AddCleanup(r, func(b []byte) { _ = unix.Munmap(b) }, b)}
	return nil
}

// release frees the memory of a closed ring, which is empty afterwards. The caller holds mu, and no lent record is in use.
func (r *ring) release() {
	if r.buf != nil {
		r.unused.Stop()
		_ = unix.Munmap(r.buf)
	}
	r.buf, r.head = nil, r.tail
}
