package daemon

import (
	"net/netip"
	"os"
	"slices"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/fabric"
)

// kindSwarm is what the API calls a cluster that is Docker's Swarm.
const kindSwarm = "swarm"

// swarmCluster is what Docker has told of its Swarm, as a cluster; without a kind if it has told nothing. Docker names nodes by their
// address only, and does not say which of them have a network.
func swarmCluster(f Fabric) api.Cluster {
	c := api.Cluster{Hosts: []api.ClusterHost{}, Networks: []api.ClusterNetwork{}, Blocks: []api.ClusterBlock{}, Problems: []string{}}
	nodes := f.Nodes()
	networks := slices.DeleteFunc(f.Networks(), func(n fabric.NetworkView) bool { return !n.Swarm })
	if len(nodes)+len(networks) == 0 {
		return c
	}
	c.Kind, c.Consistency, c.Reachable = kindSwarm, "strong", true
	status := f.Status()
	at := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return netip.AddrPortFrom(a, status.Port).String()
	}
	name, _ := os.Hostname() // "" will do
	this := api.ClusterHost{Name: name, VTEP: at(status.VTEP), State: "this", Networks: []string{}}
	for _, n := range networks {
		this.Networks = append(this.Networks, n.ID)
		c.Networks = append(c.Networks, api.ClusterNetwork{Key: n.ID, VNI: n.VNI, Subnets: api.Map(n.Pools, netip.Prefix.String), Hosts: []string{name}, Here: true})
	}
	c.Hosts = append(c.Hosts, this)
	left := make(map[netip.Addr]bool)
	for _, p := range f.Peers("") {
		left[p.Addr.Addr()] = left[p.Addr.Addr()] || p.Left
	}
	for _, a := range nodes {
		h := api.ClusterHost{Name: a.String(), VTEP: at(a), State: "alive", Networks: []string{}}
		if left[a] {
			h.State = "suspect"
		}
		c.Hosts = append(c.Hosts, h)
	}
	return c
}
