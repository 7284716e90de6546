// Command bench measures tapestry against what the kernel offers for the same job, on this machine, in one run:
// `make bench`, as root. All it makes lives in namespaces of its own and is gone when it ends, also by Ctrl-C.
//
// A rung is one job, done in two ways that are measured in turn, A B A B …: on a busy machine only the ratio within
// a pair means something. The bench shows medians of those ratios.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

func main() {
	runtime.LockOSThread() // what the bench starts ends with the thread that started it: PR_SET_PDEATHSIG(2const)
	pairs := flag.Int("pairs", 5, "measure each way `N` times")
	seconds := flag.Int("seconds", 3, "send for `N` seconds each time")
	binary := flag.String("tapestry", "bin/tapestry", "the `FILE` to measure")
	asJSON := flag.Bool("json", false, "print one JSON object instead of the table")
	check := flag.Bool("check", false, "fail when a ratio is below its threshold")
	flag.Parse()
	if *pairs < 1 || *seconds < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: want -pairs and -seconds of at least 1, and no arguments")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, *binary, *pairs, *seconds)
	var skip skipped
	switch {
	case errors.As(err, &skip) && os.Getenv("TAPESTRY_MUST") != "1":
		fmt.Fprintln(os.Stderr, "bench: skipped:", skip)
		return
	case ctx.Err() != nil:
		err = errors.New("interrupted; all that it made is gone")
	case err == nil && *asJSON:
		err = json.NewEncoder(os.Stdout).Encode(r)
	case err == nil:
		err = r.table(os.Stdout)
	}
	if err == nil && *check {
		err = r.verdict()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run climbs the whole ladder; how it goes it tells on standard error.
func run(ctx context.Context, binary string, pairs, seconds int) (report, error) {
	r := report{Pairs: pairs, Seconds: seconds}
	if err := ready(); err != nil {
		return r, err
	}
	path, err := filepath.Abs(binary)
	if err == nil {
		r.Machine, err = describe(ctx, path)
	}
	if err != nil {
		return r, err
	}
	for _, rung := range ladder(path) {
		result, err := rung.climb(ctx, pairs, seconds, os.Stderr)
		if err != nil {
			return r, fmt.Errorf("%s: %w", rung.name, err)
		}
		r.Rungs = append(r.Rungs, result)
	}
	return r, nil
}

// skipped says what the bench cannot do without.
type skipped string

func (s skipped) Error() string { return string(s) }

func ready() error {
	if os.Geteuid() != 0 {
		return skipped("needs root, for network namespaces")
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, tool := range []string{"iperf3", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return skipped("needs " + tool + " (Debian: apt-get install iperf3 iproute2 util-linux)")
		}
	}
	return nil
}

// A rung is one job that tapestry and the kernel do in turn.
type rung struct {
	name     string
	tapestry way
	kernel   way
	across   bool    // two hosts
	least    float64 // the ratio tapestry/kernel that it has to reach
}

// ladder is all that is measured, from the bottom up. binary is the tapestry to measure, an absolute path.
func ladder(binary string) []rung {
	t := tapestry{binary}
	return []rung{
		{"one host: bridge", t, kernel{}, false, 0.6},
		{"two hosts: VXLAN", t, kernel{}, true, 0.5},
	}
}

// climb measures pairs of runs of so many seconds each, and tells progress how it goes.
func (r rung) climb(ctx context.Context, pairs, seconds int, progress io.Writer) (result, error) {
	fmt.Fprintf(progress, "%s, one TCP flow\n", r.name)
	var beds [2]*bed
	for i, w := range []way{r.tapestry, r.kernel} {
		b, err := build(ctx, w, r.across)
		if err != nil {
			return result{}, err
		}
		defer b.close()
		if _, err := b.flow(ctx, 1); err != nil { // neighbours get known, windows and queues grow
			return result{}, fmt.Errorf("warm up: %w", err)
		}
		beds[i] = b
	}
	var all []pair
	for n := 1; n <= pairs; n++ {
		var gbps [2]float64
		for i, b := range beds {
			var err error
			if gbps[i], err = b.flow(ctx, seconds); err != nil {
				return result{}, err
			}
		}
		p := pair{gbps[0], gbps[1]}
		all = append(all, p)
		fmt.Fprintf(progress, "  %d/%d  tapestry %5.2f  kernel %5.2f Gb/s  ratio %.2f\n", n, pairs, p.Tapestry, p.Kernel, p.ratio())
	}
	return summarize(r.name, r.least, all), nil
}
