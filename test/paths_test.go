package test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestPaths: the MTU of the path to each peer, and whether it is reachable, are as the kernel knows them, wherever they are shown. The
// VTEPs are addresses on lo, as on hosts that run a routing protocol:
//
//	red ── a, 198.51.100.1 ──underlay── b, 198.51.100.2 ── blue
func TestPaths(t *testing.T) {
	a, b := newHost(t, "paths-a"), newHost(t, "paths-b")
	wire(t, a, b)
	for i, side := range []struct {
		h         *Host
		container string
	}{{a, "red"}, {b, "blue"}} {
		h, own, peer := side.h, strconv.Itoa(i+1), strconv.Itoa(2-i)
		h.in(t, "sh", "-ec", "ip address add 198.51.100."+own+"/32 dev lo; ip route add 198.51.100."+peer+" via 192.0.2."+peer)
		h.startDockerd(t)
		script(t, "image", h.name)
		h.flags = []string{"--vtep", "198.51.100." + own}
		h.startDaemon(t)
		h.network(t, "wide", "--subnet", "10.80.0.0/16", "--ip-range", "10.80."+own+".0/24", "--gateway", "10.80."+own+".1",
			"-o", "tapestry.vni=80", "-o", "tapestry.peers=198.51.100."+peer)
		h.run(t, side.container, "wide", "--ip", "10.80."+own+".10")
	}
	mtu := func(t *testing.T, container string, want int) {
		t.Helper()
		if got := a.exec(t, container, "cat", "/sys/class/net/eth0/mtu"); got != strconv.Itoa(want) {
			t.Errorf("the MTU of %s is %s, want %d", container, got, want)
		}
	}
	type peer struct {
		State, Why string
		MTU        int
	}
	peers := func(t *testing.T, h *Host, ok func(peer) bool) {
		t.Helper()
		began := time.Now()
		testhost.Eventually(t, patience, func() error {
			if all := objects[peer](t, h, "peers", "wide"); len(all) != 1 || !ok(all[0]) {
				return fmt.Errorf("the peers of %s are %+v", h.name, all)
			}
			return nil
		})
		t.Logf("peers of %s follow after %v", h.name, time.Since(began).Round(10*time.Millisecond))
	}
	up := func(p peer) bool { return p.State == "up" && p.Why == "" && p.MTU == 1450 }
	down := func(why string) func(peer) bool {
		return func(p peer) bool { return p.State == "down" && strings.Contains(p.Why, why) && p.MTU == 1450 }
	}

	t.Run("an address on lo, TCP across", func(t *testing.T) {
		a.quiet(t, "request refused", "returned error")
		b.quiet(t)
		mtu(t, "red", 1450)
		peers(t, a, up)
		a.ping(t, "red", "10.80.2.10", "-M", "do", "-s", strconv.Itoa(1450-28))
		iperf(t, b, "blue", a, "red", "-c", "10.80.2.10", "--time", "1")
		iperf(t, b, "blue", a, "red", "-c", "10.80.2.10", "--time", "1", "-R")
		if said := a.dockerRefuses(t, "network", "create", "-d", a.driver(), "-o", "tapestry.vni=81", "-o", "tapestry.peers=198.51.100.2",
			"-o", "com.docker.network.driver.mtu=1451", "bad"); !strings.Contains(said, "MTU 1451: the path to 198.51.100.2 leaves room for 1450 at most") {
			t.Errorf("the user reads: %s", said)
		}
		code, lines := a.doctor(t)
		if err := errors.Join(finds(lines, "underlay", "ok", "198.51.100.1 by underlay, MTU 1500: room for 1450", ""),
			finds(lines, "mtu", "ok", "", ""), finds(lines, "peers", "ok", "", ""), finds(lines, "rp_filter", "ok", "", "")); err != nil || code != 0 {
			t.Errorf("exit %d, %v", code, err)
		}
	})

	t.Run("a path that has become narrow", func(t *testing.T) {
		a.quiet(t)
		b.quiet(t)
		route := func(more ...string) {
			a.in(t, append(strings.Fields("ip route replace 198.51.100.2 via 192.0.2.2"), more...)...)
			a.in(t, "ip", "route", "flush", "cache")
		}
		route("mtu", "1350")
		peers(t, a, func(p peer) bool { return p.State == "up" && p.MTU == 1300 })
		a.run(t, "late", "wide")
		mtu(t, "late", 1300)
		mtu(t, "red", 1450) // as it was started
		a.ping(t, "late", "10.80.2.10", "-M", "do", "-s", strconv.Itoa(1300-28))
		iperf(t, b, "blue", a, "late", "-c", "10.80.2.10", "--time", "1")
		if networks := objects[struct {
			MTU int
		}](t, a, "networks"); len(networks) != 1 || networks[0].MTU != 1300 {
			t.Errorf("networks says %+v", networks)
		}
		a.traceSays(t, 1, "red "+b.exec(t, "blue", "cat", "/sys/class/net/eth0/address")+" --size 1301",
			"path MTU 1350 less 50", "verdict      dropped (mtu)")
		_, lines := a.doctor(t)
		if err := finds(lines, "mtu", "fail", "wide: containers send packets of up to 1450 bytes, the path to 198.51.100.2:4789 takes 1300", "driver.mtu=1300"); err != nil {
			t.Error(err)
		}
		route()
		peers(t, a, up)
	})

	unreachable := func(t *testing.T, h *Host, container, to, why string) {
		t.Helper()
		peers(t, h, down(why))
		h.traceSays(t, 1, container+" "+to, "it is lost, the host is unreachable: "+why)
		code, lines := h.doctor(t)
		if err := finds(lines, "peers", "fail", why, "ip route get 198.51.100."); err != nil || code != 1 {
			t.Errorf("exit %d, %v", code, err)
		}
	}
	t.Run("unreachable, a link that is down", func(t *testing.T) {
		a.quiet(t, "peer unreachable")
		b.quiet(t, "peer unreachable")
		a.in(t, "ip", "link", "set", "underlay", "down")
		unreachable(t, a, "red", "10.80.2.10", "no route to 198.51.100.2")
		unreachable(t, b, "blue", "10.80.1.10", "link underlay has no carrier")
		a.in(t, "ip", "link", "set", "underlay", "up")
		peers(t, b, up)
		a.in(t, "ip", "route", "add", "198.51.100.2", "via", "192.0.2.2") // the kernel has forgotten it
		peers(t, a, up)
		testhost.Eventually(t, patience, func() error {
			_, err := a.tryExec("red", "ping", "-n", "-c1", "-W1", "10.80.2.10")
			return err
		})
	})

	t.Run("unreachable, a route that refuses", func(t *testing.T) {
		a.quiet(t, "peer unreachable")
		a.in(t, "ip", "route", "replace", "unreachable", "198.51.100.2")
		unreachable(t, a, "red", "10.80.2.10", "the route to 198.51.100.2 is one that refuses")
		a.in(t, "ip", "route", "del", "unreachable", "198.51.100.2")
		a.in(t, "ip", "route", "replace", "198.51.100.2", "via", "192.0.2.2")
		peers(t, a, up)
		a.ping(t, "red", "10.80.2.10")
	})

	t.Run("peers that can never be", func(t *testing.T) {
		a.quiet(t, "request refused", "returned error")
		for addr, want := range map[string]string{
			"127.0.0.1":   "peer 127.0.0.1 is a loopback address, which every host has for itself",
			"192.0.2.1":   "192.0.2.1 is an address of this host itself",
			"192.0.2.255": "192.0.2.255 is the broadcast address of one of this host's networks",
			"fe80::1":     "fe80::1 holds on one link only",
			"239.1.1.1":   "239.1.1.1 is a multicast group",
			"2001:db8::2": "different IP versions",
		} {
			if said := a.dockerRefuses(t, "network", "create", "-d", a.driver(), "-o", "tapestry.vni=81", "-o", "tapestry.peers="+addr, "bad"); !strings.Contains(said, want) {
				t.Errorf("peer %s: the user reads: %s", addr, said)
			}
			if code, said := a.exit(t, "peers", "add", "wide", addr); code == 0 || !strings.Contains(said, want) {
				t.Errorf("peers add %s: exit %d, %s", addr, code, said)
			}
		}
		if got := objects[peer](t, a, "peers"); len(got) != 1 {
			t.Errorf("peers are %+v", got)
		}
	})
}
