package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// networks: hosts that name one key agree on its values.
func networks(t *testing.T, b Bed) {
	all := trio(t, b)
	first, err := all[0].Network(t.Context(), blue())
	testhost.Must(t, err)
	if first.VNI < cluster.FirstChosen || first.VNI > ether.MaxVNI {
		t.Fatalf("VNI %d was chosen", first.VNI)
	}
	all[0].Publish([]cluster.Member{{Spec: first}}, nil, nil)
	testhost.Until(t, "the others know the network", func() bool { return len(all[1].dir.On("blue")) == 1 && len(all[2].dir.On("blue")) == 1 })
	for range 2 {
		if again, err := all[1].Network(t.Context(), blue()); err != nil || !reflect.DeepEqual(again, first) {
			t.Errorf("the second host gets %+v, %v, want %+v", again, err, first)
		}
	}
	for what, change := range map[string]func(*cluster.Spec){
		"10.50.0.0/16":                   func(s *cluster.Spec) { s.Subnets = []netip.Prefix{netip.MustParsePrefix("10.51.0.0/16")} },
		fmt.Sprintf("VNI %d", first.VNI): func(s *cluster.Spec) { s.VNI = 80 },
	} {
		want := blue()
		change(&want)
		_, err := all[2].Network(t.Context(), want)
		var c *cluster.Conflict
		if !errors.As(err, &c) || c.Host != all[0].self || !strings.Contains(err.Error(), what) {
			t.Errorf("another spec: %v, want one that names %s and %s", err, all[0].self, what)
		}
	}
	green := cluster.Spec{Key: "green", VNI: first.VNI}
	var c *cluster.Conflict
	if _, err := all[2].Network(t.Context(), green); !errors.As(err, &c) || c.Host != all[0].self || !strings.Contains(err.Error(), "blue") {
		t.Errorf("another network with its VNI: %v", err)
	}
	green.VNI = 81
	if got, err := all[2].Network(t.Context(), green); err != nil || got.VNI != 81 {
		t.Errorf("a VNI of one's own: %+v, %v", got, err)
	}
}

// blocks: eight hosts that claim at once get different ones.
func blocks(t *testing.T, b Bed) {
	const hosts, each = 8, 40
	var all []*host
	for i := range hosts {
		all = append(all, start(t, b, Self(1+i)))
	}
	if !all[0].Info().Allocates {
		t.Skip("this kind of cluster chooses no blocks")
	}
	meet(t, all...)
	_, err := all[0].Network(t.Context(), blue())
	testhost.Must(t, err)
	want := cluster.Want{Subnet: blue().Subnets[0], Bits: 26}
	var mu sync.Mutex
	got := make(map[netip.Prefix]cluster.HostID)
	var wg sync.WaitGroup
	for _, h := range all {
		wg.Go(func() {
			for range each {
				p, err := claim(h, want)
				mu.Lock()
				if by, taken := got[p]; taken || err != nil || p.Bits() != 26 || !want.Subnet.Overlaps(p) {
					t.Errorf("%s gets %v, %v; taken by %q", h.self.Name, p, err, by)
				}
				got[p] = h.self.ID
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(got) != hosts*each {
		t.Errorf("%d blocks, want %d", len(got), hosts*each)
	}
}

// claim claims a block, and tries again while the cluster is too busy to answer in time: hosts that claim at once disturb each
// other, and a test's machine may be slow.
func claim(h *host, want cluster.Want) (p netip.Prefix, err error) {
	for end := time.Now().Add(testhost.Patience); time.Now().Before(end); {
		if p, err = h.Claim(h.ctx(), "blue", want); !errors.Is(err, cluster.ErrUnavailable) {
			break
		}
	}
	return p, err
}

// claims: what is one's own may be claimed again, what is another's may not, and what was given back may.
func claims(t *testing.T, b Bed) {
	all := trio(t, b)
	_, err := all[0].Network(t.Context(), blue())
	testhost.Must(t, err)
	mine := netip.MustParsePrefix("10.50.7.0/26")
	for range 2 {
		if got, err := all[0].Claim(t.Context(), "blue", cluster.Want{Block: mine}); err != nil || got != mine {
			t.Fatalf("claimed %v, %v", got, err)
		}
	}
	say := func(h *host, blocks ...netip.Prefix) {
		h.Publish([]cluster.Member{{Spec: blue(), Blocks: blocks}}, nil, nil)
		for _, other := range all {
			testhost.Until(t, "the block is known", func() bool {
				i := slices.IndexFunc(other.dir.On("blue"), func(s cluster.Seat) bool { return s.ID == h.self.ID })
				return other == h || i >= 0 && slices.Equal(other.dir.On("blue")[i].Blocks, blocks)
			})
		}
	}
	say(all[0], mine)
	for _, p := range []string{"10.50.7.0/26", "10.50.7.5/32", "10.50.0.0/20"} {
		var c *cluster.Conflict
		if _, err := all[1].Claim(t.Context(), "blue", cluster.Want{Block: netip.MustParsePrefix(p)}); !errors.As(err, &c) || c.Host != all[0].self {
			t.Errorf("claiming %s: %v, want one that names %s", p, err, all[0].self)
		}
	}
	if got, err := all[1].Claim(t.Context(), "blue", cluster.Want{Block: netip.MustParsePrefix("10.50.9.9/32")}); err != nil {
		t.Errorf("one address: %v, %v", got, err)
	}
	testhost.Must(t, all[1].Free(t.Context(), "blue", mine)) // not its own: nothing happens
	if _, err := all[1].Claim(t.Context(), "blue", cluster.Want{Block: mine}); err == nil {
		t.Error("a host has given back another's block")
	}
	for range 2 {
		testhost.Must(t, all[0].Free(t.Context(), "blue", mine))
	}
	say(all[0])
	if _, err := all[1].Claim(t.Context(), "blue", cluster.Want{Block: mine}); err != nil {
		t.Errorf("claiming what was given back: %v", err)
	}
	if !all[0].Info().Allocates {
		if _, err := all[0].Claim(t.Context(), "blue", cluster.Want{Subnet: blue().Subnets[0], Bits: 26}); !errors.Is(err, cluster.ErrNoChoice) {
			t.Errorf("a cluster that chooses no blocks: %v", err)
		}
		return
	}
	small := cluster.Want{Subnet: netip.MustParsePrefix("10.50.200.0/25"), Bits: 26}
	for i := range 3 {
		_, err := claim(all[2], small)
		if exhausted := errors.Is(err, cluster.ErrExhausted); exhausted != (i == 2) {
			t.Errorf("claim %d of two possible ones: %v", i+1, err)
		}
	}
}

// death: a host that dies without a word is gone in time, what it owns stays its own, and it may come back or be forgotten.
func death(t *testing.T, b Bed) {
	all := trio(t, b)
	info := all[0].Info()
	if !info.Membership {
		t.Skip("this kind of cluster knows of no death")
	}
	mine := netip.MustParsePrefix("10.50.7.0/26")
	if info.Consistency == cluster.Strong {
		_, err := all[0].Network(t.Context(), blue())
		testhost.Must(t, err)
		_, err = all[0].Claim(t.Context(), "blue", cluster.Want{Block: mine})
		testhost.Must(t, err)
	}
	if err := all[1].Forget(t.Context(), all[0].self.ID); info.Consistency == cluster.Strong && !errors.Is(err, cluster.ErrNotGone) {
		t.Errorf("a living host is forgotten: %v", err)
	}
	b.Kill(all[0].Engine)
	for _, h := range all[1:] {
		testhost.Until(t, "a dead host is gone", func() bool { return h.state(all[0].self.ID) == "gone" })
	}
	self := all[0].self
	self.Epoch++
	again := start(t, b, self)
	meet(t, again, all[1], all[2])
	if info.Consistency != cluster.Strong {
		return
	}
	var c *cluster.Conflict
	if _, err := all[1].Claim(t.Context(), "blue", cluster.Want{Block: mine}); !errors.As(err, &c) {
		t.Errorf("a dead host's block was given away: %v", err)
	}
	b.Kill(again.Engine)
	testhost.Until(t, "the dead host is gone again", func() bool { return all[1].state(self.ID) == "gone" })
	testhost.Must(t, all[1].Forget(t.Context(), self.ID))
	for _, h := range all[1:] {
		testhost.Until(t, "a forgotten host is unknown", func() bool { return h.state(self.ID) == "" })
	}
	if _, err := all[1].Claim(t.Context(), "blue", cluster.Want{Block: mine}); err != nil {
		t.Errorf("a forgotten host's block: %v", err)
	}
	if err := all[1].Forget(t.Context(), self.ID); !errors.Is(err, cluster.ErrNoHost) {
		t.Errorf("forgotten twice: %v", err)
	}
}

// cut: a host without the cluster keeps what it knows, its strong calls fail in time, and when it is back both sides agree.
func cut(t *testing.T, b Bed) {
	if b.Cut == nil {
		t.Skip("it cannot be cut off here")
	}
	all := trio(t, b)
	alone := all[0]
	for i, h := range all {
		h.Publish(sample(i))
	}
	known := func(h *host, of int, is int) bool {
		m := h.record(all[of].self.ID).Members
		want, _, _ := sample(is)
		return reflect.DeepEqual(m, want)
	}
	for i := range all {
		for j := range all {
			testhost.Until(t, "all is known", func() bool { return i == j || known(all[i], j, j) })
		}
	}
	b.Cut(alone.Engine, true)
	if alone.Info().Consistency == cluster.Strong {
		testhost.Until(t, "the engine says that it is away", func() bool { return alone.Status().Err != nil })
		for name, call := range map[string]func() error{
			"Network": func() error { _, err := alone.Network(t.Context(), blue()); return err },
			"Claim": func() error {
				_, err := alone.Claim(t.Context(), "blue", cluster.Want{Subnet: blue().Subnets[0], Bits: 26})
				return err
			},
			"Free":   func() error { return alone.Free(t.Context(), "blue", netip.MustParsePrefix("10.50.7.0/26")) },
			"Forget": func() error { return alone.Forget(t.Context(), all[1].self.ID) },
		} {
			if err := call(); !errors.Is(err, cluster.ErrUnavailable) {
				t.Errorf("%s: %v, want ErrUnavailable", name, err)
			}
		}
	}
	alone.Publish(sample(50))
	all[1].Publish(sample(51))
	testhost.Until(t, "those who are together go on", func() bool { return known(all[2], 1, 51) })
	for j := range 2 {
		if !known(alone, 1+j, 1+j) {
			t.Errorf("what was known of %s is lost: %+v", all[1+j].self.Name, alone.record(all[1+j].self.ID))
		}
	}
	b.Cut(alone.Engine, false)
	testhost.Until(t, "the one knows the others' news", func() bool { return known(alone, 1, 51) && known(alone, 2, 2) })
	for _, h := range all[1:] {
		testhost.Until(t, "the others know the one's news", func() bool { return known(h, 0, 50) })
	}
	meet(t, all...)
}

// alone: hosts that tell each other nothing choose alike, and what a host wants for itself it has.
func alone(t *testing.T, b Bed) {
	all := []*host{start(t, b, Self(1)), start(t, b, Self(2))}
	var specs []cluster.Spec
	for i, h := range all {
		if info := h.Info(); info.Membership || info.Allocates || info.Detects != 0 {
			t.Fatalf("it promises %+v, and asks nobody", info)
		}
		for range 2 {
			s, err := h.Network(t.Context(), blue())
			testhost.Must(t, err)
			specs = append(specs, s)
		}
		if s := specs[0]; s.VNI < cluster.FirstChosen || s.VNI > ether.MaxVNI || !reflect.DeepEqual(specs[len(specs)-1], s) {
			t.Errorf("%s chooses %+v", h.self.Name, specs)
		}
		green := cluster.Spec{Key: "green", VNI: 81, MTU: 1400}
		if s, err := h.Network(t.Context(), green); err != nil || !reflect.DeepEqual(s, green) {
			t.Errorf("a VNI of one's own: %+v, %v", s, err)
		}
		mine := netip.MustParsePrefix("10.50.7.0/26")
		for range 2 {
			if got, err := h.Claim(t.Context(), "blue", cluster.Want{Block: mine}); err != nil || got != mine {
				t.Errorf("claimed %v, %v", got, err)
			}
		}
		if _, err := h.Claim(t.Context(), "blue", cluster.Want{Subnet: blue().Subnets[0], Bits: 26}); !errors.Is(err, cluster.ErrNoChoice) {
			t.Errorf("any block: %v", err)
		}
		testhost.Must(t, h.Free(t.Context(), "blue", mine))
		h.Publish(sample(i))
		if err := h.Forget(t.Context(), all[1-i].self.ID); !errors.Is(err, cluster.ErrNoHost) {
			t.Errorf("another host is forgotten: %v", err)
		}
		if s := h.Status(); s.Err != nil || s.Since.IsZero() {
			t.Errorf("status %+v", s)
		}
		if other, err := h.Network(t.Context(), cluster.Spec{Key: "red"}); err != nil || other.VNI == specs[0].VNI {
			t.Errorf("another network: %+v, %v", other, err)
		}
	}
	for _, h := range all {
		for range 2 {
			testhost.Must(t, h.Close(t.Context()))
		}
		h.mu.Lock()
		if h.updates != 1 || h.full != 1 || len(h.dir.Hosts()) != 0 {
			t.Errorf("%s was told %d updates, %d of them full, of %v", h.self.Name, h.updates, h.full, h.dir.Hosts())
		}
		h.mu.Unlock()
	}
}

// badInput: what no host can be or have is refused with a sentence.
func badInput(t *testing.T, b Bed) {
	for name, change := range map[string]func(*cluster.Host){
		"id":   func(h *cluster.Host) { h.ID = "me" },
		"name": func(h *cluster.Host) { h.Name = "" },
		"vtep": func(h *cluster.Host) { h.VTEP = netip.AddrPort{} },
	} {
		self := Self(1)
		change(&self)
		e := b.New()
		if err := e.Start(self, func(cluster.Update) {}); err == nil {
			t.Errorf("a host with a bad %s starts", name)
			e.Close(context.Background())
		}
	}
	h := start(t, b, Self(1))
	for _, key := range []string{"", "Blue", "a.b", "-a", strings.Repeat("a", cluster.MaxKey+1)} {
		if _, err := h.Network(t.Context(), cluster.Spec{Key: key}); err == nil {
			t.Errorf("network %q is no error", key)
		}
	}
}
