package fabric

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A moment is a snapshot of what kill -9 at one step would leave: the state directory and the links.
type moment struct {
	name  string
	dir   string
	links map[string]link
}

// snapshotter is a context that takes a snapshot whenever it is asked whether it has ended.
type snapshotter struct {
	context.Context
	look func(string)
}

func (s snapshotter) Err() error {
	s.look("ctx")
	return s.Context.Err()
}

// After a crash at any step, the state directory can be opened and names every link that exists, and a repeated request or the
// sweep completes or removes what is half done.
func TestCrashAtEveryStep(t *testing.T) {
	h := newHost(t)
	var moments []moment
	doing := ""
	look := func(step string) {
		m := moment{name: fmt.Sprintf("%02d %s: %s", len(moments), doing, step), dir: t.TempDir()}
		if err := os.CopyFS(m.dir, os.DirFS(h.cfg.Dir)); err != nil {
			t.Error(err)
		}
		h.m.mu.Lock()
		m.links = maps.Clone(h.m.links)
		h.m.mu.Unlock()
		moments = append(moments, m)
	}
	recorded := h.m.hook
	h.m.hook = func(op string, s tap.Spec) error {
		look(op)
		return recorded(op, s)
	}
	ctx := snapshotter{t.Context(), look}
	must := func(what string, fn func() error) {
		doing = what
		look("before")
		if err := fn(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		look("after")
	}
	direct := local(2)
	direct.Attach = tap.Direct
	tunnelled := wide(3, 80, "127.0.0.2")
	create := func(n Network) func() error { return func() error { return h.CreateNetwork(ctx, n) } }
	endpoint := func(n, i int) func() error {
		return func() error { _, err := h.CreateEndpoint(ctx, netID(n), ep(i)); return err }
	}
	join := func(n, i int) func() error {
		return func() error {
			sandbox := "/sandbox/" + epID(i)
			_, err := h.Join(ctx, netID(n), epID(i), sandbox)
			look("answered")
			h.m.enter(epID(i), sandbox)
			return err
		}
	}
	must("create network", create(local(1)))
	must("create direct network", create(direct))
	must("create wide network", create(tunnelled))
	must("create hosted network", create(hosted(4)))
	must("create endpoint", endpoint(1, 1))
	must("create second endpoint", endpoint(1, 2))
	must("create direct endpoint", endpoint(2, 3))
	must("create wide endpoint", endpoint(3, 4))
	must("join", join(1, 1))
	must("join direct", join(2, 3))
	must("join wide", join(3, 4))
	must("discover", func() error { return h.NodeJoined(ctx, netip.MustParseAddr("127.0.0.9"), false) })
	must("allocate", func() error { _, err := h.Allocate(ctx, ofSwarm(5, 0), false); return err })
	must("create swarm network", create(ofSwarm(5, 500)))
	must("park", func() error {
		h.at(first)
		h.m.enter(epID(2), "/sandbox/"+epID(2)) // the sweep is not meant
		h.at(first + grace)
		if len(h.swarm.Parked) != 1 {
			return errors.New("not parked")
		}
		return nil
	})
	must("unpark", func() error { _, err := h.CreateEndpoint(ctx, ofSwarm(5, 0).ID, ep(5)); return err })
	must("delete swarm network", func() error { return h.DeleteNetwork(ctx, ofSwarm(5, 0).ID) })
	must("add peer", func() error { return h.AddPeer(ctx, netID(3), netip.MustParseAddrPort("127.0.0.3:0")) })
	must("remove peer", func() error { return h.RemovePeer(ctx, netID(3), netip.MustParseAddrPort("127.0.0.2:0")) })
	must("delete endpoint", func() error { return h.DeleteEndpoint(ctx, netID(1), epID(2)) })
	must("delete network", func() error { return h.DeleteNetwork(ctx, netID(1)) })
	must("delete direct network", func() error { return h.DeleteNetwork(ctx, netID(2)) })
	must("delete wide network", func() error { return h.DeleteNetwork(ctx, netID(3)) })
	must("delete hosted network", func() error { return h.DeleteNetwork(ctx, netID(4)) })
	h.close()
	if len(moments) < 50 {
		t.Errorf("%d steps were seen", len(moments))
	}

	for _, m := range moments {
		t.Run(m.name, func(t *testing.T) {
			h := &host{t: t, m: newMemory(), log: new(testhost.Log), cfg: h.cfg}
			h.m.links, h.cfg.Dir, h.cfg.Links, h.cfg.Port = m.links, m.dir, h.m, testhost.UDPPort(t)
			named := state.Dir(m.dir)
			records, err := named.Load()
			if err != nil {
				t.Fatal(err)
			}
			known := map[string]bool{}
			for _, r := range records {
				for _, e := range r.Endpoints {
					known[e.ID] = true
				}
				if r.Network.HostPort != nil {
					known[r.Network.HostPort.ID] = true
				}
			}
			living := map[string]bool{}
			for id, l := range m.links {
				if !known[id] {
					t.Errorf("endpoint %s has links and no record", id)
				}
				living[id] = l.mode == tap.Veth && !l.inner || l.mode == tap.Direct && !l.tap
			}
			var hosts []string // of networks that are recorded
			for _, r := range records {
				if r.Network.HostPort != nil {
					hosts = append(hosts, r.Network.HostPort.ID)
					delete(living, r.Network.HostPort.ID)
				}
			}
			h.start()
			defer h.close()
			for _, p := range h.containers() {
				if _, there := m.links[p.Name]; there != (p.Down == "") {
					t.Errorf("endpoint %s is down: %q; it has links: %v", p.Name, p.Down, there)
				}
			}
			for _, n := range h.Networks() {
				if n.Down != "" {
					t.Errorf("network %s is down: %s", n.ID, n.Down)
				}
			}
			// The daemon was asked something when it died: Docker asks again.
			for _, r := range records {
				h.mustNetwork(r.Network)
				for _, e := range r.Endpoints {
					h.mustEndpoint(r.Network.ID, e.Endpoint)
				}
			}
			for _, p := range h.containers() {
				if p.Down != "" {
					t.Errorf("endpoint %s is down after its create was repeated: %s", p.Name, p.Down)
				}
			}
			// Or dockerd was killed with it, and nobody asks.
			h.at(first)
			h.at(first + grace)
			var want []string
			for id, lives := range living {
				if lives {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			if got := h.m.ids(); !slices.Equal(got, append(slices.Clone(want), hosts...)) || !slices.Equal(h.recordedEndpoints(), want) {
				t.Errorf("links %v and records %v are left, want those of %v", got, h.recordedEndpoints(), want)
			}
		})
	}
}

// After kill -9 traffic continues without a request from Docker, for both attach modes, and also a second time.
func TestTrafficAfterCrash(t *testing.T) {
	h := newHost(t)
	direct := local(2)
	direct.Attach = tap.Direct
	h.mustNetwork(local(1))
	h.mustNetwork(direct)
	for i, n := range []int{1, 1, 2, 2} {
		h.container(netID(n), ep(i+1))
	}
	for range 3 {
		h.m.dev(t, epID(1)).feed(ep(1).MAC, ep(2).MAC, "veth")
		h.m.dev(t, epID(2)).expect(t, "veth")
		h.m.dev(t, epID(3)).feed(ep(3).MAC, ep(4).MAC, "direct")
		h.m.dev(t, epID(4)).expect(t, "direct")
		h.at(first)
		h.at(first + 2*grace)
		if n := len(h.Ports("")); n != 4 {
			t.Fatalf("%d endpoints are left of living containers", n)
		}
		h.crash()
		h.start()
	}
}

// Many requests of all kinds at the same time: nothing races, and disk, kernel and memory agree at the end.
func TestConcurrent(t *testing.T) {
	h := newHost(t)
	h.cfg.SweepAfter = 0
	const networks = 4
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	var wg sync.WaitGroup
	for i := range 8 {
		r := rand.New(rand.NewPCG(7, uint64(i)))
		wg.Go(func() {
			for range 25 {
				n, e := r.IntN(networks), ep(r.IntN(10)+1)
				e.ID = epID(1000*n + r.IntN(10) + 1)
				id := netID(n)
				spec := local(n)
				if n%2 == 1 {
					spec = wide(n, uint32(n), "127.0.0.2")
				}
				peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(3 + r.IntN(5))}), 0)
				// Many of these find nothing, or something else, and say so.
				switch r.IntN(12) {
				case 0, 1:
					_ = h.CreateNetwork(ctx, spec)
				case 2:
					if r.IntN(3) == 0 {
						_ = h.DeleteNetwork(ctx, id)
					}
				case 3, 4, 5:
					_, _ = h.CreateEndpoint(ctx, id, e)
				case 6:
					_ = h.DeleteEndpoint(ctx, id, e.ID)
				case 7:
					_, _ = h.Join(ctx, id, e.ID, "/sandbox")
				case 8:
					_ = h.AddPeer(ctx, id, peer)
				case 9:
					_ = h.RemovePeer(ctx, id, peer)
				case 10:
					h.Status()
					h.Networks()
					h.Ports("")
				case 11:
					h.Entries(id)
					h.Peers("")
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	var want []string
	for _, p := range h.containers() {
		want = append(want, p.Name)
		if p.Down != "" {
			t.Errorf("endpoint %s is down: %s", p.Name, p.Down)
		}
	}
	slices.Sort(want)
	if got := h.m.ids(); !slices.Equal(got, want) {
		t.Errorf("links are %v, want %v", got, want)
	}
	if got := h.recordedEndpoints(); !slices.Equal(got, want) {
		t.Errorf("records are %v, want %v", got, want)
	}
	shown := func() string {
		s := fmt.Sprint(h.records())
		for _, p := range h.Peers("") {
			s += fmt.Sprint(p.Network, p.Addr, p.Down)
		}
		return s
	}
	before := shown()
	h.restart()
	if after := shown(); after != before {
		t.Errorf("was %s,\nis %s", before, after)
	}
}

// A network of which only the record was written before a crash.
func TestHalfMade(t *testing.T) {
	h := newHost(t)
	h.close()
	r := state.Record{Network: wide(1, 80, "127.0.0.2"), Endpoints: []state.EndpointRecord{{Endpoint: ep(1), MTU: 1400}}}
	if err := h.stateDir().Save(r); err != nil {
		t.Fatal(err)
	}
	h.start()
	p := h.Ports("")
	if len(p) != 1 || p[0].Down != tap.ErrGone.Error() || p[0].MAC != (ether.MAC{2, 0x42, 10, 77, 0, 1}) {
		t.Errorf("ports are %+v", p)
	}
	h.at(first)
	h.at(first + grace)
	if p := h.Ports(""); len(p) != 0 || len(h.recordedEndpoints()) != 0 {
		t.Errorf("ports are %+v, records %v", p, h.recordedEndpoints())
	}
}
