//go:build !race

// The race detector makes sync.Pool forget at random.

package vswitch

import "testing"

// Nothing on a frame's way allocates.
func TestAllocs(t *testing.T) {
	for _, l := range loads(64) {
		if n := testing.AllocsPerRun(200, func() { l.in.Ingress(l.frames) }); n != 0 {
			t.Errorf("%s: %v allocations a batch, want 0", l.name, n)
		}
	}
}

// A watched switch allocates nothing either, and shows as many frames as come.
func TestWatchAllocs(t *testing.T) {
	for _, l := range loads(64) {
		w := &countingWatcher{}
		l.in.sw.Watch(w)
		const runs = 200
		if n := testing.AllocsPerRun(runs, func() { l.in.Ingress(l.frames) }); n != 0 {
			t.Errorf("%s: %v allocations a batch, want 0", l.name, n)
		}
		if want := (runs + 1) * len(l.frames); w.seen != want {
			t.Errorf("%s: %d frames were shown, want %d", l.name, w.seen, want)
		}
	}
}
