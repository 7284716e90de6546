package fabric

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/fabric/paths"
	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

// as sets what the kernel says of the path to a host.
func (h *host) as(to string, mtu int, err error) {
	h.paths.Set(netip.MustParseAddr(to), paths.Path{Path: tunnel.Path{MTU: mtu, Link: "under"}, Err: err})
}

// The paths to a network's peers say how long packets may be: of a new network, of its containers, of its ports.
func TestMTUOfThePath(t *testing.T) {
	h := newHost(t)
	h.as("127.0.0.2", 1500, nil)
	h.as("127.0.0.3", 1350, nil)
	h.as("127.0.0.4", 600, nil)
	create := func(n Network, mtu int, want string) {
		t.Helper()
		n.MTU = mtu
		if err := h.CreateNetwork(t.Context(), n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	create(wide(1, 1, "127.0.0.2", "127.0.0.3"), 1450, "MTU 1450: the path to 127.0.0.3 leaves room for 1300 at most, VXLAN takes the rest")
	six := wide(1, 1, "127.0.0.2", "127.0.0.4")
	six.Pools = append(six.Pools, netip.MustParsePrefix("fd77::/64"))
	create(six, 0, "the path to 127.0.0.4 leaves room for packets of 550 bytes")
	h.mustNetwork(wide(1, 1, "127.0.0.2", "127.0.0.3"))
	six.Peers = six.Peers[:1]
	six.ID, six.VNI = netID(2), 2
	h.mustNetwork(six)
	is := func(i int, network, want int) {
		t.Helper()
		h.mustEndpoint(netID(network), ep(i))
		if e := h.networks[netID(network)].endpoints[epID(i)]; e.MTU != want {
			t.Errorf("container %d has MTU %d, want %d", i, e.MTU, want)
		}
	}
	is(1, 1, 1300)
	is(2, 2, 1450)
	h.as("127.0.0.3", 1400, nil)
	is(3, 1, 1350)
	h.as("127.0.0.3", 1400, errors.New("link under has no carrier")) // and its MTU when there is one again
	is(4, 1, 1350)
	h.as("127.0.0.3", 0, errors.New("no route"))
	is(5, 1, 1450)
	h.as("127.0.0.2", 600, nil)
	is(6, 2, 1280) // less, and IPv6 would not work at all
	for _, n := range h.Networks() {
		if want := map[string]int{netID(1): 550, netID(2): 1280}[n.ID]; n.LinkMTU != want {
			t.Errorf("the next container of %s has MTU %d, want %d", n.ID[:12], n.LinkMTU, want)
		}
	}
	if p := h.Ports(netID(1))[0]; p.MTU != 1300 {
		t.Errorf("a container that runs has MTU %d now", p.MTU)
	}
}

// An unreachable peer is down wherever it is shown, and up when it is reachable.
func TestUnreachable(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	h.container(netID(1), ep(1))
	says := func() (all [3]string) {
		t.Helper()
		dst, src := broadcast, ep(1).MAC
		frame := append(append(dst[:], src[:]...), make([]byte, 46)...)
		v, err := h.Trace(t.Context(), TraceRequest{Network: netID(1), Port: epID(1), Frame: frame})
		if err != nil || len(v.Egress) != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
		return [3]string{h.Peers("")[0].Down, h.Ports("")[1].Down, v.Egress[0].Down}
	}
	if got := says(); got != [3]string{} {
		t.Errorf("peers, ports and trace say %q", got)
	}
	const why = "link under has no carrier"
	h.as("127.0.0.2", 1500, errors.New(why))
	if got := says(); got != [3]string{why, why, why} {
		t.Errorf("peers, ports and trace say %q", got)
	}
	h.linksChanged(t.Context())
	if got := says(); got != [3]string{} {
		t.Errorf("peers, ports and trace say %q when it is reachable again", got)
	}
	if h.log.Count("peer reachable again") != 1 {
		t.Error("the log does not say so")
	}
}

// A peer that can never be reached is refused before anything has changed.
func TestPeersThatCannotBe(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	for addr, want := range map[string]string{"192.0.2.2": "start tapestry with another --vtep", "239.1.1.1": "multicast", "0.0.0.0": "no host's", "::1": "different IP versions"} {
		for what, err := range map[string]error{
			"create":    h.CreateNetwork(t.Context(), wide(2, 2, addr)),
			"peers add": h.AddPeer(t.Context(), netID(1), netip.AddrPortFrom(netip.MustParseAddr(addr), 0)),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v, want %q", what, addr, err, want)
			}
		}
	}
	if n, p := len(h.records()), h.peers(netID(1)); n != 1 || len(p) != 1 {
		t.Errorf("%d networks, peers %v", n, p)
	}
}

// A path that takes less than the kernel says is asked anew of a peer that was made anew, and when the tunnel was opened anew: what was found
// before may not be so any more.
func TestHeldMTU(t *testing.T) {
	h := newHost(t)
	h.as("127.0.0.2", 1500, nil)
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
	host := netip.MustParseAddr("127.0.0.2")
	is := func(when string, want int) {
		t.Helper()
		if p := h.Peers(netID(1))[0]; p.PathMTU != want {
			t.Errorf("%s: the path takes %d, want %d", when, p.PathMTU, want)
		}
	}
	hold := func() {
		h.at(h.now() + time.Second) // the peer is no new one
		h.fitsChanged(host, 1300)
		h.at(h.now() + time.Second)
		is("a path that was found narrow", 1300)
	}
	hold()
	testhost.Must(t, h.RemovePeer(t.Context(), netID(1), netip.AddrPortFrom(host, 0)))
	testhost.Must(t, h.AddPeer(t.Context(), netID(1), netip.AddrPortFrom(host, 0)))
	h.at(h.now() + time.Second)
	is("the peer was made anew", 1500)
	hold()
	for _, n := range h.networks {
		h.disconnect(n)
		n.down = errors.New("as after its address was lost")
	}
	testhost.Must(t, h.closeVTEP())
	h.fix()
	h.at(h.now() + time.Second)
	is("the tunnel was opened anew", 1500)
}
