package fabric

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/tap"
)

// A network of the Swarm that no container uses frees its VNI, and is restored when it is used.
func TestPark(t *testing.T) {
	h := newHost(t)
	one, two := ofSwarm(1, 1), ofSwarm(2, 2)
	h.mustNetwork(one)
	h.mustNetwork(two)
	h.mustNetwork(wide(3, 3)) // Docker says when this one goes
	h.container(two.ID, ep(2))
	h.discover("127.0.0.2")
	ids := func() (ids []string) {
		for _, n := range h.Networks() {
			ids = append(ids, n.ID)
		}
		slices.Sort(ids)
		return ids
	}
	all, used := []string{netID(3), one.ID, two.ID}, []string{netID(3), two.ID}
	h.at(first)
	h.at(first + grace - 10*time.Second)
	if got := ids(); !slices.Equal(got, all) {
		t.Fatalf("in the grace period the networks are %v", got)
	}
	h.at(first + grace)
	if got := ids(); !slices.Equal(got, used) {
		t.Fatalf("after the grace period the networks are %v", got)
	}
	h.restart()
	if got := ids(); !slices.Equal(got, used) {
		t.Fatalf("restarted, the networks are %v", got)
	}
	h.mustEndpoint(one.ID, ep(1)) // its first task, at last
	if got := h.peers(one.ID); !slices.Equal(got, []string{"127.0.0.2"}) {
		t.Errorf("back again, its peers are %v", got)
	}
	if got := h.records()[one.ID]; len(got.Endpoints) != 1 || len(h.swarm.Parked) != 0 {
		t.Errorf("its record is %+v", got)
	}

	// Its VNI is another's meanwhile: that is said, and the record stays.
	clock := first
	park := func() {
		t.Helper()
		if err := h.DeleteEndpoint(t.Context(), one.ID, epID(1)); err != nil {
			t.Fatal(err)
		}
		clock += 2 * grace
		h.at(clock)
		h.at(clock + grace)
		if got := ids(); slices.Contains(got, one.ID) {
			t.Fatalf("not parked: %v", got)
		}
	}
	park()
	h.mustNetwork(wide(4, 1))
	if _, err := h.CreateEndpoint(t.Context(), one.ID, ep(1)); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "VNI 1") {
		t.Errorf("an endpoint of it: %v", err)
	}
	if _, ok := h.records()[one.ID]; ok || len(h.swarm.Parked) != 1 {
		t.Error("its record is that of a network at work")
	}
	if err := h.DeleteNetwork(t.Context(), netID(4)); err != nil {
		t.Fatal(err)
	}

	// Docker makes it anew, equal or not.
	other := one
	other.VNI = 7
	h.mustNetwork(other)
	h.mustEndpoint(one.ID, ep(1))
	park()
	if err := h.DeleteNetwork(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	if len(h.swarm.Parked) != 0 {
		t.Errorf("deleted, its record is there: %+v", h.swarm.Parked)
	}

	h.mustNetwork(one)
	h.mustEndpoint(one.ID, ep(1))
	park()
	p := h.swarm.Parked[one.ID]
	p.Since = time.Now().Add(-parkedFor)
	h.swarm.Parked[one.ID] = p
	h.at(clock + 2*grace)
	if len(h.swarm.Parked) != 1 {
		t.Error("forgotten by a clock that may be wrong")
	}
	h.at(clock + parkedFor/30)
	if len(h.swarm.Parked) != 0 {
		t.Error("a month later its record is there")
	}
	if _, err := h.CreateEndpoint(t.Context(), one.ID, ep(1)); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("an endpoint of it: %v", err)
	}
}

// A network that a killed dockerd did not remove does not block a new one with its VNI.
func TestMakeRoom(t *testing.T) {
	h := newHost(t)
	old, next := ofSwarm(1, 80), ofSwarm(2, 80)
	h.mustNetwork(old)
	h.container(old.ID, ep(1))
	if err := h.CreateNetwork(t.Context(), next); !errors.Is(err, ErrInUse) {
		t.Fatalf("with a container on the other network: %v", err)
	}
	h.m.die(epID(1))
	h.mustNetwork(next)
	if got := h.Networks(); len(got) != 1 || got[0].ID != next.ID || len(h.swarm.Parked) != 1 {
		t.Errorf("networks %+v", got)
	}
	h.mustNetwork(wide(3, 81)) // not the Swarm's: Docker says when it goes
	if err := h.CreateNetwork(t.Context(), ofSwarm(4, 81)); !errors.Is(err, ErrInUse) {
		t.Errorf("a local network made room: %v", err)
	}
}

// After a crash between writing the two files of a network that is being parked, it is not parked.
func TestParkTorn(t *testing.T) {
	h := newHost(t)
	n := ofSwarm(1, 1)
	h.mustNetwork(n)
	h.swarm.Parked = map[string]state.Parked{n.ID: {Record: h.networks[n.ID].record(), Since: time.Now()}}
	h.swarm.Save()
	h.restart()
	if len(h.Networks()) != 1 || len(h.swarm.Parked) != 0 {
		t.Errorf("networks %+v, parked %+v", h.Networks(), h.swarm.Parked)
	}
}

// attach=tap needs the right to enter containers, after a restart.
func TestAttachWithoutRight(t *testing.T) {
	h := newHost(t)
	h.m.shut = errors.New("no right")
	n := local(1)
	n.Attach = tap.Direct
	err := h.CreateNetwork(t.Context(), n)
	if err == nil || !strings.Contains(err.Error(), "tapestry.attach=tap: a restart of tapestry would cut its containers off: no right") {
		t.Errorf("made: %v", err)
	}
	n = ofSwarm(1, 0)
	n.Attach = tap.Direct
	if _, err := h.Allocate(t.Context(), n, false); err == nil {
		t.Error("allocated")
	}
	if len(h.records()) != 0 {
		t.Error("a record is left")
	}
}
