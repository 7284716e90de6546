// Package conformance tests a cluster.Engine: what each kind must do, and what it says of itself.
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

// A Bed makes the engines that are tested. What it starts ends with the test.
type Bed struct {
	New  func() cluster.Engine             // one more host's, not started
	Kill func(cluster.Engine)              // the host ends without a word
	Cut  func(e cluster.Engine, away bool) // the host reaches nobody, and with false all again; nil: cannot be tested
}

// A host is one member of a test's cluster.
type host struct {
	t testing.TB
	cluster.Engine
	self cluster.Host
	dir  *cluster.Directory

	mu      sync.Mutex // guards what follows
	updates int
	full    int
	own     int // records of this host that it was given
	busy    bool
	twice   bool // sink was called by two goroutines at once
	watched cluster.HostID
	empty   bool // the watched host was seen without a network
}

// Run runs the suite, each test with a new Bed.
func Run(t *testing.T, bed func(t *testing.T) Bed) {
	for name, test := range map[string]func(*testing.T, Bed){
		"presence":   presence,
		"publishing": publishing,
		"restart":    restart,
		"networks":   networks,
		"blocks":     blocks,
		"claims":     claims,
		"death":      death,
		"cut":        cut,
		"bad input":  badInput,
	} {
		t.Run(name, func(t *testing.T) { test(t, bed(t)) })
	}
}

// Self is the i-th host of a test, from 1.
func Self(i int) cluster.Host {
	return cluster.Host{ID: cluster.HostID(fmt.Sprintf("%016x", 0xabc0+i)), Name: fmt.Sprintf("n%d", i), Epoch: 1,
		VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4789)}
}

func start(t testing.TB, b Bed, self cluster.Host) *host {
	t.Helper()
	h := prepare(t, b, self)
	testhost.Must(t, h.Start(self, h.sink))
	return h
}

// prepare makes a host that is not started yet.
func prepare(t testing.TB, b Bed, self cluster.Host) *host {
	h := &host{t: t, Engine: b.New(), self: self, dir: cluster.NewDirectory(self.ID)}
	t.Cleanup(func() { h.Close(context.Background()) })
	return h
}

func (h *host) sink(u cluster.Update) {
	h.mu.Lock()
	h.twice = h.twice || h.busy
	h.busy = true
	h.updates++
	if u.Full {
		h.full++
	} else if h.full == 0 {
		h.t.Error("the first update is not full")
	}
	for _, e := range u.Entries {
		if e.ID == h.self.ID {
			h.own++
		}
		h.empty = h.empty || e.ID == h.watched && len(e.Members) == 0
	}
	h.mu.Unlock()
	h.dir.Apply(u)
	h.mu.Lock()
	h.busy = false
	h.mu.Unlock()
}

func (h *host) ctx() context.Context { return h.t.Context() }

// state tells what h knows of another host; "" nothing.
func (h *host) state(of cluster.HostID) string {
	for _, e := range h.dir.Hosts() {
		if e.ID == of {
			return e.State.String()
		}
	}
	return ""
}

func (h *host) record(of cluster.HostID) cluster.Record {
	for _, e := range h.dir.Hosts() {
		if e.ID == of {
			return e.Record
		}
	}
	return cluster.Record{}
}

// meet waits until all hosts see each other.
func meet(t testing.TB, all ...*host) {
	t.Helper()
	for _, h := range all {
		for _, other := range all {
			if other != h {
				testhost.Until(t, fmt.Sprintf("%s sees %s", h.self.Name, other.self.Name), func() bool {
					return h.state(other.self.ID) == "alive" && h.record(other.self.ID).Host == other.self
				})
			}
		}
	}
}

func trio(t testing.TB, b Bed) []*host {
	t.Helper()
	all := []*host{start(t, b, Self(1)), start(t, b, Self(2)), start(t, b, Self(3))}
	meet(t, all...)
	return all
}

func blue() cluster.Spec {
	return cluster.Spec{Key: "blue", Subnets: []netip.Prefix{netip.MustParsePrefix("10.50.0.0/16")}}
}

// presence: each host sees the others, and never itself; one goroutine at a time tells it.
func presence(t *testing.T, b Bed) {
	all := trio(t, b)
	late := start(t, b, Self(4))
	meet(t, append(all, late)...)
	for _, h := range append(all, late) {
		h.mu.Lock()
		if h.own > 0 || h.twice || h.full == 0 {
			t.Errorf("%s: its own record %d times, sink called twice at once: %v, full updates %d", h.self.Name, h.own, h.twice, h.full)
		}
		h.mu.Unlock()
		if s := h.Status(); s.Err != nil {
			t.Errorf("%s: %v", h.self.Name, s.Err)
		}
	}
	if !late.Info().Membership {
		return
	}
	testhost.Must(t, late.Close(t.Context()))
	for _, h := range all {
		testhost.Until(t, "a host that left is gone", func() bool { return h.state(late.self.ID) != "alive" })
	}
}

// sample is something in every field.
func sample(i int) ([]cluster.Member, []cluster.Station, []cluster.Name) {
	s := blue()
	s.VNI = cluster.FirstChosen + 5
	a := netip.AddrFrom4([4]byte{10, 50, byte(i), 9})
	return []cluster.Member{{Spec: s, Blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 26)}}},
		[]cluster.Station{{Key: "blue", MAC: ether.MAC{2, 1, 2, 3, 4, byte(i)}, Addrs: []netip.Addr{a}, Seq: 3}},
		[]cluster.Name{{Key: "blue", Name: fmt.Sprintf("web%d", i), Addrs: []netip.Addr{a}}}
}

// publishing: others see the last of what a host says, and all of it.
func publishing(t *testing.T, b Bed) {
	all := trio(t, b)
	for i, h := range all {
		h.Publish(sample(100 + i))
		for j := range 50 {
			h.Publish(sample(j))
		}
		h.Publish(sample(i))
	}
	for i, h := range all {
		members, stations, names := sample(i)
		for _, other := range all {
			if other == h {
				continue
			}
			testhost.Until(t, fmt.Sprintf("%s has what %s says", other.self.Name, h.self.Name), func() bool {
				r := other.record(h.self.ID)
				return reflect.DeepEqual(r.Members, members) && reflect.DeepEqual(r.Stations, stations) && reflect.DeepEqual(r.Names, names)
			})
			if got := other.dir.Resolve("blue", strings.ToUpper(names[0].Name)); !slices.Equal(got, names[0].Addrs) {
				t.Errorf("%s resolves to %v", names[0].Name, got)
			}
			if got, ok := other.dir.Where("blue", members[0].Blocks[0].Addr()); !ok || got != h.self {
				t.Errorf("%v is at %v, %v", members[0].Blocks[0], got, ok)
			}
		}
	}
	all[0].Publish(nil, nil, nil)
	for _, other := range all[1:] {
		testhost.Until(t, "what is not said any more is gone", func() bool { return len(other.record(all[0].self.ID).Members) == 0 })
	}
}

// restart: a host that comes back, with a new epoch, is the same host, and its new word counts although its Seq is lower.
func restart(t *testing.T, b Bed) {
	all := trio(t, b)
	for i := range 9 {
		all[0].Publish(sample(i))
	}
	for _, h := range all[1:] {
		testhost.Until(t, "the last record is there", func() bool {
			m := h.record(all[0].self.ID).Members
			return len(m) == 1 && m[0].Blocks[0].Contains(netip.AddrFrom4([4]byte{10, 50, 8, 1}))
		})
	}
	testhost.Must(t, all[0].Close(t.Context()))
	self := all[0].self
	self.Epoch++
	self.VTEP = netip.MustParseAddrPort("192.0.2.77:4790")
	for _, h := range all[1:] {
		h.mu.Lock()
		h.watched = self.ID
		h.mu.Unlock()
	}
	again := prepare(t, b, self)
	again.Publish(sample(42))
	testhost.Must(t, again.Start(self, again.sink))
	meet(t, again, all[1], all[2])
	for _, h := range all[1:] {
		testhost.Until(t, "the new record counts", func() bool {
			m := h.record(self.ID).Members
			return len(m) == 1 && m[0].Blocks[0].Contains(netip.AddrFrom4([4]byte{10, 50, 42, 1}))
		})
		if n := len(h.dir.Hosts()); n != 2 {
			t.Errorf("%s knows %d hosts", h.self.Name, n)
		}
		h.mu.Lock()
		if h.empty {
			t.Errorf("%s saw the restarted host without its network", h.self.Name)
		}
		h.mu.Unlock()
	}
}

// networks: hosts that name one key agree on its values.
func networks(t *testing.T, b Bed) {
	all := trio(t, b)
	if all[0].Info().Consistency == cluster.None {
		t.Skip("this kind of cluster agrees on nothing")
	}
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
	if all[0].Info().Consistency == cluster.None {
		t.Skip("this kind of cluster agrees on nothing")
	}
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
