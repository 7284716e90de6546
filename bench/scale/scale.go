// Package scale grows what a cluster has many of, hosts, records, peers, and measures at each size, with the real code in one
// process: `tapestry bench scale`. A hundred hosts of etcd are a hundred engines with connections of their own to a real
// etcd-server; two hundred of gossip are two hundred real members on loopback addresses.
//
// What it measures on one machine are costs: processor time, memory, bytes. The times until all have heard of something include
// the work of all hosts, which share this machine's processors. It leaves nothing behind.
package scale

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// Options of one run. A size of 0 is the default one.
type Options struct {
	Parts    []string  // names of Parts; none: all
	Hosts    int       // of the part etcd, at most; 5,000
	Members  int       // of the part gossip; 200
	Known    int       // hosts that one member of gossip, or one directory, knows; 10,000
	Records  int       // of the part switch, of a tenth as many hosts; 100,000
	Peers    int       // of the part tunnel; 10,000
	Etcd     string    // path of etcd; default the one in PATH
	Progress io.Writer // a line about each size; default none

	hurry bool // of a test: what is measured over some seconds is measured over a tenth of them
}

// quiet is how long something is measured.
func (o *Options) quiet(d time.Duration) time.Duration {
	if o.hurry {
		return d / 10
	}
	return d
}

// The most that can be asked for. A simulated host of etcd takes some 400 kB here; of members each costs some work for each other one.
const (
	MostHosts   = 50_000
	MostMembers = 1000
	MostKnown   = 1<<16 - 2 // a feeder has addresses for so many
	MostRecords = 1_000_000
)

// Parts are the names of what can be measured, in their order, with what each is.
var Parts = []struct{ Name, What string }{
	{"etcd", "hosts of one etcd-server"},
	{"gossip", "members that gossip"},
	{"member", "one member of gossip that knows many hosts"},
	{"directory", "what one host keeps of the others, of any kind of cluster"},
	{"switch", "decisions about frames to containers of many hosts"},
	{"tunnel", "peers of one VTEP"},
}

// A part measures one thing at growing sizes.
type part func(context.Context, *Options) ([]results.Curve, error)

var parts = map[string]part{"etcd": byHosts, "gossip": byMembers, "member": byKnown, "directory": byRecords, "switch": byPlaces, "tunnel": byPeers}

// Run measures what the options say. A part that cannot be measured here is in the result's Skipped, with what it has measured before;
// an error is the context's.
func Run(ctx context.Context, o Options) (*results.Scale, error) {
	o.Hosts, o.Members, o.Known = cmp.Or(o.Hosts, 5000), cmp.Or(o.Members, 200), cmp.Or(o.Known, 10_000)
	o.Records, o.Peers = cmp.Or(o.Records, 100_000), cmp.Or(o.Peers, 10_000)
	o.Etcd, o.Progress = cmp.Or(o.Etcd, "etcd"), cmp.Or[io.Writer](o.Progress, io.Discard)
	r := &results.Scale{Began: time.Now(), Parts: []results.Growth{}, Skipped: []results.Skip{}}
	for _, p := range Parts {
		if len(o.Parts) > 0 && !slices.Contains(o.Parts, p.Name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(o.Progress, "%s: %s\n", p.Name, p.What)
		curves, err := parts[p.Name](ctx, &o)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(o.Progress, "  %s: not measured: %v\n", p.Name, err)
			r.Skipped = append(r.Skipped, results.Skip{What: p.Name, Why: err.Error()})
		}
		curves = slices.DeleteFunc(curves, func(c results.Curve) bool { return len(c.Points) == 0 })
		if len(curves) > 0 {
			for i := range curves {
				curves[i].Fit()
			}
			r.Parts = append(r.Parts, results.Growth{Name: p.Name, What: p.What, Seconds: time.Since(began).Seconds(), Curves: curves})
		}
		debug.FreeOSMemory() // the next part begins with what this one began with
	}
	r.Seconds = time.Since(r.Began).Seconds()
	return r, nil
}

// upTo are the sizes of steps that are below most, and most.
func upTo(most int, steps ...int) []int {
	return append(slices.DeleteFunc(steps, func(n int) bool { return n >= most }), most)
}

// heap is the memory of this process's live objects, in bytes.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the second one also frees what pools held
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// taken is this process's processor time: what else the machine does delays what is measured by it, and adds nothing but what it does to caches.
func taken() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// until waits for something that other goroutines bring about.
func until(ctx context.Context, is func() bool) error {
	for !is() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// pause lets other goroutines go on for a while.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// median and worst of times.
func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
