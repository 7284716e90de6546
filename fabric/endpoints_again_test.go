package fabric

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/tap"
)

// A killed dockerd forgets its endpoints and assigns their addresses again at once: they are removed, unless their container
// exists.
func TestEndpointReplaced(t *testing.T) {
	sameAddress := func(e *Endpoint) { e.ID, e.MAC[5] = epID(2), 99 }
	sameMAC := func(e *Endpoint) { e.ID, e.Addrs = epID(2), ep(2).Addrs }
	both := func(e *Endpoint) { e.ID = epID(2) }
	running := func(m *memory) { m.enter(epID(1), "") }
	gone := func(m *memory) { m.enter(epID(1), ""); m.die(epID(1)) }
	unjoined := func(*memory) {}
	old, heir := []string{epID(1)}, []string{epID(2)}
	for _, tc := range []struct {
		name   string
		want   func(*Endpoint)
		before func(*memory)
		left   []string
	}{
		{"its address, running", sameAddress, running, []string{epID(1), epID(2)}},
		{"its address, link gone", sameAddress, gone, heir},
		{"its address, never joined", sameAddress, unjoined, heir},
		{"its MAC only, running", sameMAC, running, old},
		{"its MAC only, never joined", sameMAC, unjoined, old},
		{"its MAC only, link gone", sameMAC, gone, heir},
		{"both, running", both, running, old},
		{"both, never joined", both, unjoined, heir},
		{"both, link gone", both, gone, heir},
	} {
		direct := local(1)
		direct.Attach = tap.Direct
		for _, n := range []Network{local(1), direct} {
			t.Run(tc.name+", "+string(n.Attach), func(t *testing.T) {
				h := newHost(t)
				h.containerExitWait = 0
				h.mustNetwork(n)
				h.mustEndpoint(netID(1), ep(1))
				tc.before(h.m)
				for strings.HasSuffix(tc.name, "gone") && n.Attach == tap.Direct && h.Ports("")[0].Down == "" { // until the fabric has heard of it
					h.poller.Sync()
				}
				e := ep(1)
				tc.want(&e)
				_, err := h.CreateEndpoint(t.Context(), netID(1), e)
				if taken := !slices.Contains(tc.left, epID(2)); errors.Is(err, ErrInUse) != taken || !taken && err != nil {
					t.Errorf("got %v", err)
				}
				var ports []string
				for _, p := range h.Ports(netID(1)) {
					if ports = append(ports, p.Name); p.Down != "" {
						t.Errorf("%s is down: %s", p.Name, p.Down)
					}
				}
				if !slices.Equal(ports, tc.left) || !slices.Equal(h.m.ids(), tc.left) {
					t.Errorf("ports %v, links %v, want %v", ports, h.m.ids(), tc.left)
				}
			})
		}
	}
}

// dockerd 29 takes the IPv6 address from a container whose sysctls disable IPv6, after Join, and gives it to the next. The
// first keeps its link, and loses the address, so that the two are not mistaken for each other later.
func TestAddressGivenToTheNext(t *testing.T) {
	v6 := netip.MustParsePrefix("fd77::2/64")
	h := newHost(t)
	seen := newFakeObserver()
	h.cfg.Observer = seen
	h.restart()
	h.mustNetwork(local(1))
	robbed, next := ep(1), ep(2)
	robbed.Addrs = append(robbed.Addrs, v6)
	next.Addrs = append(next.Addrs, v6)
	h.container(netID(1), robbed)
	h.container(netID(1), next)
	check := func(when string) {
		t.Helper()
		h.m.dev(t, epID(1)).feed(robbed.MAC, next.MAC, when)
		h.m.dev(t, epID(2)).expect(t, when)
		for _, p := range h.Ports(netID(1)) {
			want := ep(1).Addrs
			if p.Name == next.ID {
				want = next.Addrs
			}
			if !slices.Equal(p.Addrs, want) || !slices.Equal(seen.addrs[p.Number], want) {
				t.Errorf("%s endpoint %s has %v, who looks was told of %v, want %v", when, p.Name, p.Addrs, seen.addrs[p.Number], want)
			}
		}
	}
	check("at once")
	h.restart()
	check("after a restart")
	for _, now := range []time.Duration{first, first + 2*grace} {
		h.at(now)
	}
	check("after the sweep")
	if err := h.DeleteEndpoint(t.Context(), netID(1), next.ID); err != nil {
		t.Error(err)
	}
	if got := h.m.ids(); !slices.Equal(got, []string{robbed.ID}) {
		t.Errorf("the second's end leaves %v", got)
	}
}

// The kernel needs a moment to remove a namespace whose processes have ended. An endpoint with the same MAC waits for that.
func TestEndpointAwaitsTheEnd(t *testing.T) {
	h := newHost(t)
	h.containerExitWait = time.Minute
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	listed := 0
	h.m.listed = func() {
		if listed++; listed == 3 {
			h.m.die(epID(1))
		}
	}
	heir := ep(1)
	heir.ID = epID(2)
	h.mustEndpoint(netID(1), heir)
	if got := h.m.ids(); !slices.Equal(got, []string{heir.ID}) || listed < 3 {
		t.Errorf("after %d looks links are %v", listed, got)
	}

	// The wait ends with the request.
	h.m.enter(heir.ID, "")
	ctx, cancel := context.WithCancel(t.Context())
	h.m.listed = cancel
	third := heir
	third.ID = epID(3)
	if _, err := h.CreateEndpoint(ctx, netID(1), third); !errors.Is(err, ErrInUse) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A container's own capture is armed before its link is made, again when the daemon comes back, and ends with the endpoint.
// One that cannot be is an error, and nothing is left.
func TestEndpointCapture(t *testing.T) {
	h := newHost(t)
	seen := newFakeObserver()
	h.cfg.Observer = seen
	h.restart()
	h.mustNetwork(local(1))
	recorded := h.m.hook
	h.m.hook = func(op string, s tap.Spec) error {
		if op == "create" && seen.armed[s.ID] == "" {
			t.Errorf("endpoint %s was made before its capture", short(s.ID))
		}
		return recorded(op, s)
	}
	with := ep(1)
	with.Capture = "tcp port 80"
	h.container(netID(1), with)
	want := netID(1) + " tcp port 80"
	if seen.armed[epID(1)] != want {
		t.Errorf("armed: %v", seen.armed)
	}
	h.mustEndpoint(netID(1), with) // again
	clear(seen.armed)
	h.crash()
	h.start()
	if seen.armed[epID(1)] != want {
		t.Errorf("armed after a crash: %v", seen.armed)
	}
	if err := h.DeleteEndpoint(t.Context(), netID(1), epID(1)); err != nil || len(seen.armed) != 0 {
		t.Errorf("%v; still armed: %v", err, seen.armed)
	}

	bad := ep(2)
	bad.Capture = "bad"
	if _, err := h.CreateEndpoint(t.Context(), netID(1), bad); err == nil || err.Error() != "tapestry.capture=bad: it cannot be read" {
		t.Errorf("it says %v", err)
	}
	failing := errors.New("no TAP")
	h.m.hook = func(op string, s tap.Spec) error {
		if op == "create" {
			return failing
		}
		return nil
	}
	if _, err := h.CreateEndpoint(t.Context(), netID(1), with); !errors.Is(err, failing) {
		t.Errorf("it says %v", err)
	}
	if len(seen.armed) != 0 || len(h.recordedEndpoints()) != 0 || len(h.m.ids()) != 0 {
		t.Errorf("left: armed %v, records %v, links %v", seen.armed, h.recordedEndpoints(), h.m.ids())
	}
}
