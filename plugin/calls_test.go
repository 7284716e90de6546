package plugin

import (
	"testing"
	"time"
)

// Each call is counted once, by its method, with its time and whether it failed; what is no method is one more.
func TestCalls(t *testing.T) {
	h := newHandler(&Driver{backend: &fakeBackend{}}, testIPAM(t), nil, deadline)
	if got := h.calls.Counts(); len(got) != 0 {
		t.Errorf("before the first call: %v", got)
	}
	post(t, h, "/Plugin.Activate", "")
	post(t, h, "/NetworkDriver.DeleteNetwork", "no JSON")
	post(t, h, "/NetworkDriver.DeleteNetwork", `{"NetworkID":"0123"}`)
	post(t, h, "/NetworkDriver.Unheard", "{}")
	post(t, h, "/NetworkDriver.OfThat", "{}")
	type counts struct{ calls, errors uint64 }
	want := map[string]counts{"Plugin.Activate": {1, 0}, "NetworkDriver.DeleteNetwork": {2, 1}, "other": {2, 2}}
	got := h.calls.Counts()
	for _, c := range got {
		if (counts{c.Calls, c.Errors}) != want[c.Method] || c.Seconds <= 0 || len(c.Within) != len(callBounds) {
			t.Errorf("%+v, want %+v", c, want[c.Method])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d methods, want %d", len(got), len(want))
	}
}

// A call is in the bucket of its time, and in all above.
func TestCallBuckets(t *testing.T) {
	c := newCalls(nil)
	for _, took := range []time.Duration{time.Microsecond, time.Millisecond, 30 * time.Millisecond, time.Minute} {
		c.count("x", took, false)
	}
	got := c.Counts()[0]
	for bound, want := range map[float64]uint64{0.001: 2, 0.025: 2, 0.05: 3, 10: 3} {
		if got.Within[bound] != want {
			t.Errorf("%d calls took at most %v s, want %d", got.Within[bound], bound, want)
		}
	}
	if got.Calls != 4 || got.Seconds < 60 {
		t.Errorf("%+v", got)
	}
}
