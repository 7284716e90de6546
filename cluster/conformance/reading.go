package conformance

import (
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A Hall is where hosts meet. Who comes and who goes may be decided by something else than their engines.
type Hall struct {
	Join  func(i int) (cluster.Engine, cluster.Host) // host i, from 1, comes or comes back: its engine, not started, and the host as the others see it
	Leave func(i int)                                // it says that it goes
}

// Reading runs the part of the suite that is about what an engine tells: who is there. Three hosts meet.
func Reading(t *testing.T, h Hall) {
	join := func(i int) *host {
		e, self := h.Join(i)
		one := newHost(t, e, self)
		testhost.Must(t, one.Start(self, one.sink))
		return one
	}
	all := []*host{join(1), join(2)}
	meet(t, all...)
	late := join(3)
	meet(t, append(all, late)...)
	h.Leave(3)
	for _, one := range all {
		testhost.Until(t, "a host that left is not alive", func() bool { return one.state(late.self.ID) != "alive" })
	}
	back := join(3)
	meet(t, append(all, back)...)
	if back.self.ID != late.self.ID {
		t.Errorf("the host that is back is %s, was %s", back.self.ID, late.self.ID)
	}
	for _, one := range append(all, late, back) {
		one.mu.Lock()
		if one.own > 0 || one.twice || one.full == 0 {
			t.Errorf("%s: its own record %d times, sink called twice at once: %v, full updates %d", one.self.Name, one.own, one.twice, one.full)
		}
		one.mu.Unlock()
		if n := len(one.dir.Hosts()); n != 2 {
			t.Errorf("%s knows %d other hosts", one.self.Name, n)
		}
	}
	for _, one := range append(all, back) {
		testhost.Until(t, one.self.Name+" says that it is connected", func() bool { return one.Status().Err == nil })
	}
}

// reading is Reading for hosts that come and go by their engines.
func reading(t *testing.T, b Bed) {
	engines := make(map[int]cluster.Engine)
	epochs := make(map[int]uint64)
	Reading(t, Hall{
		Join: func(i int) (cluster.Engine, cluster.Host) {
			epochs[i]++
			self := Self(i)
			engines[i], self.Epoch = b.New(), epochs[i]
			return engines[i], self
		},
		Leave: func(i int) { testhost.Must(t, engines[i].Close(t.Context())) },
	})
}
