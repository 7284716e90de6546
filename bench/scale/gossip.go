package scale

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/gossip"
)

const (
	quietFor = 10 * time.Second // in which the traffic of members is counted that have nothing to tell
	seeds    = 3                // members that all others join
	together = 100              // members that start at once; further ones come by few
	few      = 10
)

// loopback is the i-th of many loopback addresses. Those of two processes seldom meet.
func loopback(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(192 + os.Getpid()%60), byte(1 + i/250), byte(1 + i%250)})
}

// A member is a real host of gossip in this process, with sockets of its own on a loopback address.
type member struct {
	*gossip.Engine
	alive atomic.Int64
	gone  atomic.Int64

	state map[cluster.HostID]cluster.State // only sink uses it
}

// A choir is members that gossip with each other.
type choir struct {
	audience
	members []*member
}

func (c *choir) add(i int) error {
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(loopback(i), gossip.DefaultPort) }
	var join []string
	for j := range min(i, seeds) {
		join = append(join, at(j).String())
	}
	m := &member{state: make(map[cluster.HostID]cluster.State)}
	m.Engine = gossip.New(gossip.Config{Cluster: "scale", Bind: at(i), Join: join, Keys: [][]byte{[]byte("0123456789abcdef")}})
	r := record(i)
	m.Publish(r.Members, nil, nil)
	c.members = append(c.members, m)
	return m.Start(r.Host, func(u cluster.Update) {
		c.hears(i, u)
		for i := range u.Entries {
			m.state[u.Entries[i].ID] = u.Entries[i].State
		}
		alive, gone := 0, 0
		for _, s := range m.state {
			switch s {
			case cluster.Alive:
				alive++
			case cluster.Gone:
				gone++
			}
		}
		m.alive.Store(int64(alive))
		m.gone.Store(int64(gone))
	})
}

// close ends members without a word to the others.
func (c *choir) close(all []*member) {
	end, cancel := context.WithCancel(context.Background())
	cancel()
	end, cancel = context.WithDeadline(end, time.Now())
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(func() { _ = m.Close(end) }) // there is nobody whom it matters to
	}
	wg.Wait()
}

// sent is what all have sent, in bytes and packets.
func (c *choir) sent() (bytes, packets uint64) {
	for _, m := range c.members {
		t := m.Traffic()
		bytes, packets = bytes+t.PacketBytes+t.StreamBytes, packets+t.Packets
	}
	return bytes, packets
}

// byMembers has more and more real members. 100 start at once; those beyond come by tens, when all see all.
func byMembers(ctx context.Context, o *Options) ([]results.Curve, error) {
	join := results.Curve{Name: "gossip: all see all after the start", X: "members", Y: "s"}
	all := results.Curve{Name: "gossip: one change, seen by all", X: "members", Y: "ms"}
	half := results.Curve{Name: "gossip: one change, seen by half", X: "members", Y: "ms"}
	died := results.Curve{Name: "gossip: all know that a tenth has died", X: "members", Y: "s"}
	bytes := results.Curve{Name: "gossip: what a member sends with nothing new", X: "members", Y: "bytes/s"}
	work := results.Curve{Name: "gossip: a member's work with nothing new", X: "members", Y: "% of a processor"}
	memory := results.Curve{Name: "gossip: memory for each other member", X: "members", Y: "kB"}
	step := func(n int) error {
		c := new(choir)
		defer func() { c.close(c.members) }()
		before, began := heap(), time.Now()
		for i := range n {
			if err := c.add(i); err != nil {
				return err
			}
			if i+1 < n && (i+1 < together || (i+1)%few != 0) {
				continue
			}
			see := func(m *member) bool { return m.alive.Load() == int64(i) }
			if err := until(ctx, func() bool { return !slices.ContainsFunc(c.members, func(m *member) bool { return !see(m) }) }); err != nil {
				return err
			}
		}
		took := time.Since(began)
		join.Add(n, took.Seconds())
		if err := pause(ctx, o.quiet(quietFor/2)); err != nil { // until the news of the join have been sent
			return err
		}
		from, packets := c.sent()
		used := taken()
		began = time.Now()
		if err := pause(ctx, o.quiet(quietFor)); err != nil {
			return err
		}
		to, more := c.sent()
		each := 1 / time.Since(began).Seconds() / float64(n)
		bytes.Add(n, float64(to-from)*each)
		work.Add(n, 100*(taken()-used).Seconds()*each)
		kb := (heap() - before) / float64(n*max(n-1, 1)) / 1e3
		memory.Add(n, kb)
		var h, a []time.Duration
		for i := range 5 {
			name := fmt.Sprintf("web-%d", i)
			m, w, err := c.change(ctx, record(0).ID, n, func() error {
				c.members[0].Publish(record(0).Members, nil, []cluster.Name{{Key: "blue", Name: name, Addrs: []netip.Addr{block(0).Addr().Next()}}})
				return nil
			}, func(e *cluster.Entry) bool { return len(e.Names) == 1 && e.Names[0].Name == name })
			if err != nil {
				return err
			}
			h, a = append(h, m), append(a, w)
		}
		half.Add(n, ms(median(h)))
		all.Add(n, ms(median(a)))
		dead := max(n/10, 1)
		c.close(c.members[n-dead:])
		began, c.members = time.Now(), c.members[:n-dead]
		err := until(ctx, func() bool {
			return !slices.ContainsFunc(c.members, func(m *member) bool { return m.gone.Load() != int64(dead) || m.alive.Load() != int64(n-dead-1) })
		})
		if err != nil {
			return err
		}
		died.Add(n, time.Since(began).Seconds())
		fmt.Fprintf(o.Progress, "  %4d members: all see all after %.1f s; a change seen by half after %.0f ms, by all %.0f ms; %d died, known after %.1f s; with nothing new each sends %.0f bytes in %.1f packets a second; %.2f kB for each other\n",
			n, took.Seconds(), ms(median(h)), ms(median(a)), dead, time.Since(began).Seconds(), float64(to-from)*each, float64(more-packets)*each, kb)
		return nil
	}
	var err error
	for _, n := range upTo(o.Members, 10, 25, 50, 100, 200) {
		if err = step(n); err != nil {
			err = fmt.Errorf("%d members: %w", n, err)
			break
		}
	}
	return []results.Curve{join, all, half, died, bytes, work, memory}, err
}
