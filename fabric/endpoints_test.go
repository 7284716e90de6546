package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/tap"
)

func TestEndpoint(t *testing.T) {
	for _, mode := range []tap.Mode{tap.Veth, tap.Direct} {
		t.Run(string(mode), func(t *testing.T) {
			h := newHost(t)
			n := local(1)
			n.Attach, n.Prefix, n.External, n.MTU = mode, "lan", false, 1234
			h.mustNetwork(n)
			one := ep(1)
			one.IfName = "net7"
			for range 2 {
				h.mustEndpoint(netID(1), one)
			}
			spec := tap.Spec{ID: epID(1), Mode: mode}
			for range 2 {
				a, err := h.Join(t.Context(), netID(1), epID(1), "/sandbox/1")
				if want := (Attachment{Link: spec.Link(), Prefix: "lan", IfName: "net7", Routes: groupDestinations}); err != nil || !reflect.DeepEqual(a, want) {
					t.Errorf("joined with %+v, %v; want %+v", a, err, want)
				}
			}
			h.m.enter(epID(1), "/sandbox/1")
			h.container(netID(1), ep(2))
			a, b := h.m.dev(t, epID(1)), h.m.dev(t, epID(2))
			a.feed(ep(1).MAC, ep(2).MAC, "before")
			b.expect(t, "before")
			ports := h.Ports("")
			if len(ports) != 2 || ports[0].MTU != 1234 || ports[0].MAC != one.MAC || ports[0].Kind != "container" || ports[0].Down != "" || ports[0].RxFrames < 1 {
				t.Errorf("ports are %+v", ports)
			}
			h.restart()
			h.mustEndpoint(netID(1), one) // remembered exactly
			a, b = h.m.dev(t, epID(1)), h.m.dev(t, epID(2))
			b.feed(ep(2).MAC, ep(1).MAC, "after")
			a.expect(t, "after")
			if err := h.Leave(t.Context(), netID(1), epID(1)); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := h.DeleteEndpoint(t.Context(), netID(1), epID(1)); err != nil {
					t.Error(err)
				}
			}
			if got := h.m.ids(); !slices.Equal(got, []string{epID(2)}) || !slices.Equal(h.recordedEndpoints(), got) {
				t.Errorf("links %v and records %v are left", got, h.recordedEndpoints())
			}
			if err := h.DeleteNetwork(t.Context(), netID(1)); err != nil {
				t.Error(err)
			}
			if got := h.m.ids(); len(got) != 0 || len(h.records()) != 0 {
				t.Errorf("links %v and %d records are left", got, len(h.records()))
			}
		})
	}
}

// Each container has each route once: dockerd fails a second one. Before 28 it joins all networks of a container before
// there is a namespace to look into; later, and when a running container is connected, there is one.
func TestGroupRoutes(t *testing.T) {
	h := newHost(t)
	for i := range 3 {
		h.mustNetwork(local(1 + i))
	}
	join := func(network, i int, sandbox string, want ...netip.Prefix) {
		t.Helper()
		a, err := h.Join(t.Context(), netID(network), epID(i), sandbox)
		if err != nil || !slices.Equal(a.Routes, want) {
			t.Errorf("endpoint %d of network %d joins %s with %v, %v, want %v", i, network, sandbox, a.Routes, err, want)
		}
	}
	for network := 1; network <= 3; network++ {
		for i := range 4 {
			h.mustEndpoint(netID(network), ep(10*network+i))
		}
	}
	join(1, 10, "/a", groupDestinations...)
	join(2, 20, "/a")
	join(1, 11, "/b", groupDestinations...) // another container
	if err := h.DeleteEndpoint(t.Context(), netID(1), epID(10)); err != nil {
		t.Fatal(err)
	}
	join(3, 30, "/a", groupDestinations...) // who had them has gone
	h.m.routes = map[string][]netip.Prefix{"/c": groupDestinations[:1]}
	join(1, 12, "/c", groupDestinations[1]) // somebody made one
	h.restart()
	h.m.routes["/c"] = groupDestinations
	join(2, 22, "/c") // another daemon gave them

	// A daemon that may not enter the container's namespace knows its routes from the record.
	h.m.routes, h.m.shut = nil, errors.New("no right")
	for i := range 2 {
		h.mustEndpoint(netID(1+i), ep(40+i))
	}
	join(1, 40, "/f", groupDestinations...)
	h.m.enter(epID(40), "/f")
	h.restart()
	join(2, 41, "/f")

	bare, six := ep(1), ep(2)
	bare.Addrs, six.Addrs = nil, []netip.Prefix{netip.MustParsePrefix("fd77::2/64")}
	h.mustEndpoint(netID(1), bare)
	h.mustEndpoint(netID(1), six)
	join(1, 1, "/d")
	join(1, 2, "/e")
}

func TestEndpointRefused(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.mustNetwork(local(2))
	h.mustEndpoint(netID(1), ep(1))
	before := fmt.Sprint(h.records(), h.m.ids())
	other := func(fn func(*Endpoint)) Endpoint {
		e := ep(1)
		fn(&e)
		return e
	}
	for _, tc := range []struct {
		name, network string
		e             Endpoint
		is            error
		want          string
	}{
		{"unknown network", netID(7), ep(2), ErrNoNetwork, netID(7)[:12]},
		{"known id, other MAC", netID(1), other(func(e *Endpoint) { e.MAC[5]++ }), ErrInUse, "exists with another address"},
		{"known id, other address", netID(1), other(func(e *Endpoint) { e.Addrs = ep(2).Addrs }), ErrInUse, "exists with another address"},
		{"known id, no address", netID(1), other(func(e *Endpoint) { e.Addrs = nil }), ErrInUse, "exists with another address"},
		{"MAC taken", netID(1), other(func(e *Endpoint) { e.ID, e.Addrs = epID(2), ep(2).Addrs }), ErrInUse, "MAC address 02:42:0a:4d:00:01 belongs to endpoint " + epID(1)[:12]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := h.CreateEndpoint(t.Context(), tc.network, tc.e)
			if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if after := fmt.Sprint(h.records(), h.m.ids()); after != before {
				t.Errorf("was %s,\nis %s", before, after)
			}
		})
	}
	h.mustEndpoint(netID(2), other(func(e *Endpoint) { e.ID = epID(3) })) // a MAC is its network's

	if _, err := h.Join(t.Context(), netID(7), epID(1), ""); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("joined on an unknown network: %v", err)
	}
	if _, err := h.Join(t.Context(), netID(2), epID(1), ""); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("joined an endpoint of another network: %v", err)
	}
	for name, err := range map[string]error{
		"DeleteNetwork": h.DeleteNetwork(t.Context(), netID(7)), "DeleteEndpoint": h.DeleteEndpoint(t.Context(), netID(1), epID(7)),
		"DeleteEndpoint of an unknown network": h.DeleteEndpoint(t.Context(), netID(7), epID(1)), "Leave": h.Leave(t.Context(), netID(7), epID(7)),
	} {
		if err != nil {
			t.Errorf("%s of what is not there: %v", name, err)
		}
	}
}

// An endpoint whose creation fails at any step leaves nothing, and can be created later.
func TestEndpointRollsBack(t *testing.T) {
	broken := errors.New("no memory")
	for _, tc := range []struct {
		name, at string
		err      error
	}{
		{"before the links", "create", broken},
		{"half-way", "create ends", broken},
		{"the answer would come too late", "create ends", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.mustNetwork(local(1))
			h.container(netID(1), ep(9))
			before := fmt.Sprint(h.records(), h.m.ids())
			ctx, cancel := context.WithCancel(t.Context())
			want := tc.err
			if want == nil {
				want = context.Canceled
			}
			h.m.hook = func(op string, s tap.Spec) error {
				if op != tc.at || s.ID != epID(1) {
					return nil
				}
				cancel()
				return tc.err
			}
			if _, err := h.CreateEndpoint(ctx, netID(1), ep(1)); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if after := fmt.Sprint(h.records(), h.m.ids()); after != before {
				t.Errorf("was %s,\nis %s", before, after)
			}
			for e := range h.networks[netID(1)].sw.Entries() {
				if e.MAC == ep(1).MAC {
					t.Error("its address is pinned")
				}
			}
			h.recorded()
			h.mustEndpoint(netID(1), ep(1))
		})
	}
}

// Links that cannot be removed are reported, and swept later as orphans.
func TestRemoveFails(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.mustEndpoint(netID(1), ep(1))
	h.m.hook = func(op string, _ tap.Spec) error {
		if op == "remove" {
			return errBusy
		}
		return nil
	}
	if err := h.DeleteEndpoint(t.Context(), netID(1), epID(1)); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
	h.m.hook = nil
	h.at(first)
	h.at(first + grace)
	if got := h.m.ids(); len(got) != 0 {
		t.Errorf("links %v are left", got)
	}
}

// A request to create that Docker repeats after the daemon died creates what is missing.
func TestEndpointRepeatedAfterCrash(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.mustEndpoint(netID(1), ep(1))
	h.crash()
	delete(h.m.links, epID(1)) // as if it had died between the record and the links
	h.start()
	if _, err := h.Join(t.Context(), netID(1), epID(1), ""); !errors.Is(err, tap.ErrGone) {
		t.Errorf("joined without links: %v", err)
	}
	h.at(first) // suspected from here on
	h.mustEndpoint(netID(1), ep(1))
	h.at(first + grace) // and anew from here on
	if _, err := h.Join(t.Context(), netID(1), epID(1), ""); err != nil {
		t.Error(err)
	}
	h.at(first + 2*grace) // and once more
	if p := h.Ports(""); len(p) != 1 || p[0].Down != "" {
		t.Errorf("ports are %+v", p)
	}
}

// A device that fails takes its endpoint down; the next sweep reopens it if its container exists.
func TestBroken(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.container(netID(1), ep(2))
	old := h.m.dev(t, epID(1))
	old.snap(errors.New("file descriptor in bad state"))
	for h.Ports("")[0].Down == "" { // until the fabric has heard of it
		h.poller.Sync()
	}
	if _, err := h.Join(t.Context(), netID(1), epID(1), ""); err == nil || !strings.Contains(err.Error(), "bad state") {
		t.Errorf("joined with a broken device: %v", err)
	}
	h.at(first)
	h.at(first + 2*grace)
	if p := h.Ports(""); len(p) != 2 || p[0].Down != "" {
		t.Fatalf("ports are %+v", p)
	}
	h.m.dev(t, epID(2)).feed(ep(2).MAC, ep(1).MAC, "again")
	h.m.dev(t, epID(1)).expect(t, "again")

	// A late error of a device that was replaced does not affect the new one.
	h.deviceFailed(netID(1), epID(1), old, errors.New("late"))
	h.deviceFailed(netID(1), epID(7), old, errors.New("late"))
	h.deviceFailed(netID(7), epID(7), old, errors.New("late"))
	if p := h.Ports(""); p[0].Down != "" {
		t.Errorf("the new device is down: %s", p[0].Down)
	}
}

// Two stations of a network with the same MAC: frames from the other port are dropped, and the conflict is reported.
func TestConflict(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	for i := range 3 {
		h.container(netID(1), ep(i+1))
	}
	spoof := func(by int) {
		d := h.m.dev(t, epID(by))
		d.feed(ep(1).MAC, ep(3).MAC, "forged")
		d.feed(ep(by).MAC, ep(3).MAC, "done")
		h.m.dev(t, epID(3)).expect(t, "done")
	}
	spoof(2)
	spoof(2)
	h.at(1e9)
	h.at(2e9)
	const told = "address conflict"
	if n := h.log.count(told); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	c := h.Status().Conflicts
	if len(c) != 1 || c[0].Owner != epID(1) || c[0].Rival != epID(2) || c[0].Count != 2 || c[0].MAC != ep(1).MAC || !slices.Equal(c[0].Addrs, ep(1).Addrs) {
		t.Errorf("conflicts are %+v", c)
	}
	if err := h.DeleteEndpoint(t.Context(), netID(1), epID(2)); err != nil {
		t.Fatal(err)
	}
	if c := h.Status().Conflicts; len(c) != 0 {
		t.Errorf("conflicts with nobody: %+v", c)
	}
	h.at(3e9)
	h.container(netID(1), ep(2))
	spoof(2)
	h.at(4e9)
	if n := h.log.count(told); n != 2 {
		t.Errorf("told %d times of two conflicts", n)
	}
	for _, e := range h.Entries("") {
		if !e.Pinned || e.Remote || e.Age != 0 {
			t.Errorf("entry %+v", e)
		}
	}
}

func TestMTU(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 1))
	h.mustEndpoint(netID(1), ep(1))
	h.mustNetwork(local(2))
	h.mustEndpoint(netID(2), ep(2))
	for i, want := range map[int]int{1: 65535 - 50, 2: 65521} { // an IP packet has 65535 at most, a TAP takes 65521
		if p := h.Ports(netID(i)); len(p) != 1 || p[0].MTU != want {
			t.Errorf("network %d: ports are %+v, want MTU %d", i, p, want)
		}
	}
	for _, n := range h.Networks() {
		if n.LinkMTU != h.Ports(n.ID)[0].MTU {
			t.Errorf("the next link's MTU is %d", n.LinkMTU)
		}
	}
	// A host without its underlay address: local networks go on, those with a VNI say why not.
	h.cfg.VTEP = netip.MustParseAddr("192.0.2.77")
	h.restart()
	h.mustEndpoint(netID(2), ep(3))
	if p := h.Ports(netID(2)); p[1].MTU != 1500 {
		t.Errorf("MTU %d without an underlay, want 1500", p[1].MTU)
	}
	if _, err := h.CreateEndpoint(t.Context(), netID(1), ep(4)); err == nil || !strings.Contains(err.Error(), "192.0.2.77") {
		t.Errorf("got %v", err)
	}
	if n := h.Networks()[0]; !strings.Contains(n.Down, "192.0.2.77") {
		t.Errorf("the network is down: %q", n.Down)
	}
}

// A container's longest super-frame fits one send with all its segments.
func TestGSOMax(t *testing.T) {
	for _, mtu := range []int{68, 576, 1280, 1430, 1450, 8950, 32731} {
		n := gsoMax(&network{Network: wide(1, 1)}, mtu)
		payload, mss := n-321, mtu-52 // TCP keeps the rest for headers
		segments := (payload + mss - 1) / mss
		if segments < 2 || segments > 64 || segments*(mtu+14+8) > 65507 {
			t.Errorf("MTU %d: super-frames of %d bytes make %d segments", mtu, n, segments)
		}
	}
	for _, mtu := range []int{32732, 65485, 65521} { // no two segments fit one send
		if n := gsoMax(&network{Network: wide(1, 1)}, mtu); n != 0 {
			t.Errorf("MTU %d: super-frames are limited to %d bytes", mtu, n)
		}
	}
	if n := gsoMax(&network{Network: local(1)}, 1500); n != 0 {
		t.Errorf("a network that does not tunnel limits super-frames to %d", n)
	}
}

// A killed dockerd forgets its endpoints and assigns their addresses again at once: they are removed, unless their container
// exists.
func TestEndpointMakesWay(t *testing.T) {
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
