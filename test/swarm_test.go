package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A cluster is Docker's Swarm of nodes whose tapestry is a managed plugin, on one bridge, which is the outside world too. All
// of them are managers.
type cluster struct {
	nodes   []*Host
	outside *Host // 192.0.2.254
}

func newCluster(t *testing.T, name string, size int, scope string) *cluster {
	t.Helper()
	c := &cluster{outside: newHost(t, name+"-outside")}
	lan := []string{"lan", c.outside.name}
	for i := range size {
		h := newHost(t, fmt.Sprintf("%s%d", name, i+1))
		h.managed, h.flags = true, []string{"--scope", scope, "--vxlan-port", "8472"} // and 60 s of grace: a task's start may take long
		c.nodes = append(c.nodes, h)
		lan = append(lan, h.name)
	}
	script(t, lan...)
	for i, h := range c.nodes {
		h.in(t, "sh", "-c", "echo nameserver 127.0.0.1 >/etc/resolv.conf") // no registry is there: that is known at once
		// Not the address of the default route is the one by which the others know the node.
		own := fmt.Sprintf("198.51.100.%d", i+1)
		h.in(t, "sh", "-ec", "ip address add "+own+"/24 dev underlay; ip route replace default via 192.0.2.254 src "+own)
		h.startDockerd(t)
		script(t, "image", h.name)
		h.startDaemon(t)
		if i == 0 {
			// A network that is there when Docker names the address moves to it.
			const early = "earlynetwork0123456789abc"
			h.answers(t, "CreateNetwork", fmt.Sprintf(`{"NetworkID":%q,"Options":{"com.docker.network.generic":{"tapestry.vni":"5"}}}`, early))
			if got := h.vtep(t); got != own {
				t.Errorf("before the Swarm the tunnel speaks from %s, want %s", got, own)
			}
			h.docker(t, "swarm", "init", "--advertise-addr", c.address(0))
			eventually(t, patience, func() error {
				if got := h.vtep(t); got != c.address(0) {
					return fmt.Errorf("in the Swarm the tunnel speaks from %s, want %s", got, c.address(0))
				}
				return nil
			})
			h.answers(t, "DeleteNetwork", fmt.Sprintf(`{"NetworkID":%q}`, early))
			continue
		}
		token := c.nodes[0].docker(t, "swarm", "join-token", "-q", "manager")
		h.docker(t, "swarm", "join", "--advertise-addr", c.address(i), "--token", token, c.address(0)+":2377")
	}
	return c
}

// vtep is the address that the host's tunnel speaks from.
func (h *Host) vtep(t *testing.T) string {
	t.Helper()
	var status struct{ VTEP string }
	if err := json.Unmarshal([]byte(h.tapestry(t, "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	return status.VTEP
}

func (c *cluster) address(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }

// quiet is of all nodes.
func (c *cluster) quiet(t *testing.T, allow ...string) {
	t.Helper()
	// Without a registry each task's pull fails, and the image is found here.
	allow = append(allow, "pull", "registry-1.docker.io")
	for _, h := range c.nodes {
		h.quiet(t, allow...)
	}
}

// A task is a running container of a service.
type task struct {
	host      *Host
	container string
}

// tasks are a service's, by their addresses on a network. It waits until there are so many, and Docker's names know all of them.
func (c *cluster) tasks(t *testing.T, service, network string, want int, on ...*Host) map[netip.Addr]task {
	t.Helper()
	if on == nil {
		on = c.nodes
	}
	var all map[netip.Addr]task
	eventually(t, patience, func() error {
		all = map[netip.Addr]task{}
		for _, h := range on {
			ids, err := h.try("docker", "ps", "-q", "--filter", "label=com.docker.swarm.service.name="+service)
			if err != nil {
				return err
			}
			for _, id := range strings.Fields(ids) {
				text, err := h.try("docker", "inspect", "-f", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network), id)
				if err != nil {
					return err
				}
				a, err := netip.ParseAddr(text)
				if err != nil {
					return fmt.Errorf("task %s on %s: %w", id, h.name, err)
				}
				if other, twice := all[a]; twice {
					t.Fatalf("%s is the address of %s on %s and of %s on %s", a, id, h.name, other.container, other.host.name)
				}
				all[a] = task{h, id}
			}
		}
		if len(all) != want {
			said, _ := on[0].try("docker", "service", "ps", "--no-trunc", "--format", "{{.Node}} {{.DesiredState}} {{.CurrentState}} {{.Error}}", service)
			return fmt.Errorf("%d tasks of %s run, want %d:\n%s", len(all), service, want, said)
		}
		for _, h := range on {
			for _, k := range all {
				if k.host != h {
					continue
				}
				if err := h.named(k.container, "tasks."+service, all); err != nil {
					return err
				}
				break
			}
		}
		return nil
	})
	return all
}

// named tells whether a name, as a container looks it up, has the addresses of all tasks and no others. An answer has room for
// some twenty of them (512 bytes, RFC 1035 section 2.3.4), others at each question, so it asks some times.
func (h *Host) named(container, name string, tasks map[netip.Addr]task) error {
	missing := maps.Clone(tasks)
	for range 20 {
		said, err := h.try("docker", "exec", container, "nslookup", name)
		if err != nil {
			return err
		}
		_, answers, _ := strings.Cut(said, "Non-authoritative")
		for _, line := range strings.Split(answers, "\n") {
			text, ok := strings.CutPrefix(strings.TrimSpace(line), "Address: ")
			if !ok {
				continue
			}
			a, err := netip.ParseAddr(text)
			if _, known := tasks[a]; err != nil || !known {
				return fmt.Errorf("on %s %s is also %s, which no task has: %v", h.name, name, text, err)
			}
			delete(missing, a)
		}
		if len(missing) == 0 {
			return nil
		}
	}
	return fmt.Errorf("on %s %s has no address of the tasks %v", h.name, name, missing)
}

// reach waits until so many tasks run, lets one on each node ping all, and gives them. A task that Docker ends meanwhile is
// replaced by another: then all of it begins anew. One that runs has to be reached.
func (c *cluster) reach(t *testing.T, service, network string, want int, on ...*Host) (tasks map[netip.Addr]task) {
	t.Helper()
	eventually(t, patience, func() error {
		tasks = c.tasks(t, service, network, want, on...)
		var all []string
		for _, a := range slices.SortedFunc(maps.Keys(tasks), netip.Addr.Compare) {
			all = append(all, a.String())
		}
		const ask = `for a in "$@"; do ping -n -c1 -W20 $a >/dev/null || { echo $a; exit 1; }; done`
		from := map[*Host]bool{}
		for _, k := range tasks {
			if from[k.host] {
				continue
			}
			from[k.host] = true
			said, err := k.host.try(append([]string{"docker", "exec", k.container, "sh", "-c", ask, "sh"}, all...)...)
			if err == nil {
				continue
			}
			a, _ := netip.ParseAddr(said)
			if to, ok := tasks[a]; ok && to.runs() && k.runs() {
				t.Fatalf("a task on %s does not reach %s on %s, which runs:\n%s\n%s", k.host.name, a, to.host.name,
					k.host.tapestry(t, "fdb", network), to.host.tapestry(t, "ports", network))
			}
			return fmt.Errorf("on %s: %w", k.host.name, err)
		}
		return nil
	})
	return tasks
}

// runs tells whether Docker has not ended the task by now.
func (k task) runs() bool {
	said, err := k.host.try("docker", "inspect", "-f", "{{.State.Running}}", k.container)
	return err == nil && said == "true"
}

// leader gives the leading manager and one that does not lead, as a node that runs sees it.
func (c *cluster) leader(t *testing.T, ask *Host) (leader, other *Host) {
	t.Helper()
	eventually(t, patience, func() error {
		said, err := ask.try("docker", "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
		for _, h := range c.nodes {
			switch {
			case strings.Contains(said+"\n", h.name+" Leader\n"):
				leader = h
			case strings.Contains(said+"\n", h.name+" Reachable\n"):
				other = h
			}
		}
		if leader == nil || other == nil {
			leader, other = nil, nil
			return fmt.Errorf("no leader: %s, %v", said, err)
		}
		return nil
	})
	return leader, other
}

// vni is a network's in Docker, as every node that has it in tapestry has it.
func (c *cluster) vni(t *testing.T, network string) string {
	t.Helper()
	var vni string
	eventually(t, patience, func() (err error) {
		vni, err = c.nodes[0].try("docker", "network", "inspect", "-f", `{{index .Options "tapestry.vni"}}`, network)
		if err == nil && vni == "" {
			err = fmt.Errorf("network %s has no VNI", network)
		}
		return err
	})
	return vni
}

// networkIDs are those that a node's tapestry has, with their VNIs.
func (h *Host) networkIDs(t *testing.T) map[string]uint32 {
	t.Helper()
	all := map[string]uint32{}
	for _, n := range objects[struct {
		ID  string
		VNI uint32
	}](t, h, "networks") {
		all[n.ID] = n.VNI
	}
	return all
}

// gone waits until no node has anything of tapestry's: what a killed dockerd has left goes after two times of grace, that of
// its endpoints and that of the network.
func (c *cluster) gone(t *testing.T) {
	t.Helper()
	for _, h := range c.nodes {
		eventually(t, 3*patience, func() error {
			if n := len(h.networkIDs(t)); n != 0 {
				return fmt.Errorf("%s has %d networks", h.name, n)
			}
			if links := h.in(t, "sh", "-c", "ls /sys/class/net | grep ^tp || true"); links != "" {
				return fmt.Errorf("%s has links %q", h.name, links)
			}
			if got := h.in(t, "ss", "-Hlun", "sport = :8472"); got != "" {
				return fmt.Errorf("%s has UDP 8472 open: %s", h.name, got)
			}
			return nil
		})
	}
}

// seesNode waits until the host has a node of the Swarm as a peer, of which Docker says that it has left, or that it has not.
func (h *Host) seesNode(t *testing.T, addr string, left bool) {
	t.Helper()
	eventually(t, patience, func() error {
		all := objects[struct {
			Addr string
			Left bool
		}](t, h, "peers", "net")
		for _, p := range all {
			if strings.HasPrefix(p.Addr, addr+":") && p.Left == left {
				return nil
			}
		}
		return fmt.Errorf("peers of %s are %+v, want %s with left %t", h.name, all, addr, left)
	})
}

// dockerdSays waits until dockerd itself, and not only the plugin, has logged something since a mark.
func (h *Host) dockerdSays(t *testing.T, from mark, what string) {
	t.Helper()
	eventually(t, patience, func() error {
		for _, line := range h.since(t, "dockerd.log", from.dockerd) {
			if _, ours := pluginLine(line); !ours && strings.Contains(line, what) {
				return nil
			}
		}
		return fmt.Errorf("dockerd's log on %s does not say %q", h.name, what)
	})
}

// idle waits until the tasks of services that were removed have ended on all nodes.
func (c *cluster) idle(t *testing.T) {
	t.Helper()
	for _, h := range c.nodes {
		eventually(t, patience, func() error {
			if ids := h.docker(t, "ps", "-q", "--filter", "label=com.docker.swarm.task"); ids != "" {
				return fmt.Errorf("%s has tasks %q", h.name, ids)
			}
			return nil
		})
	}
}

func (c *cluster) service(t *testing.T, name, network string, args ...string) {
	t.Helper()
	h := c.nodes[0]
	t.Cleanup(func() { h.try("docker", "service", "rm", name) })
	h.docker(t, append(append([]string{"service", "create", "--no-resolve-image", "--detach", "--name", name, "--network", network,
		"--endpoint-mode", "dnsrr"}, args...), "tp/net")...)
}

func (c *cluster) network(t *testing.T, name, subnet string, args ...string) {
	t.Helper()
	h := c.nodes[0]
	t.Cleanup(func() { h.try("docker", "network", "rm", name) })
	h.docker(t, append(append([]string{"network", "create", "-d", h.driver(), "--scope", "swarm", "--attachable", "--subnet", subnet}, args...), name)...)
}

// TestSwarm: what a user of a Swarm does with three nodes.
func TestSwarm(t *testing.T) {
	c := newCluster(t, "swarm", 3, "global")
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
			h.books(t)
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
		a.run(t, "one", "net", "--ip", "10.60.0.200")
		b.run(t, "two", "net", "--ip", "10.60.0.201")
		a.ping(t, "one", "10.60.0.201")
		b.ping(t, "two", "10.60.0.200")
		eventually(t, patience, func() error { // names travel by gossip
			_, err := a.try("docker", "exec", "one", "ping", "-n", "-c1", "-W20", "two")
			return err
		})
	})

	t.Run("Docker's own gossip is cut", func(t *testing.T) {
		c.quiet(t, "192.0.2.", "memberlist|bulk sync|node/agent|heartbeat|raft|rpc error")
		a.run(t, "one", "net", "--ip", "10.60.0.200")
		b.run(t, "two", "net", "--ip", "10.60.0.201")
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
		ping.signal(syscall.SIGINT)
		if said, _ := ping.wait(t); lost(t, said) > 1 { // the last one may have had no time
			t.Errorf("a connection was cut: %s", said)
		}
	})

	t.Run("two networks between the same nodes", func(t *testing.T) {
		c.quiet(t)
		c.network(t, "other", "10.62.0.0/16", "-o", "tapestry.vni=77", "-o", "com.docker.network.driver.mtu=1400")
		if got := c.vni(t, "other"); got != "77" {
			t.Errorf("VNI %s", got)
		}
		a.run(t, "one", "net", "--ip", "10.60.0.200")
		b.run(t, "two", "net", "--ip", "10.60.0.201", "--cap-add", "NET_ADMIN")
		a.docker(t, "network", "connect", "--ip", "10.62.0.200", "other", "one")
		b.run(t, "three", "other", "--ip", "10.62.0.201")
		a.ping(t, "one", "10.62.0.201")
		a.ping(t, "one", "10.60.0.201")
		b.exec(t, "two", "ip", "route", "add", "10.62.0.0/16", "dev", "eth0") // else it asks docker_gwbridge
		if _, err := b.try("docker", "exec", "two", "ping", "-n", "-c1", "-W2", "10.62.0.201"); err == nil {
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
			eventually(t, patience, func() error {
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
			eventually(t, patience, func() error {
				said, err := client.host.try("docker", "logs", client.container)
				for web := range webs {
					if !strings.Contains(said, web.String()) {
						err = fmt.Errorf("the client has not heard %s yet: %s", web, said)
					}
				}
				return err
			})
		}
		h.docker(t, "stack", "rm", "demo")
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
		a.run(t, "one", "net", "--ip", "10.60.0.200")
		b.run(t, "two", "net", "--ip", "10.60.0.201")
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

	c.nodes[0].docker(t, "network", "rm", "net")
	c.gone(t)
}

// TestSwarmLocal: nodes whose scope is local since before they joined, and config-only networks.
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
	h.docker(t, "network", "rm", "shared")
	c.gone(t)
}

// TestSwarmChanges: nodes and managers come and go under twenty tasks.
func TestSwarmChanges(t *testing.T) {
	c := newCluster(t, "changes", 3, "global")
	c.network(t, "net", "10.60.0.0/16")
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
	// 20.10 stops a task's endpoint after its container, 29 finds some gone.
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
		eventually(t, patience, func() error { // also those that the killed dockerd left
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
			eventually(t, patience, func() (err error) {
				if fresh, err = other.try("docker", "network", "inspect", "-f", `{{index .Options "tapestry.vni"}}`, network); fresh == "" {
					err = fmt.Errorf("network %s has no VNI yet: %v", network, err)
				}
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
		eventually(t, patience, func() error { // while a task ends, its network is in use
			_, err := h.try("docker", "network", "rm", "net")
			return err
		})
		c.gone(t)
		leader, _ := c.leader(t, h)
		eventually(t, patience, func() error {
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
