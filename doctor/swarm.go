package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/plugin"
)

// checkSwarm checks whether the daemon's flags fit Docker's Swarm. tunnel is the tunnel's state. On a host in no Swarm it only
// reports a scope that this version of Docker does not support there.
func (d *Doctor) checkSwarm(tunnel string) (all []Finding) {
	i := d.info
	if !i.InSwarm() {
		if major := dockerMajor(i.ServerVersion); d.supervisor.Managed() && d.scope == plugin.Global && major > 0 && major < 24 {
			all = append(all, Finding{"swarm", Warn, fmt.Sprintf("Docker %s makes no network of a driver with scope global on a host that is in no Swarm: "+
				"docker network create fails with \"This node is not a swarm manager\"", i.ServerVersion), d.supervisor.Flags("--scope " + plugin.Local)})
		}
		return all
	}
	if port := i.DataPathPort(); d.Port == port {
		f := Finding{"swarm", Fail, fmt.Sprintf("UDP %d is the port of Swarm's own overlay networks too: only one of them and tapestry's can have it", port),
			d.supervisor.Flags("--vxlan-port 8472") + ", on every host"}
		if tunnel != "open" && tunnel != "down" { // no network needs the port now
			f.State = Warn
		}
		if i.Swarm.Cluster == nil {
			f.State = Warn
			f.Seen += " (unless docker swarm init was given another --data-path-port, which a worker is not told)"
		}
		all = append(all, f)
	}
	if at, err := netip.ParseAddr(i.Swarm.NodeAddr); err == nil && d.supervisor.Managed() && d.VTEP.IsValid() && at != d.VTEP {
		all = append(all, Finding{"swarm", Warn, fmt.Sprintf("this node's address in the Swarm is %s, and its VTEP is %s: "+
			"Docker names other nodes by addresses of the first kind (--advertise-addr), and if theirs differ too, tapestry does not reach them (--data-path-addr)", at, d.VTEP),
			fmt.Sprintf("%s, and so on each node with its own; or, to keep the data path, docker network create -o tapestry.peers=ADDR,… with the VTEPs of all", d.supervisor.Flags("--vtep "+at.String()))})
	}
	switch {
	case all != nil:
	case !d.supervisor.Managed():
		all = []Finding{{Check: "swarm", State: OK, Seen: "this host is a node; Docker gives networks with --scope swarm to managed plugins only, so the daemon's are this host's"}}
	case d.scope == plugin.Local:
		all = []Finding{{"swarm", Warn, "the daemon has scope local: networks with --scope swarm get no options, and each node gives its containers addresses of its own, unless they are made by --config-from",
			d.supervisor.Flags("--scope "+plugin.Global) + ", on every node"}}
	default:
		all = []Finding{{Check: "swarm", State: OK, Seen: fmt.Sprintf("this host is a node at %s, scope %s, UDP %d", i.Swarm.NodeAddr, d.scope, d.Port)}}
		if i.Swarm.Cluster != nil {
			all[0].Seen += fmt.Sprintf(" beside Swarm's %d", i.DataPathPort())
		}
	}
	return all
}

// dockerMajor returns the first number of a version, 0 if it does not begin with one.
func dockerMajor(version string) int {
	major, _ := strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(version))
	return major
}

// checkNodes compares the Swarm's nodes that Docker knows with those that the daemon knows.
func checkNodes(docker, known []netip.Addr) Finding {
	var missing []string
	for _, a := range docker {
		if !slices.Contains(known, a) {
			missing = append(missing, a.String())
		}
	}
	if missing != nil {
		return Finding{"nodes", Warn, fmt.Sprintf("Docker has not told the daemon of %s of the Swarm, so its networks do not reach %s: %s",
			human.Plural(len(missing), "node"), map[bool]string{true: "it", false: "them"}[len(missing) == 1], strings.Join(missing, ", ")),
			"tapestry peers learn (Docker tells a plugin of the nodes that come after it was enabled)"}
	}
	return Finding{Check: "nodes", State: OK, Seen: fmt.Sprintf("the daemon knows the Swarm's other nodes that Docker knows (%d)", len(docker))}
}

// examineNodes runs checkNodes if the daemon is a managed plugin on a node of a Swarm: other daemons have no such networks.
func (d *Doctor) examineNodes(ctx context.Context, names *docker.Engine, report func(Finding)) {
	if !d.supervisor.Managed() || !d.info.InSwarm() {
		return
	}
	known, err := d.Nodes(ctx)
	if err != nil {
		report(Finding{"nodes", Warn, "not known: " + err.Error(), d.supervisor.Restart()})
		return
	}
	own, _ := netip.ParseAddr(d.info.Swarm.NodeAddr) // not valid: no address to leave out
	docker, err := names.SwarmNodes(ctx, d.info, d.supervisor.Driver(d.Name), own, d.VTEP)
	if err != nil {
		report(Finding{"nodes", Warn, err.Error(), "tapestry doctor, again"})
		return
	}
	report(checkNodes(docker, known))
}
