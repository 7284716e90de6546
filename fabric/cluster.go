package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Networks that hosts share by a key (tapestry.network). Their VNI and, unless they have a list of their own, their peers come
// from the cluster: what Docker asked for is on the disk, what is in force follows what the other hosts say.
//
// A host that is gone, as the cluster says, may still be running: what carries the news may be broken instead. So its port stays,
// it is asked over the tunnel, and it gets frames until it has neither answered nor sent for silentAfter.
const silentAfter = 3 * time.Second

// Cluster is what a Fabric needs of the cluster that this host is in.
type Cluster struct {
	Engine    cluster.Engine
	Directory *cluster.Directory
	Blocks    func(key string) []netip.Prefix // what this host gives out of a network; it must not call back
}

// specOf is the network as all its hosts have it.
func specOf(n *Network) cluster.Spec {
	s := cluster.Spec{Key: n.Key, VNI: n.VNI, MTU: n.MTU}
	for _, p := range n.Pools {
		s.Subnets = append(s.Subnets, p.Masked())
	}
	slices.SortFunc(s.Subnets, cluster.ComparePrefix)
	return s
}

// agree agrees with the other hosts on a network that is shared, and returns it with its VNI. The lock is not held: the cluster
// may take a while to answer.
func (f *Fabric) agree(ctx context.Context, n Network) (Network, error) {
	if n.Key == "" {
		return n, nil
	}
	if f.cfg.Cluster == nil {
		return n, fmt.Errorf("network %s is to be shared with other hosts, but this host is in no cluster: start tapestry with --cluster, or leave tapestry.network away", n.Key)
	}
	s, err := f.cfg.Cluster.Engine.Network(ctx, specOf(&n))
	var differs *cluster.Conflict
	switch {
	case errors.As(err, &differs):
		return n, fmt.Errorf("%w: all hosts must name it with the same options", err)
	case err != nil:
		return n, fmt.Errorf("network %s: %w", n.Key, err)
	}
	n.VNI = s.VNI
	return n, nil
}

// confirm agrees anew on the networks that were restored, until the cluster has answered for each: it may have lost them, or another
// host may have made them in the meantime. It ends with ctx.
func (f *Fabric) confirm(ctx context.Context) {
	t := time.NewTicker(fixEvery)
	defer t.Stop()
	for {
		end := f.locked()
		var open []Network
		for _, n := range f.networks {
			if n.Key != "" && !n.agreed {
				open = append(open, n.Network)
			}
		}
		end()
		for _, n := range open {
			err := f.confirmOne(ctx, n)
			if err != nil && ctx.Err() == nil {
				f.log.Debug("the cluster was not asked for a network yet", "network", n.ID, "key", n.Key, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (f *Fabric) confirmOne(ctx context.Context, n Network) error {
	_, err := f.agree(ctx, n)
	var differs *cluster.Conflict
	if err != nil && !errors.As(err, &differs) {
		return err
	}
	if err != nil {
		f.log.Warn("the cluster has another network by this key now: this host's goes on as it was", "network", n.ID, "key", n.Key, "err", err)
	}
	defer f.locked()()
	if now := f.networks[n.ID]; now != nil {
		now.agreed = true
	}
	return nil
}

// checkKey refuses a key that another network of this host has.
func (f *Fabric) checkKey(n *Network) error {
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
	for _, n := range f.sorted() {
		if n.Key != "" {
			members = append(members, cluster.Member{Spec: specOf(&n.Network), Blocks: f.cfg.Cluster.Blocks(n.Key)})
		}
	}
	f.cfg.Cluster.Engine.Publish(members, nil, nil)
}

// Publish is called when this host's blocks have changed.
func (f *Fabric) Publish() {
	defer f.locked()()
	f.publish()
}

// ClusterChanged is called when other hosts have said something new of these networks.
func (f *Fabric) ClusterChanged(keys []string) {
	defer f.locked()()
	for _, n := range f.networks {
		if n.usesCluster() && slices.Contains(keys, n.Key) {
			f.connectTold(n)
		}
	}
	f.updateGone(f.now())
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

// seat returns the host of the cluster that a peer of the network is, if it is a peer because of that.
func (f *Fabric) seat(n *network, addr netip.Addr) (s cluster.Seat, ok bool) {
	all := f.seats(n)
	i := slices.IndexFunc(all, func(s cluster.Seat) bool { return s.VTEP.Addr() == addr })
	if i < 0 || slices.ContainsFunc(f.configuredPeers(n), func(a netip.AddrPort) bool { return a.Addr() == addr }) {
		return cluster.Seat{}, false
	}
	return all[i], true
}

// told returns who named a peer, if it was no user: "the Swarm" or "the cluster"; "" if it was one.
func (f *Fabric) told(n *network, addr netip.Addr) string {
	if _, ok := f.swarmNode(n, addr); ok {
		return "the Swarm"
	}
	if _, ok := f.seat(n, addr); ok {
		return "the cluster"
	}
	return ""
}

// connectTold connects a network to the hosts that it was told of. A failure is shown with the peer, and fix tries again.
func (f *Fabric) connectTold(n *network) {
	if n.VNI != 0 {
		_ = f.connect(n) // n.down
	}
}

// updateGone stops sending to hosts that are gone and silent, and begins again with those that are not.
func (f *Fabric) updateGone(now time.Duration) {
	if f.cfg.Cluster == nil {
		return
	}
	peers := make(map[netip.Addr]*tunnel.Peer)
	if f.vtep != nil {
		for _, p := range f.vtep.Peers() {
			peers[p.Host.Addr()] = p
		}
	}
	for _, n := range f.networks {
		for _, s := range f.seats(n) {
			r, p := n.remotes[s.VTEP.Addr()], peers[s.VTEP.Addr()]
			if r == nil || p == nil {
				continue
			}
			if doubted := s.State == cluster.Gone; doubted != r.doubted {
				r.doubted = doubted
				p.Test()
			}
			asked := p.State()
			silent := asked.TestDone && !asked.Answers && (r.lastRx == 0 || now-r.lastRx > silentAfter)
			if gone := s.State == cluster.Gone && (silent || r.gone && !asked.TestDone); gone != r.gone {
				r.gone = gone
				r.port.SetDown(nil)
				if gone {
					r.port.SetDown(func() bool { return true })
				}
				f.log.Info("host of the cluster", "network", n.ID, "peer", s.VTEP.Addr(), "host", s.Name, "state", s.State, "used", !gone)
			}
		}
	}
}

// HasSubnet tells whether a network of that key, which may be "", has the subnet.
func (f *Fabric) HasSubnet(key string, subnet netip.Prefix) bool {
	defer f.locked()()
	return slices.ContainsFunc(f.sorted(), func(n *network) bool { return n.Key == key && n.hasPool(subnet) })
}

// HasAddr tells whether an endpoint of a network of that key, which may be "", with that subnet has the address.
func (f *Fabric) HasAddr(key string, subnet netip.Prefix, a netip.Addr) bool {
	defer f.locked()()
	for _, n := range f.networks {
		if n.Key != key || !n.hasPool(subnet) {
			continue
		}
		for _, e := range n.endpoints {
			if slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
				return true
			}
		}
	}
	return false
}

func (n *network) hasPool(subnet netip.Prefix) bool {
	return slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Masked() == subnet })
}
