package vswitch

import (
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// What is flooded does not go to a port whose host another port reaches; what is for a station behind it does, and what comes from it
// is flooded to the others.
func TestReached(t *testing.T) {
	s := New(Config{})
	a, wa := attach(s, "a", false)
	group, wg := attach(s, "group", true)
	host, wh := attach(s, "host", true)
	host.SetReached(true)
	a.Ingress([]ether.Frame{frame(mac(1), broadcast, 1), frame(mac(1), mac(2), 2)})
	host.Ingress([]ether.Frame{frame(mac(2), broadcast, 3)})
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 4)})
	for _, tc := range []struct {
		name      string
		got, want []int
	}{{"the group", wg.taken(), []int{1, 2}}, {"the host", wh.taken(), []int{4}}, {"the container", wa.taken(), []int{3}}} {
		if !slices.Equal(tc.got, tc.want) {
			t.Errorf("%s got %v, want %v", tc.name, tc.got, tc.want)
		}
	}
	if st := host.Stats(); st.Offered != 1 || st.Refused != 0 {
		t.Errorf("the host's counters: %+v", st)
	}
	broad := frame(mac(1), broadcast, 5)
	if e := a.Explain(&broad); len(e.Egress) != 1 || e.Egress[0].Port != group {
		t.Errorf("explained as %+v", e.Egress)
	}
	// The verdict is that of the ports to which it may go.
	group.SetDown(func() bool { return true })
	before := s.Tally()
	a.Ingress([]ether.Frame{frame(mac(1), broadcast, 6)})
	if now := s.Tally(); now[Down] != before[Down]+1 {
		t.Errorf("with the group down: %v, before %v", now, before)
	}
	host.SetReached(false)
	s.Tick(time.Second)
	a.Ingress([]ether.Frame{frame(mac(1), broadcast, 7)})
	if got := wh.taken(); !slices.Equal(got, []int{7}) {
		t.Errorf("afterwards the host got %v", got)
	}
}
