package daemon

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/cluster/swarm"
	"github.com/tapestry-net/tapestry/fabric"
)

// Observer tells the hub of networks and ports, and the Swarm's engine of nodes.
type Observer struct {
	*capture.Hub
	Captures *Captures
	Swarm    *swarm.Engine
}

// SetNodes tells of the other nodes of Docker's Swarm.
func (o Observer) SetNodes(left map[netip.Addr]bool) { o.Swarm.Tell(left) }

// Plug tells of a port that has come; local and remote are the outer addresses of a remote.
func (o Observer) Plug(v fabric.PortView, local, remote netip.AddrPort) {
	o.Hub.Plug(capture.Port{Number: v.Number, Network: v.Network, VNI: v.VNI, Remote: v.Kind == "remote", HostPort: v.Kind == "host", Name: v.Name,
		Link: v.Link, MAC: v.MAC, Addrs: v.Addrs, MTU: v.MTU, Sandbox: api.SandboxName(v.Sandbox),
		Tunnel: capture.Tunnel{Local: local, Remote: remote}})
}

// SetSandbox tells in which network namespace a port's container is; path is Docker's SandboxKey.
func (o Observer) SetSandbox(number uint32, path string) {
	o.Hub.SetSandbox(number, api.SandboxName(path))
}
