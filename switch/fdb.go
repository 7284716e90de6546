package vswitch

import (
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// fdb is the forwarding database: which port leads to which address. Look-ups take no lock. Changes, which are
// rare, take one.
type fdb struct {
	ageing              time.Duration // see Config
	perPort, perNetwork int           // see Config
	now                 atomic.Int64  // coarse clock, in seconds, moved by Tick
	stations            sync.Map      // ether.MAC → *station

	tableMu  sync.Mutex // guards what follows, Port.learned, and station.slot and filed
	count    int        // learned addresses
	learners []*Port    // ports that own learned addresses
	moves    moves
}

// A station is one entry of the table. A learned one moves to the port where it was seen last; a pinned one stays.
type station struct {
	mac     ether.MAC
	pinned  bool // static: it neither ages nor moves
	port    atomic.Pointer[Port]
	seen    atomic.Int64         // when, by the coarse clock
	spoofer atomic.Pointer[Port] // another port that sent with the pinned address; nil: none
	spoofed atomic.Uint64        // frames dropped because of that
	held    atomic.Int64         // until when it stays at its port, by the coarse clock, see relocate

	slot  int   // in the heap of port.learned, -1: none; guarded by tableMu
	filed int64 // when it was seen last when it was filed there; guarded by tableMu
	hops  hops
}

// station gives m's entry, nil if there is none. Group addresses have none.
func (t *fdb) station(m ether.MAC) *station {
	if v, ok := t.stations.Load(m); ok {
		return v.(*station)
	}
	return nil
}

// find gives the port that leads to m, nil if none is known. Group addresses have none.
func (t *fdb) find(m ether.MAC) *Port {
	if v, ok := t.stations.Load(m); ok { // without station, which would be one more call for each frame
		return v.(*station).port.Load()
	}
	return nil
}

// A sourceState is how a source address relates to the port by which it was received.
type sourceState uint8

const (
	sourceNew     sourceState = iota // not in the table: to be learned
	sourceKnown                      // this port's
	sourceMoved                      // learned at another port: to be learned here
	sourceSpoofed                    // pinned to another port
	sourceHeld                       // learned at another port, and it stays there
)

// sourceAt gives the state of s as a source address at p; s is nil if the address is not in the table.
func (s *station) sourceAt(p *Port) sourceState {
	switch {
	case s == nil:
		return sourceNew
	case s.port.Load() == p:
		return sourceKnown
	case s.pinned:
		return sourceSpoofed
	}
	return sourceMoved
}

// learnSource notes that m was seen at p, and returns its state before. After sourceNew and sourceMoved, earlier results
// of find may be wrong. A pinned address is not changed, and is known to a port that may use others'. m must not be a group address.
func (t *fdb) learnSource(m ether.MAC, p *Port) sourceState {
	s := t.station(m)
	switch s.sourceAt(p) {
	case sourceNew:
		return t.insert(m, p)
	case sourceMoved:
		if s.isHeld(t.now.Load()) {
			return sourceHeld
		}
		return t.move(s, p)
	case sourceSpoofed:
		if p.Policy().AnyMAC {
			return sourceKnown
		}
		s.spoofer.Store(p)
		s.spoofed.Add(1)
		return sourceSpoofed
	}
	if now := t.now.Load(); s.seen.Load() != now {
		s.seen.Store(now)
	}
	return sourceKnown
}

func (t *fdb) insert(m ether.MAC, p *Port) sourceState {
	t.tableMu.Lock()
	defer t.tableMu.Unlock()
	if p.detached.Load() {
		return sourceNew // its addresses were removed already
	}
	if v, ok := t.stations.Load(m); ok { // another goroutine has inserted it
		s := v.(*station)
		if s.pinned {
			return s.sourceAt(p)
		}
		return t.relocate(s, p)
	}
	s := &station{mac: m}
	t.assign(s, p)
	t.stations.Store(m, s)
	return sourceNew
}

func (t *fdb) move(s *station, p *Port) sourceState {
	t.tableMu.Lock()
	defer t.tableMu.Unlock()
	if s.slot < 0 || p.detached.Load() { // removed or pinned meanwhile: the next frame finds out
		return sourceMoved
	}
	return t.relocate(s, p)
}

// assign makes p the port of a learned station, after it has evicted another one if there is no room. tableMu is held.
func (t *fdb) assign(s *station, p *Port) {
	if old := t.victim(p, t.count); old != nil {
		t.remove(old)
	}
	if p.learned.len() == 0 {
		t.learners = append(t.learners, p)
	}
	s.seen.Store(t.now.Load())
	p.learned.add(s)
	t.count++
	s.port.Store(p)
}

// victim is the learned station to evict before p gets one more, with count in the table; nil if there is room.
// A port at its bound loses its oldest one. If the table is at its bound, the port with the most addresses does: so
// whoever floods the table loses his own addresses, not those of others. tableMu is held.
func (t *fdb) victim(p *Port, count int) *station {
	if p.learned.len() >= t.perPort {
		return p.learned.oldest()
	}
	if count < t.perNetwork {
		return nil
	}
	greedy := p
	for _, q := range t.learners {
		if q.learned.len() > greedy.learned.len() {
			greedy = q
		}
	}
	return greedy.learned.oldest()
}

// remove removes a learned station from the table. tableMu is held.
func (t *fdb) remove(s *station) {
	t.release(s)
	t.stations.Delete(s.mac)
}

// release removes a learned station from its port's list. tableMu is held.
func (t *fdb) release(s *station) {
	p := s.port.Load()
	p.learned.remove(s)
	t.count--
	if p.learned.len() == 0 {
		i, last := slices.Index(t.learners, p), len(t.learners)-1
		t.learners[i] = t.learners[last]
		t.learners[last] = nil
		t.learners = t.learners[:last]
	}
}

// taken is the verdict of a frame whose source is pinned to another port than p. What another host sends with it has been at its owner's host before, by
// a loop, or is of a station that has the same address there; Linux's bridge tells both alike, as "own address as source address" (br_fdb_update).
func (p *Port) taken() Verdict {
	if p.Uplink {
		return OwnAddress
	}
	return Spoofed
}

// Pin makes an address a static entry of the port: it is known before the first frame and does not age, and frames
// with that source that another port receives are dropped, see taken. It returns false if another port has pinned
// the address, or if this one is detached.
func (p *Port) Pin(m ether.MAC) bool {
	t := &p.sw.fdb
	t.tableMu.Lock()
	defer t.tableMu.Unlock()
	if p.detached.Load() {
		return false
	}
	if v, ok := t.stations.Load(m); ok {
		s := v.(*station)
		if s.pinned {
			return s.port.Load() == p
		}
		t.release(s)
	}
	s := &station{mac: m, pinned: true, slot: -1}
	s.port.Store(p)
	t.stations.Store(m, s)
	return true
}

// Unpin removes an address that this port has pinned.
func (p *Port) Unpin(m ether.MAC) {
	t := &p.sw.fdb
	t.tableMu.Lock()
	defer t.tableMu.Unlock()
	if v, ok := t.stations.Load(m); ok {
		if s := v.(*station); s.pinned && s.port.Load() == p {
			t.stations.Delete(m)
		}
	}
}

// forget removes every address of ports that are detached, and these ports as spoofers of others.
func (t *fdb) forget(ports []*Port) {
	t.tableMu.Lock()
	defer t.tableMu.Unlock()
	for _, p := range ports {
		for p.learned.len() > 0 {
			t.remove(p.learned.heap[p.learned.len()-1])
		}
	}
	t.stations.Range(func(m, v any) bool {
		s := v.(*station)
		if s.port.Load().detached.Load() {
			t.stations.Delete(m)
		}
		if p := s.spoofer.Load(); p != nil && p.detached.Load() {
			s.spoofer.Store(nil)
			s.spoofed.Store(0)
		}
		return true
	})
}

// Tick sets the coarse clock to now, a time since some fixed start, and removes the learned addresses that were not
// seen for the ageing time. With SetSnooping it may send queries.
func (s *Switch) Tick(now time.Duration) {
	t := &s.fdb
	sec := int64(now / time.Second)
	t.now.Store(sec)
	s.queryGroups(sec)
	oldest := sec - int64(math.Ceil(t.ageing.Seconds()))
	t.tableMu.Lock()
	defer t.tableMu.Unlock()
	for i := len(t.learners) - 1; i >= 0; i-- { // the last one takes the place of one that has none left
		for p := t.learners[i]; p.learned.len() > 0 && p.learned.oldest().filed <= oldest; {
			t.remove(p.learned.oldest())
		}
	}
}

// An Entry is one address of the forwarding database.
type Entry struct {
	MAC       ether.MAC
	Port      *Port
	Pinned    bool
	Group     bool          // a port that wants a multicast group, see SetSnooping
	Age       time.Duration // since it was last seen, in whole seconds; 0 if pinned
	SpoofedBy *Port         // another port that sent with this pinned address; nil: none
	Spoofed   uint64        // frames dropped because of that
	Held      time.Duration // for how long a learned one still stays at its port, since it moved too often; 0: it moves
}

// Entries gives the forwarding database in no order. Changes made meanwhile may or may not be seen.
func (s *Switch) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		more := true
		s.stations.Range(func(_, v any) bool {
			more = yield(s.entry(v.(*station)))
			return more
		})
		if g := s.snoop.Load(); g != nil && more {
			g.members(s.now.Load(), yield)
		}
	}
}

// entry reads one station.
func (t *fdb) entry(s *station) Entry {
	e := Entry{MAC: s.mac, Port: s.port.Load(), Pinned: s.pinned, Spoofed: s.spoofed.Load()}
	if r := s.spoofer.Load(); r != nil && !r.detached.Load() {
		e.SpoofedBy = r
	}
	if !s.pinned {
		e.Held = max(0, time.Duration(s.held.Load()-t.now.Load())*time.Second)
		e.Age = max(0, time.Duration(t.now.Load()-s.seen.Load())*time.Second) // it may be seen again meanwhile
	}
	return e
}
