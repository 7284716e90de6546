package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestTooBig: a path that is narrower in the middle than at its ends. A router says so to the host, and the host to its containers, whose
// senders go on with what fits. The VTEPs are addresses on lo, with the router between them:
//
//	10.80.0.1 ── a, 198.51.100.1 ── outside ── b, 198.51.100.2 ── 10.80.0.2
func TestTooBig(t *testing.T) {
	hosts, outside := newBareHosts(t, "toobig", 2, func(*Host) {})
	var containers []*bareContainer
	outside.in(t, "sh", "-ec", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects; echo 0 >/proc/sys/net/ipv4/conf/lan/send_redirects")
	for i, h := range hosts {
		own, other := i+1, 2-i
		h.stopDaemon(t, "TERM")
		h.in(t, "sh", "-ec", fmt.Sprintf("ip address add 198.51.100.%d/32 dev lo; ip route add 198.51.100.%d via 192.0.2.254", own, other))
		outside.in(t, "ip", "route", "add", fmt.Sprintf("198.51.100.%d", own), "via", fmt.Sprintf("192.0.2.%d", own), "mtu", "lock", "1400")
		h.flags = []string{"--vtep", fmt.Sprintf("198.51.100.%d", own)}
		h.startDaemon(t)
		h.quiet(t)
		testhost.Must(t, h.ask("NetworkDriver.CreateNetwork", map[string]any{
			"NetworkID": bareNetwork("wide"), "Options": map[string]any{"com.docker.network.generic": map[string]string{"tapestry.vni": "80", "tapestry.peers": fmt.Sprintf("198.51.100.%d", other)}},
			"IPv4Data": []any{map[string]any{"AddressSpace": "LocalDefault", "Pool": "10.80.0.0/16", "Gateway": "10.80.255.254/16"}},
		}, nil))
		c, err := h.start("wide", "10.80.0.0/16", fmt.Sprint("10.80.0.", own))
		testhost.Must(t, err)
		h.in(t, "sh", "-ec", fmt.Sprintf("ip -n %[1]s link set eth0 mtu 1450; ip -n %[1]s address add fd80::%[2]d/64 dev eth0 nodad", c.name, own))
		containers = append(containers, c)
	}
	from, to := containers[0], containers[1]
	for _, family := range []struct{ addr, route string }{{to.addr, "ip route get "}, {"fd80::2", "ip -6 route get "}} {
		t.Run(family.addr, func(t *testing.T) {
			served := to.on.background(t, "", "ip", "netns", "exec", to.name, "iperf3", "-s", "-1", "--forceflush")
			served.await(t, "listening")
			t.Log(from.on.in(t, "ip", "netns", "exec", from.name, "iperf3", "-c", family.addr, "--bytes", "10M"))
			served.end(t)
			route := from.on.in(t, "sh", "-ec", "ip netns exec "+from.name+" "+family.route+family.addr)
			if !regexp.MustCompile(`\bmtu 1350\b`).MatchString(route) {
				t.Errorf("the sender knows: %s", route)
			}
			said, err := from.on.try("ip", "netns", "exec", from.name, "ping", "-n", "-c1", "-W20", "-M", "do", "-s", "1400", family.addr)
			if err == nil || !strings.Contains(said+err.Error(), "essage too long") {
				t.Errorf("a datagram that is too long: %s, %v", said, err)
			}
		})
	}
	t.Run("a path that does not say so", func(t *testing.T) {
		outside.in(t, "sh", "-ec", "iptables -A OUTPUT -p icmp -j DROP; ip route replace 198.51.100.1 via 192.0.2.1 mtu lock 1300; ip route replace 198.51.100.2 via 192.0.2.2 mtu lock 1300")
		for _, h := range hosts {
			testhost.Eventually(t, patience, func() error {
				if _, lines := h.doctor(t); finds(lines, "mtu", "fail", "do not reach 198.51.100.", "driver.mtu=12") != nil { // it has the path tested now
					return fmt.Errorf("doctor says %v", lines)
				}
				return nil
			})
			if mtu := objects[struct{ MTU int }](t, h.Host, "peers")[0].MTU; mtu > 1250 || mtu <= 1250-8 {
				t.Errorf("the path takes %d", mtu)
			}
		}
		served := to.on.background(t, "", "ip", "netns", "exec", to.name, "iperf3", "-s", "-1", "--forceflush")
		served.await(t, "listening")
		t.Log(from.on.in(t, "ip", "netns", "exec", from.name, "iperf3", "-c", to.addr, "--bytes", "10M"))
		served.end(t)
	})
	for i, c := range containers {
		if told := objects[struct {
			TooBig int `json:"too_big"`
		}](t, c.on.Host, "networks")[0].TooBig; (told > 0) != (i == 0) {
			t.Errorf("%s has told senders %d times", c.on.name, told)
		}
		c.on.checkCounters(t)
	}
}
