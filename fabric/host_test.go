package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// host is one daemon on one machine: what a crash leaves is dir and memory.
type host struct {
	*Fabric
	t      *testing.T
	m      *memory
	cfg    Config
	poller *poll.Poller
	stop   func()
	log    *testhost.Log
}

// grace is every host's, first is when its first sweep is.
const (
	grace = time.Minute
	first = 10 * time.Second
)

// newHost is a machine on which no daemon has run yet.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, m: newMemory(), log: new(testhost.Log)}
	h.cfg = Config{Name: "test", Dir: t.TempDir(), VTEP: netip.MustParseAddr("127.0.0.1"), Port: testhost.UDPPort(t), SweepAfter: grace,
		Links: h.m, Log: slog.New(slog.NewTextHandler(h.log, nil))}
	h.recorded()
	h.start()
	t.Cleanup(h.close)
	return h
}

// recorded fails the test if a link is created that no record names yet.
func (h *host) recorded() {
	h.m.hook = func(op string, s tap.Spec) error {
		if op != "create" && op != "adopt" {
			return nil
		}
		records, err := state.Dir(h.cfg.Dir).Load()
		if err != nil {
			h.t.Errorf("%s %s: %v", op, s.ID, err)
		}
		for _, r := range records {
			for _, e := range r.Endpoints {
				if e.ID == s.ID {
					return nil
				}
			}
			if r.Network.HostPort != nil && r.Network.HostPort.ID == s.ID {
				return nil
			}
		}
		h.t.Errorf("%s %s: no record names it", op, s.ID)
		return nil
	}
}

// start is the daemon coming up.
func (h *host) start() {
	h.t.Helper()
	if err := h.tryStart(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) tryStart() (err error) {
	if h.poller, err = poll.New(1); err != nil {
		return err
	}
	h.cfg.Poller = h.poller
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- h.poller.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := errors.Join(<-ended, h.poller.Close()); err != nil {
			h.t.Error(err)
		}
	}
	if h.Fabric, err = Open(h.cfg); err != nil {
		h.stop()
	}
	return err
}

// close is the daemon ending well.
func (h *host) close() {
	if h.Fabric == nil {
		return
	}
	if err := h.Fabric.Close(); err != nil {
		h.t.Error(err)
	}
	h.stop()
	h.Fabric = nil
	if n := len(h.m.open); n != 0 {
		h.t.Errorf("%d devices are open after Close", n)
	}
}

func (h *host) restart() {
	h.t.Helper()
	h.close()
	h.start()
}

// crash is kill -9: the kernel closes what was open, and nothing else happens.
func (h *host) crash() {
	h.stop()
	if h.vtep != nil {
		_ = h.vtep.VTEP.Close()
	}
	h.m.mu.Lock()
	open := maps.Clone(h.m.open)
	h.m.mu.Unlock()
	for _, d := range open {
		_ = d.Close()
	}
	h.Fabric = nil
}

// at runs a tick, at some time since the start.
func (h *host) at(now time.Duration) {
	_ = h.acquire(context.Background())
	update := h.tick(now)
	h.release()
	if update {
		h.updatePaths(context.Background())
	}
}

func (h *host) records() map[string]state.Record {
	h.t.Helper()
	all, err := h.dir.Load()
	if err != nil {
		h.t.Fatal(err)
	}
	m := map[string]state.Record{}
	for _, r := range all {
		m[r.Network.ID] = r
	}
	return m
}

// recordedEndpoints is the ids of the endpoints on disk.
func (h *host) recordedEndpoints() []string {
	var ids []string
	for _, r := range h.records() {
		for _, e := range r.Endpoints {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// containers is the ports of containers.
func (h *host) containers() []PortView {
	return slices.DeleteFunc(h.Ports(""), func(p PortView) bool { return p.Kind != "container" })
}

func (h *host) mustNetwork(n Network) {
	h.t.Helper()
	if err := h.CreateNetwork(h.t.Context(), n); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) mustEndpoint(network string, e Endpoint) {
	h.t.Helper()
	if mac, err := h.CreateEndpoint(h.t.Context(), network, e); err != nil || mac != e.MAC {
		h.t.Fatalf("endpoint %s: %v, %v", e.ID, mac, err)
	}
}

// container makes an endpoint and lets a container have it.
func (h *host) container(network string, e Endpoint) {
	h.t.Helper()
	h.mustEndpoint(network, e)
	sandbox := "/sandbox/" + e.ID
	if _, err := h.Join(h.t.Context(), network, e.ID, sandbox); err != nil {
		h.t.Fatal(err)
	}
	h.m.enter(e.ID, sandbox)
}

// netID and epID are ids as Docker makes them.
func netID(i int) string { return fmt.Sprintf("%064x", 0xabc000+i) }
func epID(i int) string  { return fmt.Sprintf("%060x%04x", i, i) }

func local(i int) Network {
	return Network{ID: netID(i), Attach: tap.Veth, External: true, Prefix: "eth",
		Pools: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}}
}

func wide(i int, vni uint32, peers ...string) Network {
	n := local(i)
	n.VNI = vni
	for _, p := range peers {
		n.Peers = append(n.Peers, netip.AddrPortFrom(netip.MustParseAddr(p), 0))
	}
	return n
}

// hosted is a network on which the host has a port.
func hosted(i int) Network {
	n := local(i)
	host := ep(1)
	host.ID = HostPortID(n.ID)
	n.HostPort = &host
	return n
}

func ep(i int) Endpoint {
	return Endpoint{ID: epID(i), MAC: ether.MAC{2, 0x42, 10, 77, byte(i >> 8), byte(i)},
		Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}), 24)}}
}

var broadcast = ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
