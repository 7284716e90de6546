package fabric

import (
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// Nothing is sent to a host that is gone and silent; one that still sends is used, whatever the cluster says.
func TestGoneHost(t *testing.T) {
	hub, one, two := newPair(t, "10.77.0.64/26")
	one.container(netID(1), ep(1))
	two.container(netID(2), ep(2))
	traced := func(to ether.MAC) TraceView {
		t.Helper()
		from := ep(1).MAC
		v, err := one.Trace(t.Context(), TraceRequest{Network: netID(1), Port: epID(1), Frame: slices.Concat(to[:], from[:], []byte{8, 0})})
		testhost.Must(t, err)
		return v
	}
	silent := ether.MAC{2, 0x42, 10, 77, 0, 80} // in the block
	one.await("the block is known", func() bool { return len(one.dir.On("blue")[0].Blocks) == 1 })
	if v := traced(silent); v.Verdict != "forwarded" || len(v.Egress) != 1 || v.Steps[5].Found != "told" || v.Steps[5].Port != "192.0.2.2" {
		t.Errorf("to a host that is there: %+v", v)
	}
	send := func(text string) { one.m.dev(t, epID(1)).feed(ep(1).MAC, broadcast, text) }
	sent := func() uint64 { return one.Peers(netID(1))[0].WireTx }
	later := one.now()
	gone := func() bool {
		later += time.Second
		one.at(later)
		defer one.locked()()
		return one.networks[netID(1)].remotes[two.self.VTEP.Addr()].gone
	}
	send("first")
	two.m.dev(t, epID(2)).expect(t, "first")
	two.m.dev(t, epID(2)).feed(ep(2).MAC, ep(1).MAC, "heard")
	one.m.dev(t, epID(1)).expect(t, "heard")
	hub.Cut(two.self.ID, true)
	one.await("the cluster says that it is gone", func() bool { return one.dir.On("blue")[0].State == cluster.Gone })
	if gone() {
		t.Error("a host is not used any more before it was asked")
	}
	testhost.Until(t, "it answers", func() bool { return one.vtep.Peers()[0].State().Answers })
	if one.networks[netID(1)].remotes[two.self.VTEP.Addr()].gone {
		t.Error("a host that answers is not used any more")
	}
	two.close()
	testhost.Until(t, "a host that is gone and silent is not used", gone) // after it was asked again
	for to, step := range map[ether.MAC]TraceStep{ep(2).MAC: {Check: "destination", Found: "learned", Port: "192.0.2.2"}, silent: {Check: "destination", Found: "unknown", Port: "192.0.2.2", Why: hostGone}} {
		v := traced(to)
		at := slices.IndexFunc(v.Steps, func(s TraceStep) bool { return s.Check == "destination" })
		if got := v.Steps[at]; got.Found != step.Found || got.Port != step.Port || got.Why != step.Why || v.Verdict != "down" || v.Egress[0].Down != hostGone {
			t.Errorf("to a host that is gone: %+v, want %+v", v, step)
		}
	}
	before := sent()
	send("lost")
	testhost.Until(t, "the frame was not sent", func() bool { return one.countersOf(epID(1)).Drops["down"] == 1 })
	if sent() != before {
		t.Error("datagrams are sent to a host that is gone")
	}
	hub.Cut(two.self.ID, false)
	two.join()
	two.meets(netID(2), "192.0.2.1")
	one.await("the host is used again", func() bool { return !gone() })
	send("again")
	two.m.dev(t, epID(2)).expect(t, "again")
	if got := one.told(events.PeerDown, events.PeerUp); !slices.Equal(got, []string{"peer_down 192.0.2.2", "peer_up 192.0.2.2"}) {
		t.Errorf("events: %v", got)
	}
}
