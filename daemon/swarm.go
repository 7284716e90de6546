package daemon

import (
	"context"
	"net/netip"
	"os"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/swarm"
)

// A SwarmNode is this host as a node of Docker's Swarm: what a member.Member is of a cluster that the daemon has joined itself.
type SwarmNode struct {
	*swarm.Engine
	fabric    Fabric
	directory *cluster.Directory
	name      string // "": not known
}

// NewSwarmNode begins to keep what e says.
func NewSwarmNode(e *swarm.Engine, f Fabric) (*SwarmNode, error) {
	n := &SwarmNode{Engine: e, fabric: f}
	n.name, _ = os.Hostname()
	self := n.self()
	n.directory = cluster.NewDirectory(self.ID)
	return n, e.Start(self, func(u cluster.Update) { n.directory.Apply(u) })
}

// Close ends it.
func (n *SwarmNode) Close() error { return n.Engine.Close(context.Background()) }

// self is this host as the others see it, but for its name. Its address, with which it may change, is not known on a host without a route.
func (n *SwarmNode) self() cluster.Host {
	s := n.fabric.Status()
	return cluster.Host{ID: swarm.ID(s.VTEP), Name: n.name, VTEP: netip.AddrPortFrom(s.VTEP, s.Port)}
}

// Cluster is the cluster's name, of which a Swarm has none.
func (n *SwarmNode) Cluster() string { return "" }

// Own is this host, with its networks of the Swarm by Docker's ids.
func (n *SwarmNode) Own() cluster.Record {
	r := cluster.Record{Host: n.self()}
	for _, v := range n.fabric.Networks() {
		if v.Swarm {
			s := v.Spec()
			s.Key = v.ID
			r.Members = append(r.Members, cluster.Member{Spec: s})
		}
	}
	return r
}

// Others are the other nodes; which networks they have is not known.
func (n *SwarmNode) Others() []cluster.Entry { return n.directory.Hosts() }

// Problems are contradictions between what Docker has told and what this host is.
func (n *SwarmNode) Problems() []string {
	own := n.Own()
	return n.directory.Problems(&own)
}

// told tells whether Docker has told of a Swarm.
func (n *SwarmNode) told() bool { return len(n.Others()) > 0 || len(n.Own().Members) > 0 }
