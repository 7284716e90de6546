package etcd

import (
	"context"
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// patient is a host whose lease lives for as long as a test may take.
func patient(t testing.TB, s *server) *host {
	h := newHost(t, s)
	h.ttl = 2 * testhost.Patience
	return h
}

func (s *server) revision() int64 {
	s.t.Helper()
	r, err := s.examine().Get(s.t.Context(), "x")
	testhost.Must(s.t, err)
	return r.Header.Revision
}

// TestAgainIsCheap: when etcd starts again no host lists all hosts, and none writes anything, of which all others would have to be told.
func TestAgainIsCheap(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := patient(t, s).start(1), patient(t, s).start(2)
	meet(t, a, b)
	a.Publish(member(), nil, nil)
	testhost.Until(t, "b has a's network", func() bool { return len(b.dir.On("blue")) == 1 })
	testhost.Until(t, "a knows that it is written", func() bool {
		a.Engine.mu.Lock()
		defer a.Engine.mu.Unlock()
		return a.written == a.record.Seq
	})
	before := s.revision()
	for range 2 {
		s.kill()
		a.away("etcd at")
		b.away("etcd at")
		s.start()
		meet(t, a, b)
	}
	if now := s.revision(); now != before {
		t.Errorf("%d writes after etcd was there again", now-before)
	}
	for _, h := range []*host{a, b} {
		if gone, fulls := h.count(); gone != 0 || fulls != 1 {
			t.Errorf("%s was told %d times that a host is gone, and had %d full updates", h.self.Name, gone, fulls)
		}
	}
}

// TestResume: a host that was away hears of all that has happened meanwhile, without a list.
func TestResume(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b, c := patient(t, s).start(1), patient(t, s).start(2), patient(t, s).start(3)
	meet(t, a, b, c)
	a.proxy.refuse(true)
	a.away("etcd at")
	d := patient(t, s).start(4) // joins
	testhost.Must(t, c.Close(context.Background()))
	b.Publish(member(prefix("10.50.7.0/26")), nil, nil)
	testhost.Until(t, "d has b's block", func() bool { on := d.dir.On("blue"); return len(on) == 1 && len(on[0].Blocks) == 1 })
	testhost.Until(t, "c is gone for d", func() bool { return d.state(c) == "gone" })
	testhost.Must(t, d.Forget(t.Context(), c.self.ID))
	a.proxy.refuse(false)
	testhost.Until(t, "a has b's block", func() bool { return len(a.dir.On("blue")) == 1 })
	testhost.Until(t, "a sees d", func() bool { return a.state(d) == "alive" })
	testhost.Until(t, "a has forgotten c", func() bool { return a.state(c) == "" })
	if _, fulls := a.count(); fulls != 1 {
		t.Errorf("a had %d full updates", fulls)
	}
}

// TestOtherHistory: etcd's data were restored, and have come to the same revision in another way. Who was away meanwhile sees what is so now.
func TestOtherHistory(t *testing.T) {
	t.Parallel()
	const ff, ee cluster.HostID = "00000000000000ff", "00000000000000ee"
	for name, other := range map[string]func(put func(cluster.HostID, string)){
		"the same keys":    func(put func(cluster.HostID, string)) { put(ff, "new"); put(ee, "new") },
		"other keys":       func(put func(cluster.HostID, string)) { put(ee, "new"); put(ff, "new") },
		"a lower revision": func(func(cluster.HostID, string)) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			a := patient(t, s).start(1).connected()
			s.put(a.at.alive(ff), aliveValue(1, "x")) // names of hosts that are gone are not told
			saved := s.save()
			a.connected()
			put := func(id cluster.HostID, what string) {
				r := cluster.Record{Host: conformance.Self(2), Seq: 1, Members: member(), Names: []cluster.Name{{Key: "blue", Name: what + string(id), Addrs: []netip.Addr{netip.MustParseAddr("10.50.0.9")}}}}
				r.ID = id
				if what == "new" {
					r.Seq = 2
				}
				b, err := r.Encode()
				testhost.Must(t, err)
				s.put(a.at.record(id), string(b))
			}
			has := func(what string) bool { return len(a.dir.Resolve("blue", what+string(ff))) == 1 }
			put(ff, "old")
			put(ee, "old")
			testhost.Until(t, "a has the name", func() bool { return has("old") })
			testhost.Until(t, "a has both", func() bool { return len(a.dir.Hosts()) == 2 })
			at := s.revision()
			a.proxy.refuse(true)
			a.away("etcd at")
			s.restore(saved)
			other(put)
			t.Logf("revision %d, and before %d", s.revision(), at)
			a.proxy.refuse(false)
			if name == "a lower revision" {
				testhost.Until(t, "a has listed", func() bool { _, fulls := a.count(); return fulls == 2 })
				return
			}
			testhost.Until(t, "a has the new name", func() bool { return has("new") })
			if has("old") {
				t.Error("a has the old name, too")
			}
		})
	}
}
