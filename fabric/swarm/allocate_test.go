package swarm

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
)

func load(t *testing.T, dir string) *Swarm {
	t.Helper()
	d := state.Dir(dir)
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	s, err := Load(d, slog.New(slog.DiscardHandler), func(map[netip.Addr]bool) {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func id(i int) string { return fmt.Sprintf("%025d", i) }

// manager is a manager of the Swarm.
type manager struct {
	*Swarm
	dir string
	t   *testing.T
	now time.Duration // the fabric's clock
	all map[string]uint32
}

// allocate gives a network its VNI.
func (m *manager) allocate(i int, want uint32) {
	m.t.Helper()
	vni, holder := m.Choose(id(i), want, nil)
	if holder != "" {
		m.t.Fatalf("network %d: VNI %d belongs to %s", i, vni, holder)
	}
	if err := m.Allocate(m.t.Context(), id(i), vni); err != nil {
		m.t.Fatal(err)
	}
	if want != 0 && vni != want || want == 0 && (vni < FirstAutoVNI || vni > ether.MaxVNI) {
		m.t.Errorf("network %d wants %d, gets %d", i, want, vni)
	}
	for other, has := range m.all {
		if has == vni && other != id(i) {
			m.t.Errorf("network %d gets %d, which %s has", i, vni, other)
		}
	}
	m.all[id(i)] = vni
}

// leads lets the manager begin to lead: Docker names all networks, in any order.
func (m *manager) leads() {
	m.now += 2 * replayTime // the last time was long ago
	for id, vni := range m.all {
		m.Replay(id, vni, m.now)
	}
}

func (m *manager) free(i int) {
	m.Free(id(i))
	delete(m.all, id(i))
}

func (m *manager) wantTaken(vni uint32) {
	m.t.Helper()
	if _, holder := m.Choose(id(99), vni, nil); holder == "" {
		m.t.Errorf("VNI %d is given twice", vni)
	}
}

func (m *manager) wantKnown() {
	m.t.Helper()
	if len(m.Allocated) != len(m.all) {
		m.t.Errorf("%d networks are remembered, there are %d", len(m.Allocated), len(m.all))
	}
}

// A manager gives each network of the Swarm a VNI of its own, whoever leads.
func TestAllocate(t *testing.T) {
	all := map[string]uint32{} // what Docker remembers
	made := func() *manager {
		dir := t.TempDir()
		return &manager{Swarm: load(t, dir), dir: dir, t: t, all: all}
	}
	a, b := made(), made()
	for i := 1; i <= 20; i++ {
		a.allocate(i, 0)
	}
	a.allocate(21, 80)
	if vni, holder := a.Choose(id(1), 0, nil); vni != all[id(1)] || holder != "" {
		t.Errorf("asked again, a network gets %d", vni)
	}
	a.allocate(21, 80) // the answer came too late: Docker asks anew
	a.wantTaken(80)
	a.Swarm = load(t, a.dir) // restarted
	a.allocate(23, 0)
	a.wantTaken(80)
	b.leads()
	b.wantTaken(80)
	for i := 24; i < 30; i++ {
		b.allocate(i, 0)
	}
	b.free(21)
	b.free(1)
	b.allocate(22, 80) // what 21 had
	a.leads()          // who knows 21 with that, and not 22
	a.wantTaken(80)
	if _, ok := a.Allocated[id(1)]; ok {
		a.allocate(30, 0)
	}
	a.wantKnown()
	b.leads()
	b.allocate(31, 0)
	b.wantKnown()
	b.Free("nobody")
	b.wantKnown()

	before := len(a.Allocated)
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Allocate(late, id(42), 42); err == nil || len(a.Allocated) != before || !a.Unsaved {
		t.Errorf("nobody waits for the answer, and it is remembered: %v", err)
	}
}

// A VNI that another network has by its id, or that a network of this host has, is given to no other.
func TestFreeVNI(t *testing.T) {
	first := freeVNI("a", nil, nil)
	if got := freeVNI("a", map[string]state.Allocation{"x": {VNI: first}}, map[uint32]bool{first + 1: true}); got != first+2 {
		t.Errorf("got %d, want %d", got, first+2)
	}
}
