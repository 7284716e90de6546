package test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestOptions: networks with all kinds of options.
//
//	containers ── X… ── h ──underlay── outside, 192.0.2.2
func TestOptions(t *testing.T) {
	h, outside := newNodeWithOutside(t, "options")

	t.Run("row10 MTU", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "X", "--subnet", "10.77.0.0/24")
		h.network(t, "X2", "--subnet", "10.78.0.0/24", "-o", "com.docker.network.driver.mtu=1300")
		h.network(t, "wide", "--subnet", "10.79.0.0/24", "-o", "tapestry.vni=79")
		for network, mtu := range map[string]string{"X": "1500", "X2": "1300", "wide": "1450"} {
			h.run(t, "on"+network, network)
			inside := h.exec(t, "on"+network, "cat", "/sys/class/net/eth0/mtu")
			host := h.in(t, "cat", "/sys/class/net/"+h.hostEnd(t, "on"+network, "eth0")+"/mtu")
			if inside != mtu || host != mtu {
				t.Errorf("network %s: MTU is %s inside and %s on the host, want %s", network, inside, host, mtu)
			}
		}
		h.run(t, "c2", "X2")
		h.ping(t, "c2", "onX2", "-M", "do", "-s", "1272")
		if out, err := h.tryExec("c2", "ping", "-n", "-c1", "-W1", "-M", "do", "-s", "1273", "onX2"); err == nil {
			t.Errorf("a packet of 1301 bytes passed: %s", out)
		}
	})

	t.Run("row11 row13 what is refused changes nothing", func(t *testing.T) {
		before := h.snapshot(t)
		for _, bad := range []struct{ option, names string }{
			{"com.docker.network.driver.mtu=abc", "com.docker.network.driver.mtu"},
			{"com.docker.network.driver.mtu=-1", "com.docker.network.driver.mtu"},
			{"com.docker.network.driver.mtu=70000", "com.docker.network.driver.mtu"},
			{"tapestry.vin=5", "tapestry.vni"}, // a near miss: the known ones are named
			{"tapestry.vni=0", "tapestry.vni"},
			{"tapestry.vni=16777216", "tapestry.vni"},
			{"tapestry.vni=five", "tapestry.vni"},
			{"tapestry.peers=192.0.2.300", "tapestry.peers"},
			{"tapestry.ageing=-5s", "tapestry.ageing"},
			{"tapestry.ageing=300", "tapestry.ageing"},
			{"tapestry.attach=macvlan", "tapestry.attach"},
			{"tapestry.external=perhaps", "tapestry.external"},
			{"com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "docker run -p 127.0.0.1:"},
			{"com.docker.network.bridge.enable_icc=false", "network of their own"},
			{"com.docker.network.enable_ipv6=sure", "com.docker.network.enable_ipv6"}, // new daemons say so themselves
			{"vni=80", "tapestry.vni"},
			{"MTU=1400", "com.docker.network.driver.mtu"},
			{"parent=eth0", "macvlan"},
			{"encrypted", "encrypt"},
			{"encrypted=true", "encrypt"},
		} {
			t.Run(bad.option, func(t *testing.T) {
				h.quiet(t, "request refused", "returned error")
				said := h.dockerRefuses(t, "network", "create", "-d", h.driver(), "-o", bad.option, "bad")
				if !strings.Contains(said, bad.names) || strings.Contains(said, "EOF") {
					t.Errorf("the user reads: %s", said)
				}
			})
		}
		if names := h.docker(t, "network", "ls", "--format", "{{.Name}}"); strings.Contains(names, "bad") {
			t.Errorf("docker lists %s", names)
		}
		h.audit(t, before)
	})

	t.Run("IPv6 on an underlay too narrow for it is refused", func(t *testing.T) {
		h.quiet(t, "request refused", "returned error")
		h.in(t, "ip", "link", "set", "underlay", "mtu", "1300")
		defer h.in(t, "ip", "link", "set", "underlay", "mtu", "1500")
		said := h.dockerRefuses(t, "network", "create", "-d", h.driver(), "--ipv6", "--subnet", "fd60::/64", "-o", "tapestry.vni=61", "narrow")
		if !strings.Contains(said, "1250") || !strings.Contains(said, "1280") {
			t.Errorf("the user reads: %s", said)
		}
	})

	t.Run("a taken UDP 4789 fails the network, not the daemon", func(t *testing.T) {
		h.quiet(t, "request refused", "returned error")
		h.in(t, "sh", "-ec", "ip link add vxlan9 type vxlan id 9 dstport 4789 local 192.0.2.1 dev underlay; ip link set vxlan9 up")
		said := h.dockerRefuses(t, "network", "create", "-d", h.driver(), "-o", "tapestry.vni=80", "wide")
		if !strings.Contains(said, "4789") || !strings.Contains(said, "--vxlan-port") {
			t.Errorf("the user reads: %s", said)
		}
		t.Log(said)
		h.in(t, "ip", "link", "del", "vxlan9")
		h.network(t, "wide", "-o", "tapestry.vni=80")
	})

	t.Run("row12 options of others pass", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "X", "-o", "com.docker.network.something=1", "-o", "foreign",
			"-o", "com.docker.network.bridge.enable_icc=true", "-o", "com.docker.network.bridge.host_binding_ipv4=0.0.0.0", "-o", "works.weave.multicast=true")
		h.run(t, "c1", "X")
	})

	t.Run("row14 no option at all", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "X")
		h.run(t, "c1", "X")
		h.run(t, "c2", "X")
		h.ping(t, "c1", "c2")
	})

	t.Run("row15 --internal", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "X", "--subnet", "10.77.0.0/24", "--internal")
		h.run(t, "c1", "X", "-p", "18080:80")
		h.run(t, "c2", "X")
		h.noWayOut(t, "c1")
		if got := h.docker(t, "port", "c1"); got != "" {
			t.Errorf("published: %s", got)
		}
		h.ping(t, "c1", "c2")
	})

	t.Run("row16 row17 the way out and published ports", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "X", "--subnet", "10.77.0.0/24")
		h.run(t, "c1", "X", "-p", "18080:80")
		if got := h.links(t, "c1"); !slices.Equal(got, []string{"eth0", "eth1", "lo"}) {
			t.Errorf("links %v", got)
		}
		if got := h.exec(t, "c1", "ip", "route"); !regexp.MustCompile(`(?m)^default via .* dev eth1`).MatchString(got) {
			t.Errorf("no default route over eth1: %s", got)
		}
		h.ping(t, "c1", "192.0.2.1") // the host's other address
		h.ping(t, "c1", "192.0.2.2")
		h.docker(t, "exec", "-d", "c1", "httpd", "-f", "-p", "80", "-h", "/etc")
		if got := h.docker(t, "port", "c1", "80/tcp"); !strings.Contains(got, ":18080") {
			t.Errorf("docker port: %s", got)
		}
		if got := h.docker(t, "ps", "--filter", "name=c1", "--format", "{{.Ports}}"); !strings.Contains(got, "18080->80/tcp") {
			t.Errorf("docker ps: %s", got)
		}
		testhost.Eventually(t, patience, func() error { return outside.asksWeb("192.0.2.1", "18080") })
		if err := h.asksWeb("127.0.0.1", "18080"); err != nil {
			t.Error(err)
		}
	})

	t.Run("row18 tapestry.external=off", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "X", "--subnet", "10.77.0.0/24", "-o", "tapestry.external=off")
		h.run(t, "c1", "X")
		h.run(t, "c2", "X")
		h.noWayOut(t, "c1")
		h.ping(t, "c1", "c2")
	})

	t.Run("row19 --ipv6", func(t *testing.T) {
		h.quiet(t)
		h.network(t, "X6", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64")
		h.run(t, "c1", "X6", "--ip6", "fd00:77::12") // the first one is another with a Docker that sets none aside
		h.run(t, "c2", "X6")
		addresses := h.exec(t, "c1", "ip", "-6", "addr", "show", "eth0")
		if !strings.Contains(addresses, "fd00:77::12/64") || regexp.MustCompile("fd00.*tentative").MatchString(addresses) {
			t.Errorf("eth0 has %s", addresses)
		}
		h.ping(t, "c1", "c2", "-6")
		h.ping(t, "c2", "fd00:77::12")
		h.ping(t, "c2", "c1", "-4")
	})

	if h.apiVersion(t) >= 52 { // before it Docker refuses to start such a container
		t.Run("an IPv6 address that Docker takes from a living container for the next", func(t *testing.T) {
			h.quiet(t)
			h.network(t, "rel", "--ipv6", "--subnet", "10.79.0.0/24", "--subnet", "fd00:79::/64")
			from := h.mark()
			h.run(t, "c1", "name=rel,driver-opt=com.docker.network.endpoint.sysctls=net.ipv6.conf.IFNAME.disable_ipv6=1")
			h.run(t, "c2", "rel")
			var given []string
			for _, r := range h.requests(t, from) {
				if methodName(r) == "CreateEndpoint" {
					given = append(given, regexp.MustCompile(`"AddressIPv6":"[^"]*"`).FindString(r.Body))
				}
			}
			if len(given) != 2 || given[0] != given[1] || !strings.Contains(given[0], "fd00:79::") {
				t.Fatalf("Docker has given %q, want the same IPv6 address twice", given)
			}
			freed := strings.Split(given[1], `"`)[3]
			for _, p := range objects[struct {
				Container, State string
				Addresses        []string
			}](t, h, "ports", "rel") {
				if has := slices.Contains(p.Addresses, freed); p.State != "up" || has != (p.Container == "c2") || len(p.Addresses) != map[bool]int{false: 1, true: 2}[has] {
					t.Errorf("port %+v, and %s is c2's", p, freed)
				}
			}
			h.run(t, "c3", "rel")
			if got := h.links(t, "c1"); !slices.Contains(got, "eth0") {
				t.Errorf("c1 has links %v", got)
			}
			h.ping(t, "c1", "c2", "-4")
			h.ping(t, "c2", "c1", "-4")
			h.ping(t, "c3", "c2", "-4")
			h.ping(t, "c3", "c2", "-6")
			h.ping(t, "c2", "c3", "-6")
		})
	}

	t.Run("row20 null IPAM is a bare layer 2", func(t *testing.T) {
		h.quiet(t)
		from := h.mark()
		h.network(t, "bare", "--ipam-driver", "null")
		h.run(t, "c1", "bare", "--cap-add", "NET_ADMIN")
		h.run(t, "c2", "bare", "--cap-add", "NET_ADMIN")
		if body := h.find(t, from, "CreateEndpoint").Body; !strings.Contains(body, `"Address":""`) {
			t.Errorf("CreateEndpoint had an address: %s", body)
		}
		if got := h.exec(t, "c1", "ip", "-4", "-o", "addr", "show", "eth0"); got != "" {
			t.Errorf("eth0 has %s", got)
		}
		h.exec(t, "c1", "ip", "addr", "add", "10.9.0.1/24", "dev", "eth0")
		h.exec(t, "c2", "ip", "addr", "add", "10.9.0.2/24", "dev", "eth0")
		h.ping(t, "c1", "10.9.0.2")
		if a, b := h.exec(t, "c1", "cat", "/sys/class/net/eth0/address"), h.exec(t, "c2", "cat", "/sys/class/net/eth0/address"); a == b {
			t.Errorf("both have MAC %s", a)
		}
	})

	t.Run("row21 several subnets", func(t *testing.T) {
		h.quiet(t)
		from := h.mark()
		h.network(t, "X", "--subnet", "10.77.0.0/24", "--subnet", "10.78.0.0/24")
		if body := h.find(t, from, "CreateNetwork").Body; !strings.Contains(body, "10.77.0.0/24") || !strings.Contains(body, "10.78.0.0/24") {
			t.Errorf("CreateNetwork had not both: %s", body)
		}
		h.run(t, "c1", "X", "--ip", "10.77.0.10")
		h.run(t, "c2", "X", "--ip", "10.77.0.11")
		h.run(t, "c3", "X", "--ip", "10.78.0.10", "--cap-add", "NET_ADMIN")
		h.run(t, "c4", "X", "--ip", "10.78.0.11", "--cap-add", "NET_ADMIN")
		h.ping(t, "c1", "10.77.0.11")
		h.ping(t, "c3", "10.78.0.11")
		// It is a single layer 2: a container can also have an address of the other subnet.
		h.exec(t, "c3", "ip", "addr", "add", "10.77.0.20/24", "dev", "eth0")
		h.ping(t, "c3", "10.77.0.10")
	})

	t.Run("no address is set aside as the gateway, unless it is named", func(t *testing.T) {
		h.quiet(t)
		from := h.mark()
		asks := h.apiVersion(t) >= 48
		h.network(t, "unnamed", "--subnet", "10.77.0.0/24")
		if body := h.find(t, from, "CreateNetwork").Body; strings.Contains(body, "10.77.0.1/24") == asks {
			t.Errorf("this dockerd asks: %v, and creates the network by %s", asks, body)
		}
		from = h.mark()
		h.network(t, "named", "--subnet", "10.78.0.0/24", "--gateway", "10.78.0.1")
		if body := h.find(t, from, "CreateNetwork").Body; !strings.Contains(body, `"Gateway":"10.78.0.1/24"`) {
			t.Errorf("the gateway that was named is not in %s", body)
		}
		h.run(t, "c1", "named")
		if got := h.address(t, "c1", "named"); got != "10.78.0.2" {
			t.Errorf("c1 has %s", got)
		}
		if !asks {
			return
		}
		h.network(t, "two", "--subnet", "10.79.0.0/31")
		h.run(t, "c2", "two", "-p", "18080:80")
		h.run(t, "c3", "two")
		h.ping(t, "c2", "c3")
		h.ping(t, "c2", "192.0.2.2")
		if got := h.address(t, "c2", "two") + " " + h.address(t, "c3", "two"); got != "10.79.0.0 10.79.0.1" {
			t.Errorf("the two have %s", got)
		}
	})

	t.Run("tapestry.attach=tap", func(t *testing.T) {
		if !h.has("attach=tap") {
			return
		}
		h.quiet(t)
		before := h.snapshot(t)
		h.network(t, "X", "--subnet", "10.77.0.0/24", "-o", "tapestry.attach=tap")
		h.run(t, "c1", "X")
		h.run(t, "c2", "X")
		h.ping(t, "c1", "c2")
		h.ping(t, "c1", "192.0.2.2")
		h.docker(t, "rm", "-f", "c1", "c2")
		h.docker(t, "network", "rm", "X")
		h.audit(t, before)
	})

	t.Run("the tunnel follows the host's address", func(t *testing.T) {
		h.quiet(t, "tunnel lost its address", "peer unreachable")
		h.network(t, "wide", "-o", "tapestry.vni=82", "-o", "tapestry.peers=192.0.2.2")
		change := func(old, new string) {
			h.in(t, "sh", "-ec", "ip addr del $1/24 dev underlay; ip addr add $2/24 dev underlay; ip route replace default via 192.0.2.2", "sh", old, new)
			testhost.Eventually(t, patience, func() error {
				var status struct{ VTEP, Tunnel, Why string }
				if err := json.Unmarshal([]byte(h.tapestry(t, "status", "--json")), &status); err != nil {
					t.Fatal(err)
				}
				peers := objects[struct{ State string }](t, h, "peers", "wide")
				if status.VTEP != new || status.Tunnel != "open" || len(peers) != 1 || peers[0].State != "up" {
					return fmt.Errorf("the tunnel is %+v, its peers are %+v", status, peers)
				}
				return nil
			})
		}
		change("192.0.2.1", "192.0.2.11")
		change("192.0.2.11", "192.0.2.1")
	})

	// A host with two uplinks: the one with the tunnel's address fails.
	t.Run("the tunnel follows the default route", func(t *testing.T) {
		h.quiet(t, "the tunnel follows the default route", "peer unreachable", "tunnel lost its address")
		h.network(t, "wide", "-o", "tapestry.vni=83", "-o", "tapestry.peers=198.51.100.2")
		opens := func(at string) {
			t.Helper()
			testhost.Eventually(t, patience, func() error {
				var status struct{ VTEP, Tunnel, Why string }
				if err := json.Unmarshal([]byte(h.tapestry(t, "status", "--json")), &status); err != nil {
					t.Fatal(err)
				}
				if status.VTEP != at || status.Tunnel != "open" {
					return fmt.Errorf("the tunnel is %+v, want %s", status, at)
				}
				return nil
			})
		}
		h.in(t, "sh", "-ec", "ip link add second type veth peer name other-end; ip link set other-end up; ip addr add 198.51.100.1/24 dev second; ip link set second up; ip link set underlay down; ip route replace default via 198.51.100.2")
		opens("198.51.100.1")
		h.in(t, "sh", "-ec", "ip link set underlay up; ip route replace default via 192.0.2.2; ip link delete second")
		opens("192.0.2.1")
	})
}

// noWayOut checks that a container has no link but eth0 and no default route.
func (h *Host) noWayOut(t *testing.T, container string) {
	t.Helper()
	if got := h.links(t, container); !slices.Equal(got, []string{"eth0", "lo"}) {
		t.Errorf("%s has links %v", container, got)
	}
	if got := h.exec(t, container, "ip", "route"); strings.Contains(got, "default") {
		t.Errorf("%s has routes %s", container, got)
	}
}

// asksWeb requests /etc/passwd from the web server at an address.
func (h *Host) asksWeb(address, port string) error {
	const get = `exec 3<>/dev/tcp/$1/$2 && printf 'GET /passwd HTTP/1.0\r\n\r\n' >&3 && grep ^root: <&3`
	_, err := h.try("bash", "-c", get, "bash", address, port)
	return err
}
