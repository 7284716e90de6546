package vswitch

import (
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// fdb is the forwarding database: which port leads to which station. Look-ups take no lock; changes
// take one, and are rare.
type fdb struct {
	ageing              time.Duration
	perPort, perNetwork int
	now                 atomic.Int64 // coarse clock, in seconds, moved by Tick
	stations            sync.Map     // ether.MAC → *station

	change sync.Mutex // guards what follows, and the stations' slots
	count  int        // learned addresses
	full   []*Port    // ports that own learned addresses
}

// A station is one address. Its port changes when it moves; what is pinned does not move.
type station struct {
	mac    ether.MAC
	pinned bool // for ever
	port   atomic.Pointer[Port]
	seen   atomic.Int64
	rival  atomic.Pointer[Port] // another port that used the pinned address
	rivals atomic.Uint64        // frames it lost by that

	slot int // place in port.learned, guarded by fdb.change
}

// station gives m's entry, nil if that is not known or m is a group address.
func (t *fdb) station(m ether.MAC) *station {
	if v, ok := t.stations.Load(m); ok {
		return v.(*station)
	}
	return nil
}

// find gives the port that leads to m, nil if that is not known or m is a group address.
func (t *fdb) find(m ether.MAC) *Port {
	if v, ok := t.stations.Load(m); ok { // not by station: it would be one more call for each frame
		return v.(*station).port.Load()
	}
	return nil
}

// A sighting is what a source address is to the port that it was seen at.
type sighting uint8

const (
	fresh sighting = iota // nobody's: to be learned
	here                  // this port's
	moved                 // learned at another port: to be learned here
	taken                 // pinned to another port
)

// at judges a sighting of the station at p; s is nil if its address is not known.
func (s *station) at(p *Port) sighting {
	switch {
	case s == nil:
		return fresh
	case s.port.Load() == p:
		return here
	case s.pinned:
		return taken
	}
	return moved
}

// learn notes that m was seen at p, and gives what it was until then: with fresh and moved, look-ups made before may not
// hold any more. A pinned address is not changed, and a group address must not be given.
func (t *fdb) learn(m ether.MAC, p *Port) sighting {
	s := t.station(m)
	switch s.at(p) {
	case fresh:
		return t.insert(m, p)
	case moved:
		t.move(s, p)
		return moved
	case taken:
		s.rival.Store(p)
		s.rivals.Add(1)
		return taken
	}
	if now := t.now.Load(); s.seen.Load() != now {
		s.seen.Store(now)
	}
	return here
}

func (t *fdb) insert(m ether.MAC, p *Port) sighting {
	t.change.Lock()
	defer t.change.Unlock()
	if p.detached.Load() {
		return fresh // its addresses are forgotten already
	}
	if v, ok := t.stations.Load(m); ok { // somebody was faster
		s := v.(*station)
		if s.pinned {
			return s.at(p)
		}
		t.disown(s)
		t.own(s, p)
		return moved
	}
	s := &station{mac: m}
	t.own(s, p)
	t.stations.Store(m, s)
	return fresh
}

func (t *fdb) move(s *station, p *Port) {
	t.change.Lock()
	defer t.change.Unlock()
	if s.slot < 0 || p.detached.Load() { // forgotten, or pinned anew, meanwhile: the next frame will tell
		return
	}
	t.disown(s)
	t.own(s, p)
}

// own enters a learned station at p, and makes room for it first.
func (t *fdb) own(s *station, p *Port) {
	if old := t.victim(p, t.count); old != nil {
		t.remove(old)
	}
	if len(p.learned) == 0 {
		t.full = append(t.full, p)
	}
	s.slot = len(p.learned)
	p.learned = append(p.learned, s)
	t.count++
	s.seen.Store(t.now.Load())
	s.port.Store(p)
}

// victim is the learned station that has to go before p gets one more, with count in the table; nil if there is room.
// The port that is at its bound loses its oldest; if the whole table is, the port with the most does. So whoever floods
// the table with addresses loses his own, not his neighbours'.
func (t *fdb) victim(p *Port, count int) *station {
	if len(p.learned) >= t.perPort {
		return p.oldest()
	}
	if count < t.perNetwork {
		return nil
	}
	greedy := p
	for _, q := range t.full {
		if len(q.learned) > len(greedy.learned) {
			greedy = q
		}
	}
	return greedy.oldest()
}

// oldest is the port's learned station that was not seen for longest, nil without any. fdb.change is held.
func (p *Port) oldest() (oldest *station) {
	for _, s := range p.learned {
		if oldest == nil || s.seen.Load() < oldest.seen.Load() {
			oldest = s
		}
	}
	return oldest
}

// remove forgets a learned station.
func (t *fdb) remove(s *station) {
	t.disown(s)
	t.stations.Delete(s.mac)
}

// disown takes a learned station from its port.
func (t *fdb) disown(s *station) {
	p := s.port.Load()
	last := len(p.learned) - 1
	p.learned[s.slot] = p.learned[last]
	p.learned[s.slot].slot = s.slot
	p.learned[last] = nil
	p.learned = p.learned[:last]
	s.slot = -1
	t.count--
	if last == 0 {
		for i, q := range t.full {
			if q == p {
				t.full[i] = t.full[len(t.full)-1]
				t.full = t.full[:len(t.full)-1]
				break
			}
		}
	}
}

// Pin ties a station's address to the port: it is known before the first frame, does not age, and
// frames with it that come by another port are dropped as Spoofed. False: another port has pinned it,
// or this one has left the switch.
func (p *Port) Pin(m ether.MAC) bool {
	t := &p.sw.fdb
	t.change.Lock()
	defer t.change.Unlock()
	if p.detached.Load() {
		return false
	}
	if v, ok := t.stations.Load(m); ok {
		s := v.(*station)
		if s.pinned {
			return s.port.Load() == p
		}
		t.disown(s)
	}
	s := &station{mac: m, pinned: true, slot: -1}
	s.port.Store(p)
	t.stations.Store(m, s)
	return true
}

// Unpin forgets an address that this port has pinned.
func (p *Port) Unpin(m ether.MAC) {
	t := &p.sw.fdb
	t.change.Lock()
	defer t.change.Unlock()
	if v, ok := t.stations.Load(m); ok {
		if s := v.(*station); s.pinned && s.port.Load() == p {
			t.stations.Delete(m)
		}
	}
}

// forget drops every address of p.
func (t *fdb) forget(p *Port) {
	t.change.Lock()
	defer t.change.Unlock()
	for len(p.learned) > 0 {
		t.remove(p.learned[len(p.learned)-1])
	}
	t.stations.Range(func(m, v any) bool {
		s := v.(*station)
		if s.port.Load() == p {
			t.stations.Delete(m)
		}
		if s.rival.Load() == p {
			s.rival.Store(nil)
			s.rivals.Store(0)
		}
		return true
	})
}

// Tick moves the coarse clock to now, a time since some fixed start, and forgets what has not been
// seen for the ageing time.
func (s *Switch) Tick(now time.Duration) {
	t := &s.fdb
	sec := int64(now / time.Second)
	t.now.Store(sec)
	oldest := sec - int64(math.Ceil(t.ageing.Seconds()))
	t.change.Lock()
	defer t.change.Unlock()
	for _, p := range s.Ports() {
		for i := len(p.learned) - 1; i >= 0; i-- {
			if p.learned[i].seen.Load() <= oldest {
				t.remove(p.learned[i])
			}
		}
	}
}

// An Entry is one address of the forwarding database.
type Entry struct {
	MAC    ether.MAC
	Port   *Port
	Pinned bool
	Age    time.Duration // since last seen, in whole seconds; 0 if pinned
	Rival  *Port         // another port that used this pinned address, nil if none did
	Stolen uint64        // frames dropped because of that
}

// Entries gives the forwarding database in no order. It changes under the reader's eyes.
func (s *Switch) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		s.stations.Range(func(_, v any) bool { return yield(s.entry(v.(*station))) })
	}
}

// entry reads one station.
func (t *fdb) entry(s *station) Entry {
	e := Entry{MAC: s.mac, Port: s.port.Load(), Pinned: s.pinned, Stolen: s.rivals.Load()}
	if r := s.rival.Load(); r != nil && !r.detached.Load() {
		e.Rival = r
	}
	if !s.pinned {
		e.Age = max(0, time.Duration(t.now.Load()-s.seen.Load())*time.Second) // it may be seen again meanwhile
	}
	return e
}
