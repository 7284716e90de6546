package scale

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/etcd"
)

const (
	atOnce    = 64               // hosts that join at the same time
	clients   = 5                // that the memory of one is measured with
	idleFor   = 6 * time.Second  // two signs of life of each host
	longest   = 15 * time.Minute // a step that takes longer is given up
	afterKill = 90 * time.Second // until all hosts must have found a server that was started again
)

// A crowd is many hosts of one etcd, in this process: each a real engine with a connection, a lease and a watch of its own. They share only
// what they have decoded, and have no directory.
type crowd struct {
	s     *server
	hosts []*fakeHost
	audience
	gone atomic.Int64 // times that a host was taken for gone

	mu      sync.RWMutex // guards what follows
	decoded map[string]*cluster.Record
}

// A fakeHost is one of them.
type fakeHost struct {
	*etcd.Engine
	self  cluster.Host
	known atomic.Int64

	has []bool // by number; only sink uses it
}

// decode is cluster.Decode, once for each record.
func (c *crowd) decode(b []byte) (*cluster.Record, error) {
	c.mu.RLock()
	r := c.decoded[string(b)]
	c.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	r, err := cluster.Decode(b)
	if err == nil {
		c.mu.Lock()
		c.decoded[string(b)] = r
		c.mu.Unlock()
	}
	return r, err
}

func (c *crowd) config() etcd.Config {
	return etcd.Config{Cluster: "scale", Endpoints: []string{"http://" + c.s.client}}
}

// add starts a host.
func (c *crowd) add(i, most int) (*fakeHost, error) {
	cfg := c.config()
	cfg.Decode = c.decode
	e, err := etcd.New(cfg)
	if err != nil {
		return nil, err
	}
	r := record(i)
	h := &fakeHost{Engine: e, self: r.Host, has: make([]bool, most)}
	e.Publish(r.Members, nil, nil)
	return h, e.Start(r.Host, func(u cluster.Update) { c.sink(h, i, u) })
}

func (c *crowd) sink(h *fakeHost, me int, u cluster.Update) {
	c.hears(me, u)
	for i := range u.Entries {
		e := &u.Entries[i]
		n := number(e.ID)
		if n < len(h.has) && !h.has[n] {
			h.has[n] = true
			h.known.Add(1)
		}
		if e.State == cluster.Gone && n < len(h.has) {
			c.gone.Add(1)
		}
	}
}

// grow adds hosts up to n, and waits until all know all.
func (c *crowd) grow(ctx context.Context, n, most int) error {
	from := len(c.hosts)
	c.hosts = append(c.hosts, make([]*fakeHost, n-from)...)
	next := atomic.Int64{}
	next.Store(int64(from))
	var wg sync.WaitGroup
	errs := make(chan error, atOnce)
	for range atOnce {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				h, err := c.add(i, most)
				if err == nil {
					c.hosts[i] = h
					err = until(ctx, func() bool { return h.Status().Err == nil })
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	c.hosts = slices.DeleteFunc(c.hosts, func(h *fakeHost) bool { return h == nil })
	select {
	case err := <-errs:
		return err
	default:
	}
	return until(ctx, func() bool {
		return !slices.ContainsFunc(c.hosts, func(h *fakeHost) bool { return h.known.Load() < int64(n-1) || h.Status().Err != nil })
	})
}

// changes has all see an address block, a name and a network, each a few times, and returns the median of each change's times.
func (c *crowd) changes(ctx context.Context) (mid, worst []time.Duration, err error) {
	first := c.hosts[0]
	own := record(0).Members
	publish := func(m []cluster.Member, names ...cluster.Name) func() error {
		return func() error { first.Publish(m, nil, names); return nil }
	}
	add := func(do func() error, is func(*cluster.Entry) bool) {
		if err != nil {
			return
		}
		var m, w time.Duration
		if m, w, err = c.change(ctx, first.self.ID, len(c.hosts), do, is); err == nil {
			mid, worst = append(mid, m), append(worst, w)
		}
	}
	for i := range 3 {
		more := slices.Clone(own)
		extra := block(1<<17 + i)
		more[0].Blocks = append(slices.Clone(own[0].Blocks), extra)
		add(publish(more), func(r *cluster.Entry) bool { return len(r.Members) == 1 && slices.Contains(r.Members[0].Blocks, extra) })
		name := fmt.Sprintf("web-%d", i)
		add(publish(more, cluster.Name{Key: "blue", Name: name, Addrs: []netip.Addr{extra.Addr().Next()}}),
			func(r *cluster.Entry) bool { return len(r.Names) == 1 && r.Names[0].Name == name })
		key := fmt.Sprintf("green-%d", i)
		add(func() error {
			spec, err := first.Network(ctx, cluster.Spec{Key: key})
			first.Publish(append(more, cluster.Member{Spec: spec}), nil, nil)
			return err
		}, func(r *cluster.Entry) bool { return len(r.Members) == 2 && r.Members[1].Key == key })
		add(publish(own), func(r *cluster.Entry) bool { return len(r.Members) == 1 && len(r.Members[0].Blocks) == 1 })
	}
	return mid, worst, err
}

// client is the memory that one host needs for its engine and its directory, in bytes: of a few hosts that decode for themselves.
func (c *crowd) client(ctx context.Context, most int) (float64, error) {
	before := heap()
	var all []*etcd.Engine
	defer func() {
		for _, e := range all {
			e.Close(ctx)
		}
	}()
	for i := range clients {
		e, err := etcd.New(c.config())
		if err != nil {
			return 0, err
		}
		self := record(most + i).Host
		d, known := cluster.NewDirectory(self.ID), atomic.Int64{}
		err = e.Start(self, func(u cluster.Update) { d.Apply(u); known.Store(int64(len(d.Hosts()))) })
		if err != nil {
			return 0, err
		}
		all = append(all, e)
		if err := until(ctx, func() bool { return e.Status().Err == nil && known.Load() >= int64(len(c.hosts)) }); err != nil {
			return 0, err
		}
	}
	return (heap() - before) / clients, nil
}

// restart kills the server and starts it again with its data. It returns the time until all hosts are connected again, and how often one
// was taken for gone.
func (c *crowd) restart(ctx context.Context) (time.Duration, int64, error) {
	c.s.kill()
	err := until(ctx, func() bool {
		return !slices.ContainsFunc(c.hosts, func(h *fakeHost) bool { return h.Status().Err == nil })
	})
	gone, began := c.gone.Load(), time.Now()
	if err == nil {
		err = c.s.start(ctx)
	}
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, afterKill)
		defer cancel()
		err = until(limited, func() bool {
			return !slices.ContainsFunc(c.hosts, func(h *fakeHost) bool { return h.Status().Err != nil })
		})
	}
	return time.Since(began), c.gone.Load() - gone, err
}

// byHosts has more and more hosts on one etcd-server.
func byHosts(ctx context.Context, o *Options) (all []results.Curve, err error) {
	join := results.Curve{Name: "etcd: hosts join, each", X: "hosts", Y: "ms"}
	work := results.Curve{Name: "etcd: the server's work for a join", X: "hosts", Y: "ms of a processor"}
	mid := results.Curve{Name: "etcd: one change, seen by half", X: "hosts", Y: "ms"}
	worst := results.Curve{Name: "etcd: one change, seen by all", X: "hosts", Y: "ms"}
	fan := results.Curve{Name: "etcd: the server's work for one change", X: "hosts", Y: "ms of a processor"}
	memory := results.Curve{Name: "etcd: memory of the server", X: "hosts", Y: "MB"}
	client := results.Curve{Name: "etcd: memory of a host", X: "hosts", Y: "MB"}
	idle := results.Curve{Name: "etcd: the server's work for nothing new", X: "hosts", Y: "% of a processor"}
	again := results.Curve{Name: "etcd: all connected after the server has started again", X: "hosts", Y: "s"}
	collect := func() []results.Curve {
		return []results.Curve{join, work, worst, mid, fan, memory, client, idle, again}
	}
	if err := descriptors(2*o.Hosts + 1000); err != nil {
		return nil, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	s, err := newServer(ctx, o.Etcd)
	if err != nil {
		return nil, err
	}
	defer s.close()
	c := &crowd{s: s, decoded: make(map[string]*cluster.Record)}
	defer func() {
		var wg sync.WaitGroup
		s.kill() // so that nobody takes leave
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		for _, h := range c.hosts {
			wg.Go(func() { _ = h.Close(gone) })
		}
		wg.Wait()
	}()
	for _, n := range upTo(o.Hosts, 100, 500, 1000, 2000) {
		step, cancel := context.WithTimeout(ctx, longest)
		err := func() error {
			defer cancel()
			var failed error
			cpu := func() time.Duration {
				t, err := s.taken()
				failed = errors.Join(failed, err)
				return t
			}
			began, before, from := time.Now(), cpu(), len(c.hosts)
			if err := c.grow(step, n, o.Hosts); err != nil {
				return fmt.Errorf("join: %w%s", err, c.missing(n))
			}
			took, used := time.Since(began), cpu()-before
			join.Add(n, ms(took)/float64(n-from))
			work.Add(n, ms(used)/float64(n-from))
			before = cpu()
			if err := pause(step, o.quiet(idleFor)); err != nil {
				return err
			}
			quiet := float64(cpu()-before) / float64(o.quiet(idleFor))
			idle.Add(n, 100*quiet)
			began, before = time.Now(), cpu()
			m, w, err := c.changes(step)
			if err != nil {
				return err
			}
			perChange := (ms(cpu()-before) - quiet*ms(time.Since(began))) / float64(len(m))
			mid.Add(n, ms(median(m)))
			worst.Add(n, ms(median(w)))
			fan.Add(n, max(perChange, 0))
			rss, err := s.memory()
			if err != nil {
				return err
			}
			memory.Add(n, rss/1e6)
			each, err := c.client(step, o.Hosts)
			if err != nil {
				return err
			}
			client.Add(n, each/1e6)
			fmt.Fprintf(o.Progress, "  %5d hosts: joined after %.1f s (%.1f ms each, %.1f ms of the server), a change seen by half after %.0f ms, by all %.0f ms (%.1f ms of the server); server %.0f MB, idle %.1f %%; a host %.2f MB; this process %.0f MB\n",
				n, took.Seconds(), ms(took)/float64(n-from), ms(used)/float64(n-from), ms(median(m)), ms(median(w)), perChange, rss/1e6, 100*quiet, each/1e6, heap()/1e6)
			back, gone, err := c.restart(step)
			if err != nil {
				return fmt.Errorf("the server was started again: %w", err)
			}
			again.Add(n, back.Seconds())
			fmt.Fprintf(o.Progress, "        the server was started again: all hosts are connected after %.1f s; %d times one was taken for gone\n", back.Seconds(), gone)
			return failed
		}()
		if err != nil {
			return collect(), fmt.Errorf("from %d hosts on: %w", n, err)
		}
	}
	return collect(), nil
}

// missing says what the hosts that do not know all are waiting for.
func (c *crowd) missing(n int) string {
	var out, few int
	var why string
	for _, h := range c.hosts {
		if err := h.Status().Err; err != nil {
			out, why = out+1, err.Error()
		} else if h.known.Load() < int64(n-1) {
			few++
		}
	}
	return fmt.Sprintf("; of %d hosts %d are not connected (%s), and %d do not know all", len(c.hosts), out, why, few)
}
