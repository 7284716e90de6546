package vswitch

import (
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

// Each move of a learned address is counted, and the first ones are told with both ports; a pinned address does not move.
func TestMoves(t *testing.T) {
	s := New(Config{})
	a, _ := attach(s, "a", false)
	b, _ := attach(s, "b", false)
	say := func(p *Port, i int) { p.Ingress([]ether.Frame{frame(mac(i), broadcast, i)}) }
	for i := range 20 {
		say(a, i)
	}
	if s.Moves() != 0 || len(s.TakeMoves()) != 0 {
		t.Fatal("what is learned is told as a move")
	}
	for i := range 20 {
		say(b, i)
	}
	got := s.TakeMoves()
	if s.Moves() != 20 || len(got) != keptMoves || got[0] != (Move{MAC: mac(0), From: a, To: b}) {
		t.Errorf("%d moves, %d told: %v", s.Moves(), len(got), got)
	}
	if again := s.TakeMoves(); len(again) != 0 {
		t.Errorf("told again: %v", again)
	}
	b.Pin(mac(50))
	say(a, 50)
	if s.Moves() != 20 {
		t.Error("a pinned address has moved")
	}
}
