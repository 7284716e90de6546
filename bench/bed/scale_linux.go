package bed

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
)

// Curves makes one thing after the other grow, and measures at each size. binary is the path of tapestry. quick has fewer and
// smaller sizes. What fails is in skipped; an error is the context's. It prints each size to progress.
func Curves(ctx context.Context, binary string, quick bool, progress io.Writer) (all []results.Curve, skipped []results.Skip, err error) {
	for _, c := range []struct {
		what string
		run  func() ([]results.Curve, error)
	}{
		{"endpoints of one host", func() ([]results.Curve, error) { return byEndpoints(ctx, binary, quick, progress) }},
		{"networks of one host", func() ([]results.Curve, error) { return byNetworks(ctx, binary, quick, progress) }},
		{"peers flooded to", func() ([]results.Curve, error) { return byPeers(ctx, quick, progress) }},
		{"learned addresses", func() ([]results.Curve, error) { return byAddresses(ctx, quick, progress) }},
	} {
		grown, err := c.run()
		if ctx.Err() != nil {
			return all, skipped, ctx.Err()
		}
		if err != nil {
			skipped = append(skipped, results.Skip{What: c.what, Why: err.Error()})
			fmt.Fprintf(progress, "  %s: skipped: %v\n", c.what, err)
		}
		all = append(all, slices.DeleteFunc(grown, func(c results.Curve) bool { return len(c.Points) == 0 })...) // also curves of which a later point failed
	}
	return all, skipped, nil
}

// steps are the sizes at which something is measured.
func steps(quick bool, few []int, all ...int) []int {
	if quick {
		return few
	}
	return all
}

// grow measures at each size, up to the first one that fails.
func grow(of string, sizes []int, measure func(n int) error) error {
	for _, n := range sizes {
		if err := measure(n); err != nil {
			return fmt.Errorf("from %d %s on: %w", n, of, err)
		}
	}
	return nil
}

// idleEndpoints is the name of the curve that has the RSS at 1,000 idle endpoints.
const idleEndpoints = "RSS by idle endpoints"

// IdleRSS is the daemon's RSS with 1,000 idle endpoints, in MB. A quick run does not measure so many.
func IdleRSS(all []results.Curve) (float64, bool) {
	for _, c := range all {
		for _, p := range c.Points {
			if c.Name == idleEndpoints && p.X == 1000 {
				return p.Y, true
			}
		}
	}
	return 0, false
}

// byEndpoints adds endpoints to one network, and restarts the daemon at each size.
func byEndpoints(ctx context.Context, binary string, quick bool, progress io.Writer) ([]results.Curve, error) {
	rss := results.Curve{Name: idleEndpoints, X: "endpoints", Y: "MB"}
	kernel := results.Curve{Name: "kernel memory by endpoints", X: "endpoints", Y: "MB of slab, whole machine"}
	threads := results.Curve{Name: "threads by idle endpoints", X: "endpoints", Y: "threads"}
	files := results.Curve{Name: "open files by idle endpoints", X: "endpoints", Y: "files"}
	created := results.Curve{Name: "endpoint created, by endpoints", X: "endpoints", Y: "ms"}
	started := results.Curve{Name: "start-up by endpoints", X: "endpoints", Y: "ms"}
	trip := results.Curve{Name: "round trip by endpoints", X: "endpoints", Y: "µs, p50"}

	d, err := newDaemon(ctx, binary)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if _, err := d.start(ctx); err != nil {
		return nil, err
	}
	if err := d.network(ctx); err != nil {
		return nil, err
	}
	idleTime, times := 11*time.Second, 10_000 // an idle daemon sweeps every ten seconds
	if quick {
		idleTime, times = time.Second, 2000
	}
	bare, err := kernelMemory()
	if err != nil {
		return nil, err
	}
	err = grow("endpoints", steps(quick, []int{2, 50, 200}, 2, 10, 100, 500, 1000), func(n int) error {
		each, err := d.endpoints(ctx, 0, n-d.created)
		if err != nil {
			return err
		}
		used, err := d.idle(ctx, idleTime)
		if err != nil {
			return err
		}
		slab, err := kernelMemory()
		if err != nil {
			return err
		}
		p50, back, err := d.probe(ctx, times)
		if err != nil {
			return err
		}
		rss.Add(n, used.rss)
		kernel.Add(n, slab-bare)
		threads.Add(n, float64(used.threads))
		files.Add(n, float64(used.files))
		if n > 2 { // the first two also pay for what is allocated once, in the daemon and in the kernel
			created.Add(n, float64(each.Microseconds())/1e3)
		}
		started.Add(n, float64(back.Microseconds())/1e3)
		trip.Add(n, p50)
		fmt.Fprintf(progress, "  %4d endpoints: RSS %.1f MB, kernel %.0f MB, %d threads, %d files, %.1f ms to create one, %.0f ms to start, round trip %.1f µs\n",
			n, used.rss, slab-bare, used.threads, used.files, float64(each.Microseconds())/1e3, float64(back.Microseconds())/1e3, p50)
		return nil
	})
	rss.Judge(1000, "kB", "%s for each endpoint; expected: some 2 kB are in use; the rest, from the last listing of all links, is not yet garbage-collected")
	kernel.Judge(1000, "kB", "%s for each endpoint; expected: its links and their queues")
	threads.Judge(1, "threads", "%s for each endpoint")
	files.Judge(1, "files", "%s for each endpoint; expected: its TAP's queues")
	created.Judge(1e3, "µs", "%s more for each endpoint that exists; expected: the record of the network is written as a whole")
	started.Judge(1, "ms", "%s for each endpoint; expected: its links are examined and its TAP is opened, one endpoint after the other")
	trip.Judge(1e3, "ns", "%s for each endpoint")
	return []results.Curve{rss, kernel, threads, files, created, started, trip}, err
}

// probe measures the round trip between the first two endpoints, in µs, and how long the daemon takes to restart.
func (d *daemon) probe(ctx context.Context, times int) (p50 float64, back time.Duration, err error) {
	if p50, err = d.roundTrip(ctx, 0, times); err != nil {
		return 0, 0, err
	}
	back, err = d.restart(ctx)
	return p50, back, err
}

// byNetworks adds networks of two endpoints each, and restarts the daemon at each size.
func byNetworks(ctx context.Context, binary string, quick bool, progress io.Writer) ([]results.Curve, error) {
	rss := results.Curve{Name: "RSS by networks of two endpoints", X: "networks", Y: "MB"}
	started := results.Curve{Name: "start-up by networks of two endpoints", X: "networks", Y: "ms"}
	trip := results.Curve{Name: "round trip by networks of two endpoints", X: "networks", Y: "µs, p50"}
	times := 10_000
	if quick {
		times = 2000
	}
	d, err := newDaemon(ctx, binary)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if _, err := d.start(ctx); err != nil {
		return nil, err
	}
	err = grow("networks", steps(quick, []int{1, 10, 50}, 1, 10, 50, 100, 200), func(n int) error {
		for d.networks < n {
			if err := d.network(ctx); err != nil {
				return err
			}
			if _, err := d.endpoints(ctx, d.networks-1, 2); err != nil {
				return err
			}
		}
		used, err := d.idle(ctx, 2*time.Second)
		if err != nil {
			return err
		}
		p50, back, err := d.probe(ctx, times)
		if err != nil {
			return err
		}
		rss.Add(n, used.rss)
		started.Add(n, float64(back.Microseconds())/1e3)
		trip.Add(n, p50)
		fmt.Fprintf(progress, "  %4d networks: RSS %.1f MB, %.0f ms to start, round trip %.1f µs\n", n, used.rss, float64(back.Microseconds())/1e3, p50)
		return nil
	})
	rss.Judge(1000, "kB", "%s for each network and its two endpoints; expected: as with endpoints, little of it is in use")
	started.Judge(1, "ms", "%s for each network and its two endpoints; expected: one after the other")
	trip.Judge(1e3, "ns", "%s for each network")
	return []results.Curve{rss, started, trip}, err
}
