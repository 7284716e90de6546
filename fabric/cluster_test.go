package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

// member is a host of a cluster: the i-th, at 192.0.2.i. All are in a network namespace, which only the test's goroutine is in: so it
// hands on what the cluster says, in await.
type member struct {
	*host
	self    cluster.Host
	blocks  []netip.Prefix
	names   []cluster.Name
	dir     *cluster.Directory
	updates chan cluster.Update
	hub     *conformance.Hub
}

// newPair makes two hosts that have the network blue, and meet on it. blocks are the second one's.
func newPair(t *testing.T, blocks ...string) (hub *conformance.Hub, one, two *member) {
	t.Helper()
	hub, all := newMembers(t, 2)
	one, two = all[0], all[1]
	for _, b := range blocks {
		two.blocks = append(two.blocks, netip.MustParsePrefix(b))
	}
	one.mustNetwork(blue(1))
	two.mustNetwork(blue(2))
	one.meets(netID(1), "192.0.2.2")
	two.meets(netID(2), "192.0.2.1")
	return hub, one, two
}

// newMembers starts hosts that are in one cluster.
func newMembers(t *testing.T, n int) (hub *conformance.Hub, all []*member) {
	t.Helper()
	testhost.Namespace(t)
	lo, err := netlink.LinkByName("lo")
	testhost.Must(t, err)
	testhost.Must(t, netlink.LinkSetUp(lo))
	hub = conformance.NewHub()
	for i := 1; i <= n; i++ {
		m := &member{host: newHost(t), self: conformance.Self(i), hub: hub, updates: make(chan cluster.Update, 1000)}
		m.close()
		a, err := netlink.ParseAddr(m.self.VTEP.Addr().String() + "/32")
		testhost.Must(t, err)
		testhost.Must(t, netlink.AddrAdd(lo, a))
		m.dir = cluster.NewDirectory(m.self.ID)
		m.cfg.VTEP, m.cfg.Port = m.self.VTEP.Addr(), m.self.VTEP.Port()
		m.join()
		all = append(all, m)
	}
	return hub, all
}

// join starts the host's daemon, with a new connection to the cluster.
func (m *member) join() {
	m.t.Helper()
	m.self.Epoch++
	e := m.hub.Engine()
	m.cfg.Cluster = &Cluster{Directory: m.dir, Blocks: func(string) []netip.Prefix { return m.blocks },
		Publish: func(members []cluster.Member, odd, _ []cluster.Station) { e.Publish(members, odd, m.names) }}
	m.start()
	testhost.Must(m.t, e.Start(m.self, func(u cluster.Update) { m.updates <- u }))
	m.t.Cleanup(func() { e.Close(context.Background()) })
}

// await waits until something is so, and meanwhile hands on what the cluster says.
func (m *member) await(what string, is func() bool) {
	m.t.Helper()
	testhost.Until(m.t, what, func() bool {
		for {
			select {
			case u := <-m.updates:
				m.ClusterChanged(m.dir.Apply(u))
			default:
				return is()
			}
		}
	})
}

func blue(i int) Network {
	n := local(i)
	n.Key, n.VNI = "blue", cluster.FirstChosen+5
	return n
}

// peers are the peers' addresses, as people see them.
func (m *member) peers(network string) string {
	var all []string
	for _, p := range m.Peers(network) {
		all = append(all, p.Addr.Addr().String())
	}
	return strings.Join(all, " ")
}

func (m *member) meets(network, want string) {
	m.t.Helper()
	m.await(fmt.Sprintf("%s has the peers %q", m.self.Name, want), func() bool { return m.peers(network) == want })
}

// Hosts that name one network find each other, and nothing else is said to them.
func TestSharedNetwork(t *testing.T) {
	_, all := newMembers(t, 4)
	one, two, three, late := all[0], all[1], all[2], all[3]
	one.mustNetwork(blue(1))
	one.mustNetwork(blue(1)) // Docker may repeat it
	two.mustNetwork(blue(2))
	other := local(3)
	other.Key, other.VNI = "green", cluster.FirstChosen+6
	three.mustNetwork(other)
	one.meets(netID(1), "192.0.2.2")
	two.meets(netID(2), "192.0.2.1")
	three.meets(netID(3), "")
	one.container(netID(1), ep(1))
	two.container(netID(2), ep(2))
	one.m.dev(t, epID(1)).feed(ep(1).MAC, ep(2).MAC, "question")
	two.m.dev(t, epID(2)).expect(t, "question")
	two.m.dev(t, epID(2)).feed(ep(2).MAC, ep(1).MAC, "answer")
	one.m.dev(t, epID(1)).expect(t, "answer")

	// A host that comes later.
	late.mustNetwork(blue(4))
	one.meets(netID(1), "192.0.2.2 192.0.2.4")
	late.meets(netID(4), "192.0.2.1 192.0.2.2")
	if p := one.Peers(netID(1))[0]; p.Default || p.Node || p.Host != "n2" || p.HostState != "alive" {
		t.Errorf("peer %+v", p)
	}
	if err := one.RemovePeer(t.Context(), netID(1), netip.MustParseAddrPort("192.0.2.2:0")); err == nil || !strings.Contains(err.Error(), "host n2 of the cluster") {
		t.Errorf("removed: %v", err)
	}
	testhost.Must(t, one.AddPeer(t.Context(), netID(1), netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), 0))) // it is one
	testhost.Must(t, one.AddPeer(t.Context(), netID(1), netip.MustParseAddrPort("192.0.2.9:0")))                  // one that is in no cluster
	one.meets(netID(1), "192.0.2.9 192.0.2.2 192.0.2.4")

	// It comes back after a restart, and goes with the network.
	late.close()
	late.join()
	late.meets(netID(4), "192.0.2.1 192.0.2.2")
	testhost.Must(t, late.DeleteNetwork(t.Context(), netID(4)))
	two.meets(netID(2), "192.0.2.1")
}

// A network is shared by a host that is in a cluster, and once on a host.
func TestSharedNetworkRefused(t *testing.T) {
	_, all := newMembers(t, 1)
	one := all[0]
	one.mustNetwork(blue(1))
	again := blue(9)
	again.VNI++
	if err := one.CreateNetwork(t.Context(), again); !errors.Is(err, ErrInUse) {
		t.Errorf("a second network by that key: %v", err)
	}
	alone := newHost(t)
	if err := alone.CreateNetwork(t.Context(), blue(3)); err == nil || !strings.Contains(err.Error(), "this host is in no cluster") {
		t.Errorf("in no cluster: %v", err)
	}
	if n := len(one.Networks()) + len(alone.Networks()) + len(alone.records()); n != 1 {
		t.Errorf("%d networks and records are left", n)
	}
}

// While the cluster is away all goes on as it was, also after a restart.
func TestSharedNetworkAlone(t *testing.T) {
	hub, one, two := newPair(t)
	one.container(netID(1), ep(1))
	two.container(netID(2), ep(2))
	hub.Cut(one.self.ID, true)
	one.close()
	one.join() // the directory is what its disk has
	one.meets(netID(1), "192.0.2.2")
	one.m.dev(t, epID(1)).feed(ep(1).MAC, ep(2).MAC, "question")
	two.m.dev(t, epID(2)).expect(t, "question")
}

// A host that is suspect is asked at once, so that it is not used from the moment when it is gone.
func TestSuspectHost(t *testing.T) {
	hub, all := newMembers(t, 2)
	one, two := all[0], all[1]
	one.mustNetwork(blue(1))
	two.mustNetwork(blue(2))
	one.meets(netID(1), "192.0.2.2")
	later := one.now()
	tick := func() *remote {
		later += time.Second
		one.at(later)
		return one.networks[netID(1)].remotes[two.self.VTEP.Addr()]
	}
	state := func(want cluster.State) func() bool {
		return func() bool { return one.dir.On("blue")[0].State == want }
	}
	two.close()
	hub.Suspect(two.self.ID)
	one.await("it is suspect", state(cluster.Suspect))
	testhost.Until(t, "it was asked, and was silent", func() bool {
		if tick().gone {
			t.Fatal("a suspect host is not used any more")
		}
		p := one.vtep.Peers()[0].State()
		return p.TestDone && !p.Answers
	})
	hub.Cut(two.self.ID, true)
	one.await("it is gone", state(cluster.Gone))
	if !tick().gone {
		t.Error("a host that is gone is asked again, though it was silent when it was suspect")
	}
}

// A host that is gone while it is still being asked, since it was suspect, is not asked anew: that would take as long again.
func TestGoneWhileAsked(t *testing.T) {
	hub, one, two := newPair(t)
	later := one.now()
	tick := func() bool {
		later += time.Second
		one.at(later)
		return one.networks[netID(1)].remotes[two.self.VTEP.Addr()].gone
	}
	asked := func() tunnel.PeerState { return one.vtep.Peers()[0].State() }
	testhost.Until(t, "it answers", func() bool { tick(); return asked().TestDone && asked().Answers })
	two.close()
	hub.Suspect(two.self.ID)
	one.await("it is suspect", func() bool { return one.dir.On("blue")[0].State == cluster.Suspect })
	for range 2 {
		tick()
	}
	if asked().TestDone {
		t.Fatal("a suspect host is not asked")
	}
	hub.Cut(two.self.ID, true)
	one.await("it is gone", func() bool { return one.dir.On("blue")[0].State == cluster.Gone })
	ticks := 0
	for ; !asked().TestDone; ticks++ {
		tick()
	}
	for ; !tick(); ticks++ {
		if ticks > 10 {
			t.Fatal("a host that is gone is used for ever")
		}
	}
	if ticks > 3 {
		t.Errorf("a host that is gone was used for %d ticks more", ticks)
	}
}

// A frame to an address of another host's block goes there and nowhere else, also after a restart without the cluster.
func TestBlocks(t *testing.T) {
	hub, all := newMembers(t, 3)
	one, two, three := all[0], all[1], all[2]
	two.blocks = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/30")}
	for i, m := range all {
		m.mustNetwork(blue(1 + i))
	}
	one.meets(netID(1), "192.0.2.2 192.0.2.3")
	two.meets(netID(2), "192.0.2.1 192.0.2.3")
	three.meets(netID(3), "192.0.2.1 192.0.2.2")
	one.await("the block is known", func() bool { return len(one.dir.On("blue")[0].Blocks) == 1 })
	one.container(netID(1), ep(5))
	two.container(netID(2), ep(2))
	three.container(netID(3), ep(6))
	check := func(when string) {
		t.Helper()
		sent := func(host int) uint64 { return one.Peers(netID(1))[host].TxFrames }
		toTwo, toThree := sent(0), sent(1)
		one.m.dev(t, epID(5)).feed(ep(5).MAC, ep(2).MAC, when)
		two.m.dev(t, epID(2)).expect(t, when)
		one.poller.Sync() // what is being sent is counted with its batch's end
		if sent(0) != toTwo+1 || sent(1) != toThree {
			t.Errorf("%s: %d frames to its host, %d to the other", when, sent(0)-toTwo, sent(1)-toThree)
		}
	}
	check("the first frame")
	hub.Cut(one.self.ID, true)
	one.close()
	one.join()
	check("after a restart")
}

// A container whose place does not follow from blocks is found all the same, and where it was seen last if two hosts say that they
// have it.
func TestStations(t *testing.T) {
	_, all := newMembers(t, 3)
	one, two, three := all[0], all[1], all[2]
	two.blocks = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/26")}
	for i, m := range all {
		m.mustNetwork(blue(1 + i))
	}
	one.meets(netID(1), "192.0.2.2 192.0.2.3")
	two.meets(netID(2), "192.0.2.1 192.0.2.3")
	three.meets(netID(3), "192.0.2.1 192.0.2.2")
	odd, outside, plain := ep(2), ep(300), ep(4)
	odd.MAC = ether.MAC{2, 0xaa, 0xbb, 0xcc, 0xdd, 1}
	for _, e := range []Endpoint{odd, outside, plain} {
		two.container(netID(2), e)
	}
	one.await("both are known", func() bool { return len(one.dir.Stations("blue")) == 2 })
	one.container(netID(1), ep(5))
	check := func(m *member, mac ether.MAC, id string, when string, host int) {
		t.Helper()
		sent := func(host int) uint64 { return one.Peers(netID(1))[host].TxFrames }
		other, before := sent(1-host), sent(host)
		one.m.dev(t, epID(5)).feed(ep(5).MAC, mac, when)
		m.m.dev(t, id).expect(t, when)
		one.poller.Sync() // what is being sent is counted with its batch's end
		if sent(host) != before+1 || sent(1-host) != other {
			t.Errorf("%s: it was sent to the other host, too", when)
		}
	}
	check(two, odd.MAC, odd.ID, "another MAC", 0)
	check(two, outside.MAC, outside.ID, "outside of the block", 0)

	// It starts at another host, and the first one says nothing of its end yet.
	three.await("it is known there", func() bool { _, _, ok := three.dir.Station("blue", odd.MAC); return ok })
	moved := odd
	moved.ID = epID(9)
	three.mustEndpoint(netID(3), moved) // without its announcement, which comes when it starts
	three.m.enter(moved.ID, "/sandbox")
	one.await("the newer one counts", func() bool {
		id, _, _ := one.dir.Station("blue", odd.MAC)
		return id == three.self.ID
	})
	check(three, odd.MAC, moved.ID, "it has moved", 1)
	testhost.Must(t, two.DeleteEndpoint(t.Context(), netID(2), outside.ID))
	one.await("one that ended is not told any more", func() bool { return len(one.dir.Stations("blue")) == 1 })
}

// What this host says of its networks.
func TestPublish(t *testing.T) {
	_, all := newMembers(t, 2)
	one, two := all[0], all[1]
	one.blocks = []netip.Prefix{netip.MustParsePrefix("10.77.0.64/26")}
	one.mustNetwork(blue(1))
	one.mustNetwork(local(2))
	said := func() []cluster.Seat { return two.dir.On("blue") }
	two.await("the block is known", func() bool { return len(said()) == 1 && slices.Equal(said()[0].Blocks, one.blocks) })
	if s := said()[0]; s.VNI != one.Networks()[0].VNI || !slices.Equal(s.Subnets, blue(1).Pools) || s.Host != one.self {
		t.Errorf("it says %+v", s)
	}
	end := one.locked()
	one.blocks = append(one.blocks, netip.MustParsePrefix("10.77.0.128/26"))
	end()
	one.Publish()
	two.await("the second block is known", func() bool { return slices.Equal(said()[0].Blocks, one.blocks) })
	one.close()
	one.join()
	two.await("a restarted host says it again", func() bool { return len(said()) == 1 && len(said()[0].Blocks) == 2 })
}

// What networks show of addresses, for whoever gives them out.
func TestEvidence(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(3))
	pool := local(1).Pools[0]
	again := ofSwarm(2, 2)
	again.Pools = []netip.Prefix{netip.MustParsePrefix("10.60.0.0/16")}
	h.mustNetwork(again)
	for _, tc := range []struct {
		key                    string
		subnet                 netip.Prefix
		addr                   string
		subnetThere, addrThere bool
	}{
		{"", pool, "10.77.0.3", true, true},
		{"", pool, "10.77.0.4", true, false},
		{"blue", pool, "10.77.0.3", false, false},
		{"", netip.MustParsePrefix("10.77.0.0/25"), "10.77.0.3", false, false},
		{"", again.Pools[0], "10.60.0.3", false, false},
	} {
		if s, a := h.HasSubnet(tc.key, tc.subnet), h.HasAddr(tc.key, tc.subnet, netip.MustParseAddr(tc.addr)); s != tc.subnetThere || a != tc.addrThere {
			t.Errorf("%+v: %v, %v", tc, s, a)
		}
	}
}
