package view

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/offload"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// An Observer is told of networks and ports, so that it can watch their switches, and of the Swarm's nodes. It is called with the lock held, and
// must not call back.
type Observer interface {
	Add(n state.Network, sw *vswitch.Switch)
	Remove(network string)
	Plug(p Port, dev Device, link *tunnel.Link) // before the port's first frame; without counts. Either dev, of a container or this host, or link is nil
	SetMTU(number uint32, mtu int)              // of a remote host's port; may come before Plug, which has the MTU too
	SetSandbox(number uint32, path string)
	SetAddrs(number uint32, addrs []netip.Prefix) // a container has lost some of its addresses
	Unplug(number uint32)
	Arm(network, endpoint, filter string) error // start a capture, before the endpoint is made: so it has the first frame
	Disarm(endpoint string)                     // the endpoint is gone; it may have had no capture
	SetNodes(left map[netip.Addr]bool)          // all other nodes of the Swarm, and whether they have left, as Docker says; at the start and when that changes
}

// A Device is what carries the frames of a container. It may be asked at any time, also once it is closed.
type Device interface {
	Offload(ether.Kind) offload.Status // see tap.Device
}

// NoObserver is told, and does nothing.
type NoObserver struct{}

func (NoObserver) Add(state.Network, *vswitch.Switch) {}
func (NoObserver) Remove(string)                      {}
func (NoObserver) Plug(Port, Device, *tunnel.Link)    {}
func (NoObserver) SetSandbox(uint32, string)          {}
func (NoObserver) SetAddrs(uint32, []netip.Prefix)    {}
func (NoObserver) SetMTU(uint32, int)                 {}
func (NoObserver) Unplug(uint32)                      {}
func (NoObserver) Arm(_, _, _ string) error           { return nil }
func (NoObserver) Disarm(string)                      {}
func (NoObserver) SetNodes(map[netip.Addr]bool)       {}
