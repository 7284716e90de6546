package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestRestore: etcd's data are lost, and are now those of before. Each host tells it, and writes again what is its own; what another
// has taken meanwhile is told with both hosts; nobody is gone for anybody.
func TestRestore(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a := newHost(t, s).start(1).connected()
	saved := s.save()
	b := newHost(t, s).start(2) // joins after the backup
	meet(t, a, b)
	spec, err := b.Network(t.Context(), blue)
	testhost.Must(t, err)
	block, contested := cluster.Want{Block: prefix("10.50.3.0/26")}, cluster.Want{Block: prefix("10.50.4.0/26")}
	for _, want := range []cluster.Want{block, contested} {
		if _, err := b.claim(want); err != nil {
			t.Fatal(err)
		}
	}
	b.Publish([]cluster.Member{{Spec: spec, Blocks: []netip.Prefix{block.Block, contested.Block}}}, nil, nil)
	testhost.Until(t, "a has b's network", func() bool { return len(a.dir.On("blue")) == 1 })
	for range 20 { // so that the revision is lower afterwards
		s.put("x", "1")
	}
	b.proxy.refuse(true)
	s.restore(saved)
	if n := len(s.owned(b)); n != 0 {
		t.Fatalf("%d blocks are in the backup", n)
	}
	a.connected()
	if _, err := a.claim(contested); err != nil { // for a the block is free
		t.Fatal(err)
	}
	b.proxy.refuse(false)
	meet(t, a, b)
	testhost.Until(t, "b's block is there again", func() bool {
		return slices.Contains(s.owned(b), block.Block.String()+" "+string(b.self.ID))
	})
	testhost.Until(t, "b's conflict is told", func() bool { return strings.Contains(b.logs.String(), "10.50.4.0/26 belongs to host n1 (192.0.2.1)") })
	if got, err := a.Network(t.Context(), blue); err != nil || got.VNI != spec.VNI {
		t.Errorf("the network is %+v, %v", got, err)
	}
	if on := a.dir.On("blue"); len(on) != 1 || len(on[0].Blocks) != 2 {
		t.Errorf("a knows of %+v", on)
	}
	for _, h := range []*host{a, b} {
		if gone, _ := h.count(); gone != 0 {
			t.Errorf("%s was told %d times that a host is gone", h.self.Name, gone)
		}
		if h.logs.Count("restored from a backup") == 0 {
			t.Errorf("%s has not told that data are lost", h.self.Name)
		}
	}
	if b.logs.Count("it is written again") != 2 { // network and block
		t.Errorf("b has told %d times that it writes something again", b.logs.Count("it is written again"))
	}
}

// TestEmptied: a whole cluster whose data are gone is there again, with all that it owns.
func TestEmptied(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	_, err := a.Network(t.Context(), blue)
	testhost.Must(t, err)
	for _, h := range []*host{a, b} {
		_, err := h.claim(anyOf)
		testhost.Must(t, err)
	}
	before := s.owned(a)
	s.restore("")
	testhost.Until(t, "all is there again", func() bool { return slices.Equal(s.owned(a), before) && s.get(a.at.network("blue")) != "" })
	meet(t, a, b)
	if gone, _ := b.count(); gone != 0 {
		t.Errorf("b was told %d times that a is gone", gone)
	}
}

// TestDouble: of two daemons with one id only one writes, and the other one says why it does not; they do not fight.
func TestDouble(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	seen := newHost(t, s).start(9)
	a := newHost(t, s).start(1)
	meet(t, seen, a)
	second := newHost(t, s).start(1, func(h *cluster.Host) { h.Name, h.VTEP = "copy", netip.MustParseAddrPort("192.0.2.77:4789") })
	second.away("another daemon has this host's id", "n1", "state directory copied")
	second.strongCalls("another daemon has this host's id")
	later := newHost(t, s).start(1, func(h *cluster.Host) { h.Name, h.Epoch = "later", 7 })
	later.connected()
	a.away("another daemon has this host's id", "later", "epoch 7 (here it is 1)")
	second.away("epoch 7")
	testhost.Until(t, "the later one is seen", func() bool { hosts := seen.dir.Hosts(); return len(hosts) == 1 && hosts[0].Name == "later" })
	for i := range 5 { // whatever they say
		a.Publish(member(), nil, nil)
		second.Publish(member(), nil, nil)
		later.Publish(member(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 26)), nil, nil)
		testhost.Until(t, "what the later one says counts", func() bool {
			on := seen.dir.On("blue")
			return len(on) == 1 && len(on[0].Blocks) == 1 && on[0].Blocks[0].Addr().As4()[2] == byte(i)
		})
	}
	for _, h := range []*host{a, second} {
		if h.Status().Err == nil {
			t.Errorf("%s writes", h.self.Name)
		}
	}
	if gone, _ := seen.count(); gone != 0 {
		t.Errorf("the third host was told %d times that one is gone", gone)
	}
	testhost.Must(t, later.Close(t.Context()))
	// The record of epoch 7 is newer than all that the first ones could write.
	a.away("epoch 7")
	testhost.Until(t, "the later one is gone", func() bool { return seen.state(later) == "gone" })
	testhost.Must(t, seen.Forget(t.Context(), later.self.ID))
	testhost.Until(t, "one of the two writes", func() bool { return (a.Status().Err == nil) != (second.Status().Err == nil) })
}

// TestPublish: what cannot be sent is sent later, and only the last; who publishes never waits.
func TestPublish(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	version := func() int64 {
		r, err := s.examine().Get(t.Context(), a.at.record(a.self.ID))
		testhost.Must(t, err)
		return r.Kvs[0].Version
	}
	before := version()
	s.signal(syscall.SIGSTOP)
	for i := range 10000 {
		a.Publish(member(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 26)), nil, nil)
	}
	a.Publish(member(), nil, nil)
	s.signal(syscall.SIGCONT)
	testhost.Until(t, "the last one is there", func() bool { on := b.dir.On("blue"); return len(on) == 1 && len(on[0].Blocks) == 0 })
	if n := version() - before; n > 20 {
		t.Errorf("%d records were written", n)
	}
}

// TestLarge: a record that etcd cannot take is told in part, and said so.
func TestLarge(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	var names []cluster.Name
	for i := range 40000 {
		names = append(names, cluster.Name{Key: "blue", Name: fmt.Sprintf("container-with-a-name-%d", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 50, byte(i >> 8), byte(i)})}})
	}
	a.Publish(member(prefix("10.50.1.0/26")), nil, names)
	testhost.Until(t, "b has a's block", func() bool { return len(b.dir.On("blue")) == 1 })
	if got := b.dir.Resolve("blue", names[0].Name); len(got) != 0 || !strings.Contains(a.logs.String(), "too large for etcd") || !strings.Contains(a.logs.String(), "without=names") {
		t.Errorf("%v; it says %s", got, a.logs)
	}
	a.Publish(member(), nil, names[:15000]) // that many do fit
	testhost.Until(t, "b has a's names", func() bool { return len(b.dir.Resolve("blue", names[14999].Name)) == 1 })
	a.connected()
}

// TestIgnored: what is in etcd and cannot be used is ignored, counted and told once; what was known of the host stays.
func TestIgnored(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	b.Publish(member(), nil, nil)
	testhost.Until(t, "a has b's network", func() bool { return len(a.dir.On("blue")) == 1 })
	newer, err := json.Marshal(map[string]any{"version": 99, "record": map[string]any{}})
	testhost.Must(t, err)
	key, bad := a.at.record(b.self.ID), a.at.hosts()
	other, err := (&cluster.Record{Host: a.self}).Encode()
	testhost.Must(t, err)
	n := a.Ignored()
	for _, kv := range []struct{ key, value, told string }{
		{key, "{", "cannot be used: not a record"},
		{key, string(newer), "a newer tapestry wrote it"},
		{key, string(other), "it is of host " + string(a.self.ID)},
		{bad + "me/record", "x", "is no host's key"},
		{bad + string(b.self.ID) + "/other", "x", "is no host's key"},
		{bad + string(b.self.ID), "x", "is no host's key"},
	} {
		for i := range 3 {
			s.put(kv.key, kv.value)
			n++
			testhost.Until(t, "it is counted", func() bool { return a.Ignored() == n })
			if i > 0 && a.logs.Count(kv.told) == 0 {
				t.Errorf("not told: %s", kv.told)
			}
		}
	}
	if got := a.logs.Count("something in etcd is ignored"); got != 6 {
		t.Errorf("told %d times:\n%s", got, a.logs)
	}
	if a.state(b) != "alive" || len(a.dir.On("blue")) != 1 {
		t.Errorf("b is %s", a.state(b))
	}
	c := newHost(t, s).start(3).connected() // lists all that
	if c.Ignored() == 0 || c.state(b) != "" {
		t.Errorf("%d ignored, b is %q", c.Ignored(), c.state(b))
	}
	b.Publish(member(prefix("10.50.1.0/26")), nil, nil)
	for _, h := range []*host{a, c} {
		testhost.Until(t, "a good record counts again", func() bool { on := h.dir.On("blue"); return len(on) == 1 && len(on[0].Blocks) == 1 })
	}
	for key, value := range map[string]string{"blue": "{", "green": `{"version":99}`} { // a network that cannot be read
		s.put(a.at.network(key), value)
		var conflict *cluster.Conflict
		if _, err := a.Network(t.Context(), cluster.Spec{Key: key}); err == nil || errors.As(err, &conflict) || errors.Is(err, cluster.ErrUnavailable) || !strings.Contains(err.Error(), key) {
			t.Errorf("network %s: %v", key, err)
		}
	}
}

// TestKeep: a host that has been gone for long is forgotten, with what it owned.
func TestKeep(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	short := func(c *Config) { c.Keep = time.Second }
	a, b, c := newHost(t, s, short).start(1), newHost(t, s).start(2), newHost(t, s, short).start(3)
	meet(t, a, b, c)
	_, err := b.Network(t.Context(), blue)
	testhost.Must(t, err)
	for range 120 { // more than a transaction takes
		if _, err := b.claim(cluster.Want{Subnet: blue.Subnets[0], Bits: 28}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = a.claim(anyOf)
	testhost.Must(t, err)
	b.kill()
	for _, h := range []*host{a, c} {
		testhost.Until(t, "b is forgotten", func() bool { return h.state(b) == "" })
	}
	if got := s.owned(a); len(got) != 1 || !strings.HasSuffix(got[0], string(a.self.ID)) {
		t.Errorf("there are %v", got)
	}
	if s.get(a.at.user("blue", b.self.ID)) != "" || a.state(c) != "alive" || s.get(a.at.network("blue")) == "" {
		t.Error("something of it is left, or too much is gone")
	}
}

// TestClose: who leaves takes its lease along, and says so once; a second time it is no error, and calls end at once.
func TestClose(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	_, err := a.claim(anyOf)
	testhost.Must(t, err)
	testhost.Must(t, a.Close(t.Context()))
	if s.get(a.at.alive(a.self.ID)) != "" || s.get(a.at.record(a.self.ID)) == "" || len(s.owned(a)) != 1 {
		t.Error("the lease is still there, or what belongs to the host is not")
	}
	testhost.Must(t, a.Close(t.Context()))
	a.strongCalls("closed")
	a.Publish(member(), nil, nil)
	if err := a.Start(a.self, func(cluster.Update) {}); err == nil {
		t.Error("it starts again")
	}
	b.proxy.silent(true) // leaving does not wait for a server that is away
	ctx, cancel := context.WithTimeout(t.Context(), testhost.Patience)
	defer cancel()
	if err := b.Close(ctx); !errors.Is(err, cluster.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("leaving without etcd: %v", err)
	}
	c, err := New(Config{Cluster: "test", Endpoints: []string{s.client}}) // never started
	testhost.Must(t, err)
	testhost.Must(t, c.Close(t.Context()))
}

// TestLeader: three members, and the leader is killed: nobody is gone for anybody, calls go on, and a member that is frozen does not
// hold them up.
func TestLeader(t *testing.T) {
	t.Parallel()
	all := three(t)
	every := func(c *Config) {
		c.Endpoints = nil
		for _, s := range all {
			c.Endpoints = append(c.Endpoints, s.client)
		}
	}
	a, b := newHost(t, all[0], every).start(1), newHost(t, all[0], every).start(2)
	meet(t, a, b)
	leads, rest := leader(t, all)
	leads.kill()
	block, err := a.claim(anyOf)
	if err != nil {
		t.Fatal(err)
	}
	a.Publish(member(block), nil, nil)
	testhost.Until(t, "b has a's network", func() bool { return len(b.dir.On("blue")) == 1 })
	leads.start()
	leads.wait()
	meet(t, a, b)
	var follower *server
	for _, s := range rest {
		if l, _ := leader(t, all); s != l {
			follower = s
		}
	}
	follower.signal(syscall.SIGSTOP)
	if _, err := a.claim(anyOf); err != nil {
		t.Error(err)
	}
	b.Publish(member(), nil, nil)
	testhost.Until(t, "a has b's network", func() bool { return len(a.dir.On("blue")) == 1 })
	meet(t, a, b)
	// Most are away: no calls, and nobody is gone.
	follower.signal(syscall.SIGCONT)
	follower.wait()
	for _, s := range rest {
		s.kill()
	}
	a.away("no leader")
	a.strongCalls("etcd at")
	for _, s := range rest {
		s.start()
	}
	meet(t, a, b)
	for _, h := range []*host{a, b} {
		if gone, _ := h.count(); gone != 0 {
			t.Errorf("%s was told %d times that a host is gone", h.self.Name, gone)
		}
	}
}
