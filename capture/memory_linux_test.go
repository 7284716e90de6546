//go:build !race

package capture

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// addressSpace is that of this process in bytes. proc_pid_status(5), VmSize.
func addressSpace(t *testing.T) (n int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	_, rest, _ := strings.Cut(string(status), "VmSize:")
	_, err = fmt.Sscan(rest, &n)
	must(t, err)
	return n << 10
}

// A ring's memory is not on the heap, where it would let as much garbage lie, and is given back when it is not used any more.
func TestRingMemory(t *testing.T) {
	const size = 256 << 20
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	was, wide := heap(), addressSpace(t)
	r, err := newRing(size, true)
	must(t, err)
	if now := heap(); now > was+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", was, now)
	}
	if now := addressSpace(t); now < wide+size {
		t.Fatalf("%d bytes of addresses, %d with the ring: this tells nothing", wide, now)
	}
	runtime.KeepAlive(r)
	for end := time.Now().Add(10 * time.Second); addressSpace(t) > wide+size/2; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the memory of a ring that nobody has is not given back")
		}
	}
}
