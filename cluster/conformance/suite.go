// Package conformance tests a cluster.Engine: what each kind must do, and what it says of itself.
package conformance

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A Bed makes the engines that are tested. What it starts ends with the test.
type Bed struct {
	New  func() cluster.Engine             // one more host's, not started
	Kill func(cluster.Engine)              // the host ends without a word; nil: nobody would be told
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
	tests := map[string]func(*testing.T, Bed){
		"reading":    reading,
		"publishing": publishing,
		"restart":    restart,
		"networks":   networks,
		"blocks":     blocks,
		"claims":     claims,
		"death":      death,
		"cut":        cut,
	}
	if bed(t).New().Info().Consistency == cluster.None {
		tests = map[string]func(*testing.T, Bed){"alone": alone}
	}
	tests["bad input"] = badInput
	for name, test := range tests {
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
func prepare(t testing.TB, b Bed, self cluster.Host) *host { return newHost(t, b.New(), self) }

func newHost(t testing.TB, e cluster.Engine, self cluster.Host) *host {
	h := &host{t: t, Engine: e, self: self, dir: cluster.NewDirectory(self.ID)}
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
		for j := range 50 { // none of which is the last
			h.Publish(sample(110 + j))
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
