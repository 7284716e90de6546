package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestMixedUnderlay: a host with an address of each IP version has peers of both on one network.
//
//	                ┌─ b, 192.0.2.2: IPv4 only
//	a, both ── lan ─┼─ c, 2001:db8::3: IPv6 only
//	                └─ outside, 2001:db8::254: the kernel's vxlan device, 10.80.0.254
func TestMixedUnderlay(t *testing.T) {
	hosts, outside := newBareHosts(t, "mixed", 3, func(*Host) {})
	const name, subnet = "wide", "10.80.0.0/16"
	var containers []*bareContainer
	for i, with := range []struct{ vtep, peers string }{
		{"192.0.2.1,2001:db8::1", "192.0.2.2,2001:db8::3,2001:db8::254"},
		{"192.0.2.2", "192.0.2.1"},
		{"2001:db8::3", "2001:db8::1"},
	} {
		h := hosts[i]
		h.stopDaemon(t, "TERM")
		h.flags = []string{"--vtep", with.vtep}
		h.startDaemon(t)
		h.quiet(t, "tunnel lost its second address", "peer unreachable") // at the end
		testhost.Must(t, h.ask("NetworkDriver.CreateNetwork", map[string]any{
			"NetworkID": bareNetwork(name), "Options": map[string]any{"com.docker.network.generic": map[string]string{"tapestry.vni": "80", "tapestry.peers": with.peers}},
			"IPv4Data": []any{map[string]any{"AddressSpace": "LocalDefault", "Pool": subnet, "Gateway": gatewayOf(subnet)}},
		}, nil))
		c, err := h.start(name, subnet, fmt.Sprint("10.80.0.", i+1))
		testhost.Must(t, err)
		containers = append(containers, c)
	}
	a, ca, cb, cc := hosts[0], containers[0], containers[1], containers[2]
	outside.in(t, "sh", "-ec", `ip link add vxlan80 type vxlan id 80 dstport 4789 local 2001:db8::254 remote 2001:db8::1
		ip address add 10.80.0.254/16 dev vxlan80; ip link set vxlan80 up`)

	// The first ping asks for the address by a broadcast: it reaches hosts of both versions.
	for _, c := range []*bareContainer{cb, cc} {
		ca.ping(t, c.addr)
		c.ping(t, ca.addr)
		for _, way := range []string{"", "-R"} {
			served := c.on.background(t, "", "ip", "netns", "exec", c.name, "iperf3", "-s", "-1", "--forceflush")
			served.await(t, "listening")
			a.in(t, "sh", "-ec", fmt.Sprintf("ip netns exec %s iperf3 -c %s --bytes 16M %s", ca.name, c.addr, way))
			served.end(t)
		}
	}
	ca.ping(t, "10.80.0.254")
	for _, mtu := range []struct {
		c    *bareContainer
		want string
	}{{ca, "1430"}, {cb, "1450"}, {cc, "1430"}} {
		if got := mtu.c.on.in(t, "sh", "-ec", "ip netns exec "+mtu.c.name+" cat /sys/class/net/eth0/mtu"); got != mtu.want {
			t.Errorf("%s has MTU %s, want %s", mtu.c.addr, got, mtu.want)
		}
	}

	// Split horizon: b's broadcast comes to a's container, and not by a to c or to the kernel's device, which would answer.
	for _, to := range []string{cc.addr, "10.80.0.254"} {
		if out, err := cb.on.try("ip", "netns", "exec", cb.name, "arping", "-c3", "-w5", "-I", "eth0", to); err == nil {
			t.Errorf("%s answers %s: %s", to, cb.addr, out)
		}
	}
	if seen := cc.on.in(t, "ip", "-n", cc.name, "neighbour", "show", cb.addr); seen != "" {
		t.Errorf("%s has heard of %s: %s", cc.addr, cb.addr, seen)
	}

	status := func() (s api.Status) {
		testhost.Must(t, json.Unmarshal([]byte(a.tapestry(t, "status", "--json")), &s))
		return s
	}
	if s := status(); s.VTEP != "192.0.2.1" || s.SecondVTEP != "2001:db8::1" || s.SecondWhy != "" {
		t.Errorf("status %q %q %q", s.VTEP, s.SecondVTEP, s.SecondWhy)
	}
	if text := a.tapestry(t, "status"); !strings.Contains(text, "192.0.2.1 and 2001:db8::1 port 4789") {
		t.Errorf("status:\n%s", text)
	}
	a.checkCounters(t)

	// Without the second address the peers of the first one stay, and the others come back with it.
	a.in(t, "ip", "address", "delete", "2001:db8::1/64", "dev", "underlay")
	testhost.Until(t, "the second address is known to be lost", func() bool { return status().SecondWhy != "" })
	ca.ping(t, cb.addr)
	a.in(t, "ip", "address", "add", "2001:db8::1/64", "dev", "underlay", "nodad")
	ca.ping(t, cc.addr)
	ca.ping(t, "10.80.0.254")
}
