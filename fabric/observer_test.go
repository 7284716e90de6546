package fabric

import (
	"errors"
	"maps"
	"net/netip"
	"testing"

	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// fakeObserver is an Observer that remembers which networks it may watch, and each port's MTU as it was last told.
type fakeObserver struct {
	networks map[string]*vswitch.Switch
	mtu      map[uint32]int
	sandbox  map[uint32]string
	armed    map[string]string
	addrs    map[uint32][]netip.Prefix
	left     map[netip.Addr]bool // the Swarm's nodes
}

func newFakeObserver() fakeObserver {
	return fakeObserver{networks: make(map[string]*vswitch.Switch), mtu: make(map[uint32]int), sandbox: make(map[uint32]string), armed: make(map[string]string),
		addrs: make(map[uint32][]netip.Prefix), left: make(map[netip.Addr]bool)}
}

func (l fakeObserver) Add(n Network, sw *vswitch.Switch) { l.networks[n.ID] = sw }

func (l fakeObserver) Remove(network string) { delete(l.networks, network) }

func (l fakeObserver) SetMTU(number uint32, mtu int) { l.mtu[number] = mtu }

func (l fakeObserver) Plug(p PortView, _ ObservedDevice, _ *tunnel.Link) {
	if p.Number == 0 {
		panic("the observer is told of a port without its number: " + p.Name)
	}
	l.mtu[p.Number], l.sandbox[p.Number], l.addrs[p.Number] = p.MTU, p.Sandbox, p.Addrs
}

func (l fakeObserver) SetSandbox(number uint32, path string) { l.sandbox[number] = path }

func (l fakeObserver) SetAddrs(number uint32, addrs []netip.Prefix) { l.addrs[number] = addrs }

func (l fakeObserver) Arm(network, endpoint, filter string) error {
	if filter == "bad" {
		return errors.New("it cannot be read")
	}
	l.armed[endpoint] = network + " " + filter
	return nil
}

func (l fakeObserver) Disarm(endpoint string) { delete(l.armed, endpoint) }

func (l fakeObserver) SetNodes(left map[netip.Addr]bool) {
	clear(l.left)
	maps.Copy(l.left, left)
}

func (l fakeObserver) Unplug(number uint32) {
	delete(l.mtu, number)
	delete(l.sandbox, number)
}

// The observer knows the switch of every network while the network exists, also after a restart.
func TestObserver(t *testing.T) {
	h := newHost(t)
	seen := newFakeObserver()
	h.cfg.Observer = seen
	h.restart()
	for i := range 2 {
		h.mustNetwork(local(1 + i))
	}
	check := func(when string, ids ...string) {
		t.Helper()
		if len(seen.networks) != len(ids) {
			t.Errorf("%s %d networks are watched, want %d", when, len(seen.networks), len(ids))
		}
		for _, id := range ids {
			if n := h.networks[id]; seen.networks[id] == nil || n == nil || n.sw != seen.networks[id] {
				t.Errorf("%s the switch of %s is not the one that is watched", when, id)
			}
		}
	}
	check("in the beginning", netID(1), netID(2))
	if err := h.DeleteNetwork(t.Context(), netID(1)); err != nil {
		t.Fatal(err)
	}
	check("after one was deleted", netID(2))
	h.restart()
	check("after a restart", netID(2))
	h.close()
	if len(seen.networks) != 0 || len(seen.mtu) != 0 {
		t.Errorf("after Close %d networks are watched, and %d ports", len(seen.networks), len(seen.mtu))
	}
}

// A container's network namespace is told when Docker names it, and again of a port that takes the place of the old one.
func TestObserverSandbox(t *testing.T) {
	h := newHost(t)
	seen := newFakeObserver()
	h.cfg.Observer = seen
	h.restart()
	h.mustNetwork(local(1))
	h.mustEndpoint(netID(1), ep(1))
	port := func() uint32 { return h.networks[netID(1)].endpoints[epID(1)].port.Number }
	if got, told := seen.sandbox[port()]; got != "" || !told {
		t.Errorf("before Join it is %q, %v", got, told)
	}
	if _, err := h.Join(t.Context(), netID(1), epID(1), "/sandbox/1"); err != nil {
		t.Fatal(err)
	}
	was := port()
	if got := seen.sandbox[was]; got != "/sandbox/1" {
		t.Errorf("after Join it is %q", got)
	}
	n := h.networks[netID(1)]
	e := n.endpoints[epID(1)]
	if err := h.unplug(e); err != nil {
		t.Fatal(err)
	}
	if err := h.plug(n, e, h.links.Adopt); err != nil {
		t.Fatal(err)
	}
	if got := seen.sandbox[port()]; got != "/sandbox/1" || port() == was {
		t.Errorf("plugged again it is %q", got)
	}
}

// The path MTU to a remote host is told again when it changes.
func TestObserverMTU(t *testing.T) {
	h := newHost(t)
	seen := newFakeObserver()
	h.cfg.Observer = seen
	h.restart()
	h.mustNetwork(wide(1, 80, "127.0.0.2"))
	if err := h.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer h.release()
	for n, l := range h.faultPoints() {
		r := n.remotes[netip.MustParseAddr("127.0.0.2")]
		if got := seen.mtu[l.Port.Number]; got != r.innerMTU() || got < 68 {
			t.Fatalf("told of %d bytes, the path has %d", got, r.innerMTU())
		}
		if got := seen.addrs[l.Port.Number]; len(got) != 1 || got[0].Addr() != r.addr.Addr() { // what only Plug tells: captures find the port by its number
			t.Errorf("the port of a remote host is told of with the addresses %v", got)
		}
		was := r.innerMTU()
		r.mtu -= 100 // as if it had been narrower until now
		h.updateRemote(n, r, h.fallbackMTU())
		if got := seen.mtu[l.Port.Number]; got != was {
			t.Errorf("told of %d bytes, the path has %d", got, was)
		}
		seen.mtu[l.Port.Number] = 7
		if h.updateRemote(n, r, h.fallbackMTU()); seen.mtu[l.Port.Number] != 7 {
			t.Error("told again of what has not changed")
		}
		return
	}
	t.Error("no remote")
}
