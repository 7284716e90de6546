package fabric

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// What a manager is asked for is checked as on each node; package swarm's test has the VNIs that managers choose.
func TestAllocate(t *testing.T) {
	a := newHost(t)
	allocate := func(n Network, again bool) uint32 {
		t.Helper()
		vni, err := a.Allocate(t.Context(), n, again)
		if err != nil {
			t.Fatal(err)
		}
		return vni
	}
	if vni := allocate(ofSwarm(1, 80), false); vni != 80 {
		t.Errorf("a network that wants 80 gets %d", vni)
	}
	for range 2 {
		if _, err := a.Allocate(t.Context(), ofSwarm(99, 80), false); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "VNI 80 belongs to network 0000") {
			t.Errorf("VNI 80 is given twice: %v", err)
		}
		a.restart()
	}
	if err := a.Free(t.Context(), ofSwarm(1, 0).ID); err != nil {
		t.Fatal(err)
	}
	if vni := allocate(ofSwarm(99, 80), false); vni != 80 {
		t.Errorf("a VNI that is free again: %d", vni)
	}

	// A manager may have networks of its own. What Docker has already is never refused.
	a.mustNetwork(wide(1, 90))
	if _, err := a.Allocate(t.Context(), ofSwarm(40, 90), false); !errors.Is(err, ErrInUse) {
		t.Errorf("a VNI that a local network has: %v", err)
	}
	if vni := allocate(ofSwarm(40, 90), true); vni != 90 {
		t.Errorf("a network that Docker has gets %d", vni)
	}
	for want, n := range map[string]Network{
		"MTU 67":      func() Network { n := ofSwarm(41, 0); n.MTU = 67; return n }(),
		"MTU 65500":   func() Network { n := ofSwarm(41, 0); n.MTU = 65500; return n }(), // less than a TAP's bound, more than the underlay's
		"twice":       ofSwarm(41, 0, "127.0.0.2", "127.0.0.2"),
		"IP versions": ofSwarm(41, 0, "2001:db8::2"),
		"want 1":      ofSwarm(41, 1<<24),
	} {
		if _, err := a.Allocate(t.Context(), n, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
		}
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	before := len(a.swarm.Allocated)
	if _, err := a.Allocate(late, ofSwarm(42, 0), false); err == nil || len(a.swarm.Allocated) != before {
		t.Errorf("nobody waits for the answer, and it is remembered: %v", err)
	}
}
