//go:build !race

// The race detector makes sync.Pool forget at random.

package vswitch

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

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

// Questions are answered without an allocation, watched or not.
func TestAnswerAllocs(t *testing.T) {
	s := New(Config{})
	in := s.Attach("", discard{}, false, 1500)
	up := s.Attach("", discard{}, true, 1500)
	all, frames := book{}, []ether.Frame{}
	for i := range 40 {
		all[ip(i)], all[six(i)] = told{mac(i), up}, told{mac(i), up}
		frames = append(frames, question(100, i), lent(packets.Solicitation(mac(100), six(100), six(i))))
	}
	s.SetAnswers(all)
	w := &countingWatcher{}
	run := func() {
		for i := range s.answers.Load().given {
			s.answers.Load().given[i].Store(0)
		}
		in.Ingress(frames)
	}
	for range 2 {
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%v allocations a batch", n)
		}
		s.Watch(w)
	}
	if got := s.Tally(); got[Answered] != 2*101*80 || w.seen != 2*101*80 {
		t.Errorf("verdicts %v, %d were shown", got, w.seen)
	}
}

// Nor is one made to tell a sender that its frame is too long.
func TestTooBigAllocs(t *testing.T) {
	s := New(Config{})
	in := s.Attach("", discard{}, false, 1500)
	s.Attach("", discard{}, false, 1364).Pin(mac(2))
	frames := []ether.Frame{tcp(1, 2, 1400), tcp(1, 2, 1410)}
	if n := testing.AllocsPerRun(100, func() { in.told.Store(0); in.Ingress(frames) }); n != 0 || s.TooBig() != 2*101 {
		t.Errorf("%v allocations a batch, %d told", n, s.TooBig())
	}
}

// Nor do guards, whatever they find.
func TestGuardAllocs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	_, ports, _ := guarded(discard{})
	var frames []ether.Frame
	for _, k := range slices.Concat(forges, honest) {
		for range 4 {
			frames = append(frames, lent(k.make(r)))
		}
	}
	if n := testing.AllocsPerRun(100, func() { ports[0].Ingress(frames) }); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

// Nor for limits, whether a frame passes or not.
func TestLimitAllocs(t *testing.T) {
	for _, policy := range []*Policy{{Rate: 1}, {Rate: 1 << 40, Storm: 10, Isolated: true, With: []netip.Prefix{all10}}, {Storm: 1 << 30}} {
		for _, l := range loads(64) {
			l.in.SetPolicy(policy)
			for _, p := range l.in.sw.Ports() {
				p.SetPolicy(policy)
			}
			if n := testing.AllocsPerRun(200, func() { l.in.Ingress(l.frames) }); n != 0 {
				t.Errorf("%+v, %s: %v allocations a batch, want 0", policy, l.name, n)
			}
		}
	}
}

// A lower MSS needs no memory, however the frame leaves.
func TestMSSAllocs(t *testing.T) {
	s, ports, _ := mssBed()
	ports[1].to, ports[2].to, ports[3].to, ports[4].to = discard{}, discard{}, discard{}, discard{}
	ports[1].SetPolicy(&Policy{MSS: AutoMSS})
	var frames []ether.Frame
	for i := range 40 {
		frames = append(frames, lent(syn(1, 3, i%2 == 0, 1460)), lent(syn(1, 99, false, 1460)), tcp(1, 3, 100))
	}
	ports[1].Ingress(frames)
	before := s.Lowered()
	if n := testing.AllocsPerRun(100, func() { ports[1].Ingress(frames) }); n != 0 || s.Lowered() != before+101*(40+80) {
		t.Errorf("%v allocations, %d lowered", n, s.Lowered()-before)
	}
}

// Snooping needs no memory for a frame.
func TestSnoopingAllocs(t *testing.T) {
	s := New(Config{})
	in := s.Attach("1", discard{}, false, 1500)
	for i := range 8 {
		s.Attach(fmt.Sprint(2+i), discard{}, i > 3, 1500).Ingress([]ether.Frame{wants(2+i, 9, true)})
	}
	s.SetSnooping(querier)
	s.Tick(time.Second)
	s.Tick(20 * time.Second)
	frames := []ether.Frame{toGroup(1, 9), wants(1, 9, true), toGroup(1, 7)}
	in.Ingress(frames)
	if n := testing.AllocsPerRun(100, func() { in.Ingress(frames) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
