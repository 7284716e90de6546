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
	if n := h.log.Count(told); n != 1 {
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
	if n := h.log.Count(told); n != 2 {
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
		n := tap.GSOMax(mtu)
		payload, mss := n-321, mtu-52 // TCP keeps the rest for headers
		segments := (payload + mss - 1) / mss
		if segments < 2 || segments > 64 || segments*(mtu+14+8) > 65507 {
			t.Errorf("MTU %d: super-frames of %d bytes make %d segments", mtu, n, segments)
		}
	}
	for _, mtu := range []int{32732, 65485, 65521} { // no two segments fit one send
		if n := tap.GSOMax(mtu); n != 0 {
			t.Errorf("MTU %d: super-frames are limited to %d bytes", mtu, n)
		}
	}
	h := newHost(t)
	if n := h.spec(newNetwork(local(1), 0), &endpoint{}).GSOMax; n != 0 {
		t.Errorf("a network that does not tunnel limits super-frames to %d", n)
	}
}
