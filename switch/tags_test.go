package vswitch

import (
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

// tagged gives f VLAN tags; its length stays.
func tagged(f ether.Frame, tags int) ether.Frame {
	for i := range tags {
		copy(f.Bytes()[12+4*i:], []byte{0x81, 0, 0, byte(i)})
	}
	return f
}

// The outermost VLAN tag counts on the way to another host only: alone, in a run, in a flood.
func TestTags(t *testing.T) {
	const limit = 100
	for _, tc := range []struct {
		tags   int
		uplink bool
		most   int // bytes that pass
	}{{0, false, limit}, {1, false, limit + 4}, {2, false, limit + 4}, {0, true, limit}, {1, true, limit}, {2, true, limit}} {
		s := New(Config{})
		in, _ := attach(s, "in", false)
		p, w := attach(s, "p", tc.uplink)
		_, other := attach(s, "other", false)
		p.Pin(mac(2))
		p.SetLimit(limit)
		for _, n := range []int{tc.most, tc.most + 1} {
			want := Forwarded
			if n > tc.most {
				want = MTU
			}
			f := tagged(sized(mac(1), mac(2), 0, n), tc.tags)
			e := in.Explain(&f)
			if e.Verdict != want || e.Egress[0].Limit != tc.most || e.Steps[len(e.Steps)-1].Limit != tc.most {
				t.Errorf("%d tags, uplink %v, %d bytes: explained as %+v", tc.tags, tc.uplink, n, e)
			}
			before := s.Tally()
			in.Ingress([]ether.Frame{f, f, f})
			if got := minus(s.Tally(), before); got[want] != 3 {
				t.Errorf("%d tags, uplink %v, %d bytes: %v, want three %s", tc.tags, tc.uplink, n, got, want)
			}
			f = tagged(sized(mac(1), broadcast, 0, n), tc.tags)
			before, calls := s.Tally(), w.calls
			in.Ingress([]ether.Frame{f})
			if got := minus(s.Tally(), before); got[Flooded] != 1 || (w.calls > calls) != (want == Forwarded) {
				t.Errorf("%d tags, uplink %v, %d bytes flooded: %v, sent %v", tc.tags, tc.uplink, n, got, w.calls > calls)
			}
		}
		if got := len(other.taken()); got != 2 {
			t.Errorf("the other port got %d frames, want the 2 that were flooded", got)
		}
		if got := len(w.taken()); got != 4 {
			t.Errorf("%d tags, uplink %v: the port got %d frames, want 4", tc.tags, tc.uplink, got)
		}
	}
}
