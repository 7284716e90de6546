package guard

import (
	"cmp"
	"slices"

	"github.com/tapestry-net/tapestry/fabric/state"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// limit adds to a policy how much an endpoint may send, and with whom it may talk. Its own word counts more than its network's, and it may talk with
// those that either names. The host's own port has no limits but the MSS.
func limit(p *vswitch.Policy, n *state.Network, e *state.Endpoint) {
	if p.MSS = cmp.Or(e.MSS, n.MSS); p.MSS == state.AutoMSS {
		p.MSS = vswitch.AutoMSS
	} else {
		p.MSS = max(p.MSS, 0)
	}
	if n.HostPort != nil && e.ID == n.HostPort.ID {
		return
	}
	p.Storm = choose(e.Storm, n.Storm, vswitch.DefaultStorm)
	p.Rate = (choose(e.Rate, n.Rate, 0) + 7) / 8
	if p.Isolated = e.Isolated == "on" || e.Isolated == "" && n.Isolated == "on"; p.Isolated {
		p.With = slices.Concat(n.AllowTo, e.AllowTo)
	}
}

// choose gives the first number that was given; state.NoLimit is 0.
func choose(own, network, otherwise int64) int64 {
	for _, x := range []int64{own, network} {
		if x != 0 {
			return max(x, 0)
		}
	}
	return otherwise
}
