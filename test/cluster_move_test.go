package test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

var repliedAt = regexp.MustCompile(`(?m)^\[(\d+)\.(\d{6})\] \d+ bytes from`)

// firstReply is the time of the first reply after a time in the output of ping -D; false: there is none.
func firstReply(said string, after time.Time) (time.Time, bool) {
	for _, m := range repliedAt.FindAllStringSubmatch(said, -1) {
		s, _ := strconv.ParseInt(m[1], 10, 64)
		us, _ := strconv.ParseInt(m[2], 10, 64)
		if at := time.Unix(s, us*1000); at.After(after) {
			return at, true
		}
	}
	return time.Time{}, false
}

func TestFirstReply(t *testing.T) {
	const said = "PING 10.0.0.1\n[100.000001] 64 bytes from 10.0.0.1: icmp_seq=1\n[101.5] From 10.0.0.2 icmp_seq=2 Destination Host Unreachable\n[102.250000] 64 bytes from 10.0.0.1: icmp_seq=3\n"
	if at, ok := firstReply(said, time.Unix(100, 500000)); !ok || !at.Equal(time.Unix(102, 250e6)) {
		t.Errorf("%v %v", at, ok)
	}
	if at, ok := firstReply(said, time.Unix(103, 0)); ok {
		t.Errorf("%v", at)
	}
}

// moves moves a container with an address and a MAC of its own between two hosts, TAPESTRY_MOVES times, and tells how long after its
// start a ping from a third one was answered. How fast that is on a machine that does other things besides is not judged.
func (s *sharing) moves(t *testing.T) {
	const addr = "10.50.201.9"
	rounds, _ := strconv.Atoi(cmp.Or(os.Getenv("TAPESTRY_MOVES"), "3"))
	asker := s.hosts[0]
	start := func(h *Host) {
		h.docker(t, "run", "-d", "--name", "mover", "--network", "name=blue,ip="+addr+",driver-opt=tapestry.mac=02:aa:bb:cc:dd:09", "tp/net")
	}
	end := func(h *Host) { h.docker(t, "rm", "-f", "mover") }
	start(s.hosts[1])
	asker.ping(t, "c10", addr)
	var all []time.Duration
	for round := range rounds {
		from, to := s.hosts[1+round%2], s.hosts[2-round%2]
		ping := asker.background(t, "c10", "ping", "-n", "-D", "-i", "0.02", addr)
		ping.goesOn(t)
		end(from)
		ended := time.Now()
		start(to)
		started, err := time.Parse(time.RFC3339Nano, to.docker(t, "inspect", "-f", "{{.State.StartedAt}}", "mover"))
		testhost.Must(t, err)
		testhost.Eventually(t, patience, func() error {
			at, ok := firstReply(ping.said.String(), ended)
			if !ok {
				return fmt.Errorf("round %d: no reply from %s: %s", round, to.name, ping.said.String())
			}
			if len(all) == round {
				all = append(all, max(0, at.Sub(started)))
			}
			return nil
		})
		ping.signal(syscall.SIGINT)
		ping.wait(t)
	}
	end(s.hosts[1+rounds%2])
	slices.Sort(all)
	over := len(all)
	for over > 0 && all[over-1] > time.Second {
		over--
	}
	t.Logf("moved %d times: first reply %v after the start (median), %v (worst); %d later than 1 s", rounds, all[len(all)/2], all[len(all)-1], len(all)-over)
}

// questionsAnswered: a host answers questions for a container on another one, as trace says, and a capture has what the container sees.
func (s *sharing) questionsAnswered(t *testing.T, owner *Host, addr string) {
	h := s.hosts[2]
	h.run(t, "asker", "blue")
	testhost.Eventually(t, patience, func() error {
		if said := h.tapestry(t, "trace", "asker", addr, "--arp"); !strings.Contains(said, "says host "+owner.name) || !strings.Contains(said, "answered by tapestry") {
			return fmt.Errorf("trace says: %s", said)
		}
		return nil
	})
	count := func() (sum uint64) {
		for _, n := range objects[network](t, h, "networks") {
			sum += n.Answered
		}
		return sum
	}
	before := count()
	filter := "(arp or icmp) and host " + addr // what others ask may come before our capture begins, or behind its end
	seen := h.capture(t, "asker", "eth0", filter, "-t")
	k := h.startCapture(t, filepath.Join(t.TempDir(), "asker.pcapng"), "asker", "-f", filter)
	h.ping(t, "asker", addr)
	if n := count(); n != before+1 {
		t.Errorf("%d questions were answered, want 1", n-before)
	}
	k.signal(syscall.SIGINT)
	if said, err := k.wait(t); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	inside := seen.end(t)
	ours := strings.Split(strings.TrimSpace(tool(t, "sh", "-c", `tcpdump -n -e -t -r - 2>/dev/null <"$1"`, "sh", k.path)), "\n")
	slices.Sort(inside)
	slices.Sort(ours)
	if !slices.Equal(inside, ours) || !slices.ContainsFunc(ours, func(l string) bool { return strings.Contains(l, "Reply "+addr+" is-at 02:aa:bb:cc:dd:08") }) {
		t.Errorf("the container saw\n%s\nour capture has\n%s", strings.Join(inside, "\n"), strings.Join(ours, "\n"))
	}
	h.docker(t, "rm", "-f", "asker")
}
