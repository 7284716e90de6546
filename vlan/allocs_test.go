//go:build !race

// The race detector makes sync.Pool forget at random.

package vlan

import (
	"testing"

	"github.com/tapestry-net/tapestry/ether"
)

type discard struct{}

func (discard) Send(frames []*ether.Frame) (sent, bytes int) { return len(frames), 0 }

// An access port needs no memory for a batch.
func TestAccessAllocs(t *testing.T) {
	s := Spec{Access: 10}
	in, out := s.Tagging(func([]ether.Frame) {}), s.Untagging(discard{})
	frames := []ether.Frame{frame(1400), frame(1400), frame(60)}
	tagged := frame(1400, 10)
	list := []*ether.Frame{&tagged}
	in(frames)
	out.Send(list)
	if n := testing.AllocsPerRun(100, func() { in(frames); out.Send(list) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
