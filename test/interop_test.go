package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInterop: the other host has no tapestry, but the kernel's vxlan device in a bridge.
//
//	red, 10.80.1.10 ── wide ── a ──underlay── k: vxlan80 ── br80, 10.80.2.10
func TestInterop(t *testing.T) {
	for _, underlay := range []struct {
		name, a, k string
		mtu        int
	}{
		{"IPv4 underlay", "192.0.2.1", "192.0.2.2", 1450},
		{"IPv6 underlay", "2001:db8::1", "2001:db8::2", 1430},
	} {
		t.Run(underlay.name, func(t *testing.T) {
			need(t, "ethtool")
			name := "interop" + strings.Fields(underlay.name)[0]
			a, k := newHost(t, name), newHost(t, name+"-kernel")
			wire(t, a, k)
			k.in(t, "sh", "-ec", fmt.Sprintf(`
				ip link add br80 type bridge
				ip link add vxlan80 mtu %d type vxlan id 80 dstport 4789 local %s remote %s dev underlay udp6zerocsumrx
				ip link set vxlan80 master br80 up
				ip link set br80 up mtu %d
				ip addr add 10.80.2.10/16 dev br80
				ip addr add fd00:80::20/64 dev br80 nodad
				echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts`, underlay.mtu, underlay.k, underlay.a, underlay.mtu))
			a.startDockerd(t)
			script(t, "image", a.name)
			a.flags = []string{"--vtep", underlay.a}
			a.startDaemon(t)
			a.network(t, "wide", "--subnet", "10.80.0.0/16", "--ipv6", "--subnet", "fd00:80::/64",
				"-o", "tapestry.vni=80", "-o", "tapestry.peers="+underlay.k)
			a.run(t, "red", "wide", "--ip", "10.80.1.10", "--ip6", "fd00:80::10", "--sysctl", "net.ipv4.icmp_echo_ignore_broadcasts=0")

			t.Run("with offloads", func(t *testing.T) {
				a.quiet(t)
				// A network card would complete the checksums of inner frames and cut inner super-frames; this veth does
				// neither.
				traffic(t, a, k, underlay.mtu, "--time", "1")
			})
			t.Run("without offloads tshark finds every datagram right", func(t *testing.T) {
				need(t, "tshark")
				a.quiet(t)
				for _, h := range []*Host{a, k} {
					h.in(t, "ethtool", "-K", "underlay", "tx", "off", "gso", "off", "tso", "off")
				}
				file := filepath.Join(k.dir, "underlay.pcap")
				dump := k.capture(t, "", "underlay", "udp port 4789", "-s", "0", "-w", file)
				traffic(t, a, k, underlay.mtu, "--bytes", "4M") // tshark is slow
				dump.end(t)
				decoded(t, file)
			})
			a.checkCounters(t)
			a.tests(t, "no answer", true) // and super-frames went on
		})
	}
}

// traffic sends all kinds of traffic in both directions between red and the kernel's bridge; amount is what each iperf3 moves.
func traffic(t *testing.T, a, k *Host, mtu int, amount ...string) {
	t.Helper()
	a.exec(t, "red", "ping", "-n", "-c3", "-i0.2", "-W20", "10.80.2.10")
	k.in(t, "ping", "-n", "-c3", "-i0.2", "-W20", "10.80.1.10")
	a.ping(t, "red", "fd00:80::20")
	k.in(t, "ping", "-n", "-c1", "-W20", "fd00:80::10")
	a.ping(t, "red", "10.80.2.10", "-M", "do", "-s", fmt.Sprint(mtu-28))
	k.in(t, "ping", "-n", "-c1", "-W20", "-M", "do", "-s", fmt.Sprint(mtu-28), "10.80.1.10")
	a.pingGroup(t, "red", "10.80.2.10", "-I", "eth0", "224.0.0.1")
	k.pingGroup(t, "", "10.80.1.10", "-b", "10.80.255.255")
	for _, args := range [][]string{
		{"-c", "10.80.2.10"},
		{"-c", "10.80.2.10", "-R"},
		{"-c", "fd00:80::20"},
		{"-c", "fd00:80::20", "-R"},
		{"-c", "10.80.2.10", "-u", "-b", "20M"},
		{"-c", "10.80.2.10", "-u", "-b", "20M", "-R"},
	} {
		iperf(t, k, "", a, "red", append(args, amount...)...)
	}
}

// decoded checks that every datagram of a file is VXLAN with VNI 80, and that its outer and inner checksums are right.
func decoded(t *testing.T, file string) {
	t.Helper()
	sums := []string{"ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"}
	args := []string{"-n", "-r", file, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
		"-T", "fields", "-e", "vxlan.vni", "-e", "vxlan.flags", "-e", "_ws.malformed"}
	for _, sum := range sums {
		args = append(args, "-e", sum)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	all, wrong := 0, map[string]int{}
	good := make([]int, len(sums))
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if fields[0] == "0" {
			continue // a question to the host, which kernels do not answer
		}
		all++
		if fields[0] != "80" || fields[1] != "0x0800" || fields[2] != "" {
			wrong[strings.Join(fields[:3], " ")]++
		}
		for i, statuses := range fields[3:] { // of each header, from the outside in: 0 is bad, 1 good, 3 none
			if strings.Contains(statuses, "0") {
				wrong["bad "+sums[i]]++
			}
			good[i] += strings.Count(statuses, "1")
		}
	}
	t.Logf("%d datagrams, good checksums of %v: %v", all, sums, good)
	if all < 1000 || slices.Contains(good, 0) {
		t.Errorf("too little was captured: %d datagrams, good checksums of %v: %v", all, sums, good)
	}
	for what, n := range wrong {
		t.Errorf("%d of %d datagrams: %s", n, all, what)
	}
}
