package docker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/cmd/exit"
)

// swarmPort is where Swarm's own overlay networks have their VXLAN, unless docker swarm init was given another one.
const swarmPort = 4789

// InSwarm tells whether this host is one of a Swarm that works.
func (i Info) InSwarm() bool { return i.Swarm.LocalNodeState == "active" }

// DataPathPort is the UDP port of the Swarm's own overlay. Docker tells it on managers only.
func (i Info) DataPathPort() uint16 {
	if c := i.Swarm.Cluster; c != nil && c.DataPathPort != 0 {
		return c.DataPathPort
	}
	return swarmPort
}

// SwarmNodes are the addresses of the Swarm's other nodes, as far as Docker tells them here: a manager knows all, a worker
// the managers and those that have containers on one of its networks of the driver. They are in order, each once.
func (d *Engine) SwarmNodes(ctx context.Context, i Info, driver string, own ...netip.Addr) (all []netip.Addr, err error) {
	add := func(id, text string) {
		if host, err := netip.ParseAddrPort(text); err == nil {
			text = host.Addr().String()
		}
		a, err := netip.ParseAddr(text)
		if err != nil || id != "" && id == i.Swarm.NodeID {
			return
		}
		if a = a.Unmap(); !a.IsUnspecified() && !a.IsLoopback() && !slices.Contains(own, a) {
			all = append(all, a)
		}
	}
	if !i.Swarm.ControlAvailable {
		for _, m := range i.Swarm.RemoteManagers {
			add(m.NodeID, m.Addr)
		}
	} else {
		var nodes []struct {
			ID            string
			Status        struct{ State, Addr string }
			ManagerStatus struct{ Addr string } // of a manager, whose other address may be 0.0.0.0
		}
		if err := d.Get(ctx, "/nodes", &nodes); err != nil {
			return nil, fmt.Errorf("ask Docker for the Swarm's nodes: %w", exit.WithoutURL(err))
		}
		for _, n := range nodes {
			if n.Status.State != "down" { // Docker tells of it when it comes back
				add(n.ID, n.Status.Addr)
				add(n.ID, n.ManagerStatus.Addr)
			}
		}
	}
	for _, n := range d.Networks {
		if n.Driver != driver || n.Scope != "swarm" {
			continue
		}
		full, err := d.network(ctx, n.ID)
		if err != nil {
			continue // it has just gone
		}
		for _, p := range full.Peers {
			add("", p.IP)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}
