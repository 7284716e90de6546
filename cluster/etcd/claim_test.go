package etcd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// claim claims, and tries again while etcd is too busy to answer in time.
func (h *host) claim(want cluster.Want) (p netip.Prefix, err error) {
	testhost.Until(h.t, "etcd answers", func() bool {
		p, err = h.Claim(h.t.Context(), "blue", want)
		return !errors.Is(err, cluster.ErrUnavailable)
	})
	return p, err
}

// TestRace: of claims that overlap, made at the same time, never two succeed, and one always does.
func TestRace(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hosts := []*host{newHost(t, s).start(1), newHost(t, s).start(2), newHost(t, s).start(3)}
	meet(t, hosts...)
	blocks := []string{"10.50.%d.0/26", "10.50.%d.5/32", "10.50.%d.0/24"} // the /24 and the /26 begin at one address
	for i := range 100 {
		won := make([]bool, len(hosts))
		var wg sync.WaitGroup
		for j, h := range hosts {
			wg.Go(func() {
				want := cluster.Want{Block: prefix(fmt.Sprintf(blocks[(i+j)%len(blocks)], i))}
				got, err := h.claim(want)
				var c *cluster.Conflict
				if won[j] = err == nil; won[j] && got != want.Block || !won[j] && !errors.As(err, &c) {
					t.Errorf("%s claims %v: %v, %v", h.self.Name, want.Block, got, err)
				} else if !won[j] && !slices.ContainsFunc(hosts, func(o *host) bool { return o.self == c.Host && o != h }) {
					t.Errorf("%s claims %v: the conflict is with %+v", h.self.Name, want.Block, c.Host)
				}
			})
		}
		wg.Wait()
		if n := strings.Count(fmt.Sprint(won), "true"); n != 1 {
			t.Fatalf("round %d: %d hosts have won: %v", i, n, won)
		}
	}
}

// TestOverlaps: whether one block's claim excludes another's is what netip says of the two, for any two blocks.
func TestOverlaps(t *testing.T) {
	l := newLayout("/tapestry", "test")
	excludes := func(a, b netip.Prefix) bool { // whether a claim of b fails while a is claimed
		k := l.block("blue", a)
		from, to := l.within("blue", b)
		return from <= k && k < to || slices.Contains(l.around("blue", b), k)
	}
	r := rand.New(rand.NewPCG(1, 2))
	overlaps := 0
	for range 100000 {
		var a, b netip.Prefix
		if r.IntN(2) == 0 {
			near := func() netip.Prefix {
				return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(r.IntN(2)), byte(r.IntN(256))}), 1+r.IntN(32)).Masked()
			}
			a, b = near(), near()
		} else {
			near := func() netip.Prefix {
				return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(r.IntN(2)), 14: byte(r.IntN(2)), 15: byte(r.IntN(256))}), 16+r.IntN(113)).Masked()
			}
			a, b = near(), near()
		}
		if a.Overlaps(b) {
			overlaps++
		}
		if excludes(a, b) != a.Overlaps(b) {
			t.Fatalf("%v and %v overlap: %v, but the claims exclude each other: %v", a, b, a.Overlaps(b), excludes(a, b))
		}
		if n := len(l.around("blue", b)); n > 112 {
			t.Fatalf("%v needs %d comparisons", b, n)
		}
		key, got, err := l.parseBlock(l.block("blue", a))
		if key != "blue" || got != a || err != nil {
			t.Fatalf("the key of %v is read as %q, %v, %v", a, key, got, err)
		}
	}
	if overlaps < 1000 {
		t.Errorf("%d pairs overlap", overlaps)
	}
}

// TestGaps: the free blocks are those that overlap none of the taken ones, in order.
func TestGaps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(r.IntN(8) * 4), 0}), 22)
		bits, most := 22+r.IntN(8), 1+r.IntN(40)
		var taken []netip.Prefix
		for range r.IntN(12) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(r.IntN(32)), byte(r.IntN(256))}), 20+r.IntN(13)).Masked()
			if !slices.ContainsFunc(taken, p.Overlaps) {
				taken = append(taken, p)
			}
		}
		slices.SortFunc(taken, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
		var want []netip.Prefix
		for b := range cluster.Blocks(subnet, bits) {
			if !slices.ContainsFunc(taken, b.Overlaps) && len(want) < most {
				want = append(want, b)
			}
		}
		g := newGaps(subnet, bits, most)
		for _, p := range taken {
			g.taken(p)
		}
		if got := g.rest(); !slices.Equal(got, want) {
			t.Fatalf("/%d of %v without %v: %v, want %v", bits, subnet, taken, got, want)
		}
	}
	g := newGaps(prefix("::/0"), 128, 3) // what is taken is jumped over
	g.taken(prefix("::/16"))
	g.taken(prefix("1::/16"))
	if got := g.rest(); len(got) != 3 || got[0] != prefix("2::/128") {
		t.Errorf("%v", got)
	}
	g = newGaps(prefix("ffff::/16"), 64, 3) // the last address there is
	g.taken(prefix("ffff::/16"))
	if got := g.rest(); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// owned are the blocks in etcd, with their owners.
func (s *server) owned(h *host) (all []string) {
	s.t.Helper()
	r, err := s.examine().Get(s.t.Context(), h.at.allBlocks(), clientv3.WithPrefix())
	testhost.Must(s.t, err)
	for _, kv := range r.Kvs {
		_, b, err := h.at.parseBlock(string(kv.Key))
		testhost.Must(s.t, err)
		all = append(all, b.String()+" "+string(kv.Value))
	}
	return all
}

// TestLostAnswer: a claim that etcd has carried out, but whose answer was lost, is recognised when it is repeated, and is the first that
// is given out when any is wanted.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1).connected(), newHost(t, s).start(2).connected()
	if _, err := a.claim(anyOf); err != nil { // now it knows what an earlier run has left
		t.Fatal(err)
	}
	for i, again := range []cluster.Want{{Block: prefix("10.50.100.0/26")}, anyOf} {
		want := cluster.Want{Block: prefix(fmt.Sprintf("10.50.%d.0/26", 100+i))}
		a.proxy.deaf(true) // what etcd says is lost, not what the host says
		if _, err := a.Claim(t.Context(), "blue", want); !errors.Is(err, cluster.ErrUnavailable) {
			t.Fatalf("without an answer: %v", err)
		}
		a.proxy.deaf(false)
		if owned := want.Block.String() + " " + string(a.self.ID); !slices.Contains(s.owned(a), owned) {
			t.Fatalf("etcd has only %v: this tests nothing", s.owned(a))
		}
		var c *cluster.Conflict
		if _, err := b.claim(want); !errors.As(err, &c) || c.Host != a.self {
			t.Errorf("another host claims it: %v", err)
		}
		if got, err := a.claim(again); err != nil || got != want.Block || len(s.owned(a)) != i+2 {
			t.Errorf("again: %v, %v, want %v; there are %v", got, err, want.Block, s.owned(a))
		}
	}
}

// TestFence: what a host writes is refused once another daemon with its id is there, though this one does not know it yet.
func TestFence(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := newHost(t, s).start(1).connected()
	block := prefix("10.50.1.0/26")
	_, err := a.claim(cluster.Want{Block: block})
	testhost.Must(t, err)
	a.mu.Lock()
	one := a.session
	a.mu.Unlock()
	s.put(a.at.alive(a.self.ID), aliveValue(9, "another"))
	ctx := t.Context()
	if err := one.take(ctx, "blue", prefix("10.50.2.0/26")); !errors.Is(err, errFence) {
		t.Errorf("claiming: %v", err)
	}
	if _, err := one.agree(ctx, blue); !errors.Is(err, errFence) {
		t.Errorf("agreeing on a network: %v", err)
	}
	if joined, err := one.publish(); joined || err != nil {
		t.Errorf("publishing: %v, %v", joined, err)
	}
	if err := a.Free(ctx, "blue", block); !errors.Is(err, cluster.ErrUnavailable) || len(s.owned(a)) != 1 {
		t.Errorf("freeing: %v; there are %v", err, s.owned(a))
	}
	a.away("another daemon has this host's id", "epoch 9")
}

// TestLeftOver: a daemon that starts again gets no block that it uses, and gets those first that it has and does not use; etcd has what
// it uses although that was lost.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := newHost(t, s).start(1).connected()
	var used, unused netip.Prefix
	for i := range 5 {
		if _, err := newHost(t, s).start(2 + i).connected().claim(anyOf); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*netip.Prefix{&used, &unused} {
		got, err := a.claim(anyOf)
		testhost.Must(t, err)
		*p = got
	}
	testhost.Must(t, a.Close(t.Context()))
	_, err := s.examine().Delete(t.Context(), a.at.block("blue", used))
	testhost.Must(t, err)
	again := newHost(t, s)
	again.Publish(member(used), nil, nil) // as its state on the disk says
	again.start(1, func(h *cluster.Host) { h.Epoch++ })
	again.connected()
	testhost.Until(t, "what it uses is there again", func() bool { return slices.Contains(s.owned(a), used.String()+" "+string(a.self.ID)) })
	if got, err := again.claim(anyOf); err != nil || got != unused {
		t.Errorf("the first one: %v, %v, want %v", got, err, unused)
	}
	got, err := again.claim(anyOf)
	if err != nil || got == used || got == unused {
		t.Errorf("the second one: %v, %v", got, err)
	}
	again.proxy.refuse(true) // what could not be freed
	again.away("refused")
	if err := again.Free(t.Context(), "blue", got); !errors.Is(err, cluster.ErrUnavailable) {
		t.Error(err)
	}
	again.proxy.refuse(false)
	if third, err := again.claim(anyOf); err != nil || third != got {
		t.Errorf("the third one: %v, %v, want %v", third, err, got)
	}
}

// TestWhole: who has the whole subnet, or a block around it, leaves nothing free in it.
func TestWhole(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1).connected(), newHost(t, s).start(2).connected()
	for _, p := range []string{"10.48.0.0/12", "fd00::/16"} {
		if _, err := a.claim(cluster.Want{Block: prefix(p)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []cluster.Want{anyOf, {Subnet: prefix("10.48.0.0/16"), Bits: 26}, {Subnet: prefix("fd00:0:0:5::/64"), Bits: 80}, {Subnet: prefix("fd00::/16"), Bits: 128}} {
		if got, err := b.claim(want); !errors.Is(err, cluster.ErrExhausted) {
			t.Errorf("any /%d in %v: %v, %v", want.Bits, want.Subnet, got, err)
		}
	}
	if got, err := b.claim(cluster.Want{Subnet: prefix("fd01::/16"), Bits: 80}); err != nil || !prefix("fd01::/16").Overlaps(got) {
		t.Errorf("IPv6: %v, %v", got, err)
	}
	for _, want := range []cluster.Want{{}, {Block: netip.PrefixFrom(netip.MustParseAddr("10.50.0.1"), 24)}, {Subnet: blue.Subnets[0], Bits: 8}, {Subnet: blue.Subnets[0], Bits: 33}, {Block: prefix("fc00::/7")}} {
		if got, err := b.Claim(t.Context(), "blue", want); err == nil || errors.Is(err, cluster.ErrUnavailable) {
			t.Errorf("claiming %+v: %v, %v", want, got, err)
		}
	}
}

// TestSpecAgain: a network that nobody uses any more may get another spec; one that somebody uses, or has a block of, may not.
func TestSpecAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	ctx := t.Context()
	other := cluster.Spec{Key: "blue", Subnets: []netip.Prefix{prefix("10.51.0.0/16")}}
	first, err := a.Network(ctx, blue)
	testhost.Must(t, err)
	refused := func(why string) {
		t.Helper()
		var c *cluster.Conflict
		if _, err := b.Network(ctx, other); !errors.As(err, &c) || c.Host != a.self {
			t.Errorf("while the other host %s: %v", why, err)
		}
	}
	refused("has agreed on it")
	a.Publish(member(), nil, nil)
	testhost.Until(t, "b sees a on the network", func() bool { return len(b.dir.On("blue")) == 1 })
	refused("is on it")
	got, err := a.claim(anyOf)
	testhost.Must(t, err)
	a.Publish(nil, nil, nil)
	testhost.Until(t, "a is off the network", func() bool { return len(b.dir.On("blue")) == 0 })
	refused("has a block of it")
	testhost.Must(t, a.Free(ctx, "blue", got))
	second, err := b.Network(ctx, other)
	if err != nil || second.VNI != first.VNI || !slices.Equal(second.Subnets, other.Subnets) {
		t.Errorf("when it is free: %+v, %v", second, err)
	}
	var c *cluster.Conflict
	if _, err := a.Network(ctx, blue); !errors.As(err, &c) || c.Host != b.self {
		t.Errorf("the old spec now: %v", err)
	}
}

// TestVNITaken: a network whose VNI is taken gets the next one.
func TestVNITaken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := newHost(t, s).start(1).connected()
	for i := range 3 {
		spec := cluster.Spec{Key: fmt.Sprintf("net%d", i), VNI: choose("test", "blue", i)}
		if _, err := a.Network(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Network(t.Context(), blue)
	if err != nil || got.VNI != choose("test", "blue", 3) || got.VNI < cluster.FirstChosen {
		t.Errorf("%+v, %v", got, err)
	}
}
