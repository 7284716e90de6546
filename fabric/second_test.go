package fabric

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A host with an address of each IP version has peers of both in one network. While the second address is missing, the others go on.
func TestSecondAddress(t *testing.T) {
	testhost.Namespace(t)
	ip := func(args ...string) { t.Helper(); testhost.Output(t, append([]string{"ip"}, args...)...) }
	ip("link", "set", "lo", "up")
	for _, a := range []string{"192.0.2.1/32", "192.0.2.2/32", "2001:db8::2/128"} {
		ip("address", "add", a, "dev", "lo", "nodad")
	}
	add := func() {
		t.Helper()
		ip("address", "add", "2001:db8::1/128", "dev", "lo", "nodad")
		testhost.Until(t, "the kernel knows the address", func() bool { // it says so before it has the route
			return strings.HasPrefix(testhost.Output(t, "ip", "-6", "route", "show", "table", "local", "2001:db8::1"), "local")
		})
	}
	h := newHost(t)
	h.close()
	h.cfg.VTEP, h.cfg.Second = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	h.start()
	h.as("192.0.2.2", 1500, nil)
	h.as("2001:db8::2", 1500, nil)
	four, six := newFar(h, "192.0.2.2"), newFar(h, "2001:db8::2")
	down := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, p := range h.Peers(netID(1)) {
			got = append(got, p.Addr.Addr().String()+" "+p.Down)
		}
		if !slices.EqualFunc(got, want, strings.Contains) {
			t.Errorf("%s: peers %q, want %q", when, got, want)
		}
	}

	h.mustNetwork(wide(1, 80, "192.0.2.2"))
	h.container(netID(1), ep(1))
	here := h.m.dev(t, epID(1))
	const missing = "no link of this host has"
	testhost.Must(t, h.AddPeer(t.Context(), netID(1), addrPort("[2001:db8::2]:0")))
	down("second address missing", "192.0.2.2 ", "2001:db8::2 open the tunnel: "+missing)
	if s := h.Status(); s.Tunnel != "open" || s.Second != h.cfg.Second || !strings.Contains(s.SecondWhy, missing) {
		t.Errorf("status %+v", s)
	}
	here.feed(ep(1).MAC, broadcast, "one")
	four.expect(80, "one")

	add()
	h.at(first)
	down("both", "192.0.2.2 ", "2001:db8::2 ")
	if s := h.Status(); s.SecondWhy != "" {
		t.Errorf("status %+v", s)
	}
	here.feed(ep(1).MAC, broadcast, "both")
	four.expect(80, "both")
	six.expect(80, "both")
	if n := h.Networks()[0]; n.LinkMTU != 1430 {
		t.Errorf("the next container has MTU %d, want what fits both paths", n.LinkMTU)
	}

	// Split horizon: what a peer floods reaches the containers here, and no peer of either version.
	six.send(80, ep(6).MAC, broadcast, "of six")
	here.expect(t, "of six")
	four.send(80, ep(4).MAC, broadcast, "of four")
	here.expect(t, "of four")
	here.feed(ep(1).MAC, ep(6).MAC, "to six")
	six.expect(80, "to six")
	here.feed(ep(1).MAC, broadcast, "last")
	four.expect(80, "last", "of six", "to six")
	six.expect(80, "last", "of four")
	four.send(81, ep(4).MAC, broadcast, "stranger")
	six.send(81, ep(6).MAC, broadcast, "stranger")
	four.waitRxDropped(h, 2)
	for addr, want := range map[string]string{"192.0.2.1": "this host itself", "2001:db8::1": "this host itself", "::1": "loopback"} {
		if err := h.AddPeer(t.Context(), netID(1), netip.AddrPortFrom(netip.MustParseAddr(addr), 0)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("peer %s: %v, want %q", addr, err, want)
		}
	}
	group := wide(2, 82)
	for _, a := range []string{"239.1.1.1", "ff05::1"} {
		group.Group = netip.MustParseAddr(a)
		if err := h.checkGroup(&group); err != nil {
			t.Errorf("group %s: %v", a, err)
		}
	}

	ip("address", "delete", "2001:db8::1/128", "dev", "lo")
	h.at(first + probeEvery)
	down("second address lost", "192.0.2.2 ", "2001:db8::2 open the tunnel: "+missing)
	if n := h.Status().RxDropped["no_peer"]; n != 2 {
		t.Errorf("%d datagrams of strangers, want the closed socket's too", n)
	}
	here.feed(ep(1).MAC, broadcast, "alone")
	four.expect(80, "alone")
	add()
	h.at(first + probeEvery + fixEvery)
	here.feed(ep(1).MAC, broadcast, "again")
	six.expect(80, "again")
	h.at(first + 2*probeEvery + time.Second)
	if missed, lost := h.log.Count("is not open at its second"), h.log.Count("lost its second"); missed != 1 || lost != 1 {
		t.Errorf("%d and %d warnings, want one of each:\n%s", missed, lost, h.log)
	}
}

// A name gives peers of the main IP version, or of the other one if it has none of that; never of both.
func TestSecondAddressNames(t *testing.T) {
	h := newHost(t)
	h.close()
	h.cfg.Second = netip.MustParseAddr("::1")
	h.start()
	h.resolves(map[string]string{"both": "127.0.0.2 ::2", "six": "fd00::6"})
	n := wide(1, 80, "127.0.0.9")
	n.PeerNames = []PeerName{{Host: "both"}, {Host: "six"}}
	h.mustNetwork(n)
	var got []string
	for _, p := range h.Peers(netID(1)) {
		got = append(got, p.Addr.Addr().String()+" "+p.Name)
	}
	if want := []string{"127.0.0.9 ", "127.0.0.2 both", "fd00::6 six"}; !slices.Equal(got, want) {
		t.Errorf("peers %q, want %q", got, want)
	}
}
