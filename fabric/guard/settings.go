package guard

import (
	"cmp"
	"slices"

	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fabric/view"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Settings are those of an endpoint's port. Its own word counts more than its network's, but each may allow. The host is trusted: it may be a router or a DHCP
// server, and has no limits but the MSS.
func Settings(n *state.Network, e *state.Endpoint) view.Settings {
	s := view.Settings{Guard: cmp.Or(e.Level, n.Level, Full), MSS: limit(e.MSS, n.MSS, 0), VLAN: e.VLAN}
	for _, kind := range Kinds() {
		if slices.Contains(n.Allow, kind) || slices.Contains(e.Allow, kind) {
			s.Allow = append(s.Allow, kind)
		}
	}
	if n.HostPort != nil && e.ID == n.HostPort.ID {
		if s.Guard != Off {
			s.Guard = MAC
		}
		return s
	}
	s.Storm, s.Rate = limit(e.Storm, n.Storm, vswitch.DefaultStorm), limit(e.Rate, n.Rate, 0)
	if s.Isolated = cmp.Or(e.Isolated, n.Isolated) == "on"; s.Isolated {
		s.AllowTo = slices.Concat(n.AllowTo, e.AllowTo)
	}
	return s
}

// SettingsOfRemote are those of another host's port: see OfRemote.
func SettingsOfRemote(n *state.Network) view.Settings {
	return view.Settings{Guard: cmp.Or(n.Level, Full)}
}

// limit is the first number that was given; 0: there is none.
func limit[T int | int64](own, network, otherwise T) T {
	if n := cmp.Or(own, network, otherwise); n != state.NoLimit {
		return n
	}
	return 0
}
