// Package guard is what the frames of a network's ports are held to: it makes a port's policy of the records of its network and its endpoint, and says whose
// frames were dropped because of it.
package guard

import (
	"slices"

	"github.com/tapestry-net/tapestry/fabric/neighbour"
	"github.com/tapestry-net/tapestry/fabric/state"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Values of state.Guards.Level.
const (
	Off  = "off"  // nothing is looked at, so that even a MAC passes that is another port's
	MAC  = "mac"  // no other port's MAC passes
	Full = "full" // and nothing that vswitch.Guards names, unless it is allowed
)

// Levels are the values of state.Guards.Level.
func Levels() []string { return []string{Off, MAC, Full} }

// Kinds are what state.Guards.Allow may have.
func Kinds() []string { return []string{"ra", "dhcp", "bpdu"} }

// Of is the policy of an endpoint's port.
func Of(n *state.Network, e *state.Endpoint) *vswitch.Policy {
	s := Settings(n, e)
	p := &vswitch.Policy{AnyMAC: s.Guard == Off, Storm: s.Storm, Rate: (s.Rate + 7) / 8, Isolated: s.Isolated, With: s.AllowTo, MSS: s.MSS}
	if s.MSS == state.AutoMSS {
		p.MSS = vswitch.AutoMSS
	}
	if s.Guard != Full {
		return p
	}
	p.Guards = vswitch.GuardAddrs
	for kind, g := range map[string]vswitch.Guards{"ra": vswitch.GuardRA, "dhcp": vswitch.GuardDHCP, "bpdu": vswitch.GuardBPDU} {
		if !slices.Contains(s.Allow, kind) {
			p.Guards |= g
		}
	}
	return p
}

// OfRemote is the policy of another host's port: nothing from there may speak for a container that is here. What routers, DHCP servers and bridges
// there may do is up to that host.
func OfRemote(n *state.Network) *vswitch.Policy {
	switch n.Level {
	case Off:
		return &vswitch.Policy{AnyMAC: true}
	case MAC:
		return &vswitch.Policy{}
	}
	return &vswitch.Policy{Guards: vswitch.GuardAddrs}
}

// Set gives an endpoint's port its addresses and its policy.
func Set(p *vswitch.Port, n *state.Network, e *state.Endpoint) {
	p.Pin(e.MAC)
	p.PinAddrs(neighbour.Addrs(*e)...)
	p.SetPolicy(Of(n, e))
	p.SetLinkLocal(slices.Contains(Settings(n, e).Allow, "bpdu"))
}
