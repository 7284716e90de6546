package ipam

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// started is an engine of a hub that has started.
func started(t *testing.T, h *conformance.Hub, i int) cluster.Engine {
	t.Helper()
	e := h.Engine()
	testhost.Must(t, e.Start(conformance.Self(i), func(cluster.Update) {}))
	t.Cleanup(func() { e.Close(context.Background()) })
	return e
}

// In a cluster hosts give out addresses of different blocks.
func TestBlocks(t *testing.T) {
	hub := conformance.NewHub()
	one, two := newBed(t, started(t, hub, 1)), newBed(t, started(t, hub, 2))
	r := Request{Key: "blue", Subnet: prefix("10.50.0.0/24")}
	p, q := one.pool(r), two.pool(r)
	if p != q || p.Gateway != addr("10.50.0.1") {
		t.Fatalf("pools %+v, %+v", p, q)
	}
	if gw, err := two.RequestAddress(t.Context(), q.ID, netip.Addr{}, Use{Gateway: true}); err != nil || gw != prefix("10.50.0.1/24") {
		t.Errorf("gateway %v, %v", gw, err)
	}
	seen := make(map[netip.Addr]bool)
	for i := range 254 - 1 { // without network, broadcast and gateway
		b := []*bed{one, two}[i%2]
		a, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{})
		if err != nil { // the other one has claimed the last block
			b = []*bed{two, one}[i%2]
			a, err = b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{})
		}
		if err != nil || seen[a.Addr()] || a.Addr() == p.Gateway || a.Bits() != 24 {
			t.Fatalf("address %d: %v, %v", i, a, err)
		}
		seen[a.Addr()] = true
	}
	_, err := one.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{})
	wantError(t, err, "no block of addresses is free")
	if len(one.changes) < 2 || slices.Contains(one.changes, "") {
		t.Errorf("changes %v", one.changes)
	}
	// A host that gives its pool back leaves its addresses to others.
	testhost.Must(t, one.ReleasePool(t.Context(), p.ID))
	testhost.Until(t, "a block is free", func() bool {
		_, err := two.RequestAddress(t.Context(), q.ID, netip.Addr{}, Use{})
		return err == nil
	})
}

// The next block is there before the first one is full: a container starts while the cluster is away.
func TestBlockAhead(t *testing.T) {
	hub := conformance.NewHub()
	b := newBed(t, started(t, hub, 1))
	p := b.pool(Request{Key: "blue", Subnet: prefix("10.50.0.0/16")})
	for range 47 {
		b.any(p.ID)
	}
	testhost.Until(t, "a second block is claimed", func() bool { return len(b.Pools()[0].Blocks) == 2 })
	hub.Cut(conformance.Self(1).ID, true)
	for range 62 + 64 - 47 {
		b.any(p.ID)
	}
	_, err := b.RequestAddress(t.Context(), p.ID, netip.Addr{}, Use{})
	wantError(t, err, cluster.ErrUnavailable.Error())
	_, err = b.RequestPool(t.Context(), Request{Key: "green", Subnet: prefix("10.51.0.0/16")})
	if !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("a new pool without the cluster: %v", err)
	}
	b.work.Wait()
	b.restart()
	if n := len(b.Pools()[0].Used); n != 126 {
		t.Errorf("%d addresses are in use after a restart", n)
	}
	hub.Cut(conformance.Self(1).ID, false)
	b.any(p.ID)
}

// An --ip outside of this host's blocks is claimed by itself.
func TestSingleAddress(t *testing.T) {
	hub := conformance.NewHub()
	one, two := newBed(t, started(t, hub, 1)), newBed(t, started(t, hub, 2))
	r := Request{Key: "blue", Subnet: prefix("10.50.0.0/16")}
	p := one.pool(r)
	two.pool(r)
	testhost.Must(t, one.this(p.ID, "10.50.200.7"))
	wantError(t, two.this(p.ID, "10.50.200.7"), "belongs to host n1")
	wantError(t, two.this(p.ID, one.any(p.ID).String()), "belongs to host n1")
	if blocks := one.Pools()[0].Blocks; len(blocks) != 2 || blocks[1] != prefix("10.50.200.7/32") {
		t.Errorf("blocks %v", blocks)
	}
	one.back(p.ID, addr("10.50.200.7"))
	testhost.Must(t, two.this(p.ID, "10.50.200.7"))
	if blocks := one.Pools()[0].Blocks; len(blocks) != 1 || !slices.Equal(one.Blocks("blue"), blocks) {
		t.Errorf("blocks %v, %v", blocks, one.Blocks("blue"))
	}
	one.restart()
	if blocks := one.Blocks("blue"); len(blocks) != 1 || one.Blocks("green") != nil {
		t.Errorf("blocks after a restart: %v", blocks)
	}
	testhost.Must(t, one.ReleasePool(t.Context(), p.ID))
	if blocks := one.Blocks("blue"); len(blocks) != 0 {
		t.Errorf("blocks of a pool that was closed: %v", blocks)
	}
}

// In a random order of requests and restarts no address is given out twice, and nothing is lost.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	hub := conformance.NewHub()
	beds := []*bed{newBed(t, started(t, hub, 1)), newBed(t, started(t, hub, 2))}
	r := Request{Key: "blue", Subnet: prefix("10.50.0.0/23")}
	id := beds[0].pool(r).ID
	beds[1].pool(r)
	has := []map[netip.Addr]bool{make(map[netip.Addr]bool), make(map[netip.Addr]bool)}
	for range 2000 {
		i := rnd.IntN(2)
		b, own, other := beds[i], has[i], has[1-i]
		switch rnd.IntN(20) {
		case 0:
			b.work.Wait()
			b.restart()
			for a := range own {
				b.seen.addrs["blue 10.50.0.0/23 "+a.String()] = true
			}
		case 1, 2, 3, 4, 5, 6, 7:
			for a := range own {
				b.back(id, a)
				delete(own, a)
				delete(b.seen.addrs, "blue 10.50.0.0/23 "+a.String())
				break
			}
		default:
			var want netip.Addr
			if rnd.IntN(5) == 0 {
				want = netip.AddrFrom4([4]byte{10, 50, byte(rnd.IntN(2)), byte(rnd.IntN(256))})
			}
			p, err := b.RequestAddress(t.Context(), id, want, Use{})
			if a := p.Addr(); err == nil && (own[a] || other[a] || want.IsValid() && a != want) {
				t.Fatalf("asked for %v: %v was given out twice", want, a)
			} else if err == nil {
				own[a] = true
				b.seen.addrs["blue 10.50.0.0/23 "+a.String()] = true
			} else if want.IsValid() && !own[want] && !other[want] && strings.Contains(err.Error(), "belongs to another container") {
				t.Fatalf("%v is refused: %v", want, err)
			}
		}
	}
	for i, b := range beds {
		if got := b.Pools()[0].Used; len(got) != len(has[i]) {
			t.Errorf("host %d: %d addresses in use, want %d", i+1, len(got), len(has[i]))
		}
	}
}
