package scale

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/gossip"
)

// byKnown feeds one real member with more and more hosts.
func byKnown(ctx context.Context, o *Options) ([]results.Curve, error) {
	join := results.Curve{Name: "member: a host is met, each", X: "hosts", Y: "µs of a processor"}
	memory := results.Curve{Name: "member: memory of a host, with the directory", X: "hosts", Y: "kB"}
	news := results.Curve{Name: "member: one host's news", X: "hosts", Y: "µs of a processor"}
	quiet := results.Curve{Name: "member: work with nothing new", X: "hosts", Y: "% of a processor"}
	sends := results.Curve{Name: "member: what it sends with nothing new", X: "hosts", Y: "bytes/s"}
	exchange := results.Curve{Name: "member: an exchange of all that is known", X: "hosts", Y: "kB"}
	step := func(n int) error {
		f, err := newFeeder("scale", n)
		if err != nil {
			return err
		}
		defer f.close()
		before, used, began := heap(), taken(), time.Now()
		at := netip.AddrPortFrom(loopback(0), gossip.DefaultPort)
		e := gossip.New(gossip.Config{Cluster: "scale", Bind: at, Join: []string{f.at(1).String()}})
		d := cluster.NewDirectory(record(0).ID)
		var known, named atomic.Int64 // hosts with their network, and with a name
		has := make([]byte, n+1)
		err = e.Start(record(0).Host, func(u cluster.Update) {
			d.Apply(u)
			for i := range u.Entries {
				r := &u.Entries[i]
				m := number(r.ID)
				if m > n || r.State != cluster.Alive {
					continue
				}
				if has[m] == 0 && len(r.Members) > 0 {
					has[m] = 1
					known.Add(1)
				}
				if has[m] == 1 && len(r.Names) > 0 {
					has[m] = 2
					named.Add(1)
				}
			}
		})
		if err != nil {
			return err
		}
		defer func() {
			end, cancel := context.WithDeadline(context.Background(), time.Now())
			defer cancel()
			_ = e.Close(end) // without a word
		}()
		limited, cancel := context.WithTimeout(ctx, longest)
		defer cancel()
		if err := until(limited, func() bool { return known.Load() == int64(n) }); err != nil {
			return fmt.Errorf("%d of %d hosts are known: %w", known.Load(), n, err)
		}
		took, each := time.Since(began), ms(taken()-used)*1e3/float64(n)
		if err := pause(ctx, o.quiet(quietFor/2)); err != nil { // until it has told what it knows
			return err
		}
		kb := (heap() - before) / float64(n) / 1e3
		const changes = 100
		used = taken()
		for i := range changes {
			who := 1 + i%n
			if err := f.tell(at, who, uint64(2+i), fmt.Sprintf("web-%d", i)); err != nil {
				return err
			}
		}
		want := int64(min(changes, n))
		if err := until(limited, func() bool { return named.Load() == want }); err != nil {
			return fmt.Errorf("%d of %d hosts' news are known: %w", named.Load(), want, err)
		}
		perNews := ms(taken()-used) * 1e3 / changes
		if err := pause(ctx, o.quiet(quietFor/2)); err != nil {
			return err
		}
		t := e.Traffic()
		used, began = taken(), time.Now()
		if err := pause(ctx, o.quiet(quietFor)); err != nil {
			return err
		}
		second := time.Since(began).Seconds()
		idle := 100 * (taken() - used).Seconds() / second
		more := e.Traffic()
		bytes := float64(more.PacketBytes+more.StreamBytes-t.PacketBytes-t.StreamBytes) / second
		join.Add(n, each)
		memory.Add(n, kb)
		news.Add(n, perNews)
		quiet.Add(n, idle)
		sends.Add(n, bytes)
		exchange.Add(n, float64(len(f.state))/1e3)
		fmt.Fprintf(o.Progress, "  %5d hosts: met after %.1f s (%.0f µs of a processor each), %.2f kB each; %.0f µs for one host's news; with nothing new %.2f %% of a processor, and it sends %.0f bytes a second; an exchange of all has %.0f kB\n",
			n, took.Seconds(), each, kb, perNews, idle, bytes, float64(len(f.state))/1e3)
		return nil
	}
	var err error
	if o.Known > MostKnown {
		return nil, fmt.Errorf("%d hosts: want %d at most", o.Known, MostKnown)
	}
	for _, n := range upTo(o.Known, 100, 1000, 3000) {
		if err = step(n); err != nil {
			err = fmt.Errorf("%d hosts: %w", n, err)
			break
		}
	}
	return []results.Curve{join, memory, news, quiet, sends, exchange}, err
}

// named is a name of a container of the i-th host.
func named(i int, name string) []cluster.Name {
	return []cluster.Name{{Key: "blue", Name: name, Addrs: []netip.Addr{block(i).Addr().Next()}}}
}
