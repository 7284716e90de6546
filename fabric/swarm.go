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

// What Docker tells of its Swarm: which nodes there are, and which networks its managers have allocated. Docker tells each
// of it once, so it is remembered (swarm.json), and kept in memory also while the disk does not take it.
//
// A node that Docker says has left may be there all the same: that word also comes when a dockerd restarts or when Docker's
// own gossip is cut. So its ports stay. They are only flooded to less (vswitch.Port.SetSparse), until the node is heard again,
// Docker says that it is back, or forgetAfter has passed without either.
const (
	sparseAfter = 30 * time.Second // without a datagram from a node that is said to have left
	forgetAfter = 24 * time.Hour
)

// IsSwarmID is state.OfSwarm.
func IsSwarmID(network string) bool { return state.IsSwarmID(network) }

// The VNIs of Swarm networks for which none was asked: the upper half, so that people have the lower one.
const (
	firstAutoVNI = 1 << 23
	autoVNIs     = ether.MaxVNI + 1 - firstAutoVNI
)

// saveSwarm writes what is known of the Swarm. If that fails it is tried again by the tick, and told once.
func (f *Fabric) saveSwarm() {
	err := f.dir.SaveSwarm(f.swarm)
	if err != nil && !f.swarmUnsaved {
		f.log.Warn("what Docker tells of its Swarm is not on the disk, and would be lost with this process; tried again", "err", err)
	}
	f.swarmUnsaved = err != nil
}

// NodeJoined hears of a node of the Swarm: another host, or with self this one. What is known already changes nothing.
// Networks of the Swarm that have no peer list of their own get the node as a peer before it returns.
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

// NodeLeft hears that a node has left the Swarm.
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

// moveVTEP lets the tunnel speak from this host's address in the Swarm, by which the other nodes know it, unless --vtep says
// another. Hosts outside of the Swarm know the address that the tunnel had: with a network that tunnels to such ones it stays.
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
	f.updatePaths() // the ways begin at another address
	for _, n := range f.networks {
		if n.VNI != 0 {
			err = errors.Join(err, f.connect(n))
		}
	}
	return err
}

// connectSwarm connects the networks of the Swarm with its nodes. What fails is shown with the peer, and tried again by mend.
func (f *Fabric) connectSwarm() {
	for _, n := range f.networks {
		if n.usesNodes() && n.VNI != 0 {
			_ = f.connect(n) // n.down
		}
	}
	f.updateSparse()
}

// updateSparse floods less to nodes that are said to have left and are silent, and at last forgets them.
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
			d.Left = now // Docker's word counts from now on, if it falls silent
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

// Nodes gives the other hosts of the Swarm that are known, by address.
func (f *Fabric) Nodes() []netip.Addr {
	defer f.locked()()
	var all []netip.Addr
	for _, d := range f.swarm.Nodes {
		all = append(all, d.Addr)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// replayTime is how long Docker may take to name all networks when a manager begins to lead.
const replayTime = time.Minute

// Allocate checks a network of the Swarm as CreateNetwork would on each node, and gives its VNI: the one that it asks for, or
// one that no network known here has. It is called at the leading manager when a network is made. With again Docker names a
// network that was allocated, and its VNI, since a manager has begun to lead: that is never refused.
func (f *Fabric) Allocate(ctx context.Context, n Network, again bool) (vni uint32, err error) {
	if err := f.acquire(ctx); err != nil {
		return 0, err
	}
	defer f.release()
	if again && n.VNI != 0 {
		f.replay(n.ID, n.VNI)
		return n.VNI, nil
	}
	// Docker names what there is before it asks for what is new. So what it has not named by now has gone.
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
		err = ctx.Err() // the answer would come too late: as if it had never been
	}
	if err != nil {
		f.swarmUnsaved = true // what may have been written is undone
		return 0, err
	}
	f.swarm, f.swarmUnsaved = with, false
	f.log.Info("network of the Swarm allocated", "network", n.ID, "vni", vni)
	return vni, nil
}

// replay hears of a network that was allocated before. A manager that begins to lead hears of all that there are: one that is
// named a second time, or was not known, begins that.
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

// freeVNI is one that no network has which is known here. It follows from the network's id, so that managers which know
// the same networks give the same one.
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

// Free forgets a network that was removed from the Swarm. One that is not known is fine.
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
