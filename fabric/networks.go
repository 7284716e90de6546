package fabric

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/paths"
	"github.com/tapestry-net/tapestry/fabric/state"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/tunnel"
)

// network is a Network with its switch and ports. Its fields are guarded by Fabric.lock.
type network struct {
	Network
	peers     []netip.AddrPort // in force; nil: the daemon's, with its names
	names     []PeerName       // in force
	sw        *vswitch.Switch
	learned   map[netip.Addr]time.Duration // hosts that have sent to Group, and since when
	endpoints map[string]*endpoint
	remotes   map[netip.Addr]*remote
	down      error         // why there is no tunnel although the network has a VNI
	idle      time.Duration // of a Swarm's network: since when no container uses it; 0: one does
}

func newNetwork(n Network, now time.Duration) *network {
	made := &network{
		Network: n, peers: n.Peers, names: n.PeerNames,
		sw:        vswitch.New(vswitch.Config{Start: now, Ageing: n.Ageing}),
		learned:   make(map[netip.Addr]time.Duration),
		endpoints: make(map[string]*endpoint),
		remotes:   make(map[netip.Addr]*remote),
	}
	if n.Snooping {
		var id [3]byte
		rand.Read(id[:])
		made.sw.SetSnooping(ether.QuerierMAC(id))
	}
	return made
}

// register adds a network, and tells the observer.
func (f *Fabric) register(n *network) {
	f.networks[n.ID] = n
	f.cfg.Observer.Add(n.Network, n.sw)
}

// unregister undoes register.
func (f *Fabric) unregister(id string) {
	delete(f.networks, id)
	f.cfg.Observer.Remove(id)
}

// CreateNetwork creates a network. A repeated call with equal data succeeds; it is ErrInUse if the network exists with other
// data, or if another network has the VNI. The first network with a VNI opens the VXLAN socket: if that fails, the network is
// not created.
func (f *Fabric) CreateNetwork(ctx context.Context, spec Network) error {
	f.learnPeers(ctx, spec)
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if old, ok := f.networks[spec.ID]; ok {
		if reflect.DeepEqual(old.Network, spec) {
			return nil
		}
		return inUsef("network %s exists with other options: remove it first", short(spec.ID))
	}
	n := newNetwork(spec, f.now())
	if p, ok := f.swarm.Parked[n.ID]; ok && reflect.DeepEqual(p.Record.Network, spec) {
		n.peers, n.names = p.Record.Peers, p.Record.PeerNames
	}
	return f.create(ctx, n)
}

// create creates a network that does not exist, or is parked.
func (f *Fabric) create(ctx context.Context, n *network) error {
	f.freeStaleVNI(n.VNI)
	if err := f.check(n.Network); err != nil {
		return err
	}
	err := f.dir.Save(n.record())
	if err == nil && n.VNI != 0 {
		err = f.connect(n)
	}
	if err == nil {
		err = f.plugHostPort(n)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		undo := f.unplugHostPort(n)
		f.disconnect(n)
		return withUndo(err, errors.Join(undo, f.closeIdleVTEP(), f.dir.Remove(n.ID)))
	}
	if _, ok := f.swarm.Parked[n.ID]; ok {
		delete(f.swarm.Parked, n.ID)
		f.swarm.Save()
	}
	f.register(n)
	f.publish()
	f.log.Info("network created", "network", n.ID, "vni", n.VNI)
	return nil
}

// check refuses a network that cannot work, before anything is changed.
func (f *Fabric) check(n Network) error {
	if err := cmp.Or(n.Check(), f.checkAttach(n), f.checkKey(&n), f.checkVNI(n.ID, n.VNI), f.checkGroup(&n)); err != nil {
		return err
	}
	if n.VNI == 0 {
		return nil
	}
	tunnels := &network{Network: n, peers: n.Peers, names: n.PeerNames}
	tunnels.Swarm, tunnels.Key = false, "" // a host that Docker or the cluster tells of is no reason to refuse the others
	if err := f.checkPeers(tunnels); err != nil {
		return err
	}
	to, most, err := f.tunnelMTU(tunnels)
	switch {
	case err != nil: // connect will report it
	case n.MTU == 0 && most < n.MinMTU():
		return fmt.Errorf("%s leaves room for packets of %d bytes, VXLAN takes the rest, and the network wants %d at least%s", to, most, n.MinMTU(), n.MinMTUReason())
	case n.MTU > most:
		return fmt.Errorf("MTU %d: %s leaves room for %d at most, VXLAN takes the rest", n.MTU, to, most)
	}
	return nil
}

// checkVNI refuses a VNI that another network of this host has.
func (f *Fabric) checkVNI(id string, vni uint32) error {
	for _, other := range f.networks {
		if vni != 0 && other.VNI == vni && other.ID != id {
			return inUsef("VNI %d belongs to network %s already: take another; if Docker has no such network, `tapestry networks rm %d` frees it",
				vni, short(other.ID), vni)
		}
	}
	return nil
}

// checkAttach refuses attach=tap where this process may not enter containers' network namespaces: after a restart it could
// not find the TAPs there.
func (f *Fabric) checkAttach(n Network) error {
	if n.Attach != tap.Direct {
		return nil
	}
	if err := f.links.CheckEnter(); err != nil {
		return fmt.Errorf("tapestry.attach=tap: a restart of tapestry would cut its containers off: %w; leave the option away, or run tapestry as a service of the host", err)
	}
	return nil
}

// linkMTU is the MTU that a new container's link gets.
func (f *Fabric) linkMTU(n *network) (int, error) {
	if n.MTU != 0 {
		return n.MTU, nil
	}
	if n.VNI != 0 {
		_, most, err := f.tunnelMTU(n)
		if err != nil {
			return 0, err
		}
		return max(most, n.MinMTU()), nil
	}
	addr, err := f.underlay()
	if err != nil {
		return paths.EtherMTU, nil // the host has no underlay: Ethernet's default
	}
	if p, _ := tunnel.Underlay(addr); p.MTU > 0 {
		return min(p.MTU, ether.MaxMTU), nil
	}
	return paths.EtherMTU, nil
}

// DeleteNetwork removes a network and the endpoints that are left on it. It is no error if the network does not exist.
func (f *Fabric) DeleteNetwork(ctx context.Context, id string) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	if _, ok := f.swarm.Parked[id]; ok {
		delete(f.swarm.Parked, id)
		f.swarm.Save()
		f.log.Info("network deleted", "network", id)
	}
	n, ok := f.networks[id]
	if !ok {
		return nil
	}
	return f.deleteNetwork(n)
}

// ForgetNetwork removes a network that Docker removed while this daemon was down: Docker never says so later. It is ErrInUse
// if a container still runs on it.
func (f *Fabric) ForgetNetwork(ctx context.Context, id string) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	n, err := f.network(id)
	if err != nil {
		return err
	}
	found, err := f.links.List(f.tag())
	if err != nil {
		return err
	}
	for _, e := range n.endpoints {
		if !n.isHostPort(e) && n.alive(e, found) {
			return inUsef("network %s: the container with endpoint %s runs on it", short(id), short(e.ID))
		}
	}
	return f.deleteNetwork(n)
}

func (f *Fabric) deleteNetwork(n *network) error {
	var errs []error
	for _, e := range n.endpoints {
		if !n.isHostPort(e) {
			errs = append(errs, f.removeEndpoint(n, e))
		}
	}
	errs = append(errs, f.unplugHostPort(n))
	f.disconnect(n)
	if err := f.dir.Remove(n.ID); err != nil { // the next start would restore it, so it stays registered
		n.down = err // and is fixed if Docker goes on using it
		return errors.Join(append(errs, err)...)
	}
	f.unregister(n.ID)
	f.wantNames()
	f.publish()
	f.log.Info("network deleted", "network", n.ID)
	return errors.Join(append(errs, f.closeIdleVTEP())...)
}

func (n *network) record() state.Record {
	r := state.Record{Network: n.Network, Peers: n.peers, PeerNames: n.names}
	for _, e := range n.endpoints {
		if !n.isHostPort(e) {
			r.Endpoints = append(r.Endpoints, e.EndpointRecord)
		}
	}
	slices.SortFunc(r.Endpoints, func(a, b state.EndpointRecord) int { return strings.Compare(a.ID, b.ID) })
	return r
}

// short is an id as Docker's commands show it.
func short(id string) string { return id[:min(12, len(id))] }

func (f *Fabric) network(id string) (*network, error) {
	n, ok := f.networks[id]
	if !ok {
		return nil, fmt.Errorf("network %s: %w", short(id), ErrNoNetwork)
	}
	return n, nil
}

func (f *Fabric) spec(n *network, e *endpoint) tap.Spec {
	s := tap.Spec{ID: e.ID, Tag: f.tag() + e.ID, Mode: n.Attach, MAC: e.MAC, MTU: e.MTU,
		Queues: f.cfg.Poller.Workers(), Sandbox: e.Sandbox}
	if n.VNI != 0 {
		s.GSOMax = tap.GSOMax(e.MTU)
	}
	if n.isHostPort(e) {
		s.Mode, s.Host = tap.Direct, e.Addrs
	}
	return s
}

// tag is the beginning of the alias of all of this daemon's links; the endpoint's id follows.
func (f *Fabric) tag() string { return "tapestry:" + f.cfg.Name + ":" }
