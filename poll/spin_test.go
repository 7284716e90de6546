package poll

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A worker spins less when it found nothing and slept long, and more when what it slept for came soon.
func TestSpins(t *testing.T) {
	w, err := newWorker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.epoll); unix.Close(w.wake) })
	events := make([]unix.EpollEvent, 1)
	wait := func() {
		t.Helper()
		n, err := w.wait(events)
		for n == 0 && err == nil { // a signal has interrupted it
			n, err = w.wait(events)
		}
		if n != 1 || err != nil {
			t.Fatalf("%d events, %v", n, err)
		}
		var b [8]byte
		if _, err := unix.Read(w.wake, b[:]); err != nil {
			t.Fatal(err)
		}
	}
	for spins, want := range map[int]int{0: 0, 1: 0, 64: 32} {
		for try := 0; ; try++ { // on a busy machine it may not sleep yet when it is woken
			w.spins = spins
			time.AfterFunc(20*time.Millisecond, w.wakeUp)
			if wait(); w.spins == want {
				break
			}
			if try == 100 {
				t.Fatalf("%d spins for nothing, and then %d, want %d", spins, w.spins, want)
			}
		}
	}
	w.spins = 5
	w.wakeUp()
	if wait(); w.spins != 6 {
		t.Errorf("5 spins found something, and then %d, want 6", w.spins)
	}
	w.spins = maxSpins
	w.wakeUp()
	if wait(); w.spins != maxSpins {
		t.Errorf("%d spins, want no more than %d", w.spins, maxSpins)
	}
	for try := 0; ; try++ { // on a busy machine soon may be late
		w.spins = 0
		w.wakeUp() // it is there at once, which is soon
		if wait(); w.spins > 0 {
			break
		}
		if try == 100 {
			t.Fatal("it does not look though frames come soon")
		}
	}
}
