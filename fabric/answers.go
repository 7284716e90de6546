package fabric

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/fabric/neighbour"
	"github.com/tapestry-net/tapestry/tap"
)

// setAnswers tells a network's switch which questions it can answer, after what others or this host have was changed.
func (f *Fabric) setAnswers(n *network) {
	ports := f.hostPorts(n)
	if ports == nil {
		n.sw.SetAnswers(nil)
		return
	}
	a := &neighbour.Answers{Vouched: f.cfg.Cluster.Directory.Vouched(n.Key), Ports: ports, Own: make(map[netip.Addr]bool)}
	for _, e := range n.endpoints {
		for _, addr := range neighbour.Addrs(e.Endpoint) {
			a.Own[addr] = true
		}
	}
	n.sw.SetAnswers(a)
}

// endMoved removes the endpoints of containers that have started at another host since, and of which the kernel shows none here: a
// dockerd that was killed never says that they have ended, and their addresses would lead nowhere.
func (f *Fabric) endMoved(n *network) {
	var found map[string]tap.Found // listed when it is needed
	for _, e := range n.sortedEndpoints() {
		host, seq, ok := f.cfg.Cluster.Directory.Station(n.Key, e.MAC)
		if !ok || host == "" || seq <= e.Seq || n.isHostPort(e) {
			continue
		}
		if found == nil {
			var err error
			if found, err = f.links.List(f.tag()); err != nil {
				f.log.Warn("endpoints that have moved to another host are not looked for", "network", n.ID, "err", err)
				return
			}
		}
		if joins := found[e.ID].Inner || n.Attach == tap.Direct && found[e.ID].TAP; joins || n.alive(e, found) {
			continue // both have it: see cluster.Directory.Problems
		}
		f.log.Info("orphan endpoint is removed: its container is at another host now", "network", n.ID, "endpoint", e.ID, "mac", e.MAC, "host", host)
		if err := f.removeEndpoint(n, e); err != nil {
			f.log.Warn("orphan endpoint is not wholly removed", "network", n.ID, "endpoint", e.ID, "err", err)
		}
	}
}
