package fabric

import (
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fault"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func (h *host) portView(network, name string) PortView {
	h.t.Helper()
	for _, p := range h.Ports(network) {
		if p.Name == name {
			return p
		}
	}
	h.t.Fatalf("network %s has no port %s", short(network), short(name))
	return PortView{}
}

// Frames to a container whose link is down are counted as not delivered, and the port shows why. When the link is up they
// arrive, also before the next check.
func TestLinkDown(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	for i := range 3 {
		h.container(netID(1), ep(i+1))
	}
	from, to := h.m.dev(t, epID(1)), h.m.dev(t, epID(2))
	h.at(first) // its link has been up
	to.setCarrier(tap.ErrDown)
	h.at(first + 1)
	if v := h.portView(netID(1), epID(2)); v.Down != "the link is down in the container" || v.Number == 0 {
		t.Errorf("the port is %+v", v)
	}
	if s := h.Status(); s.Down != 1 {
		t.Errorf("%d ports are down, want 1", s.Down)
	}
	before := h.countersOf(epID(2))
	from.feed(ep(1).MAC, ep(2).MAC, "lost")
	from.feed(ep(1).MAC, broadcast, "to all")
	h.m.dev(t, epID(3)).expect(t, "to all")
	h.poller.Sync()
	if v := h.countersOf(epID(1)); v.Drops["down"] != 1 {
		t.Errorf("drops of the sender: %v", v.Drops)
	}
	if v := h.countersOf(epID(2)); v.TxFrames != before.TxFrames || v.Refused != 1 {
		t.Errorf("its counters: %+v, before %+v", v, before)
	}
	v := h.trace(TraceRequest{Network: netID(1), Port: epID(1), Frame: framed(ep(1).MAC, ep(2).MAC, 60)})
	if v.Verdict != "down" || !v.Drop || stepOf(v, "link").Found != "down" || v.Egress[0].Down != "the link is down in the container" {
		t.Errorf("trace to it: %+v", v)
	}
	if v := h.trace(TraceRequest{Network: netID(1), Port: epID(2), Frame: framed(ep(2).MAC, ep(1).MAC, 60)}); v.In.Down == "" || v.Verdict != "forwarded" {
		t.Errorf("trace from it: %+v", v)
	}

	to.setCarrier(nil)
	from.feed(ep(1).MAC, ep(2).MAC, "up again")
	to.expect(t, "up again")
	h.at(first + 2)
	if v := h.portView(netID(1), epID(2)); v.Down != "" || h.Status().Down != 0 {
		t.Errorf("up again, the port is %+v", v)
	}

	// A port that a frame comes from is up, whatever the last check said.
	to.setCarrier(tap.ErrDown)
	h.at(first + 3)
	to.feed(ep(2).MAC, ep(1).MAC, "question")
	from.expect(t, "question")
	from.feed(ep(1).MAC, ep(2).MAC, "answer")
	to.expect(t, "answer")
	h.at(first + 4)
	if v := h.portView(netID(1), epID(2)); v.Down == "" {
		t.Error("a link that is down is not seen again")
	}
}

// A new link is down until Docker sets it up, which is neither logged nor counted; one that stays down in its container is.
func TestLinkInTheMaking(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.mustEndpoint(netID(1), ep(2))
	from, to := h.m.dev(t, epID(1)), h.m.dev(t, epID(2))
	to.setCarrier(tap.ErrDown)
	for now := time.Second; now < first; now += time.Second {
		h.at(now)
		if v := h.portView(netID(1), epID(2)); v.Down != "" {
			t.Fatalf("down: %q", v.Down)
		}
	}
	from.feed(ep(1).MAC, ep(2).MAC, "early")
	to.expect(t, "early")
	h.m.enter(epID(2), "/s")
	h.at(2 * first) // the sweep finds it in its container
	h.at(2*first + 1)
	if v := h.portView(netID(1), epID(2)); v.Down == "" {
		t.Error("it has not come up in its container, and nobody says so")
	}
}

// A daemon that starts while a container's link is down finds that out.
func TestLinkDownAtStart(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.restart()
	h.m.dev(t, epID(1)).setCarrier(tap.ErrDown)
	h.at(1)
	if v := h.portView(netID(1), epID(1)); v.Down == "" {
		t.Error("nobody says so")
	}
}

// The host's own port is not in a container.
func TestHostPortDown(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(hosted(1))
	h.at(first)
	h.m.dev(t, HostPortID(netID(1))).setCarrier(tap.ErrDown)
	h.at(first + 1)
	if v := h.hostView(netID(1)); !strings.Contains(v.Down, "on this host") {
		t.Errorf("down: %q", v.Down)
	}
}

// Frames that a fault has delayed, to a port that went down meanwhile, do not count as sent.
func TestLinkDownBehindFault(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.at(first)
	h.setFault(epID(1), To, fault.Spec{Duplicate: 1e-12})
	point := h.networks[netID(1)].endpoints[epID(1)].faults
	send := func() {
		f := ether.Lend(append(make([]byte, ether.Headroom), framed(ep(2).MAC, ep(1).MAC, 60)...), ether.Offload{})
		point.Send([]*ether.Frame{&f})
	}
	send()
	h.m.dev(t, epID(1)).setCarrier(tap.ErrDown)
	h.at(first + 1)
	send()
	if got := h.Faults()[0].Refused; got != 1 {
		t.Errorf("%d frames are refused, want 1 of 2", got)
	}
}

// A container that is gone holds no address, although Docker has not said so yet: a container of another host that has its
// addresses by now is reached.
func TestGoneHoldsNoAddress(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	for i := range 3 {
		h.container(netID(1), ep(i+1))
	}
	from, old, other := h.m.dev(t, epID(1)), h.m.dev(t, epID(2)), h.m.dev(t, epID(3))
	h.at(first)
	old.setCarrier(tap.ErrDown)
	h.at(first + 1)
	other.feed(ep(2).MAC, ep(1).MAC, "spoofed")
	testhost.Until(t, "a link that is down holds its address", func() bool { return h.countersOf(epID(3)).Drops["spoofed"] == 1 })
	old.setCarrier(tap.ErrGone)
	h.at(first + 2)
	if v := h.portView(netID(1), epID(2)); v.Down != tap.ErrGone.Error() {
		t.Errorf("down: %q", v.Down)
	}
	other.feed(ep(2).MAC, ep(1).MAC, "question")
	from.expect(t, "question")
	from.feed(ep(1).MAC, ep(2).MAC, "answer")
	other.expect(t, "answer")
}
