package guard

import (
	"github.com/tapestry-net/tapestry/fabric/view"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Trips are what the guards of a network's ports have dropped.
func Trips(network string, sw *vswitch.Switch) (all []view.Trip) {
	for _, p := range sw.Ports() {
		for _, t := range p.Trips() {
			v := view.Trip{Network: network, Port: p.Name, Guard: t.Verdict.String(), Count: t.Count}
			if t.Of != nil {
				v.Owner = t.Of.Name
			}
			all = append(all, v)
		}
	}
	return all
}
