package test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// pair is two nodes with a network between them, and a container of that network on each.
type pair struct {
	a, b             *Host
	underlayA, peerA string // the peer of a is b's address, and the other way round
	overhead         int    // of VXLAN over this underlay
}

// newPair makes two connected nodes with the network "wide" (VNI 80) and the containers red and blue on it, and a local network on each.
//
//	red, 10.80.1.10 ── wide ── a ──underlay── b ── wide ── 10.80.2.10, blue
//	                 other1 ── a              b ── other2
func newPair(t *testing.T, name, addressA, addressB string, overhead int) *pair {
	t.Helper()
	p := &pair{a: newHost(t, name+"-a"), b: newHost(t, name+"-b"), underlayA: addressA, peerA: addressB, overhead: overhead}
	wire(t, p.a, p.b)
	for i, side := range []struct {
		h                    *Host
		own, peer, container string
	}{{p.a, addressA, addressB, "red"}, {p.b, addressB, addressA, "blue"}} {
		h, n := side.h, strconv.Itoa(i+1)
		h.startDockerd(t)
		script(t, "image", h.name)
		h.flags = []string{"--vtep", side.own}
		h.startDaemon(t)
		h.network(t, "wide", "--subnet", "10.80.0.0/16", "--ip-range", "10.80."+n+".0/24", "--gateway", "10.80."+n+".1",
			"--ipv6", "--subnet", "fd00:80::/64", "-o", "tapestry.vni=80", "-o", "tapestry.peers="+side.peer)
		h.network(t, "other"+n, "--subnet", "10.81.0.0/16", "-o", "tapestry.vni=8"+n, "-o", "tapestry.peers="+side.peer)
		h.run(t, side.container, "wide", "--ip", "10.80."+n+".10", "--ip6", "fd00:80::"+n+"0",
			"--sysctl", "net.ipv4.icmp_echo_ignore_broadcasts=0")
		h.run(t, "other"+n, "other"+n)
	}
	return p
}

// TestTwoHosts is over an IPv4 underlay, TestTwoHosts6 over an IPv6 one.
func TestTwoHosts(t *testing.T)  { twoHosts(t, newPair(t, "two", "192.0.2.1", "192.0.2.2", 50)) }
func TestTwoHosts6(t *testing.T) { twoHosts(t, newPair(t, "six", "2001:db8::1", "2001:db8::2", 70)) }

func twoHosts(t *testing.T, p *pair) {
	a, b := p.a, p.b
	quiet := func(t *testing.T, allow ...string) {
		a.quiet(t, allow...)
		b.quiet(t, allow...)
	}

	t.Run("row54 ping both ways, first packet included", func(t *testing.T) {
		quiet(t)
		seen := a.capture(t, "", "underlay", "udp port 4789")
		a.exec(t, "red", "ping", "-n", "-c3", "-i0.2", "-W20", "10.80.2.10")
		b.exec(t, "blue", "ping", "-n", "-c3", "-i0.2", "-W20", "10.80.1.10")
		a.ping(t, "red", "fd00:80::20")
		b.ping(t, "blue", "fd00:80::10")
		if lines := seen.end(t); len(lines) < 16 || !strings.Contains(strings.Join(lines, "\n"), "VXLAN, flags [I] (0x08), vni 80") {
			t.Errorf("on the underlay:\n%s", strings.Join(lines, "\n"))
		}
	})

	t.Run("row54 frames of the MTU's size", func(t *testing.T) {
		quiet(t)
		mtu := 1500 - p.overhead
		if got := a.exec(t, "red", "cat", "/sys/class/net/eth0/mtu"); got != strconv.Itoa(mtu) {
			t.Errorf("MTU %s, want %d", got, mtu)
		}
		a.ping(t, "red", "10.80.2.10", "-M", "do", "-s", strconv.Itoa(mtu-28))
		a.ping(t, "red", "fd00:80::20", "-M", "do", "-s", strconv.Itoa(mtu-48))
		if _, err := a.tryExec("red", "ping", "-c1", "-W1", "-M", "do", "-s", strconv.Itoa(mtu-27), "10.80.2.10"); err == nil {
			t.Error("one byte more passed")
		}
		a.ping(t, "red", "10.80.2.10", "-s", "4000") // in fragments
	})

	t.Run("multicast only where it is wanted", func(t *testing.T) {
		quiet(t)
		p.snooping(t)
	})

	t.Run("VLANs", func(t *testing.T) {
		quiet(t)
		p.accessPorts(t)
	})

	t.Run("MSS", func(t *testing.T) {
		quiet(t)
		p.lowersMSS(t)
	})

	t.Run("row54 iperf3", func(t *testing.T) {
		quiet(t)
		for _, args := range [][]string{
			{"-c", "10.80.2.10"},
			{"-c", "10.80.2.10", "-R"},
			{"-c", "fd00:80::20"},
			{"-c", "fd00:80::20", "-R"},
			{"-c", "10.80.2.10", "-P", "4"},
			{"-c", "10.80.2.10", "-u", "-b", "20M"},
			{"-c", "10.80.2.10", "-u", "-b", "20M", "-R"},
			{"-c", "fd00:80::20", "-u", "-b", "20M"},
		} {
			t.Run(strings.Join(args[1:], " "), func(t *testing.T) { iperf(t, b, "blue", a, "red", append(args, "--time", "1")...) })
		}
	})

	t.Run("broadcast and multicast reach both sides of this network only", func(t *testing.T) {
		quiet(t)
		strangers := b.capture(t, "other2", "eth0", "net 10.80.0.0/16 or arp net 10.80.0.0/16")
		a.exec(t, "red", "arping", "-c1", "-w20", "-I", "eth0", "10.80.2.10")
		for _, args := range [][]string{{"224.0.0.1"}, {"-b", "10.80.255.255"}} {
			a.pingGroup(t, "red", "10.80.2.10", append([]string{"-I", "eth0"}, args...)...)
		}
		a.ping(t, "red", "ff02::1%eth0")
		if lines := strangers.end(t); len(lines) != 0 {
			t.Errorf("on another network:\n%s", strings.Join(lines, "\n"))
		}
		// Two networks with the same subnet but different VNIs are isolated from each other.
		if _, err := a.tryExec("other1", "arping", "-c1", "-w1", "-I", "eth0", b.address(t, "other2", "other2")); err == nil {
			if a.address(t, "other1", "other1") != b.address(t, "other2", "other2") {
				t.Error("VNI 81 reached VNI 82")
			}
		}
	})

	t.Run("peers and fdb show the other host", func(t *testing.T) {
		quiet(t)
		remote := ""
		for _, e := range objects[entry](t, a, "fdb", "wide") {
			if e.Kind == "learned" && e.VNI == 80 {
				remote = e.Port
			}
		}
		if !strings.Contains(remote, p.peerA) {
			t.Errorf("blue was learned from %q, want %s", remote, p.peerA)
		}
		if got := a.tapestry(t, "peers", "wide", "--json"); !strings.Contains(got, p.peerA) {
			t.Errorf("peers: %s", got)
		}
		a.checkCounters(t)
		b.checkCounters(t)
	})

	t.Run("row54 VLAN tags, frames of the longest size", func(t *testing.T) {
		quiet(t)
		p.vlans(t) // after checkCounters: it injects frames that the kernel does not count
	})

	t.Run("row50 an address that moves to the other host is reached within a second", func(t *testing.T) {
		quiet(t)
		a.run(t, "mover", "wide", "--ip", "10.80.3.60")
		a.ping(t, "red", "10.80.3.60")
		b.ping(t, "blue", "10.80.3.60")
		a.docker(t, "rm", "-f", "mover")
		b.run(t, "mover", "wide", "--ip", "10.80.3.60")
		a.ping(t, "red", "10.80.3.60")
		b.ping(t, "blue", "10.80.3.60")
	})

	t.Run("tapestry peers rm and add on a living network", func(t *testing.T) {
		quiet(t)
		a.tapestry(t, "peers", "rm", "wide", p.peerA)
		if _, err := a.tryExec("red", "ping", "-c1", "-W1", "10.80.2.10"); err == nil {
			t.Error("a removed peer is still reached")
		}
		a.tapestry(t, "peers", "add", "wide", p.peerA)
		a.ping(t, "red", "10.80.2.10")
		a.stopDaemon(t, "KILL")
		a.startDaemon(t)
		a.ping(t, "red", "10.80.2.10")
		b.ping(t, "blue", "10.80.1.10")
	})

	t.Run("row55 one address on two hosts is noticed", func(t *testing.T) {
		quiet(t, "address conflict")
		from := a.mark()
		a.run(t, "twin", "wide", "--ip", "10.80.3.55")
		b.run(t, "twin", "wide", "--ip", "10.80.3.55")
		testhost.Eventually(t, patience, func() error {
			// The twin on b sends, so that a receives frames from outside with the address of its own station.
			b.tryExec("twin", "arping", "-c1", "-w1", "-I", "eth0", "10.80.1.10")
			var status struct {
				Conflicts []struct {
					MAC       string   `json:"mac"`
					Addresses []string `json:"addresses"`
					Owner     string   `json:"owner"`
					Rival     string   `json:"rival"`
				} `json:"conflicts"`
			}
			out := a.tapestry(t, "status", "--json")
			if err := json.Unmarshal([]byte(out), &status); err != nil {
				t.Fatal(err)
			}
			for _, c := range status.Conflicts {
				if c.MAC == "02:42:0a:50:03:37" && c.Owner != "" && strings.Contains(c.Rival, p.peerA) {
					return nil
				}
			}
			return fmt.Errorf("no conflict in %s", out)
		})
		testhost.Eventually(t, patience, func() error {
			for _, r := range a.records(t, from) {
				if r.Level == "WARN" && strings.Contains(r.line, "02:42:0a:50:03:37") {
					return nil
				}
			}
			return fmt.Errorf("no warning in the log")
		})
	})
}

var (
	udpLoss = regexp.MustCompile(`\((\d+(?:\.\d+)?(?:e[+-]?\d+)?)%\)\s+receiver`)
	tcpRate = regexp.MustCompile(`([\d.]+) Mbits/sec\s+receiver`)
)

// iperf runs iperf3 from a client's container to a server's ("": the host itself). TCP must move more than 10 Mbit/s, UDP must lose
// less than 1 %. A busy machine may fail that, so there are ten tries; where frames are lost all of them fail.
func iperf(t *testing.T, serverHost *Host, server string, clientHost *Host, client string, args ...string) {
	t.Helper()
	what := "iperf3 " + strings.Join(args, " ")
	for range 10 {
		said := measure(t, serverHost, server, clientHost, client, args...)
		figure, ok := enough(said)
		if ok {
			t.Logf("%s: %s", what, figure)
			return
		}
		t.Logf("%s: %s:\n%s", what, figure, said)
	}
	t.Errorf("%s: ten times too little", what)
}

// measure runs iperf3 once and returns the client's output.
func measure(t *testing.T, serverHost *Host, server string, clientHost *Host, client string, args ...string) string {
	t.Helper()
	serving := serverHost.background(t, server, "iperf3", "--server", "--one-off")
	testhost.Eventually(t, patience, func() error {
		listens := []string{"ss", "-Hltn", "sport = :5201"}
		if server != "" {
			listens = append([]string{"nsenter", "-n", "-t", serverHost.init(t, server)}, listens...)
		}
		if serverHost.in(t, listens...) == "" {
			return fmt.Errorf("iperf3 does not listen")
		}
		return nil
	})
	said, err := clientHost.background(t, client, append([]string{"iperf3", "--format", "m", "--connect-timeout", "60000"}, args...)...).wait(t)
	if err != nil {
		serving.cmd.Process.Kill()
		t.Fatalf("iperf3 %s: %v\n%s", strings.Join(args, " "), err, said)
	}
	serving.wait(t)
	return said
}

// enough tells whether iperf3's output is good enough, and its figure in words.
func enough(said string) (string, bool) {
	if m := udpLoss.FindStringSubmatch(said); m != nil {
		percent, err := strconv.ParseFloat(m[1], 64)
		return m[1] + " % lost", err == nil && percent < 1
	}
	rates := tcpRate.FindAllStringSubmatch(said, -1)
	if rates == nil {
		return "no figures", false
	}
	last := rates[len(rates)-1][1] // with several streams the last is the sum
	rate, err := strconv.ParseFloat(last, 64)
	return last + " Mbit/s", err == nil && rate >= 10
}
