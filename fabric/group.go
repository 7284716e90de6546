package fabric

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/tunnel"
)

// Networks with a multicast group (tapestry.group): the group is one port, by which frames for everybody leave, and frames of hosts
// that are not known arrive. Each host that has sent becomes a peer with a port of its own, to which nothing is flooded, since
// the group reaches it.

// maxLearned is the number of hosts of one network that are learned. Further ones are reached by the group.
const maxLearned = 256

// groupPeers are the peers of a network with a group: it, and the hosts that were learned.
func (f *Fabric) groupPeers(n *network) []peer {
	all := []peer{{addr: f.withPort(netip.AddrPortFrom(n.Group, 0)), group: true}}
	for host := range n.learned {
		all = append(all, peer{addr: f.withPort(netip.AddrPortFrom(host, 0)), learned: true})
	}
	return all
}

// learnHosts makes peers of the hosts that have sent to networks with a group. The lock is not held.
func (f *Fabric) learnHosts(ctx context.Context) {
	if f.acquire(ctx) != nil {
		return
	}
	found := make(map[*network][]netip.Addr)
	var hosts []netip.Addr
	for _, n := range f.networks {
		if r := n.remotes[n.Group]; n.Group.IsValid() && r != nil {
			all := r.link.Strangers()
			found[n] = all[:min(len(all), maxLearned-len(n.learned))]
			hosts = append(hosts, found[n]...)
		}
	}
	f.release()
	f.learnPaths(ctx, hosts)
	if f.acquire(ctx) != nil {
		return
	}
	defer f.release()
	for n, hosts := range found {
		for _, host := range hosts {
			n.learned[host] = f.now()
		}
		if f.networks[n.ID] == n && len(hosts) > 0 { // else it was removed meanwhile
			_ = f.connect(n) // n.down
		}
	}
}

// forgetHosts forgets the learned hosts that were silent for the network's ageing time.
func (f *Fabric) forgetHosts(n *network, now time.Duration) {
	before := len(n.learned)
	maps.DeleteFunc(n.learned, func(host netip.Addr, since time.Duration) bool {
		r := n.remotes[host]
		return now-since > n.Ageing && (r == nil || now-r.lastRx > n.Ageing)
	})
	if len(n.learned) < before {
		_ = f.connect(n) // n.down
	}
}

// checkGroup refuses a group that this host cannot join.
func (f *Fabric) checkGroup(n *Network) error {
	if !n.Group.IsValid() {
		return nil
	}
	return tunnel.CheckGroup(f.addrs().To(n.Group), n.Group) // that there is no address, connect will report
}
