package test

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// hostState are the host's routing rules and routes that are tapestry's.
func (h *Host) hostState(t *testing.T) string {
	t.Helper()
	return h.in(t, "sh", "-c", "for f in -4 -6; do ip $f rule list priority 10; ip $f route show table 4789; done 2>/dev/null | sort")
}

// reaches sends one ping from the host, and waits so many seconds for its reply: 1 where none should come.
func (h *Host) reaches(to string, seconds int) error {
	_, err := h.try("ping", "-n", "-c1", "-W", strconv.Itoa(seconds), to)
	return err
}

// TestHostPort: with tapestry.host the host is a station of the network, but forwards nothing for it.
//
//	c1, c2 ── X ── h ──underlay── outside, 192.0.2.2
//	other ─── Y ───┘ (by docker_gwbridge)
func TestHostPort(t *testing.T) {
	h, outside := newNodeWithOutside(t, "hostport")
	// Without a firewall, so that whatever the host forwards is seen.
	h.in(t, "sh", "-ec", "iptables -P FORWARD ACCEPT; iptables -I FORWARD -j ACCEPT; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	h.network(t, "Y", "--subnet", "10.70.0.0/24")
	h.run(t, "other", "Y", "--ip", "10.70.0.2") // the first one is another with a Docker that sets none aside
	before := len(h.state(t))
	h.network(t, "X", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "-o", "tapestry.host=on")
	h.run(t, "c1", "X", "--ip", "10.77.0.11", "--ip6", "fd77::11")
	h.run(t, "c2", "X", "--ip", "10.77.0.12", "--ip6", "fd77::12")
	talk := func(t *testing.T) {
		t.Helper()
		testhost.Eventually(t, patience, func() error {
			for _, to := range []string{"10.77.0.11", "fd77::12"} {
				if err := h.reaches(to, 5); err != nil {
					return err
				}
			}
			return nil
		})
		h.ping(t, "c1", "10.77.0.1")
		h.ping(t, "c2", "fd77::1")
		h.ping(t, "c1", "10.77.0.12")
	}
	alone := func(t *testing.T) {
		t.Helper()
		if out, err := h.tryExec("other", "ping", "-n", "-c1", "-W1", "10.77.0.11"); err == nil {
			t.Errorf("a container of another network reaches this one by the host: %s", out)
		}
		for _, to := range []string{"10.77.0.11", "fd77::11"} {
			if err := outside.reaches(to, 1); err == nil {
				t.Errorf("the outside reaches %s by the host", to)
			}
		}
		pid := h.init(t, "c1")
		for _, way := range []struct{ to, by, family string }{{"192.0.2.2", "10.77.0.1", "-4"}, {"2001:db8::2", "fd77::1", "-6"}, {"10.70.0.2", "10.77.0.1", "-4"}} {
			h.in(t, "nsenter", "-n", "-t", pid, "ip", way.family, "route", "replace", way.to, "via", way.by)
			if out, err := h.tryExec("c1", "ping", "-n", "-c1", "-W1", way.to); err == nil {
				t.Errorf("the host forwards to %s: %s", way.to, out)
			}
			h.in(t, "nsenter", "-n", "-t", pid, "ip", way.family, "route", "del", way.to, "via", way.by)
		}
	}
	link := ""
	for _, p := range objects[port](t, h, "ports", "X") {
		if p.Kind == "host" {
			link = p.Link
		}
	}

	state := h.hostState(t)

	t.Run("the host and containers talk", func(t *testing.T) {
		h.quiet(t)
		talk(t)
		for _, to := range []string{"10.77.0.11", "fd77::11"} {
			iperf(t, h, "c1", h, "", "-c", to, "-t", "2")
		}
		iperf(t, h, "", h, "c1", "-c", "10.77.0.1", "-t", "2")
		iperf(t, h, "", h, "c1", "-c", "fd77::1", "-t", "2")
	})

	t.Run("it forwards nothing", func(t *testing.T) {
		h.quiet(t)
		alone(t)
		// With the route in the main table and without the rule the host would forward, so the test can fail. The daemon restores
		// the rule within 5 s.
		h.in(t, "ip", "route", "add", "10.77.0.0/24", "dev", link)
		testhost.Eventually(t, patience, func() error {
			h.try("sh", "-c", "while ip rule del priority 10 iif $1; do :; done; echo 1 >/proc/sys/net/ipv4/conf/$1/forwarding", "sh", link)
			_, err := h.tryExec("other", "ping", "-n", "-c1", "-W1", "10.77.0.11")
			return err
		})
		h.in(t, "ip", "route", "del", "10.77.0.0/24", "dev", link)
		testhost.Eventually(t, patience, func() error {
			if now := h.hostState(t); now != state {
				return fmt.Errorf("rules and routes are\n%s\nwere\n%s", now, state)
			}
			return nil
		})
		alone(t)
	})

	t.Run("every command knows it", func(t *testing.T) {
		h.quiet(t, "fault", "capture")
		if out := h.tapestry(t, "ports", "X"); !strings.Contains(out, "host:X  host       up     02:42:0a:4d:00:01  10.77.0.1/24 fd77::1/64") {
			t.Errorf("ports:\n%s", out)
		}
		if out := h.tapestry(t, "fdb", "X"); !strings.Contains(out, "02:42:0a:4d:00:01  host:X  pinned") {
			t.Errorf("fdb:\n%s", out)
		}
		if out := h.tapestry(t, "doctor"); strings.Contains(out, "host:X") || !strings.Contains(out, "3 containers, none cut off") {
			t.Errorf("doctor:\n%s", out)
		}
		h.traceSays(t, 0, "host:X c1", "from host:X to c1 on X", "it leaves")
		h.traceSays(t, 0, "c1 10.77.0.1", "from c1 to host:X on X", "link "+link)
		h.traceSays(t, 0, "c1 host:X --tcp 22", "TCP SYN 10.77.0.11")
		lines := h.watch(t, func() { h.ping(t, "c1", "10.77.0.1") }, "host:X", "-n", "2", "-f", "icmp")
		if got := strings.Join(lines, "\n"); !strings.Contains(got, "c1 → host:X  ICMP echo request") || !strings.Contains(got, "host:X → c1  ICMP echo reply") {
			t.Errorf("watch prints\n%s", got)
		}
		k := h.startCapture(t, "host.pcapng", "host:X", "-f", "icmp")
		if err := h.reaches("10.77.0.11", 20); err != nil {
			t.Error(err)
		}
		if frames := k.end(t); frames != 2 {
			t.Errorf("captured %d frames, want 2", frames)
		}
		code, said := h.exit(t, "watch", "host")
		if code == 0 || !strings.Contains(said, "did you mean host:X") {
			t.Errorf("watch host: %d, %s", code, said)
		}
		if code, said := h.exit(t, "watch", "host:Y"); code == 0 || !strings.Contains(said, "tapestry.host=on") {
			t.Errorf("watch host:Y: %d, %s", code, said)
		}
		h.tapestry(t, "fault", "set", "host:X", "--loss", "100%", "--for", "10s")
		if err := h.reaches("10.77.0.11", 1); err == nil {
			t.Error("a fault at the host's port does nothing")
		}
		h.tapestry(t, "fault", "clear", "host:X")
		if err := h.reaches("10.77.0.11", 20); err != nil {
			t.Error(err)
		}
	})

	for _, signal := range []string{"TERM", "KILL"} {
		t.Run("it outlives the daemon, "+signal, func(t *testing.T) {
			h.quiet(t)
			ping := h.background(t, "", "ping", "-n", "-i", "0.2", "10.77.0.11")
			ping.goesOn(t)
			h.stopDaemon(t, signal)
			h.startDaemon(t)
			talk(t)
			ping.goesOn(t)
			ping.signal(syscall.SIGINT)
			ping.wait(t)
			if now := h.hostState(t); now != state {
				t.Errorf("rules and routes are\n%s\nwere\n%s", now, state)
			}
		})
	}

	t.Run("what others take away comes back", func(t *testing.T) {
		h.quiet(t, "not whole", "host's port")
		h.in(t, "sh", "-ec", `for f in -4 -6; do while ip $f rule del priority 10 2>/dev/null; do :; done; done; ip address del 10.77.0.1/24 dev $1`, "sh", link)
		talk(t)
		h.in(t, "ip", "link", "del", link)
		talk(t)
		alone(t)
	})

	t.Run("reboot", func(t *testing.T) {
		h.quiet(t, "link is gone")
		h.stop(t, "c1", "c2", "other") // nothing is to be asked of the daemon when it is killed
		h.stopDaemon(t, "KILL")
		h.in(t, "sh", "-ec", `for f in -4 -6; do while ip $f rule del priority 10 2>/dev/null; do :; done; done; ip link del $1`, "sh", link)
		h.startDaemon(t)
		h.docker(t, "start", "c1", "c2", "other")
		talk(t)
		alone(t)
	})

	t.Run("an address that is the host's is nobody else's", func(t *testing.T) {
		h.quiet(t, "request refused", "returned error", "(?i)remote:")
		h.network(t, "A", "--subnet", "10.71.0.0/24", "--aux-address", "host=10.71.0.9", "-o", "tapestry.host=10.71.0.9", "--internal", "-o", "tapestry.attach=tap")
		h.run(t, "a1", "A", "--ip", "10.71.0.2")
		if err := h.reaches("10.71.0.2", 20); err != nil {
			t.Error(err)
		}
		h.ping(t, "a1", "10.71.0.9")
		h.noWayOut(t, "a1")
		for _, bad := range []struct {
			args []string
			want string
		}{
			{[]string{"--subnet", "10.72.0.0/24", "-o", "tapestry.host=10.72.0.9"}, "--aux-address host=10.72.0.9"},
			{[]string{"--subnet", "192.0.2.0/25", "-o", "tapestry.host=on"}, "this host has 192.0.2."},
			{[]string{"--subnet", "10.72.0.0/24", "-o", "tapestry.host=yes"}, "tapestry.host=yes: want on"},
		} {
			held := h.snapshot(t)
			said := h.dockerRefuses(t, append(append([]string{"network", "create", "-d", h.driver()}, bad.args...), "bad")...)
			if !strings.Contains(said, bad.want) {
				t.Errorf("the user reads: %s", said)
			}
			t.Log(said)
			h.audit(t, held)
		}
	})

	t.Run("it goes with the network", func(t *testing.T) {
		h.quiet(t)
		h.docker(t, "rm", "-f", "c1", "c2")
		h.docker(t, "network", "rm", "X")
		testhost.Eventually(t, patience, func() error {
			if now := h.hostState(t); now != "" {
				return fmt.Errorf("left: %s", now)
			}
			if now := h.state(t); len(now) != before {
				return fmt.Errorf("%d state files, were %d", len(now), before)
			}
			return nil
		})
		if out := h.in(t, "ip", "-o", "link"); strings.Contains(out, "tpthost") {
			t.Errorf("left: %s", out)
		}
	})
}
