package fabric

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// What Docker tells of its Swarm: which nodes there are, and which networks its managers have allocated. Docker tells each
// of it once, so it is remembered (swarm.json).
//
// A node that Docker says has left may be there all the same: that word also comes when a dockerd restarts or when Docker's
// own gossip is cut. So its ports stay. They are only flooded to less (vswitch.Port.SetSparse), until it is heard again,
// Docker says that it is back, or forgetAfter has passed.
const (
	sparseAfter = 30 * time.Second // without a datagram from a node that is said to have left
	forgetAfter = 24 * time.Hour
)

// swarm is what is remembered of Docker's Swarm.
type swarm struct {
	Self      netip.Addr            `json:"self"` // this host's address as Docker names it; zero: never told
	Nodes     []node                `json:"nodes"`
	Allocated map[string]allocation `json:"allocated"` // by network id, at a manager
}

// node is another host of the Swarm.
type node struct {
	Addr netip.Addr `json:"addr"`
	Left time.Time  `json:"left,omitzero"` // when Docker said that it had left, or it was last heard since; zero: it is there
}

// allocation is the VNI of a Swarm's network.
type allocation struct {
	VNI uint32 `json:"vni"`
	// Sure: Docker has named the network since this host last became the leading manager. Of others it may have been
	// removed while another manager led.
	Sure bool `json:"sure"`
}

// The VNIs of Swarm networks for which none was asked: the upper half, so that people have the lower one.
const (
	firstAutoVNI = 1 << 23
	autoVNIs     = tunnel.MaxVNI + 1 - firstAutoVNI
)

// Discover hears of a node of the Swarm: another host, or with self this one. What is known already changes nothing.
// Networks of the Swarm that have no peer list of their own get the node as a peer before it returns.
func (f *Fabric) Discover(ctx context.Context, addr netip.Addr, self bool) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if self {
		return f.discoverSelf(addr)
	}
	if err := tunnel.CheckAddr(addr); err != nil {
		return fmt.Errorf("node %s of the Swarm: %w", addr, err)
	}
	i := f.nodeAt(addr)
	if i >= 0 && f.swarm.Nodes[i].Left.IsZero() {
		return nil
	}
	old := f.swarm
	f.swarm.Nodes = slices.Clone(old.Nodes)
	if i < 0 {
		f.swarm.Nodes = append(f.swarm.Nodes, node{Addr: addr})
	} else {
		f.swarm.Nodes[i].Left = time.Time{}
	}
	if err := f.store.saveSwarm(f.swarm); err != nil {
		f.swarm = old
		return err
	}
	f.log.Info("node of the Swarm", "peer", addr)
	f.followSwarm()
	return nil
}

// Undiscover hears that a node has left the Swarm.
func (f *Fabric) Undiscover(ctx context.Context, addr netip.Addr) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	i := f.nodeAt(addr)
	if i < 0 || !f.swarm.Nodes[i].Left.IsZero() {
		return nil
	}
	f.log.Info("node has left the Swarm, Docker says: it is still sent to", "peer", addr)
	return f.changeNode(i, time.Now())
}

func (f *Fabric) nodeAt(addr netip.Addr) int {
	return slices.IndexFunc(f.swarm.Nodes, func(n node) bool { return n.Addr == addr })
}

func (f *Fabric) changeNode(i int, left time.Time) error {
	old := f.swarm
	f.swarm.Nodes = slices.Clone(old.Nodes)
	f.swarm.Nodes[i].Left = left
	if err := f.store.saveSwarm(f.swarm); err != nil {
		f.swarm = old
		return err
	}
	return nil
}

// discoverSelf takes the address that Docker names as this host's for the tunnel, unless one was given.
func (f *Fabric) discoverSelf(addr netip.Addr) error {
	if addr == f.swarm.Self {
		return nil
	}
	if _, err := tunnel.Underlay(addr); errors.Is(err, tunnel.ErrNoAddress) || addr.IsLoopback() {
		f.log.Info("Docker names an address of this host that no link here has: the tunnel does not use it; --vtep names one", "addr", addr)
		return nil
	}
	old := f.swarm
	f.swarm.Self = addr
	if err := f.store.saveSwarm(f.swarm); err != nil {
		f.swarm = old
		return err
	}
	if f.cfg.VTEP.IsValid() || f.vtep == nil || f.vtep.Local.Addr() == addr {
		return nil
	}
	f.log.Info("the tunnel moves to this host's address in the Swarm", "addr", addr, "vtep", f.vtep.Local)
	for _, n := range f.networks {
		f.disconnect(n)
	}
	err := f.closeVTEP()
	f.lookAtPaths() // the ways begin at another address
	for _, n := range f.networks {
		if n.VNI != 0 {
			err = errors.Join(err, f.connect(n))
		}
	}
	return err
}

// followSwarm connects the networks of the Swarm with its nodes. What fails is shown with the network, and tried again.
func (f *Fabric) followSwarm() {
	for _, n := range f.networks {
		if !n.Swarm || n.VNI == 0 || n.peers != nil {
			continue
		}
		if err := f.connect(n); err != nil {
			f.log.Info("network does not reach every node of the Swarm for now", "network", n.ID, "err", err)
		}
	}
	f.watchNodes()
}

// watchNodes floods less to nodes that are said to have left and are silent, and at last forgets them.
func (f *Fabric) watchNodes() {
	now, forget := time.Now(), false
	for i := range f.swarm.Nodes {
		d := &f.swarm.Nodes[i]
		for _, n := range f.networks {
			r := n.remotes[d.Addr]
			if r == nil {
				continue
			}
			if !d.Left.IsZero() && r.heard != 0 && f.now()-r.heard < sparseAfter {
				d.Left = now // it is there: Docker's word counts from now on, if it falls silent
			}
		}
		silent := !d.Left.IsZero() && now.Sub(d.Left) >= sparseAfter
		for _, n := range f.networks {
			if r := n.remotes[d.Addr]; r != nil && r.port.IsSparse() != silent {
				r.port.SetSparse(silent)
			}
		}
		forget = forget || !d.Left.IsZero() && now.Sub(d.Left) >= forgetAfter
	}
	if !forget {
		return
	}
	old := f.swarm
	f.swarm.Nodes = slices.DeleteFunc(slices.Clone(old.Nodes), func(d node) bool {
		gone := !d.Left.IsZero() && now.Sub(d.Left) >= forgetAfter
		if gone {
			f.log.Info("node of the Swarm is forgotten: it left and was not heard for a day", "peer", d.Addr)
		}
		return gone
	})
	if err := f.store.saveSwarm(f.swarm); err != nil {
		f.swarm = old
		f.log.Warn("nodes that left the Swarm are not forgotten", "err", err)
		return
	}
	f.followSwarm()
}

// Nodes gives the other hosts of the Swarm that are known, by address.
func (f *Fabric) Nodes() []netip.Addr {
	defer f.look()()
	var all []netip.Addr
	for _, d := range f.swarm.Nodes {
		all = append(all, d.Addr)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// Allocate checks a network of the Swarm as CreateNetwork would on each node, and gives its VNI: the one it asks for, or
// one that no network known here has. It is called at the leading manager, for each network when it is made and again
// whenever a manager begins to lead, then with the VNI that was given.
func (f *Fabric) Allocate(ctx context.Context, n Network) (vni uint32, err error) {
	if err := f.acquire(ctx); err != nil {
		return 0, err
	}
	defer f.release()
	if err := f.checkSpec(n); err != nil {
		return 0, err
	}
	known, again := f.swarm.Allocated[n.ID]
	all := make(map[string]allocation, len(f.swarm.Allocated)+1)
	for id, a := range f.swarm.Allocated {
		if again && known.Sure && n.VNI != 0 { // what was given is named a second time: this host leads anew
			a.Sure = false
		}
		all[id] = a
	}
	switch {
	case n.VNI != 0:
		vni = n.VNI
	case again:
		vni = known.VNI
	default:
		vni = f.freeVNI(n.ID)
	}
	for id, a := range all {
		if id == n.ID || a.VNI != vni {
			continue
		}
		if a.Sure {
			return 0, inUsef("VNI %d belongs to network %s of the Swarm already: take another, or none to be given one", vni, short(id))
		}
		delete(all, id) // removed while another manager led
	}
	if err := f.checkVNI(n.ID, vni); err != nil {
		return 0, err
	}
	all[n.ID] = allocation{VNI: vni, Sure: true}
	old := f.swarm
	f.swarm.Allocated = all
	if err := f.store.saveSwarm(f.swarm); err != nil {
		f.swarm = old
		return 0, err
	}
	f.log.Info("network of the Swarm allocated", "network", n.ID, "vni", vni)
	return vni, nil
}

// freeVNI is one that no network has which is known here. It follows from the network's id, so that managers which know
// the same networks give the same one.
func (f *Fabric) freeVNI(id string) uint32 {
	taken := make(map[uint32]bool)
	for _, a := range f.swarm.Allocated {
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
	if _, ok := f.swarm.Allocated[id]; !ok {
		return nil
	}
	old := f.swarm
	f.swarm.Allocated = make(map[string]allocation)
	for other, a := range old.Allocated {
		if other != id {
			f.swarm.Allocated[other] = a
		}
	}
	if err := f.store.saveSwarm(f.swarm); err != nil {
		f.swarm = old
		return err
	}
	return nil
}

// parkedFor is how long a parked network is remembered.
const parkedFor = 24 * time.Hour

// A parked network (Fabric.parked) is one of the Swarm that no container here uses. Docker makes it on a node with the first task and
// removes it with the last, but never says so when dockerd was killed. So after the grace period its VNI, its switch and
// its links to other hosts are freed, and only its record stays: should Docker use it after all (a task's image took long
// to come), it is made again. After parkedFor the record goes too.
//
// park frees networks of the Swarm that nobody uses.
func (f *Fabric) park(now time.Duration) {
	for _, n := range f.sorted() {
		if !n.Swarm || n.containers() > 0 {
			n.idle = 0
			continue
		}
		if !f.overdue(&n.idle, now) {
			continue
		}
		r := n.record()
		r.Parked = time.Now().UTC().Truncate(time.Second)
		err := f.store.save(r)
		if err == nil {
			err = errors.Join(f.unplugHost(n))
			f.disconnect(n)
			f.drop(n.ID)
			f.parked[n.ID] = r
			err = errors.Join(err, f.closeIdleVTEP())
		}
		f.log.Info("network of the Swarm is freed, since no container here uses it; the next one brings it back", "network", n.ID, "vni", n.VNI, "err", err)
	}
	for id, r := range f.parked {
		if time.Since(r.Parked) < parkedFor {
			continue
		}
		if err := f.store.remove(id); err != nil {
			f.log.Warn("record of a network of the Swarm that nobody uses not removed", "network", id, "err", err)
			continue
		}
		delete(f.parked, id)
	}
}

// unpark brings a parked network back that Docker uses. Without one it does nothing.
func (f *Fabric) unpark(ctx context.Context, id string) error {
	r, ok := f.parked[id]
	if !ok {
		return nil
	}
	n := newNetwork(r.Network, f.now())
	n.peers = r.Peers
	return f.create(ctx, n)
}

// checkAttach refuses TAPs in containers where they could not be found again: after a restart of this daemon, who has to
// enter the containers' network namespaces for that.
func (f *Fabric) checkAttach(n Network) error {
	if n.Attach != tap.Direct {
		return nil
	}
	if err := f.links.Enters(); err != nil {
		return fmt.Errorf("tapestry.attach=tap: a restart of tapestry would cut its containers off: %w; leave the option away, or run tapestry as a service of the host", err)
	}
	return nil
}
