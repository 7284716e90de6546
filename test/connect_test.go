package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestConnect: containers that are connected to networks and disconnected, and networks that are isolated from each other.
//
//	c1 ── X, 10.77.0.0/24      c2 ── base, 10.70.0.0/24
func TestConnect(t *testing.T) {
	h := newNode(t, "connect")
	h.network(t, "X", "--subnet", "10.77.0.0/24")
	h.network(t, "base", "--subnet", "10.70.0.0/24")
	h.run(t, "c1", "X")
	h.run(t, "c2", "base")

	t.Run("row22 connect to a running container", func(t *testing.T) {
		h.quiet(t)
		h.docker(t, "network", "connect", "X", "c2")
		t.Cleanup(func() { h.try("docker", "network", "disconnect", "X", "c2") })
		if got, want := h.exec(t, "c2", "ip", "-4", "addr"), h.address(t, "c2", "X")+"/24"; !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
		h.ping(t, "c2", h.address(t, "c1", "X"))
	})

	t.Run("row23 disconnect leaves nothing", func(t *testing.T) {
		h.quiet(t)
		before, inside := h.snapshot(t), h.links(t, "c2")
		h.docker(t, "network", "connect", "X", "c2")
		if now := h.snapshot(t).diff(before); now == nil {
			t.Fatal("connect made nothing that the audit sees")
		}
		h.ping(t, "c2", h.address(t, "c1", "X"))
		h.docker(t, "network", "disconnect", "X", "c2")
		if got := h.links(t, "c2"); !slices.Equal(got, inside) {
			t.Errorf("c2 has links %v, had %v", got, inside)
		}
		if entries := objects[entry](t, h, "fdb", "X"); len(entries) != 1 {
			t.Errorf("fdb: %+v, want c1 alone", entries)
		}
		h.audit(t, before)
	})

	t.Run("row24 reconnect 20 times", func(t *testing.T) {
		h.quiet(t)
		before := h.snapshot(t)
		for range 20 {
			h.docker(t, "network", "connect", "X", "c2")
			h.ping(t, "c2", h.address(t, "c1", "X"))
			h.docker(t, "network", "disconnect", "X", "c2")
		}
		h.audit(t, before)
	})

	t.Run("row25 two networks in one container stay apart", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "Y", "--subnet", "10.78.0.0/24")
		h.run(t, "c3", "Y")
		h.docker(t, "network", "connect", "Y", "c1")
		t.Cleanup(func() { h.try("docker", "network", "disconnect", "Y", "c1") })
		h.run(t, "c4", "X")
		seen := h.capture(t, "c3", "eth0", "net 10.77.0.0/24")
		h.exec(t, "c4", "ping", "-n", "-c3", "-i0.2", h.address(t, "c1", "X"))
		h.ping(t, "c3", h.address(t, "c1", "Y"))
		if lines := seen.end(t); len(lines) != 0 {
			t.Errorf("frames of X on Y:\n%s", strings.Join(lines, "\n"))
		}
	})

	t.Run("row26 equal addresses in two networks", func(t *testing.T) {
		h.quiet(t)
		for _, name := range []string{"M", "N"} {
			h.network(t, name, "--ipam-driver", "null")
			for i := 1; i <= 2; i++ {
				c := fmt.Sprintf("%s%d", name+"host", i)
				h.run(t, c, name, "--cap-add", "NET_ADMIN")
				h.exec(t, c, "sh", "-ec", fmt.Sprintf(
					"ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:0%d; ip addr add 10.9.0.%d/24 dev eth0; ip link set eth0 up", i, i))
			}
		}
		seen := h.capture(t, "Nhost2", "eth0", "icmp or arp")
		h.exec(t, "Mhost1", "ping", "-n", "-c3", "-i0.2", "10.9.0.2")
		if lines := seen.end(t); len(lines) != 0 {
			t.Errorf("frames of M on N:\n%s", strings.Join(lines, "\n"))
		}
		h.exec(t, "Nhost1", "ping", "-n", "-c3", "-i0.2", "10.9.0.2")
	})

	t.Run("row33 a start that fails after Join", func(t *testing.T) {
		h.quiet(t, "(?i)conflicts with existing route", "returned error",
			"failed revoking external connectivity .*not found") // 29 revokes what it has undone already
		h.network(t, "near", "--subnet", "10.81.0.0/24", "--ip-range", "10.81.0.0/25", "--gateway", "10.81.0.1")
		h.network(t, "far", "--subnet", "10.81.0.0/24", "--ip-range", "10.81.0.128/25", "--gateway", "10.81.0.254")
		h.run(t, "c5", "near")
		h.run(t, "c6", "near")
		before, from := h.snapshot(t), h.mark()
		if said := h.dockerRefuses(t, "network", "connect", "far", "c5"); !strings.Contains(said, "conflicts with existing route") {
			t.Errorf("the user reads: %s", said)
		}
		if got := h.methods(t, from); !strings.HasSuffix(got, "DeleteEndpoint") {
			t.Errorf("requests %q", got)
		}
		h.audit(t, before)
		h.ping(t, "c5", h.address(t, "c6", "near"))
	})

	t.Run("row50 an address that moves to a new container is reached at once", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "old", "X", "--ip", "10.77.0.60")
		h.ping(t, "c1", "10.77.0.60")
		h.docker(t, "rm", "-f", "old")
		h.run(t, "new", "X", "--ip", "10.77.0.60")
		h.ping(t, "c1", "10.77.0.60")
	})
}
