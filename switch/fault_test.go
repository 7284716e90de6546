package vswitch

import (
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

// What was done to a frame on purpose is shown: lost on its way in it gets that verdict, on its way out it is told again.
func TestFaulted(t *testing.T) {
	s := New(Config{})
	a, b := s.Attach("a", &wire{}, false, 1518), s.Attach("b", &wire{}, false, 1518)
	b.Pin(mac(2))
	w := &shown{}
	s.Watch(w)
	frames := []ether.Frame{sized(mac(1), mac(2), 0, 60), sized(mac(1), mac(2), 1, 60), sized(mac(1), mac(2), 2, 60)}
	frames[1].Fault = ether.FaultLost
	frames[2].Fault = ether.FaultDelayed | ether.FaultCorrupt
	a.Ingress(frames)
	b.WatchFaulted(&frames[1])
	b.WatchFaulted(&frames[2])
	want := []shownFrame{
		{a, b, Forwarded, 0}, {a, nil, Fault, ether.FaultLost}, {a, b, Forwarded, ether.FaultDelayed | ether.FaultCorrupt},
		{nil, b, Fault, ether.FaultLost}, {nil, b, Forwarded, ether.FaultDelayed | ether.FaultCorrupt},
	}
	if len(w.all) != len(want) {
		t.Fatalf("shown: %v", w.all)
	}
	for i := range want {
		if w.all[i] != want[i] {
			t.Errorf("frame %d is shown as %+v, want %+v", i, w.all[i], want[i])
		}
	}
	if got := a.Stats().Rx[Fault]; got != 1 {
		t.Errorf("%d frames in the counters as lost on purpose, want 1", got)
	}
	if got := want[2].fault.String(); got != "delay+corrupt" {
		t.Errorf("the fault reads %q", got)
	}
}

type shownFrame struct {
	in, out *Port
	v       Verdict
	fault   ether.Fault
}

type shown struct{ all []shownFrame }

func (w *shown) Watch(in, out *Port, v Verdict, f *ether.Frame) {
	w.all = append(w.all, shownFrame{in, out, v, f.Fault})
}
