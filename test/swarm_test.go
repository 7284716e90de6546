package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestSwarm: what a user of a Swarm does with three nodes.
func TestSwarm(t *testing.T) {
	plain := newBeside(t, "swarm", 3)
	c := newCluster(t, "swarm", 3, "global", plain...)
	a, b := c.nodes[1], c.nodes[2]
	c.network(t, "net", "10.60.0.0/16")
	vni := c.vni(t, "net")

	t.Run("a service on all nodes", func(t *testing.T) {
		c.quiet(t)
		c.service(t, "web", "net", "--mode", "global")
		all := c.reach(t, "web", "net", 3)
		for _, h := range c.nodes {
			ids := h.networkIDs(t)
			if len(ids) != 1 || fmt.Sprint(slices.Collect(maps.Values(ids))[0]) != vni {
				t.Errorf("%s has networks %v, want one of VNI %s", h.name, ids, vni)
			}
			if peers := objects[struct {
				Addr  string
				Swarm bool
			}](t, h, "peers"); len(peers) != 2 || !peers[0].Swarm || !strings.HasSuffix(peers[0].Addr, ":8472") {
				t.Errorf("%s has peers %+v", h.name, peers)
			}
			h.checkCounters(t)
		}
		for _, k := range all {
			if mtu := k.host.exec(t, k.container, "cat", "/sys/class/net/eth0/mtu"); mtu != "1450" {
				t.Errorf("a task on %s has MTU %s", k.host.name, mtu)
			}
			for addr := range all {
				k.host.ping(t, k.container, addr.String(), "-M", "do", "-s", "1422") // 1450 with ICMP's and IPv4's headers
			}
		}
	})

	t.Run("attachable containers", func(t *testing.T) {
		c.quiet(t)
		a.attach(t, "one", "net", "--ip", "10.60.0.200")
		b.attach(t, "two", "net", "--ip", "10.60.0.201")
		a.ping(t, "one", "10.60.0.201")
		b.ping(t, "two", "10.60.0.200")
		testhost.Eventually(t, patience, func() error { // names travel by gossip
			_, err := a.tryExec("one", "ping", "-n", "-c1", "-W20", "two")
			return err
		})
	})

	t.Run("plain hosts in a cluster beside it", func(t *testing.T) { c.beside(t, plain, a, b) })

	t.Run("Docker's own gossip is cut", func(t *testing.T) {
		c.quiet(t, "192.0.2.", "memberlist|bulk sync|node/agent|heartbeat|raft|rpc error")
		a.attach(t, "one", "net", "--ip", "10.60.0.200")
		b.attach(t, "two", "net", "--ip", "10.60.0.201")
		left := func(want bool) {
			t.Helper()
			a.seesNode(t, c.address(2), want)
		}
		left(false)
		ping := a.background(t, "one", "ping", "-n", "-i", "0.2", "-W20", "10.60.0.201")
		ping.await(t, "icmp_seq=2 ")
		for _, proto := range []string{"tcp", "udp"} {
			b.in(t, "iptables", "-I", "INPUT", "-p", proto, "--dport", "7946", "-j", "DROP")
			b.in(t, "iptables", "-I", "OUTPUT", "-p", proto, "--dport", "7946", "-j", "DROP")
		}
		left(true) // Docker says
		b.in(t, "nsenter", "-n", "-t", b.init(t, "two"), "ip", "neighbour", "flush", "all")
		b.ping(t, "two", "10.60.0.200") // found by a question to all
		for _, proto := range []string{"tcp", "udp"} {
			b.in(t, "iptables", "-D", "INPUT", "-p", proto, "--dport", "7946", "-j", "DROP")
			b.in(t, "iptables", "-D", "OUTPUT", "-p", proto, "--dport", "7946", "-j", "DROP")
		}
		left(false)
		if said := ping.goesOn(t); holes(said) > 0 {
			t.Errorf("a connection was cut: %s", said)
		}
		ping.signal(syscall.SIGINT)
		ping.wait(t)
	})

	t.Run("two networks between the same nodes", func(t *testing.T) {
		c.quiet(t)
		c.network(t, "other", "10.62.0.0/16", "--ipam-driver", a.driver(), "-o", "tapestry.vni=77", "-o", "com.docker.network.driver.mtu=1400")
		if got := c.vni(t, "other"); got != "77" {
			t.Errorf("VNI %s", got)
		}
		a.attach(t, "one", "net", "--ip", "10.60.0.200")
		b.attach(t, "two", "net", "--ip", "10.60.0.201", "--cap-add", "NET_ADMIN")
		a.allocates(t, "network", "connect", "--ip", "10.62.0.200", "other", "one")
		b.attach(t, "three", "other", "--ip", "10.62.0.201")
		a.ping(t, "one", "10.62.0.201")
		a.ping(t, "one", "10.60.0.201")
		b.exec(t, "two", "ip", "route", "add", "10.62.0.0/16", "dev", "eth0") // else it asks docker_gwbridge
		if _, err := b.tryExec("two", "ping", "-n", "-c1", "-W2", "10.62.0.201"); err == nil {
			t.Error("one network reaches the other")
		}
		if mtu := b.exec(t, "three", "cat", "/sys/class/net/eth0/mtu"); mtu != "1400" {
			t.Errorf("MTU %s, want what the network was made with", mtu)
		}
	})

	t.Run("ports of mode host", func(t *testing.T) {
		c.quiet(t)
		h := c.nodes[0]
		t.Cleanup(func() { h.try("docker", "service", "rm", "pub") })
		h.docker(t, "service", "create", "--no-resolve-image", "--detach", "--name", "pub", "--network", "net", "--endpoint-mode", "dnsrr",
			"--mode", "global", "--publish", "mode=host,target=8080,published=18080", "tp/net", "nc", "-ll", "-p", "8080", "-e", "hostname")
		tasks := c.tasks(t, "pub", "net", 3)
		for i, h := range c.nodes {
			want := ""
			for _, k := range tasks {
				if k.host == h {
					want = k.container
				}
			}
			testhost.Eventually(t, patience, func() error {
				got, err := c.outside.try("sh", "-c", "busybox nc -w 5 "+c.address(i)+" 18080 </dev/null")
				if err == nil && got != want {
					err = fmt.Errorf("port 18080 of %s says %q, want %q", h.name, got, want)
				}
				return err
			})
		}
	})

	t.Run("a stack", func(t *testing.T) {
		c.quiet(t)
		h := c.nodes[0]
		file, err := filepath.Abs("../examples/stack.yaml")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.try("docker", "stack", "rm", "demo") })
		h.in(t, "env", "WEB=tp/net", "CLIENT=tp/net", "docker", "stack", "deploy", "--resolve-image", "never", "-c", file, "demo")
		webs, clients := c.tasks(t, "demo_web", "demo_net", 3), c.tasks(t, "demo_client", "demo_net", 1)
		for _, client := range clients {
			testhost.Eventually(t, patience, func() error {
				said, err := client.host.try("docker", "logs", client.container)
				for web := range webs {
					if !strings.Contains(said, web.String()) {
						err = fmt.Errorf("the client has not heard %s yet: %s", web, said)
					}
				}
				return err
			})
		}
		testhost.Eventually(t, patience, func() error { // its network may be in use until the tasks have ended
			_, err := h.try("docker", "stack", "rm", "demo")
			return err
		})
	})

	t.Run("a network that cannot be", func(t *testing.T) {
		c.quiet(t, "request refused", "failed allocation|could not (find|allocate)|failed during network allocation", "VNI "+vni, "encrypted")
		leader, _ := c.leader(t, a)
		for want, option := range map[string]string{"VNI " + vni + " belongs to network": "tapestry.vni=" + vni, "is not encrypted": "encrypted="} {
			from := leader.mark()
			leader.docker(t, "network", "create", "-d", leader.driver(), "--scope", "swarm", "-o", option, "bad")
			leader.dockerdSays(t, from, want)
			if got := leader.docker(t, "network", "inspect", "-f", "{{.Options}}", "bad"); strings.Contains(got, "vni") {
				t.Errorf("with %s it was allocated: %s", option, got)
			}
			leader.docker(t, "network", "rm", "bad")
		}
	})

	t.Run("a plugin that is enabled later", func(t *testing.T) {
		c.idle(t)                                                       // dockerd asks the plugin when they end
		b.quiet(t, "failed revoking external connectivity .*not found") // 29 has forgotten its endpoints
		a.attach(t, "one", "net", "--ip", "10.60.0.200")
		b.attach(t, "two", "net", "--ip", "10.60.0.201")
		peers := func(want int) {
			t.Helper()
			if all := objects[struct{ Addr string }](t, b, "peers", "net"); len(all) != want {
				t.Errorf("%s has peers %v, want %d", b.name, all, want)
			}
		}
		again := func(forget bool) {
			t.Helper()
			b.stopDaemon(t, "TERM")
			if forget {
				b.in(t, "rm", b.stateDir(t)+"/swarm.json")
			}
			b.startDaemon(t)
		}
		again(false)
		peers(2) // remembered
		b.ping(t, "two", "10.60.0.200")
		again(true)
		peers(0) // Docker does not say it again
		b.tapestry(t, "peers", "learn")
		peers(2)
		b.ping(t, "two", "10.60.0.200")
	})

	c.remove(t, "net")
	c.gone(t)

	t.Run("nodes come and go", func(t *testing.T) {
		c.quiet(t)
		c.leaves(t, b)
		conformance.Reading(t, c.hall(t))
	})

	t.Run("the plugin in the plain hosts' cluster", func(t *testing.T) {
		c.leaves(t, b)
		b.pluginJoins(t, c.address(2), plain)
	})
}

// TestSwarmLocal: nodes that have scope local and join a Swarm then, and config-only networks.
func TestSwarmLocal(t *testing.T) {
	c := newCluster(t, "local", 2, "local")
	for i, h := range c.nodes {
		h.docker(t, "network", "create", "--config-only", "--subnet", "10.63.0.0/16", "--ip-range", fmt.Sprintf("10.63.%d.0/24", i+1),
			"--gateway", fmt.Sprintf("10.63.%d.254", i+1), "-o", "tapestry.vni=63", "own")
	}
	c.quiet(t)
	h := c.nodes[0]
	t.Cleanup(func() { h.try("docker", "network", "rm", "shared") })
	h.docker(t, "network", "create", "-d", h.driver(), "--scope", "swarm", "--attachable", "--config-from", "own", "shared")
	c.service(t, "far", "shared", "--mode", "global")
	all := c.reach(t, "far", "shared", 2)
	for addr, k := range all {
		if i := slices.Index(c.nodes, k.host); addr.As4()[2] != byte(i+1) {
			t.Errorf("%s is the address of a task on %s", addr, k.host.name)
		}
		if ids := k.host.networkIDs(t); len(ids) != 1 || slices.Collect(maps.Values(ids))[0] != 63 {
			t.Errorf("%s has networks %v", k.host.name, ids)
		}
	}
	h.docker(t, "service", "rm", "far")
	c.idle(t)
	c.remove(t, "shared")
	c.gone(t)
}

// TestSwarmChanges: nodes and managers come and go while twenty tasks run, whose addresses tapestry's IPAM driver gives out.
func TestSwarmChanges(t *testing.T) {
	c := newCluster(t, "changes", 3, "global")
	c.network(t, "net", "10.60.0.0/16", "--ipam-driver", c.nodes[0].driver())
	vni := c.vni(t, "net")
	const many = 20
	c.service(t, "web", "net", "--replicas", fmt.Sprint(many))
	c.reach(t, "web", "net", many)
	h := c.nodes[0]
	kept := func(t *testing.T) {
		t.Helper()
		if got := c.vni(t, "net"); got != vni {
			t.Errorf("the network's VNI was %s, is %s", vni, got)
		}
	}
	// 20.10 removes a task's endpoint after its container, for 29 some are gone already.
	const dying = "(?i)sweep|swept|forgot|orphan|failed to (delete|remove)|error (deleting|leaving)|sandbox|revoking external"

	t.Run("scale down and up", func(t *testing.T) {
		c.quiet(t)
		h.docker(t, "service", "scale", "--detach", "web=5")
		c.reach(t, "web", "net", 5)
		h.docker(t, "service", "scale", "--detach", fmt.Sprintf("web=%d", many))
		c.reach(t, "web", "net", many)
	})

	last := c.nodes[2]
	t.Run("a node's dockerd is killed", func(t *testing.T) {
		c.quiet(t, dying, "192.0.2.3")
		last.stopDockerd(t, "KILL")
		c.reach(t, "web", "net", many, c.nodes[:2]...)
		h.seesNode(t, c.address(2), true)
		last.startDockerd(t)
		last.startDaemon(t)
		h.seesNode(t, c.address(2), false)
		h.docker(t, "service", "scale", "--detach", "web=12")
		c.tasks(t, "web", "net", 12)
		h.docker(t, "service", "scale", "--detach", fmt.Sprintf("web=%d", many)) // the new ones go to the node that has none
		c.reach(t, "web", "net", many)
		if n := len(last.networkIDs(t)); n != 1 {
			t.Errorf("the node that is back has %d networks", n)
		}
		kept(t)
	})

	t.Run("drain a node", func(t *testing.T) {
		c.quiet(t)
		h.docker(t, "node", "update", "--availability", "drain", last.name)
		c.reach(t, "web", "net", many, c.nodes[:2]...)
		testhost.Eventually(t, patience, func() error { // also those that the killed dockerd left
			if ids := last.networkIDs(t); len(ids) != 0 {
				return fmt.Errorf("the drained node has networks %v", ids)
			}
			return nil
		})
		h.docker(t, "node", "update", "--availability", "active", last.name)
	})

	for _, signal := range []string{"KILL", "TERM"} {
		t.Run("the leader ends by "+signal, func(t *testing.T) {
			c.quiet(t, dying, "192.0.2.", "rpc error|raft|manager|heartbeat", "VNI "+vni)
			leader, other := c.leader(t, h)
			leader.stopDockerd(t, signal)
			next, _ := c.leader(t, other)
			if next == leader {
				t.Fatalf("%s leads, without dockerd", leader.name)
			}
			network := "after-" + strings.ToLower(signal)
			t.Cleanup(func() { h.try("docker", "network", "rm", network) })
			other.docker(t, "network", "create", "-d", h.driver(), "--scope", "swarm", "--attachable", network)
			var fresh string
			testhost.Eventually(t, patience, func() (err error) {
				fresh, err = other.allocated(network)
				return err
			})
			if fresh == vni {
				t.Errorf("VNI %s is given twice", vni)
			}
			from := next.mark()
			other.docker(t, "network", "create", "-d", h.driver(), "--scope", "swarm", "-o", "tapestry.vni="+vni, "thief")
			next.dockerdSays(t, from, "VNI "+vni+" belongs to network")
			other.docker(t, "network", "rm", "thief")
			leader.startDockerd(t)
			leader.startDaemon(t)
			kept(t)
			c.reach(t, "web", "net", many)
		})
	}

	t.Run("nothing is left", func(t *testing.T) {
		c.quiet(t, dying)
		h.docker(t, "service", "rm", "web")
		c.remove(t, "net")
		c.gone(t)
		leader, _ := c.leader(t, h)
		testhost.Eventually(t, patience, func() error {
			text, err := os.ReadFile(filepath.Join(leader.stateDir(t), "swarm.json"))
			if err != nil {
				return err
			}
			var file struct {
				Record struct {
					Allocated map[string]any
					Nodes     []any
				}
			}
			if err := json.Unmarshal(text, &file); err != nil || len(file.Record.Allocated) != 0 || len(file.Record.Nodes) != 2 {
				return fmt.Errorf("%s: %s, %v", leader.name, text, err)
			}
			return nil
		})
	})
}
