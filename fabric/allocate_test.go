package fabric

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
)

// A manager gives each network of the Swarm a VNI of its own, whoever leads.
func TestAllocate(t *testing.T) {
	a, b := newHost(t), newHost(t)
	allocate := func(h *host, n Network, again bool) uint32 {
		t.Helper()
		vni, err := h.Allocate(t.Context(), n, again)
		if err != nil {
			t.Fatal(err)
		}
		return vni
	}
	taken := func(h *host, vni uint32) {
		t.Helper()
		if _, err := h.Allocate(t.Context(), ofSwarm(99, vni), false); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("VNI %d belongs to network", vni)) {
			t.Errorf("VNI %d is given twice: %v", vni, err)
		}
	}
	// What Docker remembers.
	all := map[string]uint32{}
	fresh := func(h *host, i int, want uint32) {
		t.Helper()
		n := ofSwarm(i, want)
		vni := allocate(h, n, false)
		if want != 0 && vni != want || want == 0 && (vni < firstAutoVNI || vni > ether.MaxVNI) {
			t.Errorf("network %d wants %d, gets %d", i, want, vni)
		}
		for id, other := range all {
			if other == vni && id != n.ID {
				t.Errorf("network %d gets %d, which %s has", i, vni, id)
			}
		}
		all[n.ID] = vni
	}
	// leads is a manager that begins to lead: Docker names all networks, in any order.
	leads := func(h *host) {
		t.Helper()
		h.replayedAt -= 2 * replayTime // the last time was long ago
		for id, vni := range all {
			n := ofSwarm(0, vni)
			n.ID = id
			if got := allocate(h, n, true); got != vni {
				t.Errorf("network %s had VNI %d, gets %d", id, vni, got)
			}
		}
	}
	free := func(h *host, i int) {
		t.Helper()
		if err := h.Free(t.Context(), ofSwarm(i, 0).ID); err != nil {
			t.Fatal(err)
		}
		delete(all, ofSwarm(i, 0).ID)
	}
	for i := 1; i <= 20; i++ {
		fresh(a, i, 0)
	}
	fresh(a, 21, 80)
	if vni := allocate(a, ofSwarm(1, 0), false); vni != all[ofSwarm(1, 0).ID] {
		t.Errorf("asked again, a network gets %d", vni)
	}
	fresh(a, 21, 80) // the answer came too late: Docker asks anew
	taken(a, 80)
	a.restart()
	fresh(a, 23, 0)
	taken(a, 80)
	leads(b)
	taken(b, 80)
	for i := 24; i < 30; i++ {
		fresh(b, i, 0)
	}
	free(b, 21)
	free(b, 1)
	fresh(b, 22, 80) // what 21 had
	leads(a)         // who knows 21 with that, and not 22
	taken(a, 80)
	if _, ok := a.swarm.Allocated[ofSwarm(1, 0).ID]; ok {
		fresh(a, 30, 0)
	}
	if len(a.swarm.Allocated) != len(all) {
		t.Errorf("%d networks are remembered, there are %d", len(a.swarm.Allocated), len(all))
	}
	leads(b)
	fresh(b, 31, 0)
	if len(b.swarm.Allocated) != len(all) {
		t.Errorf("%d networks are remembered, there are %d", len(b.swarm.Allocated), len(all))
	}
	if err := a.Free(t.Context(), "nobody"); err != nil {
		t.Errorf("free of what is not there: %v", err)
	}

	// A manager may have networks of its own. What Docker has already is never refused.
	a.mustNetwork(wide(1, 90))
	if _, err := a.Allocate(t.Context(), ofSwarm(40, 90), false); !errors.Is(err, ErrInUse) {
		t.Errorf("a VNI that a local network has: %v", err)
	}
	if vni := allocate(a, ofSwarm(40, 90), true); vni != 90 {
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

// Two networks whose ids lead to one VNI get two.
func TestFreeVNI(t *testing.T) {
	h := newHost(t)
	first := h.freeVNI("a", nil)
	if got := h.freeVNI("a", map[string]state.Allocation{"x": {VNI: first}, "y": {VNI: first + 1}}); got != first+2 {
		t.Errorf("got %d, want %d", got, first+2)
	}
}
