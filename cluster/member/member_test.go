package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// host is one host: its member, and the networks that it has.
type host struct {
	*Member
	Driver
	t    *testing.T
	name string
	vtep netip.AddrPort // on the loopback: these hosts have no links to each other
	dir  string
	log  *testhost.Log
	stop func() error
}

// newHost is the i-th host of a hub's cluster.
func newHost(t *testing.T, hub *conformance.Hub, i int) *host {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	testhost.Must(t, err)
	h := &host{t: t, name: fmt.Sprintf("n%d", i), vtep: c.LocalAddr().(*net.UDPAddr).AddrPort(), dir: t.TempDir(), log: new(testhost.Log)}
	testhost.Must(t, c.Close())
	h.start(hub)
	t.Cleanup(func() { testhost.Must(t, h.stop()) })
	return h
}

func (h *host) start(hub *conformance.Hub) {
	h.t.Helper()
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	workers, err := poll.New(1)
	testhost.Must(h.t, err)
	m, err := New(Config{Cluster: "test", Engine: hub.Engine(), Dir: h.dir, Name: h.name, VTEP: h.vtep, Log: log})
	testhost.Must(h.t, err)
	f, err := fabric.Open(fabric.Config{Name: "test", Dir: h.dir, VTEP: m.Self.VTEP.Addr(), Port: m.Self.VTEP.Port(), Poller: workers,
		Cluster: m.Fabric(func(string) []netip.Prefix { return nil }), Log: log})
	testhost.Must(h.t, err)
	h.Member, h.Driver = m, Driver{f, m}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- m.Run(ctx, f) }()
	h.stop = func() error {
		cancel()
		return errors.Join(<-ended, f.Close(), workers.Close())
	}
	testhost.Until(h.t, "the engine has started", func() bool { return m.cfg.Engine.Status().Since.Unix() > 0 })
}

func blue(i int) fabric.Network {
	return fabric.Network{ID: fmt.Sprintf("%064x", 0xabc000+i), Key: "blue", External: true, Prefix: "eth", Pools: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}
}

func (h *host) vni() uint32 {
	h.t.Helper()
	all := h.Networks()
	if len(all) != 1 {
		h.t.Fatalf("%d networks", len(all))
	}
	return all[0].VNI
}

// Hosts that name one network get one VNI, also when Docker repeats its request.
func TestAgree(t *testing.T) {
	hub := conformance.NewHub()
	one, two := newHost(t, hub, 1), newHost(t, hub, 2)
	for range 2 {
		testhost.Must(t, one.CreateNetwork(t.Context(), blue(1)))
		testhost.Must(t, two.CreateNetwork(t.Context(), blue(2)))
	}
	if one.vni() < cluster.FirstChosen || one.vni() != two.vni() {
		t.Errorf("VNIs %d and %d", one.vni(), two.vni())
	}
	testhost.Until(t, "each knows that the other has it", func() bool {
		return len(one.Directory.On("blue")) == 1 && len(two.Directory.On("blue")) == 1
	})
	if got := one.Directory.On("blue")[0].Host; got != two.Self {
		t.Errorf("host %v has it, want %v", got, two.Self)
	}
}

// What hosts cannot agree on is refused, with who has it, and changes nothing.
func TestRefused(t *testing.T) {
	hub := conformance.NewHub()
	one, two := newHost(t, hub, 1), newHost(t, hub, 2)
	testhost.Must(t, one.CreateNetwork(t.Context(), blue(1)))
	for text, change := range map[string]func(*fabric.Network){
		"network blue has subnet 10.77.0.0/24 at host n1 (127.0.0.1)": func(n *fabric.Network) { n.Pools[0] = netip.MustParsePrefix("10.78.0.0/24") },
		"network blue has VNI": func(n *fabric.Network) { n.VNI = 80 },
	} {
		n := blue(2)
		change(&n)
		if err := two.CreateNetwork(t.Context(), n); err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "the same options") {
			t.Errorf("want %q, got %v", text, err)
		}
	}
	hub.Cut(two.Self.ID, true)
	if err := two.CreateNetwork(t.Context(), blue(2)); !errors.Is(err, cluster.ErrUnavailable) || !strings.Contains(err.Error(), "network blue") {
		t.Errorf("without the cluster: %v", err)
	}
	if n := len(two.Networks()); n != 0 {
		t.Errorf("%d networks are left", n)
	}
	none := Driver{Fabric: two.Driver.Fabric}
	local := blue(3)
	local.Key = ""
	testhost.Must(t, none.CreateNetwork(t.Context(), local))
}

// A host that was restarted is the same one, knows the others before they say anything, and confirms its networks when it can.
func TestRestart(t *testing.T) {
	hub := conformance.NewHub()
	one, two := newHost(t, hub, 1), newHost(t, hub, 2)
	testhost.Must(t, one.CreateNetwork(t.Context(), blue(1)))
	testhost.Must(t, two.CreateNetwork(t.Context(), blue(2)))
	testhost.Until(t, "it knows the other", func() bool { return len(one.Directory.On("blue")) == 1 })
	before, vni := one.Self, one.vni()
	testhost.Must(t, one.stop())
	hub.Cut(before.ID, true)
	one.start(hub)
	if one.Self.ID != before.ID || one.Self.Epoch != before.Epoch+1 {
		t.Errorf("it is %+v, was %+v", one.Self, before)
	}
	if on := one.Directory.On("blue"); len(on) != 1 || on[0].Host != two.Self || one.vni() != vni {
		t.Errorf("it knows %+v, VNI %d", on, one.vni())
	}
	confirmed := make(map[string]bool)
	one.confirm(t.Context(), one.Driver.Fabric, confirmed)
	if len(confirmed) != 0 {
		t.Error("a network was confirmed without the cluster")
	}
	hub.Cut(before.ID, false)
	one.confirm(t.Context(), one.Driver.Fabric, confirmed)
	if len(confirmed) != 1 || strings.Contains(one.log.String(), "WARN") {
		t.Errorf("confirmed %v: %s", confirmed, one.log)
	}
	testhost.Until(t, "the other knows it", func() bool {
		on := two.Directory.On("blue")
		return len(on) == 1 && on[0].Epoch == one.Self.Epoch && on[0].State == cluster.Alive
	})
}

// A cluster that has forgotten a network, and has another by its key now: what runs goes on, and it is said.
func TestConfirmConflict(t *testing.T) {
	hub := conformance.NewHub()
	one := newHost(t, hub, 1)
	testhost.Must(t, one.CreateNetwork(t.Context(), blue(1)))
	testhost.Must(t, one.stop())
	hub = conformance.NewHub()
	two := newHost(t, hub, 2)
	other := blue(2)
	other.Pools[0] = netip.MustParsePrefix("10.78.0.0/24")
	testhost.Must(t, two.CreateNetwork(t.Context(), other))
	one.start(hub)
	confirmed := make(map[string]bool)
	for range 2 {
		one.confirm(t.Context(), one.Driver.Fabric, confirmed)
	}
	if n := one.log.Count("the cluster has another network by this key now"); n != 1 || len(one.Networks()) != 1 {
		t.Errorf("said %d times, %d networks", n, len(one.Networks()))
	}
}

// Files that no host can have, and another cluster.
func TestNew(t *testing.T) {
	cfg := Config{Cluster: "a", Engine: conformance.NewHub().Engine(), Dir: t.TempDir(), Name: "n1", VTEP: conformance.Self(1).VTEP, Log: slog.New(slog.DiscardHandler)}
	first, err := New(cfg)
	testhost.Must(t, err)
	first.Directory.Apply(cluster.Update{Full: true, Entries: []cluster.Entry{{Record: cluster.Record{Host: conformance.Self(2)}}}})
	first.dirty.Store(true)
	testhost.Must(t, first.save())
	again, err := New(cfg)
	testhost.Must(t, err)
	if len(again.Directory.Hosts()) != 1 || again.Self.ID != first.Self.ID {
		t.Errorf("it knows %v", again.Directory.Hosts())
	}
	cfg.Cluster = "b"
	other, err := New(cfg)
	testhost.Must(t, err)
	if len(other.Directory.Hosts()) != 0 || other.Self.ID != first.Self.ID || other.Self.Epoch != 3 {
		t.Errorf("in another cluster it is %+v and knows %v", other.Self, other.Directory.Hosts())
	}
	path := cfg.Dir + "/cluster.json"
	whole, err := os.ReadFile(path)
	testhost.Must(t, err)
	testhost.Must(t, os.WriteFile(path, whole[:len(whole)/2], 0o600))
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged file: %v", err)
	}
	if b, _ := os.ReadFile(path); len(b) != len(whole)/2 {
		t.Error("the damaged file was changed")
	}
}

// An address that two hosts have is told by both, with both places; it is logged once, if it lasts, and that it has ended.
func TestSameAddress(t *testing.T) {
	hub := conformance.NewHub()
	one, two := newHost(t, hub, 1), newHost(t, hub, 2)
	station := cluster.Station{Key: "blue", MAC: ether.DockerMAC(netip.MustParseAddr("10.77.0.9")), Addrs: []netip.Addr{netip.MustParseAddr("10.77.0.9")}}
	members := []cluster.Member{{Spec: cluster.Spec{Key: "blue", VNI: 80}}}
	both := []cluster.Station{station}
	one.publishFabric(members, nil, both) // its place follows from a block: the others are not told of it
	two.publishFabric(members, both, both)
	problem := func(h *host) string {
		return strings.Join(slices.DeleteFunc(h.Problems(), func(p string) bool { return strings.Contains(p, "have one address") }), "\n") // 127.0.0.1
	}
	logged := func(what string) int { return one.log.Count(what + ` problem="network blue: 10.77.0.9 is at`) }
	testhost.Until(t, "it is known", func() bool { return problem(one) != "" })
	if want := fmt.Sprintf("network blue: 10.77.0.9 is at host %s, and at host %s", one.Self, two.Self); problem(one) != want {
		t.Errorf("%s, want %s", problem(one), want)
	}
	var seen map[string]bool
	for range 4 {
		seen = one.logProblems(seen)
		one.moved.Store(true)
	}
	if n := logged(`level=WARN msg="problem of the cluster"`); n != 1 {
		t.Errorf("logged %d times: %s", n, one.log)
	}
	two.publishFabric(members, nil, nil)
	testhost.Until(t, "it has ended", func() bool { return problem(one) == "" })
	for range 2 {
		seen = one.logProblems(seen)
		one.moved.Store(true)
	}
	if n := logged(`has ended"`); n != 1 {
		t.Errorf("its end is logged %d times", n)
	}
	two.publishFabric(members, both, both)
	testhost.Until(t, "it is known again", func() bool { return problem(one) != "" })
	seen = one.logProblems(seen)
	two.publishFabric(members, nil, nil)
	testhost.Until(t, "it has ended again", func() bool { return problem(one) == "" })
	one.logProblems(seen)
	if n := logged(""); n != 2 {
		t.Errorf("one that did not last is logged: %s", one.log)
	}
}

// A host whose address goes away, and which has another one by the default route, begins anew with that. One that was told its address stays.
func TestMoved(t *testing.T) {
	testhost.Namespace(t)
	sh := func(script string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	sh(`ip link set lo up; ip link add up1 type veth peer name far; ip link set far up; ip link set up1 up
		ip addr add 192.0.2.1/24 dev up1; ip route add default via 192.0.2.254`)
	cfg := Config{Cluster: "test", Dir: t.TempDir(), Name: "n1", VTEP: netip.AddrPortFrom(netip.Addr{}, 4789), Log: slog.New(slog.DiscardHandler)}
	begin := func() (*Member, *fabric.Fabric) {
		t.Helper()
		cfg.Engine = conformance.NewHub().Engine()
		m, err := New(cfg)
		testhost.Must(t, err)
		workers, err := poll.New(1)
		testhost.Must(t, err)
		t.Cleanup(func() { workers.Close() })
		f, err := fabric.Open(fabric.Config{Name: "test", Dir: cfg.Dir, VTEP: m.Self.VTEP.Addr(), Port: m.Self.VTEP.Port(), Poller: workers, Log: cfg.Log,
			Cluster: m.Fabric(func(string) []netip.Prefix { return nil })})
		testhost.Must(t, err)
		return m, f
	}
	m, f := begin()
	sh("ip addr del 192.0.2.1/24 dev up1; ip addr add 192.0.2.11/24 dev up1; ip route replace default via 192.0.2.254")
	if err := m.Run(t.Context(), f); !errors.Is(err, ErrMoved) {
		t.Fatalf("it ended with %v", err)
	}
	testhost.Must(t, f.Close())
	again, f := begin()
	if again.Self.VTEP.String() != "192.0.2.11:4789" || again.Self.ID != m.Self.ID || again.Self.Epoch != m.Self.Epoch+1 {
		t.Errorf("it was %+v, and is %+v", m.Self, again.Self)
	}
	testhost.Must(t, f.Close())
	cfg.VTEP = again.Self.VTEP
	named, f := begin()
	sh("ip addr del 192.0.2.11/24 dev up1; ip addr add 192.0.2.1/24 dev up1; ip route replace default via 192.0.2.254")
	ctx, cancel := context.WithTimeout(t.Context(), 3*watchEvery)
	defer cancel()
	if err := named.Run(ctx, f); err != nil {
		t.Errorf("its address was named, and it ended with %v", err)
	}
	testhost.Must(t, f.Close())
}
