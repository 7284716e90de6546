package vswitch

import (
	"slices"
	"sync/atomic"

	"github.com/tapestry-net/tapestry/ether"
)

// keptMoves is how many moves are kept for TakeMoves: whoever moves addresses as fast as he can fills no more memory.
const keptMoves = 16

// A Move is a learned address that was seen at another port than before.
type Move struct {
	MAC      ether.MAC
	From, To *Port
	Held     bool // it has moved too often: it stays at To for a while, although it was seen at From
}

// moves counts the moves of learned addresses, and keeps the first ones since they were taken last.
type moves struct {
	count atomic.Uint64
	kept  [keptMoves]Move // guarded by fdb.tableMu, as n is
	n     int             // of kept
}

// note notes a move, or that an address is held, which is kept in place of the last move if there is no more room. tableMu is held.
func (m *moves) note(move Move) {
	if !move.Held {
		m.count.Add(1)
	}
	switch {
	case m.n < keptMoves:
		m.kept[m.n] = move
		m.n++
	case move.Held:
		m.kept[keptMoves-1] = move
	}
}

// Moves counts the moves of learned addresses from one port to another.
func (s *Switch) Moves() uint64 { return s.moves.count.Load() }

// TakeMoves gives the first moves since it was called last; Moves tells whether there were more.
func (s *Switch) TakeMoves() []Move {
	s.tableMu.Lock()
	defer s.tableMu.Unlock()
	all := slices.Clone(s.moves.kept[:s.moves.n])
	s.moves.n = 0
	return all
}
