package etcd

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "4") // on two cores too, for they wait; it exists
	testhost.Main(m)
}

// testTTL is short, so that tests do not wait for long; but not so short that a busy machine loses leases all the time.
const testTTL = 4 * time.Second

// A host is one engine with its own way to etcd.
type host struct {
	*Engine
	t     testing.TB
	proxy *proxy
	dir   *cluster.Directory
	logs  *testhost.Log
	self  cluster.Host

	mu    sync.Mutex // guards what follows
	gone  int        // how often it was told that a host is gone
	fulls int
}

// newHost is a host that is not started. Its way to etcd is a proxy.
func newHost(t testing.TB, s *server, change ...func(*Config)) *host {
	t.Helper()
	p := s.proxyTo()
	h := &host{t: t, proxy: p, logs: new(testhost.Log)}
	c := Config{Cluster: "test", Endpoints: []string{s.scheme + "://" + p.addr}, Log: slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&c)
	}
	e, err := New(c)
	testhost.Must(t, err)
	e.ttl = testTTL
	h.Engine = e
	t.Cleanup(func() {
		h.Close(context.Background())
		if t.Failed() {
			t.Logf("%s says:\n%s", h.self.Name, h.logs)
		}
	})
	return h
}

// start starts it as the i-th host of the test.
func (h *host) start(i int, change ...func(*cluster.Host)) *host {
	h.t.Helper()
	h.self = conformance.Self(i)
	for _, f := range change {
		f(&h.self)
	}
	h.dir = cluster.NewDirectory(h.self.ID)
	testhost.Must(h.t, h.Start(h.self, h.update))
	return h
}

func (h *host) update(u cluster.Update) {
	h.mu.Lock()
	for _, e := range u.Entries {
		if e.State == cluster.Gone {
			h.gone++
		}
	}
	h.gone += len(u.Removed)
	if u.Full {
		h.fulls++
		for _, known := range h.dir.Hosts() {
			if !slices.ContainsFunc(u.Entries, func(e cluster.Entry) bool { return e.ID == known.ID }) {
				h.gone++
			}
		}
	}
	h.mu.Unlock()
	h.dir.Apply(u)
}

// count gives how often h was told that a host is gone or removed, and how many full updates it had.
func (h *host) count() (gone, fulls int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone, h.fulls
}

// away waits until it says that etcd is away, for a reason that contains all of these.
func (h *host) away(words ...string) {
	h.t.Helper()
	var err error
	defer func() {
		if h.t.Failed() {
			h.t.Logf("it says: %v", err)
		}
	}()
	testhost.Until(h.t, "the status says "+strings.Join(words, ", "), func() bool {
		err = h.Status().Err
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				return false
			}
		}
		return errors.Is(err, cluster.ErrUnavailable)
	})
}

// ready waits until it is connected.
func (h *host) connected() *host {
	h.t.Helper()
	defer func() {
		if h.t.Failed() {
			h.t.Logf("%s says: %v", h.self.Name, h.Status().Err)
		}
	}()
	testhost.Until(h.t, h.self.Name+" is connected", func() bool { return h.Status().Err == nil })
	return h
}

// state is what h knows of another host; "" nothing.
func (h *host) state(of *host) string {
	for _, e := range h.dir.Hosts() {
		if e.ID == of.self.ID {
			return e.State.String()
		}
	}
	return ""
}

// meet waits until all see each other.
func meet(t testing.TB, all ...*host) {
	t.Helper()
	for _, h := range all {
		h.connected()
		for _, other := range all {
			if other != h {
				testhost.Until(t, h.self.Name+" sees "+other.self.Name, func() bool { return h.state(other) == "alive" })
			}
		}
	}
}

func TestConformance(t *testing.T) {
	for name, cut := range map[string]func(*proxy, bool){"silent": (*proxy).silent, "refused": (*proxy).refuse} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, func(t *testing.T) conformance.Bed {
				s := newServer(t)
				hosts := make(map[cluster.Engine]*host)
				return conformance.Bed{
					New: func() cluster.Engine {
						h := newHost(t, s)
						hosts[h.Engine] = h
						return h.Engine
					},
					Kill: func(e cluster.Engine) { e.(*Engine).kill() },
					Cut:  func(e cluster.Engine, away bool) { cut(hosts[e].proxy, away) },
				}
			})
		})
	}
}
