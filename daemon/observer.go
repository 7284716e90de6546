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
	Live     *Live // nil: nobody asks
	Captures *Captures
	Swarm    *swarm.Engine
}

// SetNodes tells of the other nodes of Docker's Swarm.
func (o Observer) SetNodes(left map[netip.Addr]bool) { o.Swarm.Tell(left) }

// Add tells of a network that has come.
func (o Observer) Add(n fabric.Network, sw *vswitch.Switch) {
	if o.Live != nil {
		o.Live.add(n, sw)
	}
	o.Hub.Add(n.ID, sw)
}

// Remove tells that a network is gone.
func (o Observer) Remove(network string) {
	o.Hub.Remove(network)
	if o.Live != nil {
		o.Live.remove(network)
	}
}

// Plug tells of a port that has come, with its device or, of a remote, its link.
func (o Observer) Plug(v fabric.PortView, dev fabric.ObservedDevice, link *tunnel.Link) {
	if o.Live != nil {
		o.Live.plug(v, dev, link)
	}
	var outer capture.Tunnel
	if link != nil {
		outer = capture.Tunnel{Local: link.Local(), Remote: link.Host}
	}
	o.Hub.Plug(capture.Port{Number: v.Number, Network: v.Network, VNI: v.VNI, Remote: v.Kind == "remote", HostPort: v.Kind == "host", Name: v.Name,
		Link: v.Link, MAC: v.MAC, Addrs: v.Addrs, MTU: v.MTU, Sandbox: api.SandboxName(v.Sandbox),
		Tunnel: outer})
}

// Unplug tells that a port is gone.
func (o Observer) Unplug(number uint32) {
	o.Hub.Unplug(number)
	if o.Live != nil {
		o.Live.unplug(number)
	}
}

// SetMTU tells the MTU of a remote host's port.
func (o Observer) SetMTU(number uint32, mtu int) {
	o.Hub.SetMTU(number, mtu)
	if o.Live != nil {
		o.Live.setMTU(number, mtu)
	}
}

// SetSandbox tells in which network namespace a port's container is; path is Docker's SandboxKey.
func (o Observer) SetSandbox(number uint32, path string) {
	o.Hub.SetSandbox(number, api.SandboxName(path))
}
