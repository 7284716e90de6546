package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fabric/swarm"
	"github.com/tapestry-net/tapestry/tunnel"
)

// What Docker tells of its Swarm, and what follows for networks and peers; package swarm remembers it.

// IsSwarmID is state.IsSwarmID.
func IsSwarmID(network string) bool { return state.IsSwarmID(network) }

// NodeJoined is called when Docker tells of a node of the Swarm: another host, or with self this one. A node that is known
// changes nothing. Before it returns, the node is a peer of all networks of the Swarm that have no peer list of their own.
func (f *Fabric) NodeJoined(ctx context.Context, addr netip.Addr, self bool) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if self {
		if f.cfg.Managed {
			f.swarm.SetSelf(addr)
		}
		return f.moveVTEP()
	}
	if err := tunnel.CheckAddr(addr); err != nil {
		return fmt.Errorf("node %s of the Swarm: %w", addr, err)
	}
	if f.swarm.Joined(addr) {
		f.log.Info("node of the Swarm", "peer", addr)
		f.connectSwarm()
	}
	return nil
}

// NodeLeft is called when Docker says that a node has left the Swarm.
func (f *Fabric) NodeLeft(ctx context.Context, addr netip.Addr) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if f.swarm.LeftNow(addr) {
		f.log.Info("node has left the Swarm, Docker says: it stays a peer", "peer", addr)
	}
	return nil
}

// swarmAddr is this host's address in the Swarm, if there is one and a link here has it.
func (f *Fabric) swarmAddr() (netip.Addr, bool) {
	if !f.swarm.Self.IsValid() || f.swarm.Self.IsLoopback() {
		return netip.Addr{}, false
	}
	_, err := tunnel.Underlay(f.swarm.Self)
	return f.swarm.Self, !errors.Is(err, tunnel.ErrNoAddress)
}

// moveVTEP moves the tunnel to this host's address in the Swarm, which is the one that the other nodes know, unless --vtep is
// set. Hosts outside of the Swarm know the present address: if a network has such peers, the tunnel stays where it is.
func (f *Fabric) moveVTEP() error {
	self, ok := f.swarmAddr()
	if !ok || f.cfg.VTEP.IsValid() || f.vtep == nil || f.vtep.Local.Addr() == self {
		return nil
	}
	for _, n := range f.networks {
		if n.VNI != 0 && !n.Swarm {
			if f.warnedVTEP != self {
				f.warnedVTEP = self
				f.log.Warn("the other nodes of the Swarm know this host by another address than that of its tunnel, which stays until a restart because of a network that is not the Swarm's: set --vtep",
					"addr", self, "vtep", f.vtep.Local, "network", n.ID)
			}
			return nil
		}
	}
	f.log.Info("the tunnel moves to this host's address in the Swarm", "addr", self, "vtep", f.vtep.Local)
	return f.reopenVTEP()
}

// reopenVTEP closes the tunnel, and opens it at the address that it has to have now.
func (f *Fabric) reopenVTEP() error {
	for _, n := range f.networks {
		f.disconnect(n)
	}
	err := f.closeVTEP()
	f.pathsChanged(f.paths.Update(f.peerHosts(), f.source()))
	for _, n := range f.networks {
		if n.VNI != 0 {
			err = errors.Join(err, f.connect(n))
		}
	}
	return err
}

// connectSwarm connects the networks of the Swarm to its nodes. A failure is shown with the peer, and fix tries again.
func (f *Fabric) connectSwarm() {
	for _, n := range f.networks {
		if n.usesNodes() {
			f.connectTold(n)
		}
	}
	f.updateSparse()
}

// updateSparse sends fewer floods to nodes that left, as Docker says, and are silent (vswitch.Port.SetSparse).
func (f *Fabric) updateSparse() {
	if len(f.sparse) == 0 && !f.swarm.AnyLeft() {
		return
	}
	peers := f.vtep.ByHost()
	var forgot bool
	f.sparse, forgot = f.swarm.Silent(func(addr netip.Addr) bool {
		p := peers[addr]
		heard := p != nil && p.State().Answers
		for _, n := range f.networks {
			r := n.remotes[addr]
			heard = heard || r != nil && r.lastRx != 0 && f.now()-r.lastRx < swarm.SparseAfter
		}
		return heard
	})
	for _, n := range f.networks {
		for _, p := range f.peersOf(n) {
			if r := n.remotes[p.addr.Addr()]; r != nil {
				r.port.SetSparse(p.node != nil && f.sparse[p.node.Addr])
			}
		}
	}
	if forgot {
		f.connectSwarm()
	}
}

// Nodes are the known other hosts of the Swarm, by address.
func (f *Fabric) Nodes() []netip.Addr {
	defer f.locked()()
	return f.swarm.Others()
}

// Allocate checks a network of the Swarm as CreateNetwork does on each node, and returns its VNI: the one that it asks for, or
// one that no network known here has. Docker calls it at the leading manager when a network is created. With again, Docker
// repeats a network that was allocated before, with its VNI, after a manager became the leader: that is never refused.
func (f *Fabric) Allocate(ctx context.Context, n Network, again bool) (vni uint32, err error) {
	if err := f.acquire(ctx); err != nil {
		return 0, err
	}
	defer f.release()
	if again && n.VNI != 0 {
		f.swarm.Replay(n.ID, n.VNI, f.now())
		return n.VNI, nil
	}
	taken := make(map[uint32]bool)
	for _, here := range f.networks {
		taken[here.VNI] = true
	}
	var holder string
	n.VNI, holder = f.swarm.Choose(n.ID, n.VNI, taken)
	if holder != "" {
		return 0, inUsef("VNI %d belongs to network %s of the Swarm already: take another, or none to be given one", n.VNI, short(holder))
	}
	if err := f.check(n); err != nil {
		return 0, err
	}
	return n.VNI, f.swarm.Allocate(ctx, n.ID, n.VNI)
}

// Free forgets a network that was removed from the Swarm. It is no error if it is not known.
func (f *Fabric) Free(ctx context.Context, id string) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	f.swarm.Free(id)
	return nil
}
