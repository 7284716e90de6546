package fabric

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A network with a group: who sends is learned, and forgotten; what is for everybody goes to the group only.
func TestGroup(t *testing.T) {
	h := newHost(t)
	n := wide(1, 80)
	n.Group = netip.MustParseAddr("239.1.1.1")
	six := n
	six.Group = netip.MustParseAddr("ff05::1")
	if err := h.CreateNetwork(t.Context(), six); err == nil || !strings.Contains(err.Error(), "different IP versions") {
		t.Errorf("a group of the other IP version: %v", err)
	}
	h.mustNetwork(n)
	h.mustNetwork(wide(2, 81, "127.0.0.9"))
	h.container(netID(1), ep(1))
	is := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, p := range h.Peers(netID(1)) {
			got = append(got, fmt.Sprint(p.Addr.Addr(), " ", p.Group, " ", p.Learned, p.Down))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: peers %q, want %q", when, got, want)
		}
	}
	is("created", "239.1.1.1 true false")

	from, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IP{127, 0, 0, 2}}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.cfg.VTEP, h.cfg.Port)))
	testhost.Must(t, err)
	defer from.Close()
	far := ep(7).MAC
	send := func(vni byte) {
		t.Helper()
		_, err := from.Write(append([]byte{8, 0, 0, 0, 0, 0, vni, 0}, framed(far, broadcast, 60)...))
		testhost.Must(t, err)
	}
	before := h.Status().RxDropped["no_peer"] // lo gives back what this host has sent to the group
	send(81)                                  // of a network without a group
	testhost.Until(t, "a stranger's datagram is dropped", func() bool { return h.Status().RxDropped["no_peer"] > before })
	send(80)
	select {
	case <-h.strangers:
	case <-time.After(testhost.Patience):
		t.Fatal("nobody is told of a host that is not known")
	}
	testhost.Until(t, "the first frame comes by the group", func() bool {
		return slices.ContainsFunc(h.Entries(netID(1)), func(e EntryView) bool { return e.MAC == far && e.Port == "239.1.1.1" })
	})
	h.learnHosts(t.Context())
	is("learned", "239.1.1.1 true false", "127.0.0.2 false true")
	send(80)
	testhost.Until(t, "its address moves to its port", func() bool {
		return slices.ContainsFunc(h.Entries(netID(1)), func(e EntryView) bool { return e.MAC == far && e.Port == "127.0.0.2" })
	})
	v, err := h.Trace(t.Context(), TraceRequest{Network: netID(1), Port: epID(1), Frame: framed(ep(1).MAC, broadcast, 60)})
	if err != nil || len(v.Egress) != 1 || v.Egress[0].Name != "239.1.1.1" {
		t.Errorf("a frame for everybody leaves by %+v, %v", v.Egress, err)
	}
	if v, err = h.Trace(t.Context(), TraceRequest{Network: netID(1), Port: epID(1), Frame: framed(ep(1).MAC, far, 60)}); err != nil || len(v.Egress) != 1 || v.Egress[0].Name != "127.0.0.2" {
		t.Errorf("a frame for one leaves by %+v, %v", v.Egress, err)
	}
	if err := h.AddPeer(t.Context(), netID(1), addrPort("127.0.0.3:0")); err == nil || !strings.Contains(err.Error(), "has no list of peers") {
		t.Errorf("a peer by hand: %v", err)
	}
	h.at(h.now())
	h.at(h.now() + DefaultAgeing + 2*time.Minute)
	is("silent for long", "239.1.1.1 true false")

	// No more are learned than a bound, and the others are reached by the group.
	_ = h.acquire(t.Context())
	for i := range maxLearned {
		h.networks[netID(1)].learned[netip.AddrFrom4([4]byte{127, 7, byte(i >> 8), byte(i)})] = h.now()
	}
	h.release()
	send(80)
	testhost.Until(t, "the host is heard again", func() bool { return len(h.strangers) == 1 })
	h.learnHosts(t.Context())
	if got := len(h.Peers(netID(1))); got != 1+maxLearned {
		t.Errorf("%d peers", got)
	}
	h.restart()
	is("after a restart", "239.1.1.1 true false")
}
