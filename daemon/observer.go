package daemon

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/cluster/swarm"
	"github.com/tapestry-net/tapestry/fabric"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Observer tells the hub of networks and ports, and the Swarm's engine of nodes.
type Observer struct {
	*capture.Hub
	Captures *Captures
	Swarm    *swarm.Engine
}

// SetNodes tells of the other nodes of Docker's Swarm.
func (o Observer) SetNodes(left map[netip.Addr]bool) { o.Swarm.Tell(left) }

// Add tells of a network that has come.
func (o Observer) Add(n fabric.Network, sw *vswitch.Switch) { o.Hub.Add(n.ID, sw) }

// Plug tells of a port that has come, with its device or, of a remote, its link.
func (o Observer) Plug(v fabric.PortView, _ fabric.ObservedDevice, link *tunnel.Link) {
	var outer capture.Tunnel
	if link != nil {
		outer = capture.Tunnel{Local: link.Local(), Remote: link.Host}
	}
	o.Hub.Plug(capture.Port{Number: v.Number, Network: v.Network, VNI: v.VNI, Remote: v.Kind == "remote", HostPort: v.Kind == "host", Name: v.Name,
		Link: v.Link, MAC: v.MAC, Addrs: v.Addrs, MTU: v.MTU, Sandbox: api.SandboxName(v.Sandbox),
		Tunnel: outer})
}

// SetSandbox tells in which network namespace a port's container is; path is Docker's SandboxKey.
func (o Observer) SetSandbox(number uint32, path string) {
	o.Hub.SetSandbox(number, api.SandboxName(path))
}
