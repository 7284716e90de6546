package vswitch

// An address that moves again and again has two places: a loop brings its frames back by another port, or two stations use it. It is held then: for a
// while it stays at the port where it was before that began, and what is flooded from elsewhere with it is dropped as Flapping, which cuts the
// loop. Other frames pass, since the two links of a bond may send by turns. RFC 7432 section 15.1 does so between hosts, with 5 moves
// in 180 s; here a machine that migrates back and forth must not be held, so that the time is short. Linux's bridge follows each move.
const (
	flapMoves  = 5  // so many moves
	flapWithin = 5  // in so many seconds are followed; one more,
	flapHold   = 30 // and the address is held so many seconds
)

// hops is how often a learned station has moved lately. All of it is guarded by fdb.tableMu.
type hops struct {
	since int64 // by the coarse clock
	n     int   // moves since then
	home  *Port // where it was then
}

// next says where a station goes to that was seen at p: to p, or, if it has moved too often, to where it was before, to be held there. tableMu is held.
func (s *station) next(p *Port, now int64) (to *Port, h hops, hold bool) {
	h = s.hops
	if now >= h.since+flapWithin || h.home == nil {
		h = hops{since: now, home: s.port.Load()}
	}
	if h.n++; h.n <= flapMoves {
		return p, h, false
	}
	if to = h.home; to.detached.Load() {
		to = p
	}
	return to, hops{}, true
}

// isHeld tells whether the station stays where it is for now.
func (s *station) isHeld(now int64) bool { return s.held.Load() > now }

// relocate follows a station that was seen at p, or holds it, and returns how it relates to p then. tableMu is held.
func (t *fdb) relocate(s *station, p *Port) sourceState {
	now := t.now.Load()
	to, h, hold := s.next(p, now)
	s.hops = h
	other := p
	if from := s.port.Load(); to != from {
		other = from
		t.release(s)
		t.assign(s, to)
		t.moves.note(Move{MAC: s.mac, From: from, To: to})
	}
	if hold {
		if before := s.held.Swap(now + flapHold); before == 0 || now >= before+flapHold { // else it goes on, which was told
			t.moves.note(Move{MAC: s.mac, From: other, To: to, Held: true})
		}
	}
	if to != p {
		return sourceHeld
	}
	return sourceMoved
}
