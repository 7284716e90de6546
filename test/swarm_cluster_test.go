package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A cluster is a Docker Swarm whose nodes have tapestry as a managed plugin. All are managers, and on one bridge, to which a host
// for the outside world is connected as well, and those that stand beside it.
type cluster struct {
	nodes   []*Host
	outside *Host // 192.0.2.254
}

func newCluster(t *testing.T, name string, size int, scope string, beside ...*bare) *cluster {
	t.Helper()
	c := &cluster{outside: newHost(t, name+"-outside")}
	lan := []string{"lan", c.outside.name}
	for i := range size {
		h := newHost(t, fmt.Sprintf("%s%d", name, i+1))
		h.managed, h.flags = true, []string{"--scope", scope, "--vxlan-port", "8472"} // and 60 s of grace: a task's start may take long
		c.nodes = append(c.nodes, h)
		lan = append(lan, h.name)
	}
	for _, h := range beside {
		lan = append(lan, h.name)
	}
	script(t, lan...)
	for i, h := range c.nodes {
		h.in(t, "sh", "-c", "echo nameserver 127.0.0.1 >/etc/resolv.conf") // no registry is there: that is known at once
		// The other nodes know the node by another address than that of the default route.
		own := fmt.Sprintf("198.51.100.%d", i+1)
		h.in(t, "sh", "-ec", "ip address add "+own+"/24 dev underlay; ip route replace default via 192.0.2.254 src "+own)
		h.startDockerd(t)
		script(t, "image", h.name)
		h.startDaemon(t)
		if i == 0 {
			// A network that exists when Docker reports the address changes to it.
			const early = "earlynetwork0123456789abc"
			h.answers(t, "CreateNetwork", fmt.Sprintf(`{"NetworkID":%q,"Options":{"com.docker.network.generic":{"tapestry.vni":"5"}}}`, early))
			if got := h.vtep(t); got != own {
				t.Errorf("before the Swarm the tunnel speaks from %s, want %s", got, own)
			}
			h.docker(t, "swarm", "init", "--advertise-addr", c.address(0))
			testhost.Eventually(t, patience, func() error {
				if got := h.vtep(t); got != c.address(0) {
					return fmt.Errorf("in the Swarm the tunnel speaks from %s, want %s", got, c.address(0))
				}
				return nil
			})
			h.answers(t, "DeleteNetwork", fmt.Sprintf(`{"NetworkID":%q}`, early))
			continue
		}
		token := c.nodes[0].docker(t, "swarm", "join-token", "-q", "manager")
		h.join(t, "--advertise-addr", c.address(i), "--token", token, c.address(0)+":2377")
	}
	return c
}

// join makes the host a node of a Swarm. docker swarm join waits 20 s for that, which a busy machine may exceed, and then says that it
// goes on in the background.
func (h *Host) join(t *testing.T, args ...string) {
	t.Helper()
	_, err := h.try(append([]string{"docker", "swarm", "join"}, args...)...)
	if err != nil && !strings.Contains(err.Error(), "Timeout was reached before node") {
		t.Fatal(err)
	}
	testhost.Eventually(t, patience, func() error {
		if state := h.docker(t, "info", "-f", "{{.Swarm.LocalNodeState}}"); state != "active" {
			return fmt.Errorf("%s is in the Swarm: %s, %v", h.name, state, err)
		}
		return nil
	})
}

// attach is run for a network of the Swarm.
func (h *Host) attach(t *testing.T, name, network string, args ...string) {
	t.Helper()
	t.Cleanup(func() { h.remove(name) })
	h.docker(t, append(append([]string{"create", "--name", name, "--network", network}, args...), "tp/net")...)
	h.allocates(t, "start", name)
}

// allocates runs a docker command for which the Swarm's manager allocates an address. Docker waits 20 s for that, which a busy machine
// may exceed: then the manager is asked again.
func (h *Host) allocates(t *testing.T, args ...string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		_, err := h.try(append([]string{"docker"}, args...)...)
		if err != nil && !strings.Contains(err.Error(), "context deadline exceeded") {
			t.Fatal(err)
		}
		return err
	})
}

// vtep is the address of the host's VTEP.
func (h *Host) vtep(t *testing.T) string {
	t.Helper()
	var status struct{ VTEP string }
	if err := json.Unmarshal([]byte(h.tapestry(t, "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	return status.VTEP
}

func (c *cluster) address(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }

// quiet calls Host.quiet for all nodes.
func (c *cluster) quiet(t *testing.T, allow ...string) {
	t.Helper()
	// There is no registry, so each task's pull fails, and the local image is used.
	allow = append(allow, "pull", "registry-1.docker.io")
	for _, h := range c.nodes {
		h.quiet(t, allow...)
	}
}

// swarmPatience is the limit of waits for many containers, between which Swarm waits itself: for a node that has gone, and before it
// starts a task again.
const swarmPatience = 3 * patience

// A task is a running container of a service.
type task struct {
	host      *Host
	container string
}

// tasks are the tasks of a service by their addresses on a network. It waits until there are so many, and Docker's DNS has all of them.
func (c *cluster) tasks(t *testing.T, service, network string, want int, on ...*Host) map[netip.Addr]task {
	t.Helper()
	if on == nil {
		on = c.nodes
	}
	var all map[netip.Addr]task
	testhost.Eventually(t, swarmPatience, func() error {
		all = map[netip.Addr]task{}
		for _, h := range on {
			ids, err := h.running("com.docker.swarm.service.name=" + service)
			if err != nil {
				return err
			}
			for _, id := range ids {
				c, err := h.lookAt(id)
				if err != nil {
					return err
				}
				a, err := netip.ParseAddr(c.NetworkSettings.Networks[network].IPAddress)
				if err != nil {
					return fmt.Errorf("task %s on %s: %w", id, h.name, err)
				}
				k := task{h, id}
				if other, twice := all[a]; twice {
					text := fmt.Sprintf("%s is the address of %s on %s and of %s on %s", a, id, h.name, other.container, other.host.name)
					if other.runs() && k.runs() {
						t.Fatal(text)
					}
					return fmt.Errorf("%s, of which one has ended", text)
				}
				all[a] = k
			}
		}
		if len(all) != want {
			var told []struct {
				DesiredState string
				Status       struct{ State, Err string }
			}
			err := on[0].engine("GET", "/tasks?"+filter("service", service), &told)
			return fmt.Errorf("%d tasks of %s run, want %d: %+v, %v", len(all), service, want, told, err)
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

// named tells whether a name, as a container looks it up, has the addresses of all tasks and no others. A reply has room for
// some twenty of them (512 bytes, RFC 1035 section 2.3.4), different ones each time, so it asks several times.
func (h *Host) named(container, name string, tasks map[netip.Addr]task) error {
	missing := maps.Clone(tasks)
	for range 20 {
		said, err := h.tryExec(container, "nslookup", name)
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

// reach waits until so many tasks run, lets one on each node ping all of them, and returns them. If Docker ends a task meanwhile,
// another replaces it, and all of it is repeated. A task that runs must be reached.
func (c *cluster) reach(t *testing.T, service, network string, want int, on ...*Host) (tasks map[netip.Addr]task) {
	t.Helper()
	testhost.Eventually(t, swarmPatience, func() error {
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
			said, err := k.host.tryExec(k.container, append([]string{"sh", "-c", ask, "sh"}, all...)...)
			if err == nil {
				continue
			}
			a, _ := netip.ParseAddr(said)
			if to, ok := tasks[a]; ok && to.runs() && k.runs() {
				t.Fatalf("a task on %s does not reach %s on %s, which runs:\n%s\n%s", k.host.name, a, to.host.name,
					k.host.tapestry(t, "fdb", network), k.host.tapestry(t, "ports", network)+"\n"+to.host.tapestry(t, "ports", network))
			}
			return fmt.Errorf("on %s: %w", k.host.name, err)
		}
		return nil
	})
	return tasks
}

// leader returns the leading manager and one that does not lead, as the node ask sees it.
func (c *cluster) leader(t *testing.T, ask *Host) (leader, other *Host) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		var nodes []struct {
			Description   struct{ Hostname string }
			ManagerStatus struct {
				Leader       bool
				Reachability string
			}
		}
		err := ask.engine("GET", "/nodes", &nodes)
		leader, other = nil, nil
		for _, n := range nodes {
			for _, h := range c.nodes {
				switch {
				case h.name != n.Description.Hostname:
				case n.ManagerStatus.Leader:
					leader = h
				case n.ManagerStatus.Reachability == "reachable":
					other = h
				}
			}
		}
		if leader == nil || other == nil {
			return fmt.Errorf("no leader: %+v, %v", nodes, err)
		}
		return nil
	})
	return leader, other
}

// vni is a network's VNI as Docker has it; it checks that the nodes' tapestry has the same.
func (c *cluster) vni(t *testing.T, network string) string {
	t.Helper()
	var vni string
	testhost.Eventually(t, patience, func() (err error) {
		vni, err = c.nodes[0].allocated(network)
		return err
	})
	return vni
}

// networkIDs are the networks of a node's tapestry, by id, with their VNIs.
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

// gone waits until nothing of tapestry's is left on any node. What a killed dockerd has left is swept after two grace periods,
// that of the endpoints and that of the network.
func (c *cluster) gone(t *testing.T) {
	t.Helper()
	for _, h := range c.nodes {
		testhost.Eventually(t, swarmPatience, func() error {
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

// seesNode waits until the host has a node of the Swarm as a peer, marked by Docker as left or not.
func (h *Host) seesNode(t *testing.T, addr string, left bool) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
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

// dockerdSays waits until dockerd itself, not only the plugin, has logged something since a mark.
func (h *Host) dockerdSays(t *testing.T, from mark, what string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
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
		testhost.Eventually(t, patience, func() error {
			ids, err := h.running("com.docker.swarm.task")
			if err == nil && len(ids) != 0 {
				err = fmt.Errorf("%s has tasks %q", h.name, ids)
			}
			return err
		})
	}
}

func (c *cluster) service(t *testing.T, name, network string, args ...string) {
	t.Helper()
	h := c.nodes[0]
	t.Cleanup(func() { h.try("docker", "service", "rm", name) })
	h.docker(t, append(append([]string{"service", "create", "--no-resolve-image", "--detach", "--name", name, "--network", network,
		"--endpoint-mode", "dnsrr", "--stop-signal", "KILL"}, args...), "tp/net")...) // the image ignores TERM: Docker would wait for 10 s
}

func (c *cluster) network(t *testing.T, name, subnet string, args ...string) {
	t.Helper()
	h := c.nodes[0]
	t.Cleanup(func() { h.try("docker", "network", "rm", name) })
	h.docker(t, append(append([]string{"network", "create", "-d", h.driver(), "--scope", "swarm", "--attachable", "--subnet", subnet}, args...), name)...)
}

// remove removes a network of the Swarm. While the manager has not heard of the end of a task, the network is in use.
func (c *cluster) remove(t *testing.T, name string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		_, err := c.nodes[0].try("docker", "network", "rm", name)
		return err
	})
}
