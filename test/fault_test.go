package test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

var (
	pingTimes = regexp.MustCompile(`= ([\d.]+)/([\d.]+)/([\d.]+)/`) // min, avg, max
	goodputs  = regexp.MustCompile(`([\d.]+) [kMG]?bits/sec.*receiver`)
)

// rtt is the shortest of some round trips, in milliseconds, so that a busy machine matters less.
func (h *Host) rtt(t *testing.T, container, to string) float64 {
	t.Helper()
	said := h.exec(t, container, "ping", "-n", "-q", "-c8", "-i0.2", "-W20", to)
	m := pingTimes.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("ping said: %s", said)
	}
	least, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return least
}

// goodput is the payload that iperf3 moves, in Mbit/s.
func (h *Host) goodput(t *testing.T, server, client string, args ...string) float64 {
	t.Helper()
	said := measure(t, h, server, h, client, append(args, "--client", h.address(t, server, "X"))...)
	all := goodputs.FindAllStringSubmatch(said, -1)
	if all == nil {
		t.Fatalf("iperf3 said: %s", said)
	}
	rate, err := strconv.ParseFloat(all[len(all)-1][1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return rate
}

type faultSet struct {
	Direction                                string
	Frames, Passed, Lost, Delayed, Corrupted uint64
	Waiting                                  int
}

// TestFault: faults have their effect, and none is left when they are cleared.
func TestFault(t *testing.T) {
	h := newNode(t, "fault")
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	h.run(t, "web", "X")
	h.run(t, "db", "X", "--ip", "10.77.0.50")
	const db = "10.77.0.50"
	h.ping(t, "web", db)
	// near checks that round trips take so many milliseconds longer: never less, and at most 5 % and a timer's lateness in each direction
	// more. A busy machine has ten tries for that.
	near := func(t *testing.T, want float64) {
		t.Helper()
		got := 0.
		for range 10 {
			if got = h.rtt(t, "web", db); got < want {
				t.Errorf("round trips take %.2f ms, want %v", got, want)
			}
			if got <= want*1.05+4 {
				return
			}
		}
		t.Errorf("ten times round trips take at least %.2f ms, want %v", got, want)
	}

	t.Run("delay", func(t *testing.T) {
		h.quiet(t)
		h.tapestry(t, "fault", "set", "web", "--delay", "50ms", "--dir", "to")
		near(t, 50)
		h.tapestry(t, "fault", "set", "web", "--delay", "50ms")
		near(t, 100)
		for _, f := range objects[faultSet](t, h, "fault", "list") {
			if f.Delayed < 8 || f.Lost != 0 || f.Frames != f.Passed+uint64(f.Waiting) {
				t.Errorf("%+v", f)
			}
		}
		if said := h.tapestry(t, "status"); !strings.Contains(said, "2 set on purpose") {
			t.Errorf("status does not mention faults:\n%s", said)
		}
		h.tapestry(t, "fault", "clear", "web")
		near(t, 0)
		if all := objects[faultSet](t, h, "fault", "list"); len(all) != 0 {
			t.Errorf("left are %+v", all)
		}
	})

	t.Run("loss", func(t *testing.T) {
		h.quiet(t)
		for _, dir := range []string{"from", "to"} {
			h.tapestry(t, "fault", "set", "web", "--loss", "100%", "--dir", dir)
			if said, err := h.tryExec("web", "ping", "-n", "-c3", "-i0.2", "-W1", db); err == nil {
				t.Errorf("ping goes through where all is lost %s web: %s", dir, said)
			}
			h.tapestry(t, "fault", "clear", "all")
			h.ping(t, "web", db)
		}
		var drops, refused uint64
		for _, p := range objects[port](t, h, "ports", "X") {
			drops += p.Drops["fault"]
			refused += p.Refused
			if p.Offered != p.TxFrames+p.Refused {
				t.Errorf("counters of %+v", p)
			}
		}
		if drops < 3 || refused < 3 {
			t.Errorf("drops %d, refused %d: want three pings in each", drops, refused)
		}
	})

	t.Run("nothing is lost when it is cleared", func(t *testing.T) {
		h.quiet(t)
		h.tapestry(t, "fault", "set", "db", "--delay", "10s", "--dir", "to")
		ping := h.background(t, "web", "ping", "-n", "-q", "-c20", "-l20", "-W20", db) // all at once, so that they are seen before the first one leaves
		testhost.Eventually(t, patience, func() error {
			if f := objects[faultSet](t, h, "fault", "list"); len(f) != 1 || f[0].Waiting < 20 {
				return fmt.Errorf("waiting: %+v", f)
			}
			return nil
		})
		h.tapestry(t, "fault", "clear", "db")
		if said, err := ping.wait(t); err != nil || lost(t, said) != 0 {
			t.Errorf("%v: %s", err, said)
		}
	})

	t.Run("rate", func(t *testing.T) {
		h.quiet(t)
		h.tapestry(t, "fault", "set", "web", "--rate", "20mbit", "--dir", "from")
		// Of each frame of 1442 bytes 1400 are payload; TCP is offloaded, and comes in super-frames.
		// A busy machine may move less, so there are ten tries; more must never be moved.
		for _, way := range []struct {
			name        string
			least, most float64
			args        []string
		}{{"UDP", 20 * 1400 / 1442. * 0.95, 20 * 1400 / 1442. * 1.05, []string{"-u", "-b40M", "-l1400", "-t4"}}, {"TCP", 15, 20, []string{"-t4"}}} {
			got := 0.
			for try := 0; try < 10 && got < way.least; try++ {
				if got = h.goodput(t, "db", "web", way.args...); got > way.most {
					break
				}
			}
			if got < way.least || got > way.most {
				t.Errorf("%s moves %v Mbit/s, want %v to %v", way.name, got, way.least, way.most)
			}
		}
	})

	t.Run("TCP gets through all of it", func(t *testing.T) {
		h.quiet(t)
		h.tapestry(t, "fault", "set", "web", "--delay", "5ms", "--jitter", "2ms", "--loss", "1%", "--burst", "3", "--duplicate", "1%",
			"--reorder", "1%", "--corrupt", "1%", "--rate", "500mbit", "--seed", "7")
		h.exec(t, "web", "sh", "-c", "dd if=/dev/urandom of=/tmp/sent bs=1M count=4 2>/dev/null")
		sum := strings.Fields(h.exec(t, "web", "md5sum", "/tmp/sent"))[0]
		h.exec(t, "web", "busybox", "httpd", "-p", "5000", "-h", "/tmp")
		said := h.exec(t, "db", "sh", "-c", "busybox wget -q -O - http://"+h.address(t, "web", "X")+":5000/sent | md5sum")
		if got := strings.Fields(said)[0]; got != sum {
			t.Errorf("what arrived has the sum %s, what was sent %s", got, sum)
		}
		for _, f := range objects[faultSet](t, h, "fault", "list") {
			if f.Direction == "from" && (f.Lost == 0 || f.Corrupted == 0 || f.Frames < 2800) {
				t.Errorf("%+v", f)
			}
		}
		h.tapestry(t, "fault", "clear", "all")
	})

	t.Run("it ends with the container", func(t *testing.T) {
		h.quiet(t)
		h.tapestry(t, "fault", "set", "web", "--loss", "100%")
		h.docker(t, "restart", "-t", "0", "web")
		h.ping(t, "web", db)
		h.tapestry(t, "fault", "set", "web", "--loss", "100%", "--for", "300ms")
		testhost.Eventually(t, patience, func() error {
			_, err := h.tryExec("web", "ping", "-n", "-c1", "-W5", db)
			return err
		})
		if code, said := h.exit(t, "fault", "set", "wbe", "--loss", "1%"); code != 4 || !strings.Contains(said, "did you mean web?") {
			t.Errorf("exit code %d, it said %s", code, said)
		}
	})
}
