package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInterop: the other host has no tapestry, but the kernel's vxlan devices in bridges; one has a list of one address, the other a group.
//
//	red, 10.80.1.10 ── wide ───── a ──underlay── k: vxlan80 ── br80, 10.80.2.10
//	blue, 10.81.1.10 ── grouped ──┘               └ vxlan81 ── br81, 10.81.2.10
func TestInterop(t *testing.T) {
	for _, underlay := range []struct {
		name, a, k, group string
		mtu               int
	}{
		{"IPv4 underlay", "192.0.2.1", "192.0.2.2", "239.1.1.1", 1450},
		{"IPv6 underlay", "2001:db8::1", "2001:db8::2", "ff05::100", 1430},
	} {
		t.Run(underlay.name, func(t *testing.T) {
			need(t, "ethtool")
			name := "interop" + strings.Fields(underlay.name)[0]
			a, k := newHost(t, name), newHost(t, name+"-kernel")
			wire(t, a, k)
			k.in(t, "sh", "-ec", "echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts")
			device := func(vni int, to string) {
				k.in(t, "sh", "-ec", fmt.Sprintf(`
					ip link add br%[1]d type bridge mcast_snooping 0
					ip link add vxlan%[1]d mtu %[2]d type vxlan id %[1]d dstport 4789 local %[3]s %[4]s dev underlay udp6zerocsumrx
					ip link set vxlan%[1]d master br%[1]d up
					ip link set br%[1]d up mtu %[2]d
					ip addr add 10.%[1]d.2.10/16 dev br%[1]d
					ip addr add fd00:%[1]d::20/64 dev br%[1]d nodad`, vni, underlay.mtu, underlay.k, to))
			}
			device(80, "remote "+underlay.a)
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
				traffic(t, a, k, "red", 80, underlay.mtu, "--time", "1")
			})
			// A second network of both hosts.
			device(81, "group "+underlay.group)
			a.network(t, "grouped", "--subnet", "10.81.0.0/16", "--ipv6", "--subnet", "fd00:81::/64",
				"-o", "tapestry.vni=81", "-o", "tapestry.group="+underlay.group, "-o", "tapestry.reserved=drop")
			a.run(t, "blue", "grouped", "--ip", "10.81.1.10", "--ip6", "fd00:81::10", "--sysctl", "net.ipv4.icmp_echo_ignore_broadcasts=0")
			t.Run("a group, with offloads", func(t *testing.T) {
				a.quiet(t)
				traffic(t, a, k, "blue", 81, underlay.mtu, "--bytes", "2M")
			})
			t.Run("without offloads tshark finds every datagram right", func(t *testing.T) {
				need(t, "tshark")
				a.quiet(t)
				for _, h := range []*Host{a, k} {
					h.in(t, "ethtool", "-K", "underlay", "tx", "off", "gso", "off", "tso", "off")
				}
				const ecn = "echo 1 >/proc/sys/net/ipv4/tcp_ecn"
				k.in(t, "sh", "-ec", ecn)
				for _, c := range []string{"red", "blue"} { // a TAP cuts super-frames with CWR, which the counters would show
					a.in(t, "nsenter", "-n", "-t", a.init(t, c), "sh", "-ec", "ethtool -K eth0 tso off; "+ecn)
				}
				file := filepath.Join(k.dir, "underlay.pcap")
				dump := k.capture(t, "", "underlay", "udp port 4789", "-s", "0", "-w", file)
				traffic(t, a, k, "red", 80, underlay.mtu, "--bytes", "2M") // tshark is slow
				traffic(t, a, k, "blue", 81, underlay.mtu, "--bytes", "2M")
				dump.end(t)
				decoded(t, file)
			})
			a.checkCounters(t)
			a.tests(t, "no answer", true) // and super-frames went on
		})
	}
}

// traffic sends all kinds of traffic in both directions between a container and the kernel's bridge, on the network with that VNI; amount is
// what each iperf3 moves.
func traffic(t *testing.T, a, k *Host, container string, vni, mtu int, amount ...string) {
	t.Helper()
	v4, v6 := fmt.Sprintf("10.%d.", vni), fmt.Sprintf("fd00:%d::", vni)
	a.exec(t, container, "ping", "-n", "-c3", "-i0.2", "-W20", v4+"2.10")
	k.in(t, "ping", "-n", "-c3", "-i0.2", "-W20", v4+"1.10")
	a.ping(t, container, v6+"20")
	k.in(t, "ping", "-n", "-c1", "-W20", v6+"10")
	a.ping(t, container, v4+"2.10", "-M", "do", "-s", fmt.Sprint(mtu-28))
	k.in(t, "ping", "-n", "-c1", "-W20", "-M", "do", "-s", fmt.Sprint(mtu-28), v4+"1.10")
	a.pingGroup(t, container, v4+"2.10", "-I", "eth0", "224.0.0.1")
	k.pingGroup(t, "", v4+"1.10", "-b", v4+"255.255")
	for _, to := range []string{v4 + "2.10", v6 + "20"} {
		for _, args := range [][]string{{"-c", to}, {"-c", to, "-R"}, {"-c", to, "-u", "-b", "20M"}, {"-c", to, "-u", "-b", "20M", "-R"}} {
			iperf(t, k, "", a, container, append(args, amount...)...)
		}
	}
}

// decoded checks that every datagram of a file is VXLAN with VNI 80 or 81, that its outer and inner checksums are right, and that its outer and
// inner ECN are the same; some is ECT(0).
func decoded(t *testing.T, file string) {
	t.Helper()
	sums := []string{"ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"}
	args := []string{"-n", "-r", file, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
		"-T", "fields", "-e", "vxlan.vni", "-e", "vxlan.flags", "-e", "_ws.malformed"}
	for _, field := range append(sums, "ip.dsfield.ecn", "ipv6.tclass.ecn") {
		args = append(args, "-e", field)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	all, ect, wrong := 0, 0, map[string]int{}
	good := make([]int, len(sums))
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if fields[0] == "0" {
			continue // a question to the host, which kernels do not answer
		}
		all++
		if fields[0] != "80" && fields[0] != "81" || fields[1] != "0x0800" || fields[2] != "" {
			wrong[strings.Join(fields[:3], " ")]++
		}
		ecn := strings.FieldsFunc(strings.Join(fields[3+len(sums):], ","), func(r rune) bool { return r == ',' })
		if len(ecn) == 2 { // else it is not IP, or ICMP that repeats some
			if ecn[0] != ecn[1] {
				wrong["ECN "+strings.Join(ecn, " and ")]++
			} else if ecn[0] == "2" || ecn[0] == "0x02" {
				ect++
			}
		}
		for i, statuses := range fields[3:][:len(sums)] { // of each header, from the outside in: 0 is bad, 1 good, 3 none
			if strings.Contains(statuses, "0") {
				wrong["bad "+sums[i]]++
			}
			good[i] += strings.Count(statuses, "1")
		}
	}
	t.Logf("%d datagrams, %d of them ECT(0), good checksums of %v: %v", all, ect, sums, good)
	if all < 1000 || ect < 1000 || slices.Contains(good, 0) {
		t.Errorf("too little was captured: %d datagrams, %d of them ECT(0), good checksums of %v: %v", all, ect, sums, good)
	}
	for what, n := range wrong {
		t.Errorf("%d of %d datagrams: %s", n, all, what)
	}
}
