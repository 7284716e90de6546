//go:build !race

package capture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// mapped tells whether all of a ring's memory is there. proc_pid_maps(5)
func mapped(t *testing.T, at uintptr, size int) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	testhost.Must(t, err)
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		_, err := fmt.Sscanf(line, "%x-%x", &from, &to)
		testhost.Must(t, err)
		if from <= at && at+uintptr(size) <= to {
			return true
		}
	}
	return false
}

func (r *ring) address() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.buf))) }

// A ring's memory is not on the heap, where it would let as much garbage pile up. It is freed when the recorder is switched off,
// when a capture has ended, and in any case when the ring is unreachable.
func TestRingMemory(t *testing.T) {
	const size = 256 << 20
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	was := heap()
	r, err := newRing(size, true)
	testhost.Must(t, err)
	if now := heap(); now > was+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", was, now)
	}
	at := r.address()
	if !mapped(t, at, size) {
		t.Fatal("the ring's memory is not found")
	}
	runtime.KeepAlive(r)
	for end := time.Now().Add(time.Minute); mapped(t, at, size); runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("the memory of a ring that nobody has is not given back")
		}
	}

	h := NewHub()
	rec := h.NewRecorder()
	testhost.Must(t, rec.Resize(size))
	sub, err := h.Subscribe(Options{Ring: size})
	testhost.Must(t, err)
	n := newNet(h, "one")
	n.send(1, 2, 1)
	all := []uintptr{rec.all.ring.address(), sub.ring.address()}
	var seen []byte
	testhost.Must(t, rec.Dump(0, func(int64) error {
		return rec.Resize(0) // while somebody reads it
	}, func(r *Record) error {
		seen = append(seen, r.Data[14])
		return nil
	}))
	sub.Free()
	sub.Free()
	for i, at := range all {
		if mapped(t, at, size) {
			t.Errorf("the memory of ring %d of 2 is not given back", i+1)
		}
	}
	n.send(1, 2, 2)
	if s := sub.Stats(); s.Accepted != 1 || s.Seen != 1 || len(seen) != 1 {
		t.Errorf("the counters are %+v, the dump had %v", s, seen)
	}
	runtime.KeepAlive(rec)
}

// A Recorder that cannot get all of its memory frees what it got: then a smaller one fits. The test is a process of its own
// with a bounded address space.
func TestResizeShort(t *testing.T) {
	const size = 1 << 30
	const room = size + size/16 // for the frames, but not for the drops beside them
	if os.Getenv("SHORT_OF_MEMORY") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestResizeShort$")
		c.Env = append(os.Environ(), "SHORT_OF_MEMORY=1")
		if said, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what is not given back stays
	r := NewHub().NewRecorder()
	defer r.Close()
	testhost.Must(t, unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: virtual(t) + room, Max: unix.RLIM_INFINITY}))
	if err := r.Resize(size); err == nil || !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("without room for its drops: %v", err)
	}
	if err := r.Resize(size / 2); err != nil {
		t.Errorf("half of it has no room: %v", err)
	}
}

// virtual is the process's address space in bytes. proc_pid_statm(5)
func virtual(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	testhost.Must(t, err)
	var pages uint64
	_, err = fmt.Sscan(string(text), &pages)
	testhost.Must(t, err)
	return pages * uint64(os.Getpagesize())
}
