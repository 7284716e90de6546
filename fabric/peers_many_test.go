package fabric

import (
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
	"github.com/tapestry-net/tapestry/tunnel"
)

// crowd is a cluster in which so many other hosts are on network blue.
func crowd(n int) cluster.Update {
	u := cluster.Update{Full: true}
	for i := range n {
		h := conformance.Self(2 + i)
		h.VTEP = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 4789)
		u.Entries = append(u.Entries, cluster.Entry{Record: cluster.Record{Host: h, Members: []cluster.Member{{Spec: cluster.Spec{Key: "blue"}}}}})
	}
	return u
}

// What a change of many peers costs grows with their number and not with its square: no table is copied for each of them.
func TestManyPeers(t *testing.T) {
	h := newHost(t)
	h.close()
	dir := cluster.NewDirectory(conformance.Self(1).ID)
	h.cfg.Cluster = &Cluster{Directory: dir, Blocks: func(string) []netip.Prefix { return nil }, Publish: func(_ []cluster.Member, _, _ []cluster.Station) {}}
	h.start()
	h.paths.Ask = func(_, _ netip.Addr) (tunnel.Path, error) { return tunnel.Path{MTU: 1500, Link: "under"}, nil }
	blue := wide(1, 80)
	blue.Key = "blue"
	h.mustNetwork(blue)
	bytes := func(n int) float64 {
		all, none := crowd(n), cluster.Update{Full: true}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.ClusterChanged(dir.Apply(all))
		there := len(h.networks[netID(1)].remotes)
		h.ClusterChanged(dir.Apply(none))
		runtime.ReadMemStats(&after)
		if left := len(h.networks[netID(1)].remotes); there != n || left != 0 {
			t.Fatalf("%d peers, want %d, and %d when all have left", there, n, left)
		}
		return float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
	}
	bytes(10) // what is made once
	few, many := bytes(100), bytes(2000)
	t.Logf("bytes for each peer: %.0f of 100 at once, %.0f of 2000", few, many)
	if many > 1.5*few {
		t.Error("a peer costs more the more there are at once")
	}
}

// The kernel is asked for routes once a host, and while it takes its time with the answer, Docker's calls go on.
func TestSlowKernel(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 1, "127.0.0.2", "127.0.0.3"))
	h.mustNetwork(wide(2, 2, "127.0.0.3", "127.0.0.2"))
	var mu sync.Mutex
	var asked map[netip.Addr]int
	var began, answer chan struct{}
	h.paths.Ask = func(_, host netip.Addr) (tunnel.Path, error) {
		mu.Lock()
		if asked[host]++; len(asked) == 1 && asked[host] == 1 {
			close(began)
		}
		mu.Unlock()
		<-answer
		return tunnel.Path{MTU: 1400, Link: "under"}, nil
	}
	call := 0
	for what, look := range map[string]func(){
		"links have changed":     func() { h.linksChanged(t.Context()) },
		"ten seconds are over":   func() { h.at(h.lastProbe + probeEvery) },
		"a network is created":   func() { h.mustNetwork(wide(3, 3, "127.0.0.4", "127.0.0.5")) },
		"the cluster tells more": func() { h.learnPaths(t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.6")}) },
	} {
		asked, began, answer = make(map[netip.Addr]int), make(chan struct{}), make(chan struct{})
		ended, called := make(chan struct{}), make(chan struct{})
		go func() { defer close(ended); look() }()
		await := func(c <-chan struct{}, problem string) {
			select {
			case <-c:
			case <-time.After(testhost.Patience):
				t.Errorf("%s: %s", what, problem)
			}
		}
		await(began, "the kernel is not asked")
		call++
		go func() { defer close(called); h.mustEndpoint(netID(1), ep(call)) }()
		await(called, "a call of Docker's waits for the kernel's answer")
		close(answer)
		await(ended, "it does not end")
		for host, n := range asked {
			if n > 1 {
				t.Errorf("%s: the kernel was asked %d times for %s", what, n, host)
			}
		}
	}
	if got := h.networks[netID(2)].remotes[netip.MustParseAddr("127.0.0.2")].mtu; got != 1400 {
		t.Errorf("the path has MTU %d", got)
	}
}
