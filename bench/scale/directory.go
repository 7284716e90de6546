package scale

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/cluster"
)

// byRecords has a directory know more and more hosts, each with a block and ten names.
func byRecords(ctx context.Context, o *Options) ([]results.Curve, error) {
	memory := results.Curve{Name: "directory: memory of a host", X: "hosts", Y: "kB"}
	list := results.Curve{Name: "directory: all hosts anew, each", X: "hosts", Y: "µs"}
	one := results.Curve{Name: "directory: one host's news", X: "hosts", Y: "µs"}
	where := results.Curve{Name: "directory: whose an address is", X: "hosts", Y: "ns"}
	decode := results.Curve{Name: "directory: a record is read", X: "hosts", Y: "µs"}
	entry := func(i int, seq uint64) cluster.Entry {
		r := record(i)
		r.Seq = seq
		a := block(i).Addr()
		for j := range 10 {
			a = a.Next()
			r.Names = append(r.Names, cluster.Name{Key: "blue", Name: fmt.Sprintf("container-%d-%d", i, j), Addrs: []netip.Addr{a}})
		}
		return cluster.Entry{Record: r}
	}
	for _, n := range upTo(5*o.Known, 100, 1000, o.Known) {
		before := heap()
		d := cluster.NewDirectory("")
		u := cluster.Update{Full: true}
		var encoded [][]byte
		for i := range n {
			e := entry(i, 1)
			u.Entries = append(u.Entries, e)
			if i < 1000 {
				b, err := e.Encode()
				if err != nil {
					return nil, err
				}
				encoded = append(encoded, b)
			}
		}
		began := taken()
		d.Apply(u)
		full := taken() - began
		began = taken()
		for _, b := range encoded {
			if _, err := cluster.Decode(b); err != nil {
				return nil, err
			}
		}
		read := (taken() - began) / time.Duration(len(encoded))
		u, encoded = cluster.Update{}, nil
		kb := (heap() - before) / float64(n) / 1e3
		const times = 2000
		var news []cluster.Entry
		for i := range times {
			news = append(news, entry(i%n, uint64(2+i)))
		}
		began = taken()
		for _, e := range news {
			d.Apply(cluster.Update{Entries: []cluster.Entry{e}})
		}
		change := (taken() - began) / times
		const looks = 100_000
		began = taken()
		for i := range looks {
			if _, ok := d.Where("blue", block(i*7919%n).Addr()); !ok {
				return nil, fmt.Errorf("of %d hosts none has %s", n, block(i*7919%n))
			}
		}
		look := float64((taken() - began).Nanoseconds()) / looks
		memory.Add(n, kb)
		list.Add(n, ms(full)*1e3/float64(n))
		one.Add(n, ms(change)*1e3)
		where.Add(n, look)
		decode.Add(n, ms(read)*1e3)
		fmt.Fprintf(o.Progress, "  %5d hosts of ten names: %.1f kB each, %.1f µs each for all, %.1f µs for one host's news, %.0f ns to find whose an address is, %.1f µs to read a record\n",
			n, kb, ms(full)*1e3/float64(n), ms(change)*1e3, look, ms(read)*1e3)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return []results.Curve{memory, list, one, where, decode}, nil
}
