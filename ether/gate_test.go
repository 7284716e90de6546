package ether

import (
	"errors"
	"testing"
)

func TestGate(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, tt := range []struct {
		name string
		do   func(g *Gate)
		want error
	}{
		{"new", func(g *Gate) {}, nil},
		{"shut", func(g *Gate) { g.Shut(first) }, first},
		{"the first reason stays", func(g *Gate) { g.Shut(first); g.Shut(second) }, first},
		{"tried again", func(g *Gate) { g.Shut(first); g.Retry() }, nil},
		{"barred", func(g *Gate) { g.Bar(first); g.Retry() }, first},
		{"barred after it was shut", func(g *Gate) { g.Shut(first); g.Bar(second); g.Retry() }, second},
		{"shut after it was barred", func(g *Gate) { g.Bar(first); g.Shut(second); g.Retry() }, first},
		{"cleared", func(g *Gate) { g.Bar(first); g.Clear() }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var g Gate
			tt.do(&g)
			s := g.State()
			if s.Why != tt.want || g.Open() != (tt.want == nil) || s.Since.IsZero() != (tt.want == nil) {
				t.Errorf("%+v, open %v, want %v", s, g.Open(), tt.want)
			}
		})
	}
	var g Gate
	g.Count(3)
	g.Count(4)
	if s := g.State(); s.Refused != 2 || s.Resent != 7 {
		t.Errorf("%+v, want 2 refused, 7 sent again", s)
	}
}
