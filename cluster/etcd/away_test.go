package etcd

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/test/testhost"
)

var (
	blue   = cluster.Spec{Key: "blue", Subnets: []netip.Prefix{netip.MustParsePrefix("10.50.0.0/16")}}
	anyOf  = cluster.Want{Subnet: blue.Subnets[0], Bits: 26}
	member = func(blocks ...netip.Prefix) []cluster.Member { return []cluster.Member{{Spec: blue, Blocks: blocks}} }
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// strongCalls are all of them, on a host that cannot reach etcd: each ends before a context that allows it much more.
func (h *host) strongCalls(words ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), testhost.Patience)
	defer cancel()
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"Network": func() error { _, err := h.Network(ctx, blue); return err },
		"Claim":   func() error { _, err := h.Claim(ctx, "blue", anyOf); return err },
		"Block":   func() error { _, err := h.Claim(ctx, "blue", cluster.Want{Block: prefix("10.50.1.0/26")}); return err },
		"Free":    func() error { return h.Free(ctx, "blue", prefix("10.50.1.0/26")) },
		"Forget":  func() error { return h.Forget(ctx, "00000000000000aa") },
	} {
		wg.Go(func() {
			err := call()
			if !errors.Is(err, cluster.ErrUnavailable) || ctx.Err() != nil {
				h.t.Errorf("%s: %v, want ErrUnavailable; the context has ended: %v", name, err, ctx.Err())
				return
			}
			for _, w := range words {
				if !strings.Contains(err.Error(), w) {
					h.t.Errorf("%s: %v: want %q in it", name, err, w)
				}
			}
		})
	}
	wg.Wait()
}

// TestAway: whatever is wrong between a host and etcd, strong calls end in time and say what it is and where; nobody is gone
// because of it; and when it is right again all goes on.
func TestAway(t *testing.T) {
	for name, test := range map[string]struct {
		away, back func(s *server, p *proxy)
		words      string
	}{
		"refused": {func(_ *server, p *proxy) { p.refuse(true) }, func(_ *server, p *proxy) { p.refuse(false) }, "connection refused"},
		"silent":  {func(_ *server, p *proxy) { p.silent(true) }, func(_ *server, p *proxy) { p.silent(false) }, "does not answer"},
		"stopped": {func(s *server, _ *proxy) { s.signal(syscall.SIGSTOP) }, func(s *server, _ *proxy) { s.signal(syscall.SIGCONT) }, "does not answer"},
		"killed":  {func(s *server, _ *proxy) { s.kill() }, func(s *server, _ *proxy) { s.start() }, "closes the connection"}, // the proxy does so
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			a, b := newHost(t, s).start(1), newHost(t, s).start(2)
			meet(t, a, b)
			b.Publish(member(), nil, nil)
			testhost.Until(t, "a has b's network", func() bool { return len(a.dir.On("blue")) == 1 })
			before, _ := a.count()
			test.away(s, a.proxy)
			a.strongCalls(a.proxy.addr)
			a.away(a.proxy.addr, test.words)
			a.strongCalls(a.proxy.addr, test.words)
			if found := a.logs.Count(`cause="etcd does not answer"`) > 0; found != (test.words == "does not answer") {
				t.Errorf("whether it was found out by what is not answered: %v", found) // gRPC needs longer than a lease lives
			}
			if n := len(a.dir.On("blue")); n != 1 || a.state(b) == "gone" {
				t.Errorf("while etcd is away, %d hosts are on the network, and b is %s", n, a.state(b))
			}
			if after, _ := a.count(); after != before {
				t.Errorf("a was told %d times that a host is gone", after-before)
			}
			test.back(s, a.proxy)
			meet(t, a, b)
			if _, err := a.Network(t.Context(), blue); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRestart: etcd is away for longer than leases live. Nobody is gone for anybody, not even then, and what was published meanwhile
// is there afterwards.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	s.kill()
	a.away("etcd at")
	b.away("etcd at")
	began := time.Now()
	a.Publish(member(), nil, nil)
	testhost.Until(t, "longer than a lease", func() bool { return time.Since(began) > testTTL+suspectTime })
	s.start()
	testhost.Until(t, "b has a's network", func() bool { return len(b.dir.On("blue")) == 1 })
	meet(t, a, b)
	for _, h := range []*host{a, b} {
		if gone, _ := h.count(); gone != 0 {
			t.Errorf("%s was told %d times that a host is gone", h.self.Name, gone)
		}
	}
}

// TestLease: a lease that has ended while its host lives is replaced, and the others do not see that host gone.
func TestLease(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	record := s.get(a.at.record(a.self.ID))
	for range 3 {
		was := a.lease.Load()
		_, err := s.examine().Revoke(t.Context(), clientv3.LeaseID(was))
		testhost.Must(t, err)
		testhost.Until(t, "a has a new lease", func() bool { return a.lease.Load() != was && s.get(a.at.alive(a.self.ID)) != "" })
		testhost.Until(t, "b sees a", func() bool { return b.state(a) == "alive" })
		a.connected()
	}
	if gone, _ := b.count(); gone != 0 {
		t.Errorf("b was told %d times that a is gone", gone)
	}
	if now := s.get(a.at.record(a.self.ID)); record == "" || now == "" {
		t.Errorf("the record was %q, and is %q", record, now)
	}
}

// TestCompaction: what has changed while a host was away, and was compacted, is told all the same; nothing else is.
func TestCompaction(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b, c := newHost(t, s).start(1), newHost(t, s).start(2), newHost(t, s).start(3)
	meet(t, a, b, c)
	a.proxy.silent(true)
	a.away("does not answer")
	for i := range 20 {
		b.Publish(member(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 26)), nil, nil)
		testhost.Until(t, "c has b's network", func() bool {
			on := c.dir.On("blue")
			return len(on) == 1 && on[0].Blocks[0].Addr().As4()[2] == byte(i)
		})
	}
	r, err := s.examine().Get(t.Context(), "x")
	testhost.Must(t, err)
	_, err = s.examine().Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical())
	testhost.Must(t, err)
	before, _ := a.count()
	a.proxy.silent(false)
	testhost.Until(t, "a has b's last word", func() bool {
		on := a.dir.On("blue")
		return len(on) == 1 && on[0].Blocks[0].Addr().As4()[2] == 19
	})
	meet(t, a, b, c)
	if after, _ := a.count(); after != before {
		t.Errorf("a was told %d times that a host is gone", after-before)
	}
}

// TestCompacted: a watch of a revision that is compacted ends its session, and says why.
func TestCompacted(t *testing.T) {
	s := newServer(t)
	a := newHost(t, s).start(1).connected()
	r, err := s.examine().Put(t.Context(), "x", "1")
	testhost.Must(t, err)
	s.put("x", "2")
	_, err = s.examine().Compact(t.Context(), r.Header.Revision+1)
	testhost.Must(t, err)
	one := &session{Engine: a.Engine, client: s.examine(), own: make(chan struct{}, 1)}
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	one.ctx, one.fail = ctx, fail
	_, err = one.follow(1)
	if err == nil {
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	one.goes.Wait()
	if !strings.Contains(a.words(err), "compacted") {
		t.Errorf("a watch of revision 1: %v", err)
	}
}

// A script is a watch that says what it was told to, and then ends.
type script struct {
	pb.Watch_WatchClient
	says []*pb.WatchResponse
}

func (w *script) Recv() (*pb.WatchResponse, error) {
	if len(w.says) == 0 {
		return nil, io.EOF
	}
	r := w.says[0]
	w.says = w.says[1:]
	return r, nil
}

// TestOldEvents: what a member sends of before the list, since it lags behind, does not count.
func TestOldEvents(t *testing.T) {
	event := func(rev int64) *mvccpb.Event {
		return &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("x"), ModRevision: rev}}
	}
	e, err := New(Config{Cluster: "test", Endpoints: []string{"192.0.2.1:2379"}})
	testhost.Must(t, err)
	s := &session{Engine: e, ctx: t.Context(), fail: func(error) {}, from: 10, watch: &script{says: []*pb.WatchResponse{
		{Created: true}, {Events: []*mvccpb.Event{event(8), event(9)}}, {Events: []*mvccpb.Event{event(9), event(10)}}, {Events: []*mvccpb.Event{event(11)}},
	}}}
	events := make(chan []*mvccpb.Event, 10)
	if err := s.receive(events, make(chan struct{})); !errors.Is(err, io.EOF) {
		t.Errorf("it ends with %v", err)
	}
	close(events)
	var got []int64
	for some := range events {
		for _, ev := range some {
			got = append(got, ev.Kv.ModRevision)
		}
	}
	if !slices.Equal(got, []int64{10, 11}) {
		t.Errorf("events of revisions %v count", got)
	}
}

// TestFull: an etcd that takes no more data says so; reading goes on, and nothing is listed again and again.
func TestFull(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--quota-backend-bytes", "300000")
	a, b := newHost(t, s).start(1), newHost(t, s).start(2)
	meet(t, a, b)
	_, fulls := b.count()
	testhost.Until(t, "etcd is full", func() bool {
		_, err := s.examine().Put(t.Context(), "x", strings.Repeat("x", 50000))
		return err != nil && strings.Contains(a.words(err), "database is full")
	})
	a.Publish(member(), nil, nil)
	a.away("its database is full")
	a.strongCalls("its database is full")
	for range 3 {
		a.Publish(member(), nil, nil)
		if _, err := b.Claim(t.Context(), "blue", anyOf); err == nil || !strings.Contains(err.Error(), "its database is full") {
			t.Errorf("claiming: %v", err)
		}
	}
	if _, now := b.count(); now != fulls || a.state(b) != "alive" {
		t.Errorf("b had %d full updates, and %d before; for a it is %s", now, fulls, a.state(b))
	}
}
