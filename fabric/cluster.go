package fabric

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric/neighbour"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Networks that hosts share by a key (tapestry.network). Their VNI and, unless they have a list of their own, their peers come
// from the cluster: what Docker asked for is on the disk, what is in force follows what the other hosts say.
//
// A host that is gone, as the cluster says, may still be running: what carries the news may be broken instead. So its port stays,
// it is asked over the tunnel as soon as it is suspect, and it gets frames until it is gone and has neither answered nor sent for silentAfter.
const silentAfter = 3 * time.Second

// Cluster is what a Fabric needs of the cluster that this host is in. It never asks the cluster anything, and waits for nothing.
type Cluster struct {
	Directory *cluster.Directory
	Blocks    func(key string) []netip.Prefix // what this host gives out of a network; it must not call back

	// Publish tells the others which networks this host has, and its odd stations, whose place does not follow from blocks. all
	// are its stations, those included. It must not call back.
	Publish func(members []cluster.Member, odd, all []cluster.Station)
}

// Shared are the networks that have a key, by id.
func (f *Fabric) Shared() []Network {
	defer f.locked()()
	var all []Network
	for _, n := range f.sorted() {
		if n.Key != "" {
			all = append(all, n.Network)
		}
	}
	return all
}

// checkKey refuses a network that cannot be shared: the cluster gives it its VNI, and this host has it once.
func (f *Fabric) checkKey(n *Network) error {
	if n.Key != "" && f.cfg.Cluster == nil {
		return fmt.Errorf("network %s is to be shared with other hosts, but this host is in no cluster: start tapestry with --cluster, or leave tapestry.network away", n.Key)
	}
	for _, other := range f.networks {
		if n.Key != "" && other.Key == n.Key && other.ID != n.ID {
			return inUsef("network %s of the cluster is network %s of this host already", n.Key, short(other.ID))
		}
	}
	return nil
}

// publish tells the other hosts which networks this one has.
func (f *Fabric) publish() {
	if f.cfg.Cluster == nil {
		return
	}
	var members []cluster.Member
	var odd, all []cluster.Station
	for _, n := range f.sorted() {
		if n.Key == "" {
			continue
		}
		m := cluster.Member{Spec: n.Network.Spec(), Blocks: f.cfg.Cluster.Blocks(n.Key)}
		members = append(members, m)
		for _, e := range n.sortedEndpoints() {
			if n.isHostPort(e) { // each host may have one, with the same address
				continue
			}
			s, isOdd := neighbour.Station(n.Key, e.EndpointRecord, m.Blocks)
			all = append(all, s)
			if isOdd {
				odd = append(odd, s)
			}
		}
	}
	f.cfg.Cluster.Publish(members, odd, all)
}

// endpointsChanged tells the other hosts of a change on a network, if it is shared.
func (f *Fabric) endpointsChanged(n *network) {
	if n.Key != "" {
		f.publish()
		f.setAnswers(n)
	}
}

// Publish is called when this host's blocks have changed.
func (f *Fabric) Publish() {
	defer f.locked()()
	f.publish()
}

// ClusterChanged is called when other hosts have said something new of these networks, by one goroutine at a time.
func (f *Fabric) ClusterChanged(keys []string) {
	if keys = f.placed(keys); len(keys) == 0 {
		return
	}
	var hosts []netip.Addr
	for _, key := range keys {
		for _, s := range f.cfg.Cluster.Directory.On(key) {
			hosts = append(hosts, s.VTEP.Addr())
		}
	}
	f.learnPaths(context.Background(), hosts)
	defer f.locked()()
	for _, n := range f.networks {
		if n.usesCluster() && slices.Contains(keys, n.Key) {
			f.connectTold(n)
			f.endMoved(n)
		}
	}
	f.updateGone(f.now())
}

// placed are those networks of which other hosts have said more than names since it was asked last: what follows is work for all hosts
// of a network, and nothing but names changes with every container.
func (f *Fabric) placed(keys []string) (changed []string) {
	for _, key := range keys {
		now := f.cfg.Cluster.Directory.Places(key)
		if was, asked := f.places[key]; !asked || was != now {
			changed = append(changed, key)
		}
		if f.places[key] = now; now == 0 { // no other host has it any more
			delete(f.places, key)
		}
	}
	return changed
}

// usesCluster tells whether the hosts of the cluster that have the network are its peers, beside those that are listed.
func (n *network) usesCluster() bool { return n.Key != "" && n.Peers == nil }

// seats are the other hosts that have the network, as the cluster says.
func (f *Fabric) seats(n *network) []cluster.Seat {
	if f.cfg.Cluster == nil || !n.usesCluster() {
		return nil
	}
	return f.cfg.Cluster.Directory.On(n.Key)
}

// connectTold connects a network to the hosts that it was told of. A failure is shown with the peer, and fix tries again.
func (f *Fabric) connectTold(n *network) {
	if n.VNI == 0 {
		return
	}
	_ = f.connect(n) // n.down
	f.setPlaces(n)
}

// setPlaces tells a network's switch which addresses are behind which host, as the cluster says.
func (f *Fabric) setPlaces(n *network) {
	ports := f.hostPorts(n)
	var blocks []vswitch.Block
	for _, s := range f.seats(n) {
		for _, b := range s.Blocks {
			if p := ports[s.ID]; p != nil {
				blocks = append(blocks, vswitch.Block{Prefix: b, Port: p})
			}
		}
	}
	stations := make(map[ether.MAC]*vswitch.Port)
	if ports != nil {
		for mac, id := range f.cfg.Cluster.Directory.Stations(n.Key) {
			stations[mac] = ports[id]
		}
	}
	n.sw.SetPlaces(blocks, stations)
	f.setAnswers(n)
}

// hostPorts are the ports that lead to the other hosts of the cluster that have the network; nil: there are none.
func (f *Fabric) hostPorts(n *network) (ports map[cluster.HostID]*vswitch.Port) {
	for _, s := range f.seats(n) {
		if ports == nil {
			ports = make(map[cluster.HostID]*vswitch.Port)
		}
		if r := n.remotes[s.VTEP.Addr()]; r != nil {
			ports[s.ID] = r.port
		}
	}
	return ports
}

// updateGone stops sending to hosts that are gone and silent, and begins again with those that are not.
func (f *Fabric) updateGone(now time.Duration) {
	if f.cfg.Cluster == nil {
		return
	}
	peers := f.vtep.ByHost()
	for _, n := range f.networks {
		for _, s := range f.seats(n) {
			r, p := n.remotes[s.VTEP.Addr()], peers[s.VTEP.Addr()]
			if r == nil || p == nil {
				continue
			}
			asked, wasSuspect := p.State(), s.State == cluster.Gone && r.state == cluster.Suspect
			if wasSuspect && !asked.TestDone {
				continue // it was asked when it became suspect, and has a second or two left to answer
			}
			if s.State != r.state && (!wasSuspect || asked.Answers) { // an answer may have been before its end
				p.Test()
				asked = p.State()
			}
			if s.State == cluster.Suspect && r.state != s.State {
				f.events.Debug(events.PeerSuspect, "host of the cluster does not answer the others", "network", n.ID, "peer", s.VTEP.Addr(), "host", s.Name)
			}
			r.state = s.State
			silent := asked.TestDone && !asked.Answers && (r.lastRx == 0 || now-r.lastRx > silentAfter)
			if gone := s.State == cluster.Gone && (silent || r.gone && !asked.TestDone); gone != r.gone {
				r.gone = gone
				r.port.SetDown(nil)
				if gone {
					r.port.SetDown(func() bool { return true })
				}
				kind := events.PeerUp
				if gone {
					kind = events.PeerDown
				}
				f.events.Info(kind, "host of the cluster", "network", n.ID, "peer", s.VTEP.Addr(), "host", s.Name, "state", s.State, "used", !gone)
			}
		}
	}
}

// HasSubnet tells whether a network of that key, which may be "", has the subnet; one of the Swarm, which Docker makes again, does not count.
func (f *Fabric) HasSubnet(key string, subnet netip.Prefix) bool {
	defer f.locked()()
	return slices.ContainsFunc(f.sorted(), func(n *network) bool { return n.Key == key && !n.Swarm && n.hasPool(subnet) })
}

// HasAddr tells whether an endpoint of a network of that key, which may be "", with that subnet has the address.
func (f *Fabric) HasAddr(key string, subnet netip.Prefix, a netip.Addr) bool {
	defer f.locked()()
	for _, n := range f.networks {
		for _, e := range n.endpoints {
			if n.Key == key && n.hasPool(subnet) && slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
				return true
			}
		}
	}
	return false
}

func (n *network) hasPool(subnet netip.Prefix) bool {
	return slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Masked() == subnet })
}
