package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/tap"
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
	h.cfg.Peers = []netip.AddrPort{peer("127.0.0.8:0")}
	h.start()
	own := ofSwarm(2, 2, "127.0.0.9")
	h.mustNetwork(ofSwarm(1, 1))
	h.mustNetwork(own)
	h.mustNetwork(wide(3, 3)) // not the Swarm's
	check := func(when string, swarm ...string) {
		t.Helper()
		for id, want := range map[string][]string{ofSwarm(1, 0).ID: swarm, own.ID: {"127.0.0.9"}, netID(3): {"127.0.0.8"}} {
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
	if n := h.log.count("level=WARN") + h.log.count("level=ERROR"); n != 0 {
		t.Errorf("%d complaints: %s", n, &h.log.b)
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
		if err := h.AddPeer(t.Context(), n.ID, peer(a)); err != nil {
			t.Fatal(err)
		}
	}
	h.discover("127.0.0.3")
	check("added", "127.0.0.2", "127.0.0.3", "127.0.0.9")
	h.restart()
	check("restarted", "127.0.0.2", "127.0.0.3", "127.0.0.9")
	if err := h.RemovePeer(t.Context(), n.ID, peer("127.0.0.2:0")); err == nil || !strings.Contains(err.Error(), "is a node of the Swarm") {
		t.Errorf("a node is taken away: %v", err)
	}
	if err := h.RemovePeer(t.Context(), n.ID, peer("127.0.0.9:0")); err != nil {
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
	if h.log.count("is not on the disk") != 1 {
		t.Errorf("told %d times: %s", h.log.count("is not on the disk"), &h.log.b)
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
	h.mustNetwork(ofSwarm(1, 1))
	h.discover("127.0.0.2", "127.0.0.3")
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
		h.swarm.Nodes[h.nodeAt(left)].Left = time.Now().Add(-ago)
		h.updateSparse()
	}
	for range 2 {
		if err := h.NodeLeft(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	h.updateSparse()
	sparse(false)
	since(sparseAfter)
	sparse(true)
	for _, p := range h.Peers(n.ID) {
		if p.Left != (p.Addr.Addr() == left) {
			t.Errorf("peer %+v", p)
		}
	}
	n.remotes[left].lastRx = h.now() // it speaks
	since(sparseAfter)
	sparse(false)
	n.remotes[left].lastRx = 0
	h.mustNetwork(ofSwarm(2, 2, "127.0.0.2")) // that lists it
	since(sparseAfter)
	sparse(true)
	if h.networks[ofSwarm(2, 0).ID].remotes[left].port.IsSparse() {
		t.Error("a peer that was listed by hand is sparse")
	}
	h.restart() // whether it was heard is not known
	n = h.networks[n.ID]
	h.updateSparse()
	sparse(false)
	since(sparseAfter)
	sparse(true)
	h.discover(left.String())
	sparse(false)

	if err := h.NodeLeft(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	since(forgetAfter - time.Minute)
	if got := h.Nodes(); len(got) != 2 {
		t.Errorf("nodes %v", got)
	}
	since(forgetAfter)
	if got := h.peers(n.ID); !slices.Equal(got, []string{"127.0.0.3"}) {
		t.Errorf("a day later the peers are %v", got)
	}
	if err := h.NodeLeft(t.Context(), left); err != nil {
		t.Errorf("an unknown node leaves: %v", err)
	}
	h.restart()
	if got := h.Nodes(); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("127.0.0.3")}) {
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

// A manager gives each network of the Swarm a VNI of its own, whoever leads.
func TestAllocate(t *testing.T) {
	a, b := newHost(t), newHost(t)
	allocate := func(h *host, n Network, again bool) uint32 {
		t.Helper()
		vni, err := h.Allocate(t.Context(), n, again)
		if err != nil {
			t.Fatal(err)
		}
		return vni
	}
	taken := func(h *host, vni uint32) {
		t.Helper()
		if _, err := h.Allocate(t.Context(), ofSwarm(99, vni), false); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("VNI %d belongs to network", vni)) {
			t.Errorf("VNI %d is given twice: %v", vni, err)
		}
	}
	// What Docker remembers.
	all := map[string]uint32{}
	fresh := func(h *host, i int, want uint32) {
		t.Helper()
		n := ofSwarm(i, want)
		vni := allocate(h, n, false)
		if want != 0 && vni != want || want == 0 && (vni < firstAutoVNI || vni > ether.MaxVNI) {
			t.Errorf("network %d wants %d, gets %d", i, want, vni)
		}
		for id, other := range all {
			if other == vni && id != n.ID {
				t.Errorf("network %d gets %d, which %s has", i, vni, id)
			}
		}
		all[n.ID] = vni
	}
	// leads is a manager that begins to lead: Docker names all networks, in any order.
	leads := func(h *host) {
		t.Helper()
		h.replayedAt -= 2 * replayTime // the last time was long ago
		for id, vni := range all {
			n := ofSwarm(0, vni)
			n.ID = id
			if got := allocate(h, n, true); got != vni {
				t.Errorf("network %s had VNI %d, gets %d", id, vni, got)
			}
		}
	}
	free := func(h *host, i int) {
		t.Helper()
		if err := h.Free(t.Context(), ofSwarm(i, 0).ID); err != nil {
			t.Fatal(err)
		}
		delete(all, ofSwarm(i, 0).ID)
	}
	for i := 1; i <= 20; i++ {
		fresh(a, i, 0)
	}
	fresh(a, 21, 80)
	if vni := allocate(a, ofSwarm(1, 0), false); vni != all[ofSwarm(1, 0).ID] {
		t.Errorf("asked again, a network gets %d", vni)
	}
	fresh(a, 21, 80) // the answer came too late: Docker asks anew
	taken(a, 80)
	a.restart()
	fresh(a, 23, 0)
	taken(a, 80)
	leads(b)
	taken(b, 80)
	for i := 24; i < 30; i++ {
		fresh(b, i, 0)
	}
	free(b, 21)
	free(b, 1)
	fresh(b, 22, 80) // what 21 had
	leads(a)         // who knows 21 with that, and not 22
	taken(a, 80)
	if _, ok := a.swarm.Allocated[ofSwarm(1, 0).ID]; ok {
		fresh(a, 30, 0)
	}
	if len(a.swarm.Allocated) != len(all) {
		t.Errorf("%d networks are remembered, there are %d", len(a.swarm.Allocated), len(all))
	}
	leads(b)
	fresh(b, 31, 0)
	if len(b.swarm.Allocated) != len(all) {
		t.Errorf("%d networks are remembered, there are %d", len(b.swarm.Allocated), len(all))
	}
	if err := a.Free(t.Context(), "nobody"); err != nil {
		t.Errorf("free of what is not there: %v", err)
	}

	// A manager may have networks of its own. What Docker has already is never refused.
	a.mustNetwork(wide(1, 90))
	if _, err := a.Allocate(t.Context(), ofSwarm(40, 90), false); !errors.Is(err, ErrInUse) {
		t.Errorf("a VNI that a local network has: %v", err)
	}
	if vni := allocate(a, ofSwarm(40, 90), true); vni != 90 {
		t.Errorf("a network that Docker has gets %d", vni)
	}
	for want, n := range map[string]Network{
		"MTU 67":      func() Network { n := ofSwarm(41, 0); n.MTU = 67; return n }(),
		"MTU 65500":   func() Network { n := ofSwarm(41, 0); n.MTU = 65500; return n }(), // less than a TAP's bound, more than the underlay's
		"twice":       ofSwarm(41, 0, "127.0.0.2", "127.0.0.2"),
		"IP versions": ofSwarm(41, 0, "2001:db8::2"),
		"want 1":      ofSwarm(41, 1<<24),
	} {
		if _, err := a.Allocate(t.Context(), n, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
		}
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	before := len(a.swarm.Allocated)
	if _, err := a.Allocate(late, ofSwarm(42, 0), false); err == nil || len(a.swarm.Allocated) != before {
		t.Errorf("nobody waits for the answer, and it is remembered: %v", err)
	}
}

// Two networks whose ids lead to one VNI get two.
func TestFreeVNI(t *testing.T) {
	h := newHost(t)
	first := h.freeVNI("a", nil)
	if got := h.freeVNI("a", map[string]state.Allocation{"x": {VNI: first}, "y": {VNI: first + 1}}); got != first+2 {
		t.Errorf("got %d, want %d", got, first+2)
	}
}

// A network of the Swarm that no container uses frees its VNI, and is restored when it is used.
func TestPark(t *testing.T) {
	h := newHost(t)
	one, two := ofSwarm(1, 1), ofSwarm(2, 2)
	h.mustNetwork(one)
	h.mustNetwork(two)
	h.mustNetwork(wide(3, 3)) // Docker says when this one goes
	h.container(two.ID, ep(2))
	h.discover("127.0.0.2")
	ids := func() (ids []string) {
		for _, n := range h.Networks() {
			ids = append(ids, n.ID)
		}
		slices.Sort(ids)
		return ids
	}
	all, used := []string{netID(3), one.ID, two.ID}, []string{netID(3), two.ID}
	h.at(first)
	h.at(first + grace - 10*time.Second)
	if got := ids(); !slices.Equal(got, all) {
		t.Fatalf("in the grace period the networks are %v", got)
	}
	h.at(first + grace)
	if got := ids(); !slices.Equal(got, used) {
		t.Fatalf("after the grace period the networks are %v", got)
	}
	h.restart()
	if got := ids(); !slices.Equal(got, used) {
		t.Fatalf("restarted, the networks are %v", got)
	}
	h.mustEndpoint(one.ID, ep(1)) // its first task, at last
	if got := h.peers(one.ID); !slices.Equal(got, []string{"127.0.0.2"}) {
		t.Errorf("back again, its peers are %v", got)
	}
	if got := h.records()[one.ID]; len(got.Endpoints) != 1 || len(h.swarm.Parked) != 0 {
		t.Errorf("its record is %+v", got)
	}

	// Its VNI is another's meanwhile: that is said, and the record stays.
	clock := first
	park := func() {
		t.Helper()
		if err := h.DeleteEndpoint(t.Context(), one.ID, epID(1)); err != nil {
			t.Fatal(err)
		}
		clock += 2 * grace
		h.at(clock)
		h.at(clock + grace)
		if got := ids(); slices.Contains(got, one.ID) {
			t.Fatalf("not parked: %v", got)
		}
	}
	park()
	h.mustNetwork(wide(4, 1))
	if _, err := h.CreateEndpoint(t.Context(), one.ID, ep(1)); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "VNI 1") {
		t.Errorf("an endpoint of it: %v", err)
	}
	if _, ok := h.records()[one.ID]; ok || len(h.swarm.Parked) != 1 {
		t.Error("its record is that of a network at work")
	}
	if err := h.DeleteNetwork(t.Context(), netID(4)); err != nil {
		t.Fatal(err)
	}

	// Docker makes it anew, equal or not.
	other := one
	other.VNI = 7
	h.mustNetwork(other)
	h.mustEndpoint(one.ID, ep(1))
	park()
	if err := h.DeleteNetwork(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	if len(h.swarm.Parked) != 0 {
		t.Errorf("deleted, its record is there: %+v", h.swarm.Parked)
	}

	h.mustNetwork(one)
	h.mustEndpoint(one.ID, ep(1))
	park()
	p := h.swarm.Parked[one.ID]
	p.Since = time.Now().Add(-parkedFor)
	h.swarm.Parked[one.ID] = p
	h.at(clock + 2*grace)
	if len(h.swarm.Parked) != 1 {
		t.Error("forgotten by a clock that may be wrong")
	}
	h.at(clock + parkedFor/30)
	if len(h.swarm.Parked) != 0 {
		t.Error("a month later its record is there")
	}
	if _, err := h.CreateEndpoint(t.Context(), one.ID, ep(1)); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("an endpoint of it: %v", err)
	}
}

// A network that a killed dockerd did not remove does not block a new one with its VNI.
func TestMakeRoom(t *testing.T) {
	h := newHost(t)
	old, next := ofSwarm(1, 80), ofSwarm(2, 80)
	h.mustNetwork(old)
	h.container(old.ID, ep(1))
	if err := h.CreateNetwork(t.Context(), next); !errors.Is(err, ErrInUse) {
		t.Fatalf("with a container on the other network: %v", err)
	}
	h.m.die(epID(1))
	h.mustNetwork(next)
	if got := h.Networks(); len(got) != 1 || got[0].ID != next.ID || len(h.swarm.Parked) != 1 {
		t.Errorf("networks %+v", got)
	}
	h.mustNetwork(wide(3, 81)) // not the Swarm's: Docker says when it goes
	if err := h.CreateNetwork(t.Context(), ofSwarm(4, 81)); !errors.Is(err, ErrInUse) {
		t.Errorf("a local network made room: %v", err)
	}
}

// After a crash between writing the two files of a network that is being parked, it is not parked.
func TestParkTorn(t *testing.T) {
	h := newHost(t)
	n := ofSwarm(1, 1)
	h.mustNetwork(n)
	h.swarm.Parked = map[string]state.Parked{n.ID: {Record: h.networks[n.ID].record(), Since: time.Now()}}
	h.saveSwarm()
	h.restart()
	if len(h.Networks()) != 1 || len(h.swarm.Parked) != 0 {
		t.Errorf("networks %+v, parked %+v", h.Networks(), h.swarm.Parked)
	}
}

// attach=tap needs the right to enter containers, after a restart.
func TestAttachWithoutRight(t *testing.T) {
	h := newHost(t)
	h.m.shut = errors.New("no right")
	n := local(1)
	n.Attach = tap.Direct
	err := h.CreateNetwork(t.Context(), n)
	if err == nil || !strings.Contains(err.Error(), "tapestry.attach=tap: a restart of tapestry would cut its containers off: no right") {
		t.Errorf("made: %v", err)
	}
	n = ofSwarm(1, 0)
	n.Attach = tap.Direct
	if _, err := h.Allocate(t.Context(), n, false); err == nil {
		t.Error("allocated")
	}
	if len(h.records()) != 0 {
		t.Error("a record is left")
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
		if got := h.Nodes(); got != nil || h.log.count("is lost: the file is put aside") == 0 {
			t.Errorf("nodes %v; %s", got, &h.log.b)
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
