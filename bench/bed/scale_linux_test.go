package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/poll"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

func TestIdleRSS(t *testing.T) {
	all := []results.Curve{{Name: "other", Points: []results.Point{{X: 1000, Y: 1}}}, {Name: idleEndpoints, Points: []results.Point{{X: 2, Y: 18}, {X: 1000, Y: 30}}}}
	if mb, ok := IdleRSS(all); mb != 30 || !ok {
		t.Errorf("%v, %v", mb, ok)
	}
	if _, ok := IdleRSS(all[:1]); ok {
		t.Error("found where there is none")
	}
}

// evict measures a port at its bound: each new address replaces an old one.
func TestTables(t *testing.T) {
	const n = 100
	tab := newTables(n)
	if len(tab.switches) != 100 || tab.learnNS <= 0 || tab.bytes < 10 {
		t.Errorf("%d switches, %v ns and %v bytes an address", len(tab.switches), tab.learnNS, tab.bytes)
	}
	ctx := context.Background()
	for name, ns := range map[string]float64{"find": tab.find(ctx), "tick": tab.tick(ctx), "evict": tab.evict(ctx)} {
		if ns <= 0 {
			t.Errorf("%s: %v ns", name, ns)
		}
	}
	learned := 0
	for e := range tab.switches[len(tab.switches)-1].Entries() {
		if e.Port == tab.owner {
			learned++
		}
	}
	if learned != n {
		t.Errorf("%d addresses after new ones were learned, want %d", learned, n)
	}
	if s := tab.in.Stats(); s.Rx[vswitch.Forwarded] == 0 || s.Rx[vswitch.Flooded] != 0 {
		t.Errorf("frames to learned addresses: %v", s.Rx)
	}
}

func TestByPeers(t *testing.T) {
	needRoot(t)
	all, err := byPeers(context.Background(), true, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if len(c.Points) < 2 || c.Points[len(c.Points)-1].X != 1000 || c.Points[0].Y <= 0 {
			t.Errorf("%s: %v", c.Name, c.Points)
		}
	}
}

// A daemon with a few endpoints: two of them reach each other, and all are restored after a crash.
func TestDaemon(t *testing.T) {
	binary := needBeds(t)
	ctx := t.Context()
	d, err := newDaemon(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if _, err := d.start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := d.network(ctx); err != nil {
		t.Fatal(err)
	}
	if each, err := d.endpoints(ctx, 0, 5); err != nil || each <= 0 {
		t.Fatalf("%v an endpoint, %v", each, err)
	}
	used, err := d.footprint()
	if err != nil {
		t.Fatal(err)
	}
	workers, err := poll.New(0)
	if err != nil {
		t.Fatal(err)
	}
	queues := 5 * workers.Workers() // one of each TAP for each worker
	if err := workers.Close(); err != nil {
		t.Fatal(err)
	}
	// Only queues are counted exactly: other files may be connections that are just being closed.
	taps, err := openTUNs(d.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if taps != queues || used.files <= queues || used.rss < 1 {
		t.Errorf("%d queues of TAPs open, want %d; in all %+v", taps, queues, used)
	}
	for range 2 {
		measured(t, func() error {
			p50, err := d.roundTrip(ctx, 0, 50)
			if err == nil && p50 <= 0 {
				err = fmt.Errorf("a round trip of %v µs", p50)
			}
			return err
		})
		if back, err := d.restart(ctx); err != nil || back <= 0 || back > 5*time.Minute {
			t.Fatalf("ready after %v, %v", back, err)
		}
	}
	links, err := output(d.others.command(ctx, "ip", "-brief", "link"))
	if err != nil || strings.Count(links, "tpc") != 3 {
		t.Errorf("the other endpoints' node has\n%s\n%v; want three links", links, err)
	}
}

// openTUNs counts a process's open files of the TUN/TAP driver. proc(5)
func openTUNs(pid int) (n int, err error) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if name, err := os.Readlink(dir + f.Name()); err == nil && name == "/dev/net/tun" {
			n++
		}
	}
	return n, nil
}

// What was measured before a failure stays.
func TestGrow(t *testing.T) {
	var c results.Curve
	err := grow("endpoints", []int{2, 10, 1000}, func(n int) error {
		if n == 1000 {
			return errors.New("no room")
		}
		c.Add(n, 1)
		return nil
	})
	if err == nil || err.Error() != "from 1000 endpoints on: no room" || len(c.Points) != 2 {
		t.Errorf("%v, %v", c, err)
	}
}
