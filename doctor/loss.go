package doctor

import (
	"fmt"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// checkLoss reports hosts to which, or from which, one in a hundred datagrams was lost in the last minute. A single one is no news.
func checkLoss(peers []api.Peer) (all []Finding) {
	told := make(map[string]bool) // a host may be a peer of many networks
	for _, p := range peers {
		h := p.Health
		if h == nil || told[p.Addr] || !lossy(h.Lost, h.Probes) && !lossy(h.LostBack, h.Echoes) {
			continue
		}
		told[p.Addr] = true
		all = append(all, Finding{"peers", Warn, fmt.Sprintf("datagrams are lost: %s on the way to %s, %s on the way back, of the last minute's %d probes",
			human.Percent(h.Lost, h.Probes), p.Addr, human.Percent(h.LostBack, h.Echoes), h.Probes),
			"ping -i .2 -c 200 and ip -s link, on both hosts; there: `tapestry status`, whether datagrams come faster than they are read"})
	}
	return all
}

func lossy(lost, sent int) bool { return lost > 1 && lost*100 >= sent }
