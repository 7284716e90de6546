package test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestLifecycle: containers that stop, start again, fail, or are started and removed fifty at once.
func TestLifecycle(t *testing.T) {
	h := newNode(t, "lifecycle", "--sweep-after", "10m") // on a slow machine fifty starts at once take more than a minute each
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	h.run(t, "c1", "X")
	if h.remove(h.inspect(t, "c1").ID[:6]) == nil { // c2, which tests remove in any case, may be the beginning of c1's id
		t.Fatal("a container was removed by the beginning of its id")
	}

	t.Run("row27 stop, kill and exit give Leave, DeleteEndpoint", func(t *testing.T) {
		h.quiet(t)
		before := h.snapshot(t)
		for _, end := range [][]string{
			{"stop", "-t", "0", "c2"},
			{"kill", "c2"},
			{"exec", "-d", "c2", "kill", "1"}, // detached: the command may be killed with its container
		} {
			h.run(t, "c2", "X", "--init") // with an init, so that kill 1 from inside ends it
			from := h.mark()
			h.docker(t, end...)
			h.docker(t, "wait", "c2")
			testhost.Eventually(t, patience, func() error {
				if got, want := h.methods(t, from), "Leave DeleteEndpoint"; got != want {
					return fmt.Errorf("after docker %s: requests %q, want %q", strings.Join(end, " "), got, want)
				}
				return nil
			})
			from = h.mark()
			h.docker(t, "rm", "c2")
			if got := h.methods(t, from); got != "" {
				t.Errorf("docker rm made requests %q", got)
			}
		}
		h.audit(t, before)
	})

	t.Run("row29 a restart makes a new endpoint", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "c3", "X", "--ip", "10.77.0.33")
		before, from := h.snapshot(t), h.mark()
		old := h.inspect(t, "c3").NetworkSettings.Networks["X"].EndpointID
		h.docker(t, "restart", "-t", "0", "c3")
		h.ping(t, "c1", "10.77.0.33")
		if now := h.inspect(t, "c3").NetworkSettings.Networks["X"].EndpointID; now == old {
			t.Error("the endpoint is the old one")
		}
		if got, want := h.methods(t, from), "Leave DeleteEndpoint CreateEndpoint Join"; got != want {
			t.Errorf("requests %q, want %q", got, want)
		}
		// The links are named after the new endpoint, so only their number is compared.
		testhost.Eventually(t, patience, func() error {
			if now := h.snapshot(t); len(now) != len(before) {
				return fmt.Errorf("%d objects, were %d: %w", len(now), len(before), now.diff(before))
			}
			return nil
		})
	})

	t.Run("row32 a start that fails is undone", func(t *testing.T) {
		h.quiet(t, "no such file or directory")
		before := h.snapshot(t)
		t.Cleanup(func() { h.remove("c4") })
		said := h.dockerRefuses(t, "run", "--name", "c4", "--network", "X", "tp/net", "/no/such/binary")
		if !strings.Contains(said, "no such file") {
			t.Errorf("the user reads: %s", said)
		}
		h.audit(t, before)
		if got := h.docker(t, "network", "inspect", "-f", "{{len .Containers}}", "X"); got != "1" {
			t.Errorf("docker counts %s containers on X", got)
		}
	})

	t.Run("row30 row31 50 containers at once", func(t *testing.T) {
		h.quiet(t)
		before := h.snapshot(t)
		names := make([]string, 50)
		errs := make([]error, len(names))
		var starts sync.WaitGroup
		for i := range names {
			names[i] = fmt.Sprintf("many%02d", i)
			starts.Go(func() {
				errs[i] = h.start(names[i], "X", "", "")
			})
		}
		starts.Wait()
		t.Cleanup(func() {
			for _, name := range names {
				h.remove(name)
			}
		})
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		shown := strings.Fields(h.docker(t, "network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}} {{.MacAddress}} {{end}}", "X"))
		slices.Sort(shown)
		if unique := slices.Compact(slices.Clone(shown)); len(unique) != 2*(len(names)+1) {
			t.Errorf("%d different addresses and MACs, want %d", len(unique), 2*(len(names)+1))
		}
		// One container pings all, and each pings its neighbour.
		const all = `for n in "$@"; do ping -n -c1 -W20 $n >/dev/null || { echo $n is not reached; exit 1; }; done`
		h.exec(t, "c1", append([]string{"sh", "-c", all, "sh"}, names...)...)
		for i := 0; i < len(names); i += 7 {
			h.ping(t, names[i], names[(i+1)%len(names)])
		}
		h.checkCounters(t)
		var ends sync.WaitGroup
		for i, name := range names {
			ends.Go(func() { errs[i] = h.remove(name) })
		}
		ends.Wait()
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		h.audit(t, before)
		if entries := objects[entry](t, h, "fdb", "X"); len(entries) != 1 {
			t.Errorf("fdb: %+v, want c1 alone", entries)
		}
	})
}
