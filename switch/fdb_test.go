package vswitch

import (
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// show lets a port send one frame from each station, in order.
func (p *Port) show(stations ...int) {
	for _, i := range stations {
		p.Ingress([]ether.Frame{frame(mac(i), broadcast, 0)})
	}
}

func (s *Switch) at(i int) *Port { return s.find(mac(i)) }

// balanced holds the table's accounts against its entries. No Ingress may run.
func balanced(t *testing.T, s *Switch) {
	t.Helper()
	s.tableMu.Lock()
	defer s.tableMu.Unlock()
	learned := map[*Port]int{}
	n := 0
	s.stations.Range(func(k, v any) bool {
		st := v.(*station)
		p := st.port.Load()
		switch {
		case k.(ether.MAC) != st.mac:
			t.Errorf("%s is filed under %s", st.mac, k)
		case p.detached.Load():
			t.Errorf("%s leads to %s, which has left", st.mac, p.Name)
		case st.pinned && st.slot != -1:
			t.Errorf("pinned %s is counted as learned", st.mac)
		case !st.pinned && (st.slot < 0 || st.slot >= p.learned.len() || p.learned.heap[st.slot] != st):
			t.Errorf("%s is not in the list of %s", st.mac, p.Name)
		}
		if !st.pinned {
			learned[p]++
			n++
		}
		return true
	})
	if n != s.count {
		t.Errorf("%d addresses are learned, %d counted", n, s.count)
	}
	if n > s.perNetwork {
		t.Errorf("%d addresses are learned, bound %d", n, s.perNetwork)
	}
	if len(s.learners) != len(learned) {
		t.Errorf("%d ports are noted as owners, %d are", len(s.learners), len(learned))
	}
	for _, p := range s.learners {
		for i, st := range p.learned.heap {
			if st.filed > st.seen.Load() || i > 0 && p.learned.heap[(i-1)/2].filed > st.filed {
				t.Errorf("%s is filed wrongly in the list of %s", st.mac, p.Name)
			}
		}
		if p.learned.len() != learned[p] || learned[p] > s.perPort {
			t.Errorf("%s lists %d addresses and owns %d, bound %d", p.Name, p.learned.len(), learned[p], s.perPort)
		}
	}
}

func TestLearn(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, _ := attach(s, "b", true)
	a.show(1, 2)
	if s.at(1) != a || s.at(2) != a || s.at(3) != nil {
		t.Error("stations are not where they were seen")
	}
	b.show(1) // it moved
	if s.at(1) != b || s.at(2) != a {
		t.Error("a station that moved is where it was")
	}
	a.show(1, 1, 1) // and back
	if s.at(1) != a {
		t.Error("a station that moved back is not there")
	}
	for _, bad := range []ether.MAC{{}, broadcast, {1, 0, 0x5e, 0, 0, 1}, {0x33, 0x33, 0, 0, 0, 1}, {3}} {
		a.Ingress([]ether.Frame{frame(bad, mac(2), 0)})
		b.Ingress([]ether.Frame{frame(mac(1), mac(2), 0), frame(bad, mac(2), 0)})
		if s.find(bad) != nil {
			t.Errorf("%s was learned", bad)
		}
	}
	if got := s.Tally(); got[BadSource] != 10 {
		t.Errorf("%d frames had a bad source, want 10", got[BadSource])
	}
	balanced(t, s)
}

func TestPin(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, _ := attach(s, "b", false)
	a.show(1)
	if !b.Pin(mac(1)) || s.at(1) != b {
		t.Fatal("pinning does not prevail over learning")
	}
	if !b.Pin(mac(1)) {
		t.Error("pinning twice is no success")
	}
	if a.Pin(mac(1)) {
		t.Error("an address is pinned at two ports")
	}
	a.show(1, 1)
	b.show(1)
	if s.at(1) != b {
		t.Error("a pinned address was taken away")
	}
	if got := s.Tally(); got[Spoofed] != 2 {
		t.Errorf("%d spoofed, want 2", got[Spoofed])
	}
	n := 0
	for e := range s.Entries() {
		n++
		if e.MAC != mac(1) || e.Port != b || !e.Pinned || e.Age != 0 || e.SpoofedBy != a || e.Spoofed != 2 {
			t.Errorf("entry is %+v", e)
		}
	}
	if n != 1 {
		t.Errorf("%d entries, want one", n)
	}
	s.Tick(1e6 * time.Second)
	if s.at(1) != b {
		t.Error("a pinned address has aged")
	}
	a.Unpin(mac(1)) // not its own
	if s.at(1) != b {
		t.Error("another port could unpin it")
	}
	balanced(t, s)
	b.Unpin(mac(1))
	b.Unpin(mac(1))
	b.Unpin(mac(7))
	if s.at(1) != nil {
		t.Error("an unpinned address is still known")
	}
	a.show(1)
	if s.at(1) != a {
		t.Error("an unpinned address is not learned")
	}
	b.Unpin(mac(1))
	a.Unpin(mac(1))
	if s.at(1) != a {
		t.Error("a learned address was unpinned")
	}
	balanced(t, s)
}

// A run of one flow is spoofed to its end, though only the first frame of a run is looked up.
func TestSpoofedRun(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, w := attach(s, "b", false)
	b.Pin(mac(1))
	b.Pin(mac(2))
	good, bad := frame(mac(3), mac(2), 1), frame(mac(1), mac(2), 2)
	a.Ingress([]ether.Frame{bad, bad, good, good, bad, good, bad})
	if got := s.Tally(); got[Spoofed] != 4 || got[Forwarded] != 3 {
		t.Errorf("verdicts %v, want 4 spoofed and 3 forwarded", got)
	}
	for _, n := range w.taken() {
		if n != 1 {
			t.Error("a spoofed frame passed")
		}
	}
}

// A spoofer that has left is no longer accused.
func TestSpooferLeaves(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, _ := attach(s, "b", false)
	b.Pin(mac(1))
	a.show(1)
	a.Detach()
	for e := range s.Entries() {
		if e.SpoofedBy != nil || e.Spoofed != 0 {
			t.Errorf("%s is accused of %d frames", e.SpoofedBy.Name, e.Spoofed)
		}
	}
}

func TestAgeing(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ageing time.Duration
		last   time.Duration // when an address seen at 10 s is still known
		gone   time.Duration
	}{
		{"default", 0, 309 * time.Second, 310 * time.Second},
		{"one second", time.Second, 10 * time.Second, 11 * time.Second},
		{"a part of a second counts as one", 100 * time.Millisecond, 10 * time.Second, 11 * time.Second},
		{"2.5 s", 2500 * time.Millisecond, 12 * time.Second, 13 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(Config{Ageing: tc.ageing})
			a, _ := attach(s, "a", false)
			b, _ := attach(s, "b", false)
			s.Tick(10 * time.Second)
			a.show(1, 2)
			b.show(3)
			s.Tick(tc.last)
			if s.at(1) != a || s.at(3) != b {
				t.Errorf("forgotten at %s", tc.last)
			}
			for e := range s.Entries() {
				if want := tc.last.Truncate(time.Second) - 10*time.Second; e.Age != want {
					t.Errorf("%s is %s old, want %s", e.MAC, e.Age, want)
				}
			}
			a.show(2)
			s.Tick(tc.gone)
			if s.at(1) != nil || s.at(3) != nil {
				t.Errorf("still known at %s", tc.gone)
			}
			if again := tc.last.Truncate(time.Second) > 10*time.Second; again != (s.at(2) == a) {
				t.Errorf("seen again %v, known %v", again, s.at(2) == a)
			}
			balanced(t, s)
			s.Tick(tc.gone * 100)
			for e := range s.Entries() {
				t.Errorf("%s never ages", e.MAC)
			}
			balanced(t, s)
		})
	}
}

// What a switch learns before its first tick ages from then on, whatever the clock shows.
func TestAgeingOfTheYoung(t *testing.T) {
	const start = 5000*time.Second + 700*time.Millisecond
	s := New(Config{Start: start, Ageing: 10 * time.Second})
	a, _ := attach(s, "a", false)
	a.show(1)
	for e := range s.Entries() {
		if e.Age != 0 {
			t.Errorf("%s old when it has just been seen", e.Age)
		}
	}
	s.Tick(start + 9*time.Second)
	if s.at(1) != a {
		t.Error("forgotten after 9 s of 10")
	}
	s.Tick(start + 10*time.Second)
	if s.at(1) != nil {
		t.Error("still known after 10 s of 10")
	}
}

// The table changes under its reader, who still sees no negative age.
func TestEntriesWhileTicking(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	a.show(1, 2, 3)
	now := time.Duration(0)
	for e := range s.Entries() {
		if e.Age < 0 {
			t.Errorf("%s is %s old", e.MAC, e.Age)
		}
		now += time.Second
		s.Tick(now)
		a.show(1, 2, 3)
	}
}

// A port at its bound loses its own oldest.
func TestPerPort(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, _ := attach(s, "b", false)
	b.show(9000)
	for i := range DefaultPerPort {
		s.Tick(time.Duration(i) * 100 * time.Millisecond)
		a.show(i)
	}
	s.Tick(100 * time.Second)
	for i := range DefaultPerPort {
		if i != 20 {
			a.show(i) // all are young again but one
		}
	}
	if got := a.learned.len(); got != DefaultPerPort {
		t.Fatalf("%d addresses, want %d", got, DefaultPerPort)
	}
	a.show(5000)
	if s.at(20) != nil || s.at(5000) != a || s.at(0) != a || s.at(9000) != b {
		t.Error("not the port's oldest address was lost")
	}
	for i := range 2000 {
		a.show(10000 + i)
	}
	if got := a.learned.len(); got != DefaultPerPort {
		t.Errorf("%d addresses, want %d", got, DefaultPerPort)
	}
	if s.at(9000) != b {
		t.Error("another port lost its address")
	}
	// One that moves to a full port makes room too.
	a.show(9000)
	if got := a.learned.len(); got != DefaultPerPort || s.at(9000) != a {
		t.Errorf("%d addresses, want %d with the one that moved", got, DefaultPerPort)
	}
	// What is pinned does not count.
	for i := range 2 * DefaultPerPort {
		if !b.Pin(mac(20000 + i)) {
			t.Fatal("not pinned")
		}
	}
	b.show(1, 2, 3)
	if s.at(1) != b || s.at(20000) != b || s.at(20000+2*DefaultPerPort-1) != b {
		t.Error("pinned addresses are taken for learned ones")
	}
	balanced(t, s)
}

// A full table costs the port with most addresses, never a quiet one, whoever comes.
func TestPerNetwork(t *testing.T) {
	s := New(Config{})
	quiet, _ := attach(s, "quiet", false)
	quiet.show(1, 2, 3)
	s.Tick(time.Second) // the quiet port's are the oldest of all
	const flooders = DefaultPerNetwork/DefaultPerPort + 8
	for i := range flooders {
		p, _ := attach(s, "flooder", i%2 == 0)
		for j := range DefaultPerPort + 50 {
			p.show(100000 + i*1000 + j)
		}
	}
	if s.count != DefaultPerNetwork {
		t.Errorf("%d addresses, want %d", s.count, DefaultPerNetwork)
	}
	late, _ := attach(s, "late", false)
	late.show(4, 5)
	if s.count != DefaultPerNetwork {
		t.Errorf("%d addresses, want %d", s.count, DefaultPerNetwork)
	}
	for i, want := range map[int]*Port{1: quiet, 2: quiet, 3: quiet, 4: late, 5: late} {
		if s.at(i) != want {
			t.Errorf("station %d of a quiet port was forgotten", i)
		}
	}
	balanced(t, s)
	for _, p := range s.Ports() {
		p.Detach()
	}
	if s.count != 0 || len(s.learners) != 0 {
		t.Errorf("%d addresses of %d ports are left", s.count, len(s.learners))
	}
	balanced(t, s)
}

func TestFairness(t *testing.T) {
	s := New(Config{PerPort: 60, PerNetwork: 100})
	quiet, _ := attach(s, "quiet", false)
	loud, _ := attach(s, "loud", false)
	loud2, _ := attach(s, "loud2", true)
	for i := range 20 {
		quiet.show(i)
	}
	for i := range 5000 {
		s.Tick(time.Duration(i) * 10 * time.Millisecond)
		loud.show(10000 + i)
		loud2.show(20000 + i)
		if i%50 == 0 {
			for k := range 20 {
				if s.at(k) != quiet {
					t.Fatalf("after %d frames of each flooder, the quiet port's station %d is forgotten", i, k)
				}
			}
			balanced(t, s)
		}
	}
}
