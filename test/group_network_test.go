package test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestGroupNetwork: two hosts with tapestry and two with the kernel's vxlan devices find each other by a multicast group.
//
//	10.80.0.1 ── a ─┐        ┌─ k: vxlan80, 10.80.0.3
//	                ├─ lan ──┤
//	10.80.0.2 ── b ─┘        └─ outside: vxlan80, 10.80.0.254
func TestGroupNetwork(t *testing.T) {
	hosts, outside := newBareHosts(t, "ingroup", 3, func(*Host) {})
	a, b, k := hosts[0], hosts[1], hosts[2]
	for _, h := range hosts {
		h.stopDaemon(t, "TERM")
	}
	for _, underlay := range []struct{ name, group, net, bits string }{
		{"IPv4 underlay", "239.1.1.1", "192.0.2.", "/24"}, {"IPv6 underlay", "ff05::100", "2001:db8::", "/64"},
	} {
		t.Run(underlay.name, func(t *testing.T) {
			const name, subnet = "wide", "10.80.0.0/16"
			var containers []*bareContainer
			for i, h := range []*bare{a, b} {
				h.flags = []string{"--vtep", underlay.net + fmt.Sprint(i+1)}
				h.startDaemon(t)
				h.quiet(t, "peer unreachable", "tunnel lost its address") // when its link is made anew
				testhost.Must(t, h.ask("NetworkDriver.CreateNetwork", map[string]any{
					"NetworkID": bareNetwork(name), "Options": map[string]any{"com.docker.network.generic": map[string]string{"tapestry.vni": "80", "tapestry.group": underlay.group}},
					"IPv4Data": []any{map[string]any{"AddressSpace": "LocalDefault", "Pool": subnet, "Gateway": gatewayOf(subnet)}},
				}, nil))
				c, err := h.start(name, subnet, fmt.Sprint("10.80.0.", i+1))
				testhost.Must(t, err)
				containers = append(containers, c)
			}
			ca, cb := containers[0], containers[1]
			for h, dev := range map[*Host]string{k.Host: "underlay", outside: "lan"} {
				number := "3"
				if h == outside {
					number = "254"
				}
				h.in(t, "sh", "-ec", fmt.Sprintf(`ip link add vxlan80 type vxlan id 80 dstport 4789 local %[1]s%[2]s group %[3]s dev %[4]s
					ip address add 10.80.0.%[2]s/16 dev vxlan80; ip link set vxlan80 up`, underlay.net, number, underlay.group, dev))
			}
			fromKernel := func(h *Host, to string) {
				t.Helper()
				testhost.Eventually(t, patience, func() error {
					_, err := h.try("ping", "-n", "-q", "-c1", "-W2", to)
					return err
				})
			}
			for _, c := range containers {
				c.ping(t, "10.80.0.3")
				c.ping(t, "10.80.0.254")
				fromKernel(k.Host, c.addr)
				fromKernel(outside, c.addr)
			}
			ca.ping(t, cb.addr)
			cb.ping(t, ca.addr)

			// TCP, whose first train of super-frames may come from a host that is not known yet.
			for _, c := range containers {
				served := k.background(t, "", "iperf3", "-s", "-1", "--forceflush")
				served.await(t, "listening")
				c.on.in(t, "ip", "netns", "exec", c.name, "iperf3", "-c", "10.80.0.3", "--bytes", "4M")
				served.end(t)
			}
			served := b.background(t, "", "ip", "netns", "exec", cb.name, "iperf3", "-s", "-1", "--forceflush")
			served.await(t, "listening")
			a.in(t, "ip", "netns", "exec", ca.name, "iperf3", "-c", cb.addr, "--bytes", "4M", "-R")
			served.end(t)

			testhost.Eventually(t, patience, func() error {
				var peers []api.Peer
				testhost.Must(t, json.Unmarshal([]byte(a.tapestry(t, "peers", "--json")), &peers))
				var got []string
				for _, p := range peers {
					got = append(got, fmt.Sprint(p.Addr, " ", p.Group, " ", p.Learned, " ", p.State))
				}
				at := func(addr string) string { return netip.AddrPortFrom(netip.MustParseAddr(addr), 4789).String() }
				want := []string{at(underlay.group) + " true false up"}
				for _, n := range []string{"2", "3", "254"} {
					want = append(want, at(underlay.net+n)+" false true up")
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					return fmt.Errorf("peers %q, want %q", got, want)
				}
				return nil
			})
			a.checkCounters(t)

			t.Run("the underlay's link is made anew", func(t *testing.T) {
				mac := a.in(t, "cat", "/sys/class/net/underlay/address") // the same again: others go on sending to it
				cmd := exec.Command("nsenter", "--target", fmt.Sprint(outside.pid), "--net", "--", "sh", "-ec", `ip link delete port1
					ip link add port1 type veth peer name underlay address "$2" netns "$1"; ip link set port1 master lan up
					nsenter --target "$1" --net -- sh -ec "ip address add 192.0.2.1/24 dev underlay; ip address add 2001:db8::1/64 dev underlay nodad; ip link set underlay up"`,
					"sh", fmt.Sprint(a.pid), mac)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				for _, c := range containers { // who has forgotten the others' MACs asks everybody, by the group
					c.on.in(t, "ip", "-n", c.name, "neighbour", "flush", "all")
				}
				k.in(t, "ip", "neighbour", "flush", "dev", "vxlan80")
				cb.ping(t, ca.addr)
				fromKernel(k.Host, ca.addr)
				ca.on.in(t, "ip", "-n", ca.name, "neighbour", "flush", "all")
				ca.ping(t, "10.80.0.254")
			})
			for _, c := range containers {
				testhost.Must(t, c.stop(subnet, true))
			}
			for _, h := range []*bare{a, b} {
				testhost.Must(t, h.ask("NetworkDriver.DeleteNetwork", map[string]any{"NetworkID": bareNetwork(name)}, nil))
				h.stopDaemon(t, "TERM")
			}
			for _, h := range []*Host{k.Host, outside} {
				h.in(t, "ip", "link", "delete", "vxlan80")
			}
		})
	}
}
