package vswitch

import (
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// A container that bridges two of its interfaces brings back what the others flood. Each station stays where it is after a few frames, and what comes
// back is flooded no more.
func TestLoop(t *testing.T) {
	s := New(Config{})
	a, wa := attach(s, "a", false)
	b, wb := attach(s, "b", false)
	left, loop := &echo{}, &echo{}
	left.to, loop.to = s.Attach("left", left, false, plenty), s.Attach("right", loop, false, plenty)
	left.to, loop.to = loop.to, left.to // what one leg gets the other one sends
	b.show(2)
	a.show(1)
	for rounds := 0; left.frames != nil || loop.frames != nil; rounds++ {
		if rounds == 100 {
			t.Fatal("a broadcast goes round and round")
		}
		left.turn()
		loop.turn()
	}
	if s.at(1) != a || s.at(2) != b {
		t.Errorf("the stations are at %s and %s", s.at(1).Name, s.at(2).Name)
	}
	if got := s.Tally(); got[Flapping] == 0 {
		t.Errorf("verdicts %v: nothing was cut", got)
	}
	wa.taken()
	wb.taken()
	a.Ingress([]ether.Frame{frame(mac(1), mac(2), 7)})
	b.Ingress([]ether.Frame{frame(mac(2), mac(1), 8)})
	if x, y := wa.taken(), wb.taken(); !slices.Equal(x, []int{8}) || !slices.Equal(y, []int{7}) {
		t.Errorf("a got %v, b got %v", x, y)
	}
	held := 0
	for _, m := range s.TakeMoves() {
		if m.Held {
			held++
		}
	}
	if held != 2 {
		t.Errorf("%d addresses are told to be held, want both, each once", held)
	}
	balanced(t, s)
}

// echo is a port's device: what it gets comes back by another port at the next turn.
type echo struct {
	to     *Port
	frames []ether.Frame
}

func (e *echo) Send(frames []*ether.Frame) (sent, bytes int) {
	for _, f := range frames {
		e.frames = append(e.frames, ether.Lend(slices.Clone(f.WithHeadroom()), f.Off))
	}
	return len(frames), 0
}

func (e *echo) turn() {
	frames := e.frames
	e.frames = nil
	e.to.Ingress(frames)
}

// How often an address may move, and how long it is held.
func TestFlapping(t *testing.T) {
	s := New(Config{})
	ports := []*Port{}
	for _, name := range []string{"a", "b", "c"} {
		p, _ := attach(s, name, false)
		ports = append(ports, p)
	}
	clock := 0
	tick := func(seconds int) {
		clock += seconds
		s.Tick(time.Duration(clock) * time.Second)
	}
	a, b, c := ports[0], ports[1], ports[2]
	a.show(1)
	for range 4 { // a machine that migrates back and forth, for a minute
		b.show(1)
		tick(7)
		a.show(1)
		tick(7)
	}
	if s.at(1) != a || s.Tally()[Flapping] != 0 {
		t.Fatal("a station that moves each 7 s is held")
	}
	for range flapMoves {
		for _, p := range []*Port{b, c} {
			p.show(1)
		}
	}
	if s.at(1) != a {
		t.Error("it is not where it was before it flapped")
	}
	flooded := s.Tally()[Flapping]
	if flooded == 0 {
		t.Error("its broadcasts from elsewhere are not dropped")
	}
	b.Pin(mac(9))
	if v := c.Inject(frame(mac(1), mac(9), 0)); v != Forwarded || s.at(1) != a {
		t.Errorf("to one station: %s", v)
	}
	if v := a.Inject(frame(mac(1), broadcast, 0)); v != Flooded {
		t.Errorf("from where it is held: %s", v)
	}
	for e := range s.Entries() {
		if e.MAC == mac(1) && e.Held != flapHold*time.Second {
			t.Errorf("held for %s", e.Held)
		}
	}
	tick(flapHold - 1)
	if b.show(1); s.at(1) != a {
		t.Error("not held long enough")
	}
	tick(1)
	if b.show(1); s.at(1) != b {
		t.Error("held for ever")
	}
	// Where it was is gone.
	for range flapMoves {
		a.show(1)
		c.show(1)
	}
	b.Detach()
	balanced(t, s)
}

// Of three hosts, each linked to the others, every broadcast reaches each container of each host once, and no uplink twice.
func TestThreeHosts(t *testing.T) {
	const hosts, containers = 3, 2
	var sw [hosts]*Switch
	var wires [hosts][containers]*wire
	var locals [hosts][containers]*Port
	var links [hosts][hosts]*echo // at each host, to each other
	for i := range sw {
		sw[i] = New(Config{})
		for c := range containers {
			locals[i][c], wires[i][c] = attach(sw[i], "", false)
		}
		for j := range sw {
			if j != i {
				links[i][j] = &echo{}
			}
		}
	}
	for i := range sw {
		for j := range sw {
			if j != i {
				links[j][i].to = sw[i].Attach("", links[i][j], true, plenty)
			}
		}
	}
	settle := func() (turns int) {
		for busy := true; busy; turns++ {
			busy = false
			for i := range sw {
				for j := range sw {
					if e := links[i][j]; e != nil && e.frames != nil {
						busy = true
						e.turn()
					}
				}
			}
		}
		return turns
	}
	number := 0
	for range 3 { // unknown, then known
		for i := range sw {
			for c := range containers {
				src := mac(10*i + c)
				number++
				locals[i][c].Ingress([]ether.Frame{frame(src, broadcast, number)})
				if turns := settle(); turns > 2 {
					t.Fatalf("a broadcast crosses links %d times", turns)
				}
				for j := range sw {
					for d := range containers {
						want := []int{number}
						if i == j && c == d {
							want = nil
						}
						if got := wires[j][d].taken(); !slices.Equal(got, want) {
							t.Errorf("host %d's container %d got %v, want %v", j, d, got, want)
						}
					}
				}
			}
		}
	}
	for i := range sw {
		if got := sw[i].Tally(); got.Rx() != got[Flooded] {
			t.Errorf("host %d: %v", i, got)
		}
		for m := range hosts * 10 {
			if p := sw[i].at(m); m%10 < containers && (p == nil || p.Uplink == (m/10 == i)) {
				t.Errorf("host %d knows station %d at the wrong port", i, m)
			}
		}
	}
}
