//go:build !race

package capture

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// allocate gives a ring its memory, zeroed. It is not the collector's: of a heap with some tens of MB that never go away,
// the collector lets as much garbage lie again before it looks. Pages that were never written take none.
func (r *ring) allocate(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("get %d bytes of memory: %w", size, err)
	}
	r.buf = b
	runtime.AddCleanup(r, func(b []byte) { _ = unix.Munmap(b) }, b) // when nobody can look into it any more
	return nil
}
