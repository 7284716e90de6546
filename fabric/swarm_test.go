package fabric

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/fabric/swarm"
)

// ofSwarm is a network of the Swarm.
func ofSwarm(i int, vni uint32, peers ...string) Network {
	n := wide(i, vni, peers...)
	n.ID = fmt.Sprintf("%025d", i)
	n.Swarm = IsSwarmID(n.ID)
	return n
}

func (h *host) discover(addrs ...string) {
	h.t.Helper()
	for _, a := range addrs {
		if err := h.NodeJoined(h.t.Context(), netip.MustParseAddr(a), false); err != nil {
			h.t.Fatal(err)
		}
	}
}

// Nodes of the Swarm are the peers of its networks, from the moment that Docker tells of them, also after a restart.
func TestSwarmPeers(t *testing.T) {
	h := newHost(t)
	h.close()
	h.cfg.Peers = []netip.AddrPort{addrPort("127.0.0.8:0")}
	h.start()
	own := ofSwarm(2, 2, "127.0.0.9")
	h.mustNetwork(ofSwarm(1, 1))
	h.mustNetwork(own)
	h.mustNetwork(wide(3, 3)) // not the Swarm's
	check := func(when string, nodes ...string) {
		t.Helper()
		for id, want := range map[string][]string{ofSwarm(1, 0).ID: nodes, own.ID: {"127.0.0.9"}, netID(3): {"127.0.0.8"}} {
			if got := h.peers(id); !slices.Equal(got, want) {
				t.Errorf("%s: network %s has peers %v, want %v", when, short(id), got, want)
			}
		}
	}
	check("at first", "127.0.0.8")
	h.discover("127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.1") // and this host
	check("told", "127.0.0.2", "127.0.0.3", "127.0.0.8")
	for _, p := range h.Peers(ofSwarm(1, 0).ID) {
		if node := p.Addr.Addr() != netip.MustParseAddr("127.0.0.8"); p.Node != node || p.Default == node || p.Left {
			t.Errorf("peer %+v", p)
		}
	}
	h.restart()
	check("restarted", "127.0.0.2", "127.0.0.3", "127.0.0.8")
	if err := h.NodeLeft(t.Context(), netip.MustParseAddr("127.0.0.2")); err != nil {
		t.Fatal(err)
	}
	h.at(time.Second)
	check("one has left, Docker says", "127.0.0.2", "127.0.0.3", "127.0.0.8")
	if n := h.log.Count("level=WARN") + h.log.Count("level=ERROR"); n != 0 {
		t.Errorf("%d complaints: %s", n, h.log)
	}
	for _, wrong := range []string{"224.0.0.1", "0.0.0.0", "fe80::1"} {
		if err := h.NodeJoined(t.Context(), netip.MustParseAddr(wrong), false); err == nil {
			t.Errorf("%s is a node", wrong)
		}
	}
	h.discover("2001:db8::2") // cannot be reached from an IPv4 VTEP: the others can
	h.mustNetwork(ofSwarm(4, 4))
	if got := len(h.networks[ofSwarm(4, 0).ID].remotes); got != 3 {
		t.Errorf("a new network has %d remotes, want 3", got)
	}
	for _, v := range h.Networks() {
		if v.Swarm != (v.ID != netID(3)) || v.Down != "" {
			t.Errorf("network %+v", v)
		}
	}
	for _, p := range h.Peers(ofSwarm(4, 0).ID) {
		if (p.Down != "") != p.Addr.Addr().Is6() {
			t.Errorf("peer %+v", p)
		}
	}
}

// Peers that people add to a network of the Swarm stand beside its nodes, which nobody can take away.
func TestSwarmPeersByHand(t *testing.T) {
	h := newHost(t)
	n := ofSwarm(1, 1)
	h.mustNetwork(n)
	h.discover("127.0.0.2")
	check := func(when string, want ...string) {
		t.Helper()
		if got := h.peers(n.ID); !slices.Equal(got, want) {
			t.Errorf("%s: peers %v, want %v", when, got, want)
		}
	}
	for _, a := range []string{"127.0.0.9:0", "127.0.0.2:0"} {
		if err := h.AddPeer(t.Context(), n.ID, addrPort(a)); err != nil {
			t.Fatal(err)
		}
	}
	h.discover("127.0.0.3")
	check("added", "127.0.0.2", "127.0.0.3", "127.0.0.9")
	h.restart()
	check("restarted", "127.0.0.2", "127.0.0.3", "127.0.0.9")
	if err := h.RemovePeer(t.Context(), n.ID, addrPort("127.0.0.2:0")); err == nil || !strings.Contains(err.Error(), "is a node of the Swarm") {
		t.Errorf("a node is taken away: %v", err)
	}
	if err := h.RemovePeer(t.Context(), n.ID, addrPort("127.0.0.9:0")); err != nil {
		t.Fatal(err)
	}
	check("removed", "127.0.0.2", "127.0.0.3")
}

// While the disk is full, what Docker tells is in force all the same, and is written later.
func TestSwarmDiskFull(t *testing.T) {
	h := newHost(t)
	n := ofSwarm(1, 1)
	h.mustNetwork(n)
	if _, err := h.Allocate(t.Context(), ofSwarm(5, 5), false); err != nil {
		t.Fatal(err)
	}
	path := h.stateDir().Swarm()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // what cannot be replaced by a file
		t.Fatal(err)
	}
	h.discover("127.0.0.2", "127.0.0.3")
	if err := h.NodeLeft(t.Context(), netip.MustParseAddr("127.0.0.3")); err != nil {
		t.Error(err)
	}
	if err := h.Free(t.Context(), ofSwarm(5, 0).ID); err != nil {
		t.Error(err)
	}
	if vni, err := h.Allocate(t.Context(), ofSwarm(6, 6), true); err != nil || vni != 6 {
		t.Errorf("a network that Docker has is allocated with %d, %v", vni, err)
	}
	if _, err := h.Allocate(t.Context(), ofSwarm(7, 7), false); err == nil {
		t.Error("a VNI is given that is not on the disk")
	}
	if got := h.peers(n.ID); !slices.Equal(got, []string{"127.0.0.2", "127.0.0.3"}) {
		t.Errorf("peers %v", got)
	}
	if h.log.Count("is not on the disk") != 1 {
		t.Errorf("told %d times: %s", h.log.Count("is not on the disk"), h.log)
	}
	h.at(first)
	h.at(first + grace) // and the network is not freed, since its record would be lost
	if len(h.Networks()) != 1 {
		t.Error("a network was freed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h.at(first + grace + fixEvery)
	h.restart()
	if got := h.Nodes(); len(got) != 2 {
		t.Errorf("written later, the nodes are %v", got)
	}
}

// A node that left, as Docker says, gets fewer floods once it is silent; a datagram from it ends that.
func TestSwarmNodeLeft(t *testing.T) {
	h := newHost(t)
	seen := newFakeObserver()
	h.cfg.Observer = seen
	h.restart()
	h.mustNetwork(ofSwarm(1, 1))
	h.discover("127.0.0.2", "127.0.0.3")
	observed := func(want map[netip.Addr]bool) {
		t.Helper()
		if !maps.Equal(seen.left, want) {
			t.Errorf("the observer is told of %v, want %v", seen.left, want)
		}
	}
	n, left := h.networks[ofSwarm(1, 0).ID], netip.MustParseAddr("127.0.0.2")
	sparse := func(want bool) {
		t.Helper()
		for addr, r := range n.remotes {
			if r.port.IsSparse() != (want && addr == left) {
				t.Errorf("%s is sparse: %v", addr, r.port.IsSparse())
			}
		}
	}
	// since is when it left.
	since := func(ago time.Duration) {
		h.swarm.Node(left).Left = time.Now().Add(-ago)
		h.updateSparse()
	}
	for range 2 {
		if err := h.NodeLeft(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	stays := netip.MustParseAddr("127.0.0.3")
	observed(map[netip.Addr]bool{left: true, stays: false})
	h.updateSparse()
	sparse(false)
	since(swarm.SparseAfter)
	sparse(true)
	for _, p := range h.Peers(n.ID) {
		if p.Left != (p.Addr.Addr() == left) {
			t.Errorf("peer %+v", p)
		}
	}
	n.remotes[left].lastRx = h.now() // it speaks
	since(swarm.SparseAfter)
	sparse(false)
	n.remotes[left].lastRx = 0
	h.mustNetwork(ofSwarm(2, 2, "127.0.0.2")) // that lists it
	since(swarm.SparseAfter)
	sparse(true)
	if h.networks[ofSwarm(2, 0).ID].remotes[left].port.IsSparse() {
		t.Error("a peer that was listed by hand is sparse")
	}
	clear(seen.left)
	h.restart() // whether it was heard is not known
	observed(map[netip.Addr]bool{left: true, stays: false})
	n = h.networks[n.ID]
	h.updateSparse()
	sparse(false)
	since(swarm.SparseAfter)
	sparse(true)
	h.discover(left.String())
	sparse(false)
	observed(map[netip.Addr]bool{left: false, stays: false})

	if err := h.NodeLeft(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	since(swarm.ForgetAfter - time.Minute)
	if got := h.Nodes(); len(got) != 2 {
		t.Errorf("nodes %v", got)
	}
	since(swarm.ForgetAfter)
	if got := h.peers(n.ID); !slices.Equal(got, []string{"127.0.0.3"}) {
		t.Errorf("a day later the peers are %v", got)
	}
	observed(map[netip.Addr]bool{stays: false})
	if err := h.NodeLeft(t.Context(), left); err != nil {
		t.Errorf("an unknown node leaves: %v", err)
	}
	h.restart()
	if got := h.Nodes(); !slices.Equal(got, []netip.Addr{stays}) {
		t.Errorf("restarted, the nodes are %v", got)
	}
}

// The tunnel speaks from the address that Docker names where tapestry is a managed plugin, but from --vtep if there is one.
// That it moves is proven with a real Swarm (TestSwarm): here are loopback addresses only.
func TestSwarmSelf(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(ofSwarm(1, 1, "127.0.0.9"))
	for _, managed := range []bool{false, true} {
		h.close()
		h.cfg.Managed = managed
		h.start()
		if err := h.NodeJoined(t.Context(), netip.MustParseAddr("127.0.0.5"), true); err != nil {
			t.Fatal(err)
		}
		if got := h.swarm.Self.IsValid(); got != managed {
			t.Errorf("managed %t: remembered %t", managed, got)
		}
		if got := h.Status().VTEP; got != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("with --vtep 127.0.0.1 the tunnel speaks from %s", got)
		}
		if got := h.Nodes(); got != nil {
			t.Errorf("this host is a node of its own: %v", got)
		}
	}
}

// A damaged file of the Swarm is put aside.
func TestSwarmState(t *testing.T) {
	h := newHost(t)
	h.discover("127.0.0.2")
	path := h.stateDir().Swarm()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	for _, torn := range [][]byte{nil, whole[:len(whole)/2], []byte(strings.Replace(string(whole), "127.0.0.2", "127.0.0.3", 1))} {
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := CheckState(h.cfg.Dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("the check of %d bytes says %v", len(torn), err)
		}
		h.start()
		if got, err := os.ReadFile(path + ".damaged"); err != nil || string(got) != string(torn) {
			t.Errorf("%d bytes are not put aside: %v", len(torn), err)
		}
		if got := h.Nodes(); got != nil || h.log.Count("is lost: the file is put aside") == 0 {
			t.Errorf("nodes %v; %s", got, h.log)
		}
		h.close()
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	if got := h.Nodes(); len(got) != 1 {
		t.Errorf("nodes %v", got)
	}
}
