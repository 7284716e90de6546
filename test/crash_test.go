package test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A background command runs in a container's network namespace ("" as container: the host's), also when dockerd ends.
type background struct {
	cmd  *exec.Cmd
	said testhost.Log
}

func (h *Host) background(t *testing.T, container string, args ...string) *background {
	t.Helper()
	if container != "" {
		args = append([]string{"nsenter", "-n", "-t", h.init(t, container)}, args...)
	}
	b := &background{cmd: h.command(args...)}
	b.cmd.Stdout, b.cmd.Stderr = &b.said, &b.said
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// await waits until the command has written text.
func (b *background) await(t *testing.T, text string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		if said := b.said.String(); !strings.Contains(said, text) {
			return fmt.Errorf("%q was not said: %s", text, said)
		}
		return nil
	})
}

// wait waits for the command's end and returns its output.
func (b *background) wait(t *testing.T) (string, error) {
	t.Helper()
	err := b.cmd.Wait()
	return b.said.String(), err
}

var received = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// lost is the number of unanswered packets in ping's output.
func lost(t *testing.T, said string) int {
	t.Helper()
	m := received.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("ping said: %s", said)
	}
	sent, _ := strconv.Atoi(m[1])
	got, _ := strconv.Atoi(m[2])
	return sent - got
}

var answered = regexp.MustCompile(`icmp_seq=(\d+) ttl=`)

// goesOn waits until a ping has a reply more than it has by now, and returns its output until then.
func (b *background) goesOn(t *testing.T) string {
	t.Helper()
	return b.saysMore(t, answered, "no reply any more")
}

// saysMore waits until what a command says from now on matches, and returns all that it has said. missing is what is wrong until then.
func (b *background) saysMore(t *testing.T, match *regexp.Regexp, missing string) string {
	t.Helper()
	before := len(b.said.String())
	testhost.Eventually(t, patience, func() error {
		if said := b.said.String(); !match.MatchString(said[before:]) {
			return fmt.Errorf("%s: %s", missing, said)
		}
		return nil
	})
	return b.said.String()
}

// holes is the number of packets without a reply before the last one with a reply, in the output of a ping without -q.
func holes(said string) int {
	all, last := map[int]bool{}, 0
	for _, m := range answered.FindAllStringSubmatch(said, -1) {
		n, _ := strconv.Atoi(m[1])
		all[n], last = true, max(last, n)
	}
	return last - len(all)
}

// TestHoles: a packet without a reply is found unless it is among the last.
func TestHoles(t *testing.T) {
	reply := func(n int) string { return fmt.Sprintf("64 bytes from 10.77.0.2: icmp_seq=%d ttl=64 time=0.1 ms\n", n) }
	for said, want := range map[string]int{
		"": 0,
		reply(1) + reply(2) + "5 packets transmitted, 2 received": 0,
		reply(1) + reply(2) + reply(5):                            2,
		reply(2) + reply(1) + reply(3) + reply(3):                 0,
		reply(2): 1,
	} {
		if got := holes(said); got != want {
			t.Errorf("%d holes, want %d in\n%s", got, want, said)
		}
	}
}

// TestDriverCrash: tapestry ends in every way while containers keep running.
func TestDriverCrash(t *testing.T) {
	h := newNode(t, "drivercrash", "--sweep-after", "10s")
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	networks := []string{"X"}
	for _, c := range []string{"c1", "c2"} {
		h.run(t, c, "X")
	}
	if h.has("attach=tap") {
		networks = append(networks, "T")
		h.network(t, "T", "--subnet", "10.78.0.0/24", "-o", "tapestry.attach=tap")
		for _, c := range []string{"c1", "c2"} {
			h.docker(t, "network", "connect", "T", c)
		}
	}

	for _, signal := range []string{"TERM", "KILL"} {
		for _, network := range networks {
			t.Run("row39 "+signal+" and start, network "+network, func(t *testing.T) {
				h.quiet(t)
				h.ping(t, "c1", h.address(t, "c2", network))
				before := h.snapshot(t)
				const count, every = 40, 100 * time.Millisecond
				ping := h.background(t, "c1", "ping", "-n", "-c", fmt.Sprint(count), "-i", "0.1", "-W5", h.address(t, "c2", network))
				ping.await(t, "icmp_seq=5 ")
				began := time.Now()
				h.stopDaemon(t, signal)
				h.startDaemon(t)
				down := time.Since(began)
				said, _ := ping.wait(t)
				if gap := time.Duration(lost(t, said)) * every; gap > down+time.Second {
					t.Errorf("a gap of %v for %v down", gap, down)
				}
				h.audit(t, before)
				h.ping(t, "c1", "c2")
			})
		}
	}

	t.Run("kill -9 in the middle of iperf3", func(t *testing.T) {
		h.quiet(t)
		server := h.background(t, "c2", "iperf3", "--server", "--one-off")
		h.listening(t, "c2", "5201")
		client := h.background(t, "c1", "iperf3", "--client", h.address(t, "c2", "X"), "--time", "600", "--forceflush")
		client.moves(t)
		h.stopDaemon(t, "KILL")
		h.startDaemon(t)
		client.moves(t)
		client.moves(t)
		client.signal(syscall.SIGINT)
		if said, _ := client.wait(t); strings.Contains(said, "unable") {
			t.Errorf("the connection did not live on: %s", said)
		}
		server.wait(t)
	})

	t.Run("row39 afterwards docker stop is clean", func(t *testing.T) {
		h.quiet(t)
		from := h.mark()
		h.run(t, "c3", "X")
		h.ping(t, "c3", "c1")
		h.stop(t, "c3")
		if got := h.methods(t, from); !strings.HasSuffix(got, "CreateEndpoint Join Leave DeleteEndpoint") {
			t.Errorf("requests %q", got)
		}
	})

	t.Run("row41 no stale socket", func(t *testing.T) {
		h.quiet(t)
		socket := h.socket()
		signals := []string{"TERM"}
		if h.has("INT") {
			signals = append(signals, "INT")
		}
		// For a stale socket dockerd waits 15 s, each time; on a busy machine one of three is quicker than that.
		const stall = 15 * time.Second
		quick := func(when string) {
			took := time.Hour
			for try := 0; try < 3 && took >= stall; try++ {
				began := time.Now()
				h.docker(t, "volume", "ls")
				took = time.Since(began)
			}
			if took >= stall {
				t.Errorf("docker volume ls took %v %s", took, when)
			}
		}
		quick("while tapestry runs")
		for _, signal := range signals {
			h.stopDaemon(t, signal)
			if _, err := h.try("test", "!", "-e", socket); err != nil {
				t.Errorf("after %s the socket is there", signal)
			}
			quick("after " + signal)
			h.startDaemon(t)
		}
		h.stopDaemon(t, "TERM")
		if code, said := h.exit(t, "run", "--state-dir", "/proc/no/such"); code == 0 || !strings.Contains(said, "/proc/no") {
			t.Errorf("with an impossible state directory: exit code %d: %s", code, said)
		}
		if _, err := h.try("test", "!", "-e", socket); err != nil {
			t.Error("after a failed start the socket is there")
		}
		if code, said := h.exit(t, "status"); code != 5 || !strings.Contains(said, "tapestry run") {
			t.Errorf("status without a daemon: exit code %d: %s", code, said)
		}
		h.startDaemon(t)
	})

	t.Run("the living are not swept", func(t *testing.T) { sweepsNoneOfTheLiving(t, h, networks) })

	t.Run("a damaged state file is named and left", func(t *testing.T) {
		h.stopDaemon(t, "TERM")
		state := h.stateDir(t)
		file := h.in(t, "sh", "-c", "ls "+state+"/networks/*.json | head -n 1")
		h.in(t, "sh", "-ec", fmt.Sprintf("cp %s /run/whole; head -c 30 /run/whole >%s", file, file))
		if code, said := h.exit(t, "run", "--state-dir", state); code == 0 || !strings.Contains(said, file) {
			t.Errorf("exit code %d: %s", code, said)
		}
		if size := h.in(t, "stat", "-c", "%s", file); size != "30" {
			t.Errorf("the file has %s bytes now", size)
		}
		h.in(t, "cp", "/run/whole", file)
		h.startDaemon(t)
		h.ping(t, "c1", "c2")
	})
}

// TestDriverDown: dockerd has no driver for a while. It tries each call for 15 s.
func TestDriverDown(t *testing.T) {
	h := newNode(t, "driverdown", "--sweep-after", "10s")
	clean := h.snapshot(t)
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	h.network(t, "Y", "--subnet", "10.78.0.0/24")
	h.network(t, "Z", "--subnet", "10.79.0.0/24", "-o", "tapestry.external=off")
	h.run(t, "keep", "X")
	h.run(t, "c1", "X")
	before := h.snapshot(t)
	h.stopDaemon(t, "TERM")

	type result struct {
		took time.Duration
		err  error
	}
	during := func(args ...string) chan result {
		done := make(chan result, 1)
		go func() {
			began := time.Now()
			_, err := h.try(append([]string{"docker"}, args...)...)
			done <- result{time.Since(began), err}
		}()
		return done
	}
	run, stop, remove := during("run", "--rm", "--name", "c2", "--network", "Y", "tp/net", "true"),
		during("stop", "-t", "1", "c1"), during("network", "rm", "Z")

	t.Run("row40 docker run fails in 15 s and says why", func(t *testing.T) {
		r := <-run
		if r.err == nil || !strings.Contains(r.err.Error(), "tapestry") {
			t.Errorf("the user reads: %v", r.err)
		}
		if r.took > 3*time.Minute {
			t.Errorf("it took %v", r.took)
		}
	})
	t.Run("row40 docker stop succeeds in 30 s", func(t *testing.T) {
		if r := <-stop; r.err != nil || r.took > 3*time.Minute {
			t.Errorf("it took %v: %v", r.took, r.err)
		}
	})
	t.Run("row47 docker network rm succeeds, tapestry networks rm does the rest", func(t *testing.T) {
		if r := <-remove; r.err != nil || r.took > 3*time.Minute {
			t.Errorf("it took %v: %v", r.took, r.err)
		}
		h.startDaemon(t)
		ids := map[string]bool{}
		for _, n := range objects[network](t, h, "networks") {
			ids[n.ID] = true
		}
		for _, id := range strings.Fields(h.docker(t, "network", "ls", "-q", "--no-trunc")) {
			delete(ids, id)
		}
		if len(ids) != 1 {
			t.Fatalf("networks that Docker forgot: %v, want one", ids)
		}
		for id := range ids {
			h.tapestry(t, "networks", "rm", id)
		}
	})
	t.Run("row40 the rest of the stopped container is swept", func(t *testing.T) {
		testhost.Eventually(t, patience, func() error {
			if ports := objects[port](t, h, "ports", "X"); len(ports) != 1 {
				return fmt.Errorf("%d ports, want the one that is left: %+v", len(ports), ports)
			}
			return nil
		})
		testhost.Eventually(t, patience, func() error {
			if now := h.snapshot(t); len(now) >= len(before) {
				return fmt.Errorf("%d objects, were %d: %v", len(now), len(before), now.diff(before))
			}
			return nil
		})
		h.run(t, "c3", "X")
		h.ping(t, "c3", "keep")
		h.docker(t, "rm", "-f", "c3", "keep", "c1")
		h.docker(t, "network", "rm", "X", "Y")
		testhost.Eventually(t, patience, func() error {
			now := h.snapshot(t)
			delete(now, "link docker_gwbridge") // Docker's
			for key := range now {
				if strings.Contains(key, " dev docker_gwbridge ") {
					delete(now, key)
				}
			}
			return now.diff(clean)
		})
	})
}

// listening waits until a TCP server in a container listens.
func (h *Host) listening(t *testing.T, container, port string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		_, err := h.tryExec(container, "sh", "-c", "netstat -ltn | grep -q :"+port)
		return err
	})
}
