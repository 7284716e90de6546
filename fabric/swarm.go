package fabric

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/tunnel"
)

// What Docker tells of its Swarm: which nodes there are, and which networks its managers have allocated. Docker tells each of
// it once, so it is saved (swarm.json), and kept in memory also while the disk cannot be written.
//
// A node that Docker says has left may still be running: Docker also says so when a dockerd restarts or when its own gossip is
// interrupted. So its ports stay, and only get fewer floods (vswitch.Port.SetSparse), until a datagram comes from the node,
// Docker says that it is back, or forgetAfter has passed.
const (
	sparseAfter = 30 * time.Second // without a datagram from a node that is said to have left
	forgetAfter = 24 * time.Hour
)

// IsSwarmID is state.IsSwarmID.
func IsSwarmID(network string) bool { return state.IsSwarmID(network) }

// The VNIs of Swarm networks that asked for none: the upper half, so that the lower one is free for users.
const (
	firstAutoVNI = 1 << 23
	autoVNIs     = ether.MaxVNI + 1 - firstAutoVNI
)

// saveSwarm writes what is known of the Swarm. If that fails, it is logged once, and fix tries again.
func (f *Fabric) saveSwarm() {
	err := f.dir.SaveSwarm(f.swarm)
	if err != nil && !f.swarmUnsaved {
		f.log.Warn("what Docker tells of its Swarm is not on the disk, and would be lost with this process; tried again", "err", err)
	}
	f.swarmUnsaved = err != nil
}

// NodeJoined is called when Docker tells of a node of the Swarm: another host, or with self this one. A node that is known
// changes nothing. Before it returns, the node is a peer of all networks of the Swarm that have no peer list of their own.
func (f *Fabric) NodeJoined(ctx context.Context, addr netip.Addr, self bool) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if self {
		if f.cfg.Managed && addr != f.swarm.Self {
			f.swarm.Self = addr
			f.saveSwarm()
		}
		return f.moveVTEP()
	}
	if err := tunnel.CheckAddr(addr); err != nil {
		return fmt.Errorf("node %s of the Swarm: %w", addr, err)
	}
	switch i := f.nodeAt(addr); {
	case i < 0:
		f.swarm.Nodes = append(f.swarm.Nodes, state.Node{Addr: addr})
	case !f.swarm.Nodes[i].Left.IsZero():
		f.swarm.Nodes[i].Left = time.Time{}
	default:
		return nil
	}
	f.saveSwarm()
	f.log.Info("node of the Swarm", "peer", addr)
	f.connectSwarm()
	return nil
}

// NodeLeft is called when Docker says that a node has left the Swarm.
func (f *Fabric) NodeLeft(ctx context.Context, addr netip.Addr) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	i := f.nodeAt(addr)
	if i < 0 || !f.swarm.Nodes[i].Left.IsZero() {
		return nil
	}
	f.log.Info("node has left the Swarm, Docker says: it stays a peer", "peer", addr)
	f.swarm.Nodes[i].Left = time.Now()
	f.saveSwarm()
	return nil
}

func (f *Fabric) nodeAt(addr netip.Addr) int {
	return slices.IndexFunc(f.swarm.Nodes, func(n state.Node) bool { return n.Addr == addr })
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
	for _, n := range f.networks {
		f.disconnect(n)
	}
	err := f.closeVTEP()
	f.updatePaths() // the source address has changed
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

// updateSparse sends fewer floods to nodes that left, as Docker says, and are silent, and forgets them after forgetAfter.
func (f *Fabric) updateSparse() {
	if len(f.sparse) == 0 && !slices.ContainsFunc(f.swarm.Nodes, func(d state.Node) bool { return !d.Left.IsZero() }) {
		return
	}
	answers := make(map[netip.Addr]bool)
	if f.vtep != nil {
		for _, p := range f.vtep.Peers() {
			answers[p.Host.Addr()] = p.State().Answers
		}
	}
	now, forget := time.Now(), false
	f.sparse = make(map[netip.Addr]bool)
	for i := range f.swarm.Nodes {
		d := &f.swarm.Nodes[i]
		heard := answers[d.Addr]
		for _, n := range f.networks {
			r := n.remotes[d.Addr]
			heard = heard || r != nil && r.lastRx != 0 && f.now()-r.lastRx < sparseAfter
		}
		if heard && !d.Left.IsZero() {
			d.Left = now // the time of silence begins again
		}
		if !d.Left.IsZero() && now.Sub(d.Left) >= sparseAfter {
			f.sparse[d.Addr] = true
		}
		for _, n := range f.networks {
			if r := n.remotes[d.Addr]; r != nil {
				_, told := f.swarmNode(n, d.Addr)
				r.port.SetSparse(told && f.sparse[d.Addr])
			}
		}
		forget = forget || !d.Left.IsZero() && now.Sub(d.Left) >= forgetAfter
	}
	if !forget {
		return
	}
	f.swarm.Nodes = slices.DeleteFunc(f.swarm.Nodes, func(d state.Node) bool {
		gone := !d.Left.IsZero() && now.Sub(d.Left) >= forgetAfter
		if gone {
			f.log.Info("node of the Swarm is forgotten: it left and was not heard for a day", "peer", d.Addr)
		}
		return gone
	})
	f.saveSwarm()
	f.connectSwarm()
}

// Nodes are the known other hosts of the Swarm, by address.
func (f *Fabric) Nodes() []netip.Addr {
	defer f.locked()()
	var all []netip.Addr
	for _, d := range f.swarm.Nodes {
		all = append(all, d.Addr)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// replayTime is how long Docker may take to name all networks after a manager became the leader.
const replayTime = time.Minute

// Allocate checks a network of the Swarm as CreateNetwork does on each node, and returns its VNI: the one that it asks for, or
// one that no network known here has. Docker calls it at the leading manager when a network is created. With again, Docker
// repeats a network that was allocated before, with its VNI, after a manager became the leader: that is never refused.
func (f *Fabric) Allocate(ctx context.Context, n Network, again bool) (vni uint32, err error) {
	if err := f.acquire(ctx); err != nil {
		return 0, err
	}
	defer f.release()
	if again && n.VNI != 0 {
		f.replay(n.ID, n.VNI)
		return n.VNI, nil
	}
	// Docker repeats all networks before it asks for a new one. So those that it has not named by now are removed.
	all := maps.Clone(f.swarm.Allocated)
	maps.DeleteFunc(all, func(_ string, a state.Allocation) bool { return !a.Confirmed })
	if vni = n.VNI; vni == 0 {
		vni = all[n.ID].VNI
	}
	if vni == 0 {
		vni = f.freeVNI(n.ID, all)
	}
	for id, a := range all {
		if id != n.ID && a.VNI == vni {
			return 0, inUsef("VNI %d belongs to network %s of the Swarm already: take another, or none to be given one", vni, short(id))
		}
	}
	n.VNI = vni
	if err := f.check(n); err != nil {
		return 0, err
	}
	if all == nil {
		all = make(map[string]state.Allocation)
	}
	all[n.ID] = state.Allocation{VNI: vni, Confirmed: true}
	with := f.swarm
	with.Allocated = all
	err = f.dir.SaveSwarm(with)
	if err == nil {
		err = ctx.Err() // nobody waits for the answer any more: undo it
	}
	if err != nil {
		f.swarmUnsaved = true // fix writes the old content again
		return 0, err
	}
	f.swarm, f.swarmUnsaved = with, false
	f.log.Info("network of the Swarm allocated", "network", n.ID, "vni", vni)
	return vni, nil
}

// replay is called for a network that was allocated before. A manager that becomes the leader is told of all networks. That
// begins with one that was named before, or after replayTime without any.
func (f *Fabric) replay(id string, vni uint32) {
	known, ok := f.swarm.Allocated[id]
	all := maps.Clone(f.swarm.Allocated)
	if all == nil {
		all = make(map[string]state.Allocation)
	}
	now := f.now()
	begins := ok && known.Confirmed && f.replayed[id] || f.replayedAt == 0 || now-f.replayedAt > replayTime
	if begins {
		f.replayed = make(map[string]bool)
		for other, a := range all {
			a.Confirmed = false
			all[other] = a
		}
	}
	f.replayed[id], f.replayedAt = true, now
	for other, a := range all {
		if other != id && a.VNI == vni {
			if a.Confirmed {
				f.log.Warn("two networks of the Swarm have one VNI", "vni", vni, "network", id, "other", other)
			}
			delete(all, other)
		}
	}
	all[id] = state.Allocation{VNI: vni, Confirmed: true}
	if !maps.Equal(all, f.swarm.Allocated) {
		f.swarm.Allocated = all
		f.saveSwarm()
	}
}

// freeVNI is a VNI that no network known here has. It follows from the network's id, so that managers that know the same
// networks choose the same one.
func (f *Fabric) freeVNI(id string, allocated map[string]state.Allocation) uint32 {
	taken := make(map[uint32]bool)
	for _, a := range allocated {
		taken[a.VNI] = true
	}
	for _, n := range f.networks {
		taken[n.VNI] = true
	}
	h := sha256.Sum256([]byte(id))
	for try := binary.BigEndian.Uint32(h[:]); ; try++ {
		if vni := firstAutoVNI + try%autoVNIs; !taken[vni] {
			return vni
		}
	}
}

// Free forgets a network that was removed from the Swarm. It is no error if it is not known.
func (f *Fabric) Free(ctx context.Context, id string) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if _, ok := f.swarm.Allocated[id]; ok {
		delete(f.swarm.Allocated, id)
		f.saveSwarm()
	}
	return nil
}
