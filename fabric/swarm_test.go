package fabric

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// ofSwarm is a network of the Swarm.
func ofSwarm(i int, vni uint32, peers ...string) Network {
	n := wide(i, vni, peers...)
	n.ID = fmt.Sprintf("%025d", i)
	n.Swarm = true
	return n
}

func (h *host) discover(addrs ...string) {
	h.t.Helper()
	for _, a := range addrs {
		if err := h.Discover(h.t.Context(), netip.MustParseAddr(a), false); err != nil {
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
	if err := h.Undiscover(t.Context(), netip.MustParseAddr("127.0.0.2")); err != nil {
		t.Fatal(err)
	}
	h.at(time.Second)
	check("one has left, Docker says", "127.0.0.2", "127.0.0.3", "127.0.0.8")
	if n := h.log.count("level=WARN") + h.log.count("level=ERROR"); n != 0 {
		t.Errorf("%d complaints: %s", n, &h.log.b)
	}
	for _, wrong := range []string{"224.0.0.1", "0.0.0.0", "fe80::1"} {
		if err := h.Discover(t.Context(), netip.MustParseAddr(wrong), false); err == nil {
			t.Errorf("%s is a node", wrong)
		}
	}
	h.discover("2001:db8::2") // cannot be reached from an IPv4 VTEP: the others can
	for _, v := range h.Networks() {
		if v.Swarm != (v.ID != netID(3)) || (v.Down != "") != (v.ID == ofSwarm(1, 0).ID) {
			t.Errorf("a node that cannot be reached is told so: %+v", v)
		}
	}
	h.mustNetwork(ofSwarm(4, 4))
	if got := len(h.networks[ofSwarm(4, 0).ID].remotes); got != 3 {
		t.Errorf("a new network has %d remotes, want 3", got)
	}
}

// A node that has left, Docker says, is flooded to less once it is silent; what it sends shows that it is there.
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
		h.watchNodes()
	}
	for range 2 {
		if err := h.Undiscover(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	h.watchNodes()
	sparse(false)
	since(sparseAfter)
	sparse(true)
	for _, p := range h.Peers(n.ID) {
		if p.Left != (p.Addr.Addr() == left) {
			t.Errorf("peer %+v", p)
		}
	}
	n.remotes[left].heard = h.now() // it speaks
	since(sparseAfter)
	sparse(false)
	n.remotes[left].heard = 0
	since(sparseAfter)
	sparse(true)
	h.discover(left.String())
	sparse(false)

	if err := h.Undiscover(t.Context(), left); err != nil {
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
	if err := h.Undiscover(t.Context(), left); err != nil {
		t.Errorf("an unknown node leaves: %v", err)
	}
	h.restart()
	if got := h.Nodes(); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("127.0.0.3")}) {
		t.Errorf("restarted, the nodes are %v", got)
	}
}

// The tunnel speaks from the address that Docker names, but from --vtep if there is one.
func TestSwarmSelf(t *testing.T) {
	h := newHost(t)
	self := netip.MustParseAddr("127.0.0.5") // of no link either
	told := func(addr netip.Addr) {
		t.Helper()
		if err := h.Discover(t.Context(), addr, true); err != nil {
			t.Fatal(err)
		}
	}
	h.mustNetwork(ofSwarm(1, 1, "127.0.0.9"))
	told(self)
	if got := h.Status().VTEP; got != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("with --vtep 127.0.0.1 the tunnel speaks from %s", got)
	}
	if got := h.Nodes(); got != nil {
		t.Errorf("this host is a node of its own: %v", got)
	}
	told(netip.MustParseAddr("203.0.113.9")) // nobody's here
	if h.log.count("no link here has") != 2 {
		t.Errorf("an address of no link: %s", &h.log.b)
	}
}

// A manager gives each network of the Swarm a VNI of its own, whoever leads.
func TestAllocate(t *testing.T) {
	a, b := newHost(t), newHost(t)
	allocate := func(h *host, n Network) uint32 {
		t.Helper()
		vni, err := h.Allocate(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return vni
	}
	// What Docker remembers.
	all := map[string]uint32{}
	fresh := func(h *host, i int, want uint32) {
		t.Helper()
		n := ofSwarm(i, want)
		vni := allocate(h, n)
		if want != 0 && vni != want || want == 0 && (vni < firstAutoVNI || vni > tunnel.MaxVNI) {
			t.Errorf("network %d wants %d, gets %d", i, want, vni)
		}
		for id, other := range all {
			if other == vni {
				t.Errorf("network %d gets %d, which %s has", i, vni, id)
			}
		}
		all[n.ID] = vni
	}
	// leads is a manager that begins to lead.
	leads := func(h *host) {
		t.Helper()
		for i := range 100 {
			if vni, ok := all[ofSwarm(i, 0).ID]; ok && allocate(h, ofSwarm(i, vni)) != vni {
				t.Errorf("network %d does not keep its VNI", i)
			}
		}
	}
	for i := 1; i <= 20; i++ {
		fresh(a, i, 0)
	}
	fresh(a, 21, 80)
	if vni := allocate(a, ofSwarm(1, 0)); vni != all[ofSwarm(1, 0).ID] {
		t.Errorf("asked again without its VNI, a network gets %d", vni)
	}
	if _, err := a.Allocate(t.Context(), ofSwarm(22, 80)); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "VNI 80 belongs to network") {
		t.Errorf("a VNI is given twice: %v", err)
	}
	a.restart()
	fresh(a, 23, 0)
	if _, err := a.Allocate(t.Context(), ofSwarm(22, 80)); !errors.Is(err, ErrInUse) {
		t.Errorf("restarted, a VNI is given twice: %v", err)
	}
	leads(b)
	fresh(b, 24, 0)
	fresh(b, 25, 0)
	for _, i := range []int{21, 1} { // removed while b leads
		if err := b.Free(t.Context(), ofSwarm(i, 0).ID); err != nil {
			t.Fatal(err)
		}
		delete(all, ofSwarm(i, 0).ID)
	}
	leads(a)
	fresh(a, 22, 80) // a does not know that 21 has gone, but has not been told of it again
	if err := a.Free(t.Context(), "nobody"); err != nil {
		t.Errorf("free of what is not there: %v", err)
	}

	// A manager may have networks of its own.
	a.mustNetwork(wide(1, 90))
	if _, err := a.Allocate(t.Context(), ofSwarm(30, 90)); !errors.Is(err, ErrInUse) {
		t.Errorf("a VNI that a local network has: %v", err)
	}
	for want, n := range map[string]Network{
		"MTU 67": func() Network { n := ofSwarm(31, 0); n.MTU = 67; return n }(),
		"twice":  ofSwarm(31, 0, "127.0.0.2", "127.0.0.2"),
		"want 1": ofSwarm(31, 1<<24),
	} {
		if _, err := a.Allocate(t.Context(), n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
		}
	}
}

// Two networks whose ids lead to one VNI get two.
func TestFreeVNI(t *testing.T) {
	h := newHost(t)
	first := h.freeVNI("a")
	h.swarm.Allocated = map[string]allocation{"x": {VNI: first}, "y": {VNI: first + 1}}
	if got := h.freeVNI("a"); got != first+2 && first+2 <= tunnel.MaxVNI {
		t.Errorf("got %d, want %d", got, first+2)
	}
}

// A network of the Swarm that no container uses gives its VNI back, and comes back when it is used.
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
	if got := h.records()[one.ID]; !got.Parked.IsZero() || len(got.Endpoints) != 1 {
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
	if h.records()[one.ID].Parked.IsZero() {
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
	if r, ok := h.records()[one.ID]; ok || len(h.parked) != 0 {
		t.Errorf("deleted, its record is there: %+v", r)
	}

	h.mustNetwork(one)
	h.mustEndpoint(one.ID, ep(1))
	park()
	r := h.parked[one.ID]
	r.Parked = time.Now().Add(-parkedFor)
	h.parked[one.ID] = r
	h.at(clock + 2*grace)
	if _, ok := h.records()[one.ID]; ok {
		t.Error("a day later its record is there")
	}
	if _, err := h.CreateEndpoint(t.Context(), one.ID, ep(1)); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("an endpoint of it: %v", err)
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
	if _, err := h.Allocate(t.Context(), n); err == nil {
		t.Error("allocated")
	}
	if len(h.records()) != 0 {
		t.Error("a record is left")
	}
}

// What is remembered of the Swarm is whole, or the daemon does not start.
func TestSwarmState(t *testing.T) {
	h := newHost(t)
	h.discover("127.0.0.2")
	path := filepath.Join(h.cfg.Dir, "swarm.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	for _, torn := range [][]byte{nil, whole[:len(whole)/2], []byte(strings.Replace(string(whole), "127.0.0.2", "127.0.0.3", 1))} {
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.tryStart(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%d bytes: %v", len(torn), err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != string(torn) {
			t.Errorf("it was changed: %v", err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	if got := h.Nodes(); len(got) != 1 {
		t.Errorf("nodes %v", got)
	}
}
