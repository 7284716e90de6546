package fabric

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tap"
)

func TestCreateNetwork(t *testing.T) {
	h := newHost(t)
	none := local(2)
	none.Peers, none.Pools = nil, nil
	empty := wide(3, 3)
	empty.Peers = []netip.AddrPort{}
	for _, n := range []Network{local(1), none, empty, wide(4, 1<<24-1, "127.0.0.2", "127.0.0.1")} {
		for range 2 {
			h.mustNetwork(n)
		}
		h.restart()
		h.mustNetwork(n) // it is remembered exactly
		if got := h.records(); len(got) != len(h.networks) {
			t.Errorf("%d records of %d networks", len(got), len(h.networks))
		}
	}
	for i := range 4 {
		for range 2 {
			if err := h.DeleteNetwork(t.Context(), netID(1+i)); err != nil {
				t.Error(err)
			}
		}
	}
	if len(h.Networks()) != 0 || len(h.records()) != 0 || h.vtep != nil {
		t.Error("something is left of the networks")
	}
}

// A network that cannot be created is refused with a clear error, and nothing is changed.
func TestCreateNetworkRefused(t *testing.T) {
	h := newHost(t)
	six := local(9)
	six.Pools = append(six.Pools, netip.MustParsePrefix("fd77::/64"))
	with := func(n Network, fn func(*Network)) Network {
		n.Pools = slices.Clone(n.Pools)
		fn(&n)
		return n
	}
	mtu := func(n Network, mtu int) Network { return with(n, func(n *Network) { n.MTU = mtu }) }
	h.mustNetwork(local(1))
	h.mustNetwork(wide(2, 80, "127.0.0.2"))
	before := fmt.Sprint(h.records(), h.Networks(), h.Peers(""), h.Status().Tunnel)
	for _, tc := range []struct {
		name  string
		n     Network
		inUse bool
		want  string
	}{
		{"known id, a VNI more", with(local(1), func(n *Network) { n.VNI = 9 }), true, "exists with other options: remove it first"},
		{"known id, other pools", with(local(1), func(n *Network) { n.Pools = nil }), true, "exists with other options"},
		{"known id, other way to attach", with(local(1), func(n *Network) { n.Attach = tap.Direct }), true, "exists with other options"},
		{"known id, other MTU", mtu(local(1), 1400), true, "exists with other options"},
		{"known id, internal", with(local(1), func(n *Network) { n.External = false }), true, "exists with other options"},
		{"known id, other ageing", with(local(1), func(n *Network) { n.Ageing = time.Second }), true, "exists with other options"},
		{"known id, other prefix", with(local(1), func(n *Network) { n.Prefix = "lan" }), true, "exists with other options"},
		{"known id, other peers", wide(2, 80, "127.0.0.3"), true, "exists with other options"},
		{"known id, the daemon's peers", wide(2, 80), true, "exists with other options"},
		{"VNI in use", wide(9, 80, "127.0.0.2"), true, "VNI 80 belongs to network " + netID(2)[:12] + " already: take another"},
		{"VNI of 25 bits", wide(9, 1<<24), false, "VNI 16777216: want 1 to 16777215"},
		{"MTU too small", mtu(local(9), 67), false, "MTU 67: want 68 to 65521"},
		{"negative MTU", mtu(local(9), -1), false, "MTU -1: want 68 to 65521"},
		{"MTU too large", mtu(local(9), 65522), false, "MTU 65522: want 68 to 65521"},
		{"MTU too small for IPv6", mtu(six, 1279), false, "MTU 1279: want 1280 to 65521, since the network has IPv6"},
		{"MTU larger than the tunnel", mtu(wide(9, 9), 65486), false, "MTU 65486: the underlay leaves room for 65485 at most, VXLAN takes the rest"},
		{"a peer of the other IP version", wide(9, 9, "127.0.0.2", "::2"), false, "peer ::2 and this host's VTEP 127.0.0.1 are of different IP versions"},
		{"a peer twice", wide(9, 9, "127.0.0.2", "127.0.0.2"), false, "127.0.0.2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := h.CreateNetwork(t.Context(), tc.n)
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrInUse) != tc.inUse {
				t.Errorf("got %v; want %q, ErrInUse %v", err, tc.want, tc.inUse)
			}
			if after := fmt.Sprint(h.records(), h.Networks(), h.Peers(""), h.Status().Tunnel); after != before {
				t.Errorf("was %s,\nis %s", before, after)
			}
		})
	}
	for _, n := range []Network{mtu(local(10), 68), mtu(local(11), 65521), mtu(with(six, func(n *Network) { n.ID = netID(12) }), 1280), mtu(wide(13, 13), 65485)} {
		if err := h.CreateNetwork(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
}

// The VXLAN socket is open while a network needs it. If its port is in use, the network is down, not the daemon.
func TestTunnelPort(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	if s := h.Status(); s.Tunnel != "closed" {
		t.Errorf("the tunnel is %s for a local network", s.Tunnel)
	}
	taken, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.cfg.VTEP, h.cfg.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = h.CreateNetwork(t.Context(), wide(2, 2, "127.0.0.2"))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("UDP port %d is taken by ", h.cfg.Port)) || !strings.Contains(err.Error(), "--vxlan-port") {
		t.Errorf("with a port that is taken: %v", err)
	}
	if len(h.records()) != 1 || len(h.Networks()) != 1 {
		t.Error("the network stands although its tunnel does not")
	}
	if s := h.Status(); s.Tunnel != "closed" || s.Why != "" {
		t.Errorf("no network needs a tunnel, and it is %s, %q", s.Tunnel, s.Why)
	}
	taken.Close()
	h.mustNetwork(wide(2, 2, "127.0.0.2"))
	h.mustNetwork(wide(3, 3, "127.0.0.2"))
	if s := h.Status(); s.Tunnel != "open" || s.Why != "" {
		t.Errorf("the tunnel is %s, %q", s.Tunnel, s.Why)
	}

	// After a restart the taken port leaves the network down, until it is free.
	h.close()
	taken, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.cfg.VTEP, h.cfg.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	h.start()
	for _, n := range h.Networks() {
		if down := n.VNI != 0; down != (n.Down != "") {
			t.Errorf("VNI %d is down: %q", n.VNI, n.Down)
		}
	}
	taken.Close()
	h.at(fixEvery)
	for _, n := range h.Networks() {
		if n.Down != "" {
			t.Errorf("VNI %d is still down: %s", n.VNI, n.Down)
		}
	}
	if got := h.Peers(""); len(got) != 2 || got[0].Down != "" || got[0].MTU == 0 || got[0].Heard >= 0 {
		t.Errorf("peers are %+v", got)
	}
	for i := range 3 {
		if s := h.Status(); s.Tunnel != "open" {
			t.Errorf("the tunnel is %s while a network needs it", s.Tunnel)
		}
		if err := h.DeleteNetwork(t.Context(), netID(i+1)); err != nil {
			t.Error(err)
		}
	}
	if s := h.Status(); s.Tunnel != "closed" {
		t.Errorf("the tunnel is %s and nobody needs it", s.Tunnel)
	}
}

// A network that Docker has forgotten goes on request, unless a container still runs on it.
func TestForgetNetwork(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 80, "127.0.0.2"))
	h.container(netID(1), ep(1))
	h.mustEndpoint(netID(1), ep(2))
	if err := h.ForgetNetwork(t.Context(), netID(7)); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("an unknown one: %v", err)
	}
	if err := h.ForgetNetwork(t.Context(), netID(1)); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), epID(1)[:12]) {
		t.Errorf("one with a container: %v", err)
	}
	if len(h.containers()) != 2 || len(h.m.ids()) != 2 {
		t.Error("a refused request has changed something")
	}
	h.m.die(epID(1))
	if err := h.ForgetNetwork(t.Context(), netID(1)); err != nil {
		t.Error(err)
	}
	if len(h.Networks()) != 0 || len(h.records()) != 0 || len(h.m.ids()) != 0 || h.vtep != nil {
		t.Error("something is left of the network")
	}
}

// A network whose links cannot all be made leaves no record and no open tunnel.
func TestCreateNetworkRollsBack(t *testing.T) {
	h := newHost(t)
	if err := h.CreateNetwork(t.Context(), wide(1, 1, "127.0.0.2", "::1")); err == nil {
		t.Fatal("made")
	}
	if len(h.records()) != 0 || h.vtep != nil || len(h.Networks()) != 0 {
		t.Error("something is left of it")
	}
	h.mustNetwork(wide(1, 1, "127.0.0.2"))
}

// late is a context that ends while the request is being carried out.
type late struct{ context.Context }

func (late) Err() error { return context.DeadlineExceeded }

// A network is removed again if nobody waits for the answer any more.
func TestCreateNetworkTooLate(t *testing.T) {
	h := newHost(t)
	for _, n := range []Network{local(1), wide(1, 80, "127.0.0.2")} {
		if err := h.CreateNetwork(late{t.Context()}, n); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if len(h.records()) != 0 || h.vtep != nil || len(h.Networks()) != 0 {
			t.Error("something is left of it")
		}
	}
}

// A network whose record cannot be removed goes on as one, tunnel and all.
func TestDeleteNetworkFails(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 80, "127.0.0.2"))
	path := h.dir.Network(netID(1))
	if err := errors.Join(os.Rename(path, path+".away"), os.MkdirAll(path+"/in the way", 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteNetwork(t.Context(), netID(1)); err == nil {
		t.Fatal("deleted, although its record cannot be")
	}
	if n := h.Networks(); len(n) != 1 || n[0].Down == "" {
		t.Errorf("networks %+v, want one that is down", n)
	}
	h.at(fixEvery)
	if n, p := h.Networks(), h.Peers(""); n[0].Down != "" || len(p) != 1 || p[0].Down != "" || p[0].MTU == 0 {
		t.Errorf("networks %+v, peers %+v", n, p)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteNetwork(t.Context(), netID(1)); err != nil || len(h.Networks()) != 0 {
		t.Errorf("%v, networks %v", err, h.Networks())
	}
}

// A network that is made when the daemon is old does not forget at the next tick what it has just learned.
func TestYoungNetworkLearns(t *testing.T) {
	h := newHost(t)
	h.aged(time.Hour)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.container(netID(1), ep(2))
	guest := ether.MAC{2, 9, 9, 9, 9, 9} // behind a container, not its own
	h.m.dev(t, epID(1)).feed(guest, broadcast, "here I am")
	h.m.dev(t, epID(2)).expect(t, "here I am")
	h.at(h.now())
	known := slices.ContainsFunc(h.Entries(""), func(e EntryView) bool { return e.MAC == guest && e.Age < time.Minute })
	if !known {
		t.Errorf("forgotten: %+v", h.Entries(""))
	}
}

// What arrives uncut is cut for the narrowest container.
func TestFit(t *testing.T) {
	h := newHost(t)
	narrow := wide(1, 80, "127.0.0.2")
	h.mustNetwork(narrow)
	link := func() int { return h.networks[netID(1)].remotes[netip.MustParseAddr("127.0.0.2")].link.Stats().MTU }
	if got := link(); got != 65485 {
		t.Errorf("cut for %d with no container, want the path's 65485", got)
	}
	h.networks[netID(1)].MTU = 1280
	h.mustEndpoint(netID(1), ep(1))
	if got := link(); got != 1280 {
		t.Errorf("cut for %d, want the container's 1280", got)
	}
}

// A state directory that cannot be written refuses, and changes nothing.
func TestUnwritable(t *testing.T) {
	h := newHost(t)
	if err := os.Remove(h.dir.Networks()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.dir.Networks(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.CreateNetwork(t.Context(), local(1)); err == nil || !strings.Contains(err.Error(), h.dir.Networks()) {
		t.Errorf("got %v", err)
	}
	if len(h.Networks()) != 0 {
		t.Error("a network that is not on disk stands")
	}
	if err := os.Remove(h.dir.Networks()); err != nil {
		t.Fatal(err)
	}
	if err := h.dir.Prepare(); err != nil {
		t.Fatal(err)
	}
	h.mustNetwork(local(1))
	h.mustEndpoint(netID(1), ep(1))
	if err := os.Rename(h.dir.Networks(), h.dir.Networks()+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.dir.Networks(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.m.hook = nil
	if _, err := h.CreateEndpoint(t.Context(), netID(1), ep(2)); err == nil {
		t.Error("an endpoint was made that is not on disk")
	}
	if got := h.m.ids(); !slices.Equal(got, []string{epID(1)}) {
		t.Errorf("links are %v", got)
	}
	if len(h.Ports("")) != 1 {
		t.Error("an endpoint that is not on disk stands")
	}
}

// A request that waits for another one gives up when its context ends.
func TestLockTimesOut(t *testing.T) {
	h := newHost(t)
	if err := h.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, errEndpoint := h.CreateEndpoint(ctx, netID(1), ep(1))
	_, errJoin := h.Join(ctx, netID(1), epID(1), "")
	for name, err := range map[string]error{
		"CreateNetwork":  h.CreateNetwork(ctx, local(1)),
		"DeleteNetwork":  h.DeleteNetwork(ctx, netID(1)),
		"CreateEndpoint": errEndpoint,
		"DeleteEndpoint": h.DeleteEndpoint(ctx, netID(1), epID(1)),
		"Join":           errJoin,
		"AddPeer":        h.AddPeer(ctx, netID(1), netip.MustParseAddrPort("127.0.0.2:0")),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.release()
}

func TestRun(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	broken := errors.New("broken")
	go func() { ended <- h.Run(t.Context()) }()
	h.fatal <- broken
	if err := <-ended; !errors.Is(err, broken) {
		t.Errorf("Run with a broken socket: %v", err)
	}
}
