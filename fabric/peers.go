package fabric

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/fabric/state"
)

// A peer is another host as a peer of one network, and who named it.
type peer struct {
	addr    netip.AddrPort
	name    string        // a user did, by this DNS name
	node    *state.Node   // Docker did: a node of its Swarm
	seat    *cluster.Seat // the cluster did; if none of these, a user by its address
	group   bool          // it is the network's multicast group
	learned bool          // it has sent to the group
}

// told tells whether no user named the peer's address. DNS, Docker and the cluster may tell of hosts that cannot be reached.
func (p *peer) told() bool { return p.learned || p.name != "" || p.node != nil || p.seat != nil }

// peersOf are the peers of a network with their ports, without this host. Who is named several times is the user's.
func (f *Fabric) peersOf(n *network) (all []peer) {
	if n.Group.IsValid() {
		return f.groupPeers(n)
	}
	own := f.addrs()
	known := map[netip.Addr]bool{own.Main: true, own.Second: true}
	add := func(p peer) {
		if !known[p.addr.Addr()] {
			known[p.addr.Addr()] = true
			p.addr = f.withPort(p.addr)
			all = append(all, p)
		}
	}
	for _, a := range f.configuredPeers(n) {
		add(peer{addr: a})
	}
	for _, name := range f.configuredNames(n) {
		for _, a := range f.names.Answer(name.Host).Addrs {
			if !a.IsLoopback() || own.To(a).IsLoopback() { // else it is this host's own name, which /etc/hosts has
				add(peer{addr: netip.AddrPortFrom(a, name.Port), name: name.Host})
			}
		}
	}
	if n.usesNodes() {
		for i := range f.swarm.Nodes {
			d := &f.swarm.Nodes[i]
			add(peer{addr: netip.AddrPortFrom(d.Addr, 0), node: d})
		}
	}
	seats := f.seats(n)
	for i := range seats {
		add(peer{addr: seats[i].VTEP, seat: &seats[i]})
	}
	return all
}

// peerAt is the peer of a network with that address; the zero peer if there is none.
func (f *Fabric) peerAt(n *network, addr netip.Addr) peer {
	all := f.peersOf(n)
	if i := slices.IndexFunc(all, func(p peer) bool { return p.addr.Addr() == addr }); i >= 0 {
		return all[i]
	}
	return peer{}
}

// peerAddrs are the addresses of a network's peers.
func (f *Fabric) peerAddrs(n *network) (all []netip.AddrPort) {
	for _, p := range f.peersOf(n) {
		all = append(all, p.addr)
	}
	return all
}

// configuredPeers is the peer list of a network: its own, or the daemon's.
func (f *Fabric) configuredPeers(n *network) []netip.AddrPort {
	if n.peers == nil {
		return f.cfg.Peers
	}
	return n.peers
}

// usesNodes tells whether the nodes of the Swarm are peers of the network, beside those that are listed.
func (n *network) usesNodes() bool { return n.Swarm && n.Peers == nil }

// AddPeer adds a remote host to a network with a VNI, and saves it. It is no error if the peer is there already. A network that
// used the daemon's --peer list has its own list from now on; the Swarm's nodes stay peers too.
func (f *Fabric) AddPeer(ctx context.Context, id string, a netip.AddrPort) error {
	return f.changePeers(ctx, id, func(n *network, peers []netip.AddrPort) ([]netip.AddrPort, error) {
		if p := f.peerAt(n, a.Addr()); p.told() && p.addr == f.withPort(a) {
			return peers, nil
		}
		if own := f.addrs(); own.Main.IsValid() {
			if a.Addr() == own.Main || a.Addr() == own.Second {
				return nil, fmt.Errorf("%s is this host itself", a.Addr())
			}
			if err := f.checkPeer(own.To(a.Addr()), a.Addr()); err != nil {
				return nil, err
			}
		}
		for _, p := range peers {
			if p.Addr() == a.Addr() {
				if f.withPort(p) == f.withPort(a) {
					return peers, nil
				}
				return nil, inUsef("%s is a peer with port %d already: remove it first", a.Addr(), f.withPort(p).Port())
			}
		}
		return append(slices.Clone(peers), a), nil
	})
}

// RemovePeer removes a remote host from a network, and saves that. It is ErrNoPeer if it is no peer. Port 0 means any port.
func (f *Fabric) RemovePeer(ctx context.Context, id string, a netip.AddrPort) error {
	return f.changePeers(ctx, id, func(n *network, peers []netip.AddrPort) ([]netip.AddrPort, error) {
		p := f.peerAt(n, a.Addr())
		if p.name != "" {
			return nil, fmt.Errorf("%s is an address of %s, which is the peer: remove that", a.Addr(), p.name)
		}
		if p.node != nil {
			return nil, fmt.Errorf("%s is a node of the Swarm, and so a peer of each of its networks that was made without tapestry.peers", a.Addr())
		}
		if s := p.seat; s != nil {
			return nil, fmt.Errorf("%s is host %s of the cluster, which has the network too: remove the network there, or if the host is gone: tapestry cluster forget %s", a.Addr(), s.Name, s.Name)
		}
		left := slices.DeleteFunc(slices.Clone(peers), func(p netip.AddrPort) bool {
			return p.Addr() == a.Addr() && (a.Port() == 0 || f.withPort(p) == a)
		})
		if len(left) == len(peers) {
			return nil, fmt.Errorf("network %s: %w %s, its peers are %v", short(n.ID), ErrNoPeer, a.Addr(), f.peerAddrs(n))
		}
		return left, nil
	})
}

// changePeers changes the addresses in the list of a network.
func (f *Fabric) changePeers(ctx context.Context, id string, change func(*network, []netip.AddrPort) ([]netip.AddrPort, error)) error {
	return f.changeList(ctx, id, func(n *network) (peers []netip.AddrPort, names []PeerName, err error) {
		peers, err = change(n, f.configuredPeers(n))
		return peers, f.configuredNames(n), err
	})
}

// changeList gives a network another list of peers, and saves it.
func (f *Fabric) changeList(ctx context.Context, id string, change func(*network) ([]netip.AddrPort, []PeerName, error)) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	n, err := f.network(id)
	if err != nil {
		return err
	}
	if n.VNI == 0 {
		return fmt.Errorf("network %s has no VNI, so it has no peers: create it with -o tapestry.vni=N", short(n.ID))
	}
	if n.Group.IsValid() {
		return fmt.Errorf("network %s has no list of peers: who joins the group %s is one", short(n.ID), n.Group)
	}
	peers, names, err := change(n)
	if err != nil {
		return err
	}
	before := *n
	n.peers, n.names = append([]netip.AddrPort{}, peers...), names // never nil: its own list, be it empty
	if err := f.dir.Save(n.record()); err != nil {
		n.peers, n.names = before.peers, before.names
		return err
	}
	f.wantNames()
	if err := f.connect(n); err != nil { // saved all the same: fix tries again
		f.log.Info("network has no tunnel for now", "network", n.ID, "err", err)
	}
	f.log.Info("peers changed", "network", n.ID, "peers", f.peerAddrs(n))
	return nil
}
