package test

import (
	"fmt"
	"strings"
	"testing"
)

// TestFrames: which frames are on a container's link, and which are not.
func TestFrames(t *testing.T) {
	h := newNode(t, "frames")
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	h.network(t, "Y", "--subnet", "10.78.0.0/24")
	const answerBroadcast = "net.ipv4.icmp_echo_ignore_broadcasts=0"
	h.run(t, "c1", "X")
	h.run(t, "c2", "X", "--sysctl", answerBroadcast)
	h.run(t, "d1", "Y", "--sysctl", answerBroadcast)

	t.Run("row51 no bridge, no FORWARD chain", func(t *testing.T) {
		h.quiet(t)
		h.in(t, "sh", "-c", "echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables")
		h.in(t, "iptables", "-P", "FORWARD", "DROP")
		chain := func() string { return h.in(t, "iptables", "-v", "-x", "-n", "-L", "FORWARD") }
		before := chain()
		h.exec(t, "c1", "ping", "-n", "-c3", "-i0.2", "-W20", h.address(t, "c2", "X"))
		if after := chain(); after != before {
			t.Errorf("the frames met iptables:\n%s\nbefore:\n%s", after, before)
		}
	})

	t.Run("row52 host ends are silent", func(t *testing.T) {
		h.quiet(t)
		// As a clock, a link with IPv6 is made after the host ends: by the time of its third router solicitation they would have sent
		// frames as well. New links solicit routers after 0, 1 and 3 s here, instead of after up to 1, 4 and 12.
		h.in(t, "sh", "-ec", "cd /proc/sys/net/ipv6/conf/default; echo 2 >accept_ra; echo 0 >router_solicitation_delay; echo 1 >router_solicitation_interval")
		seen := h.capture(t, "c1", "eth0", "ip6 and not ether src "+h.exec(t, "c1", "cat", "/sys/class/net/eth0/address"))
		h.run(t, "c3", "X")
		h.in(t, "ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
		defer h.in(t, "ip", "link", "delete", "probe0")
		h.in(t, "ip", "link", "set", "probe1", "up")
		heard := h.background(t, "", "tcpdump", "-n", "--immediate-mode", "-i", "probe1", "-Q", "in", "-c", "3", "icmp6 and ip6[40] = 133")
		heard.await(t, "listening on")
		h.in(t, "ip", "link", "set", "probe0", "up")
		if said, err := heard.wait(t); err != nil {
			t.Fatalf("the link with IPv6: %v: %s", err, said)
		}
		if lines := seen.end(t); len(lines) != 0 {
			t.Errorf("on a network without IPv6:\n%s", strings.Join(lines, "\n"))
		}
	})

	t.Run("row53 broadcast and multicast reach this network only", func(t *testing.T) {
		h.quiet(t)
		onX := h.capture(t, "c2", "eth0", "arp or icmp")
		onY := h.capture(t, "d1", "eth0", "net 10.77.0.0/24 or arp net 10.77.0.0/24")
		h.exec(t, "c1", "arping", "-c1", "-w20", "-I", "eth0", h.address(t, "c2", "X"))
		for _, group := range []string{"224.0.0.1", "10.77.0.255"} {
			args := []string{"ping", "-n", "-c1", "-W20", "-I", "eth0"}
			if strings.HasSuffix(group, ".255") {
				args = append(args, "-b")
			}
			got := h.exec(t, "c1", append(args, group)...)
			if want := fmt.Sprintf("from %s", h.address(t, "c2", "X")); !strings.Contains(got, want) {
				t.Errorf("ping %s: no answer %s in %s", group, want, got)
			}
		}
		if lines := strings.Join(onX.end(t), "\n"); !strings.Contains(lines, "ethertype ARP") || !strings.Contains(lines, "> 224.0.0.1") {
			t.Errorf("on X:\n%s", lines)
		}
		if lines := onY.end(t); len(lines) != 0 {
			t.Errorf("frames of X on Y:\n%s", strings.Join(lines, "\n"))
		}
		for _, e := range objects[entry](t, h, "fdb", "X") {
			if strings.HasPrefix(e.MAC, "01:") || strings.HasPrefix(e.MAC, "ff:") {
				t.Errorf("a group address was learned: %+v", e)
			}
		}
		h.checkCounters(t)
	})
}
