package main

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/plugin"
)

// swarmPort is where Swarm's own overlay networks have their VXLAN, unless docker swarm init was given another one.
const swarmPort = 4789

// node tells whether this host is one of a Swarm that works.
func (i dockerInfo) node() bool { return i.Swarm.LocalNodeState == "active" }

// dataPathPort is the UDP port of the Swarm's own overlay. Docker tells it on managers only.
func (i dockerInfo) dataPathPort() uint16 {
	if c := i.Swarm.Cluster; c != nil && c.DataPathPort != 0 {
		return c.DataPathPort
	}
	return swarmPort
}

// checkSwarm is of the daemon's flags beside Docker's Swarm. Off a Swarm it has something to say only of a scope that this
// Docker cannot do.
func (d *doctor) checkSwarm(tunnel string) (all []finding) {
	i := d.info
	if !i.node() {
		if major := dockerMajor(i.ServerVersion); d.by.managed() && d.scope == plugin.Global && major > 0 && major < 24 {
			all = append(all, finding{"swarm", warn, fmt.Sprintf("Docker %s makes no network of a driver with scope global on a host that is in no Swarm: "+
				"docker network create fails with \"This node is not a swarm manager\"", i.ServerVersion), d.by.flags("--scope " + plugin.Local)})
		}
		return all
	}
	if port := i.dataPathPort(); d.port == port {
		f := finding{"swarm", bad, fmt.Sprintf("UDP %d is the port of Swarm's own overlay networks too: only one of them and tapestry's can have it", port),
			d.by.flags("--vxlan-port 8472") + ", on every host"}
		if tunnel != "open" && tunnel != "down" { // no network wants it now
			f.State = warn
		}
		if i.Swarm.Cluster == nil {
			f.State = warn
			f.Seen += " (unless docker swarm init was given another --data-path-port, which a worker is not told)"
		}
		all = append(all, f)
	}
	if at, err := netip.ParseAddr(i.Swarm.NodeAddr); err == nil && d.by.managed() && d.vtep.IsValid() && at != d.vtep {
		all = append(all, finding{"swarm", warn, fmt.Sprintf("this node's address in the Swarm is %s, and its VTEP is %s: "+
			"Docker names other nodes by addresses of the first kind (--advertise-addr), and if theirs differ too, tapestry does not reach them (--data-path-addr)", at, d.vtep),
			fmt.Sprintf("%s, and so on each node with its own; or, to keep the data path, docker network create -o tapestry.peers=ADDR,… with the VTEPs of all", d.by.flags("--vtep "+at.String()))})
	}
	switch {
	case all != nil:
	case !d.by.managed():
		all = []finding{{Check: "swarm", State: good, Seen: "this host is a node; Docker gives networks with --scope swarm to managed plugins only, so the daemon's are this host's"}}
	case d.scope == plugin.Local:
		all = []finding{{"swarm", warn, "the daemon has scope local: networks with --scope swarm get no options, and each node gives its containers addresses of its own, unless they are made by --config-from",
			d.by.flags("--scope "+plugin.Global) + ", on every node"}}
	default:
		all = []finding{{Check: "swarm", State: good, Seen: fmt.Sprintf("this host is a node at %s, scope %s, UDP %d", i.Swarm.NodeAddr, d.scope, d.port)}}
		if i.Swarm.Cluster != nil {
			all[0].Seen += fmt.Sprintf(" beside Swarm's %d", i.dataPathPort())
		}
	}
	return all
}

// dockerMajor is the first number of a version, 0 of one that has none.
func dockerMajor(version string) int {
	major, _ := strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(version))
	return major
}

// checkNodes holds the Swarm's nodes that Docker knows against those that the daemon was told of.
func checkNodes(docker, known []netip.Addr) finding {
	var missing []string
	for _, a := range docker {
		if !slices.Contains(known, a) {
			missing = append(missing, a.String())
		}
	}
	if missing != nil {
		return finding{"nodes", warn, fmt.Sprintf("Docker has not told the daemon of %s of the Swarm, so its networks do not reach %s: %s",
			many(len(missing), "node"), map[bool]string{true: "it", false: "them"}[len(missing) == 1], strings.Join(missing, ", ")),
			"tapestry peers learn (Docker tells a plugin of the nodes that come after it was enabled)"}
	}
	return finding{Check: "nodes", State: good, Seen: fmt.Sprintf("the daemon knows the Swarm's other nodes that Docker knows (%d)", len(docker))}
}

// swarmNodes are the addresses of the Swarm's other nodes, as far as Docker tells them here: a manager knows all, a worker
// the managers and those that have containers on one of its networks of the driver. They are in order, each once.
func (d *docker) swarmNodes(ctx context.Context, i dockerInfo, driver string, own ...netip.Addr) (all []netip.Addr, err error) {
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
		if err := d.get(ctx, "/nodes", &nodes); err != nil {
			return nil, fmt.Errorf("ask Docker for the Swarm's nodes: %w", bare(err))
		}
		for _, n := range nodes {
			if n.Status.State != "down" { // Docker tells of it when it comes back
				add(n.ID, n.Status.Addr)
				add(n.ID, n.ManagerStatus.Addr)
			}
		}
	}
	for _, n := range d.networks {
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

// examineNodes is of a daemon whose networks follow the Swarm's nodes.
func (d *doctor) examineNodes(ctx context.Context, names *docker, tell func(finding)) {
	if !d.by.managed() || !d.info.node() {
		return
	}
	known, err := d.nodes(ctx)
	if err != nil {
		tell(finding{"nodes", warn, "not known: " + err.Error(), d.by.restart()})
		return
	}
	own, _ := netip.ParseAddr(d.info.Swarm.NodeAddr) // none: none to leave out
	docker, err := names.swarmNodes(ctx, d.info, d.by.driver(d.name), own, d.vtep)
	if err != nil {
		tell(finding{"nodes", warn, err.Error(), "tapestry doctor, again"})
		return
	}
	tell(checkNodes(docker, known))
}
