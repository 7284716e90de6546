package fabric

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// hostView is the host's port on a network.
func (h *host) hostView(network string) PortView {
	h.t.Helper()
	all := slices.DeleteFunc(h.Ports(network), func(p PortView) bool { return p.Kind != "host" })
	if len(all) != 1 {
		h.t.Fatalf("%d ports of the host's on network %s", len(all), short(network))
	}
	return all[0]
}

// The host port forwards frames like a container's port, is announced and pinned, and Docker cannot ask for it.
func TestHostPort(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(2))
	h.mustNetwork(hosted(1))
	h.mustNetwork(hosted(1)) // again
	id := HostPortID(netID(1))
	h.container(netID(1), ep(2))
	for _, restart := range []func(){func() {}, h.restart, func() { h.crash(); h.start() }} {
		restart()
		if v := h.hostView(netID(1)); v.Down != "" || v.Name != id || v.MAC != hosted(1).HostPort.MAC || v.MTU == 0 {
			t.Errorf("the host's port is %+v", v)
		}
		h.m.dev(t, id).feed(hosted(1).HostPort.MAC, ep(2).MAC, "from the host")
		h.m.dev(t, epID(2)).expect(t, "from the host")
		h.m.dev(t, epID(2)).feed(ep(2).MAC, hosted(1).HostPort.MAC, "to the host")
		h.m.dev(t, id).expect(t, "to the host")
		h.at(first)
		h.at(first + 2*grace)
		if n, s := h.Networks(), h.Status(); n[0].Endpoints != 1 || s.Endpoints != 1 {
			t.Errorf("%d and %d endpoints, want the container's only", n[0].Endpoints, s.Endpoints)
		}
	}
	if h.m.repaired == 0 {
		t.Error("the host's port was never looked after")
	}
	if entries := h.Entries(netID(1)); len(entries) != 2 || !entries[0].Pinned || entries[0].Port != id {
		t.Errorf("forwarding database: %+v", entries)
	}

	if err := h.DeleteEndpoint(t.Context(), netID(1), id); err != nil || h.hostView(netID(1)).Down != "" {
		t.Errorf("Docker may delete it (%v): %+v", err, h.hostView(netID(1)))
	}
	if _, err := h.Join(t.Context(), netID(1), id, "/sandbox"); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("Docker may move it: %v", err)
	}
	h.m.die(epID(2))
	if err := h.ForgetNetwork(t.Context(), netID(1)); err != nil {
		t.Error(err)
	}
	if got := h.m.ids(); len(got) != 0 || len(h.Ports("")) != 0 {
		t.Errorf("links are left: %v", got)
	}
}

// An address of the host port cannot be a container's, and the host port never gives it up.
func TestHostPortKeepsItsAddress(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(hosted(1))
	same := ep(2)
	same.Addrs = hosted(1).HostPort.Addrs
	mac := ep(3)
	mac.MAC = hosted(1).HostPort.MAC
	for want, e := range map[string]Endpoint{"address 10.77.0.1 is this host's own": same, "MAC address 02:42:0a:4d:00:01 is this host's own": mac} {
		if _, err := h.CreateEndpoint(t.Context(), netID(1), e); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if v := h.hostView(netID(1)); v.Down != "" || len(h.m.ids()) != 1 {
		t.Errorf("the host's port is %+v; links %v", v, h.m.ids())
	}
}

// A host's port that cannot be made fails the network, and nothing of it is left; one that cannot be made again at the
// start, or that somebody took away, is down with its reason and comes back.
func TestHostPortFails(t *testing.T) {
	h := newHost(t)
	recorded := h.m.hook
	taken := errors.New("this host has 10.77.0.0/24 on eth0 already")
	fail := func(op string, s tap.Spec) error {
		if op == "create ends" && s.Host != nil {
			return taken
		}
		return recorded(op, s)
	}
	h.m.hook = fail
	if err := h.CreateNetwork(t.Context(), hosted(1)); !errors.Is(err, taken) {
		t.Errorf("it says %v", err)
	}
	if len(h.m.ids()) != 0 || len(h.records()) != 0 || len(h.Networks()) != 0 {
		t.Errorf("left: links %v, %d records", h.m.ids(), len(h.records()))
	}
	h.m.hook = recorded
	h.mustNetwork(hosted(1))
	h.m.hook = fail
	h.restart()
	if v := h.hostView(netID(1)); v.Down != taken.Error() {
		t.Errorf("it is down: %q", v.Down)
	}
	h.m.hook = recorded
	h.at(time.Minute)
	if v := h.hostView(netID(1)); v.Down != "" {
		t.Errorf("it is down: %q", v.Down)
	}
	h.m.repairErr = errors.New("the rule is gone")
	h.at(2 * time.Minute)
	if v := h.hostView(netID(1)); v.Down != "the rule is gone" || v.Number == 0 {
		t.Errorf("it is %+v", v)
	}
	h.m.repairErr = nil
	h.at(3 * time.Minute)
	if v := h.hostView(netID(1)); v.Down != "" {
		t.Errorf("it is down: %q", v.Down)
	}
	h.m.dev(t, HostPortID(netID(1))).snap(errors.New("somebody removed the TAP"))
	testhost.Until(t, "down", func() bool { return h.hostView(netID(1)).Down != "" })
	h.at(4 * time.Minute)
	if v := h.hostView(netID(1)); v.Down != "" {
		t.Errorf("it is down: %q", v.Down)
	}
	h.container(netID(1), ep(2))
	h.m.dev(t, HostPortID(netID(1))).feed(hosted(1).HostPort.MAC, ether.MAC{2, 0x42, 10, 77, 0, 2}, "again")
	h.m.dev(t, epID(2)).expect(t, "again")
}
