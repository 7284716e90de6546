package test

import (
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// vxlanHeaders is the length of what precedes the inner frame: Ethernet, IPv4, UDP, VXLAN.
const vxlanHeaders = 14 + 20 + 8 + 8

// captureViews compares frames between two hosts in both views with those of a tcpdump on the underlay.
func (p *pair) captureViews(t *testing.T) {
	a := p.a
	a.quiet(t)
	p.b.quiet(t)
	a.pings(t, "red", "10.80.2.10", 2) // both know where the other is
	a.pings(t, "red", "10.80.1.20", 2)

	underlay := filepath.Join(t.TempDir(), "underlay.pcap")
	dump := a.capture(t, "", "underlay", "udp port 4789", "-w", underlay, "-U")
	takes := map[string]*captureCommand{
		"peer":  a.startCapture(t, "peer.pcapng", "peer:192.0.2.2", "-f", "icmp"),
		"outer": a.startCapture(t, "outer.pcapng", "all", "--view", "outer"),
		"both":  a.startCapture(t, "both.pcapng", "all", "--view", "both", "-f", "icmp"),
		"far":   p.b.startCapture(t, "far.pcapng", "peer:192.0.2.1", "-f", "icmp", "--view", "outer"),
	}
	a.exec(t, "red", "ping", "-n", "-q", "-c", "10", "-i", "0.02", "-W20", "-s", "700", "-p", hex.EncodeToString([]byte("tapestry")), "10.80.2.10")
	a.pings(t, "red", "10.80.1.20", 3) // does not travel
	for _, k := range takes {
		k.end(t)
		inOrder(t, k.path)
	}
	dump.end(t)

	inner := rows(t, takes["peer"].path, "icmp", "frame.interface_name", "ip.src_host", "ip.dst_host")
	replies := 0 // between the requests, and on a slow machine later
	for _, row := range inner {
		if strings.HasPrefix(row, "peer 192.0.2.2@wide|10.80.2.10|red") {
			replies++
		} else if row != "red|red|10.80.2.10" {
			t.Errorf("an inner packet is %s", row)
		}
	}
	if len(inner) != 20 || replies != 10 {
		t.Errorf("to and from the peer go %q", inner)
	}

	// tshark prints a field of the outer and of the inner header, outer first.
	outer := map[string]int{}
	for _, row := range rows(t, takes["outer"].path, "icmp", "vxlan.vni", "ip.src", "ip.dst", "frame.packet_flags_direction") {
		outer[row]++
	}
	const there, back = "80|192.0.2.1,10.80.1.10|192.0.2.2,10.80.2.10|0x00000002", "80|192.0.2.2,10.80.2.10|192.0.2.1,10.80.1.10|0x00000001"
	if len(outer) != 2 || outer[there] != 10 || outer[back] != 10 {
		t.Errorf("outer packets are %v, want ten %s and ten %s", outer, there, back)
	}
	wire, rebuilt := icmpInside(t, underlay), icmpInside(t, takes["outer"].path)
	if len(wire) != 20 || !slices.Equal(sums(wire, vxlanHeaders), sums(rebuilt, vxlanHeaders)) {
		t.Errorf("%d frames on the underlay are not the %d in outer datagrams", len(wire), len(rebuilt))
	}
	if far := readFile(t, takes["far"].path).packets; !slices.Equal(sums(wire, vxlanHeaders), sums(far, vxlanHeaders)) {
		t.Errorf("the other host shows %d other datagrams", len(far))
	}
	// The filter also works on the inner frames of what tcpdump has captured.
	for expr, want := range map[string]int{"vxlan 80 and icmp and host 10.80.1.10": len(wire), "vxlan 80 and icmp and host red": len(wire), "vxlan and udp port 4789": 0, "vxlan 81": 0} {
		part := filepath.Join(t.TempDir(), "part.pcapng")
		a.tapestry(t, "capture", "-r", underlay, "-w", part, "-f", expr)
		if got := readFile(t, part).packets; len(got) != want || want > 0 && !slices.Equal(sums(wire, 0), sums(got, 0)) {
			t.Errorf("%s: %d datagrams of the underlay, want %d", expr, len(got), want)
		}
	}
	if bad := count(t, takes["outer"].path, badSums); bad != 0 {
		t.Errorf("%d bad checksums in rebuilt datagrams", bad)
	}

	// Each frame that goes to the other host is there twice, with one id; the others once.
	views := map[string][]string{}
	for _, row := range rows(t, takes["both"].path, "icmp", "frame.packet_id", "vxlan.vni") {
		id, vni, _ := strings.Cut(row, "|")
		views[id] = append(views[id], vni)
	}
	travel := 0
	for id, vnis := range views {
		if slices.Sort(vnis); slices.Equal(vnis, []string{"", "80"}) {
			travel++
		} else if !slices.Equal(vnis, []string{""}) {
			t.Errorf("packets with id %s have the VNIs %q", id, vnis)
		}
	}
	if travel != 20 || len(views) != 26 {
		t.Errorf("of %d frames %d are there in both views, want 20 of 26", len(views), travel)
	}
}

// icmpInside are a file's VXLAN datagrams with ICMP in IPv4 inside.
func icmpInside(t *testing.T, path string) (all []pcapng.Packet) {
	t.Helper()
	for _, p := range readFile(t, path).packets {
		if d := p.Data; len(d) > vxlanHeaders+24 && d[vxlanHeaders+12] == 8 && d[vxlanHeaders+13] == 0 && d[vxlanHeaders+23] == 1 {
			all = append(all, p)
		}
	}
	return all
}
