package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// newBeside makes hosts that will be on the LAN of a Swarm of so many nodes, in a cluster of kind gossip.
func newBeside(t *testing.T, name string, nodes int) (all []*bare) {
	t.Helper()
	key := t.TempDir() + "/key"
	for i := range 2 {
		h := &bare{Host: newHost(t, fmt.Sprintf("%s-beside%d", name, i+1)), number: nodes + 1 + i}
		h.managed = false
		h.flags = []string{"--cluster", "gossip", "--join", fmt.Sprintf("192.0.2.%d", nodes+1), "--cluster-key-file", key}
		all = append(all, h)
	}
	all[0].newKey(t, key)
	return all
}

const besideSubnet = "10.80.0.0/16"

// beside starts a cluster of plain hosts next to the Swarm: each knows its own hosts only, and both carry traffic. a and b are nodes with
// the containers one and two.
func (c *cluster) beside(t *testing.T, plain []*bare, a, b *Host) {
	c.quiet(t)
	var there []string
	var containers []*bareContainer
	for i, h := range plain {
		h.startDaemon(t)
		h.quiet(t)
		there = append(there, h.name)
		testhost.Must(t, h.create("blue", besideSubnet, true))
		one, err := h.start("blue", besideSubnet, fmt.Sprintf("10.80.%d.2", i+1))
		testhost.Must(t, err)
		containers = append(containers, one)
	}
	containers[0].ping(t, containers[1].addr)
	a.attach(t, "one", "net", "--ip", "10.60.0.200")
	b.attach(t, "two", "net", "--ip", "10.60.0.201")
	a.ping(t, "one", "10.60.0.201")
	containers[1].ping(t, containers[0].addr)
	for _, h := range plain {
		h.hostNames(t, there...)
	}
	for i, h := range c.nodes {
		names := []string{h.name}
		for j := range c.nodes {
			if j != i {
				names = append(names, c.address(j))
			}
		}
		h.hostNames(t, names...)
	}
	if _, said := a.exit(t, "doctor"); !strings.Contains(strings.Join(strings.Fields(said), " "), "Docker's Swarm, as Docker has told of it: 3 hosts, all there") {
		t.Errorf("doctor on %s says %s", a.name, said)
	}
}

// pluginJoins lets a managed plugin on a host that is in no Swarm any more join the cluster of the plain hosts.
func (h *Host) pluginJoins(t *testing.T, vtep string, plain []*bare) {
	h.quiet(t)
	for _, p := range plain {
		p.quiet(t)
	}
	h.stopDaemon(t, "TERM")
	h.in(t, "install", "-m", "600", plain[0].flags[len(plain[0].flags)-1], h.stateDir(t)+"/key")
	h.flags = []string{"--scope", "local", "--vxlan-port", "8472", "--vtep", vtep, "--cluster", "gossip", "--join", plain[0].addr(), "--cluster-key-file", "/var/lib/tapestry/key"}
	h.startDaemon(t)
	h.network(t, "blue", "-o", "tapestry.network=blue", "--subnet", besideSubnet, "--ip-range", "10.80.9.0/24", "--gateway", "10.80.0.1")
	h.run(t, "three", "blue")
	for i := range plain {
		h.ping(t, "three", fmt.Sprintf("10.80.%d.2", i+1))
	}
	h.hostNames(t, h.name, plain[0].name, plain[1].name)
}
