package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fault"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// remote is another host as a port of one network. Its fields are guarded by Fabric.lock.
type remote struct {
	addr   netip.AddrPort
	link   *tunnel.Link
	port   *vswitch.Port
	faults *fault.Point  // between both
	mtu    int           // path MTU: of the outer IP packet, in bytes
	rx     uint64        // datagrams received, as of the last tick
	lastRx time.Duration // when rx last rose, in the clock of tick; 0: never
	// See updateGone.
	doubted bool // the cluster says that it is gone: it was asked over the tunnel
	gone    bool // nothing is sent to it
}

// underlay is this host's VTEP address: that of --vtep, or this host's in the Swarm, or that of the default route.
func (f *Fabric) underlay() (netip.Addr, error) {
	if f.vtep != nil {
		return f.vtep.Local.Addr(), nil
	}
	if f.cfg.VTEP.IsValid() {
		return f.cfg.VTEP, nil
	}
	if self, ok := f.swarmAddr(); ok {
		return self, nil
	}
	return tunnel.DefaultAddr()
}

// openVTEP opens the VXLAN socket if it is not open.
func (f *Fabric) openVTEP() error {
	if f.vtep != nil {
		return nil
	}
	v, err := f.listen()
	f.vtep, f.vtepWhy = v, err
	return err
}

func (f *Fabric) listen() (*vtep, error) {
	addr, err := f.underlay()
	if err != nil {
		return nil, err
	}
	if _, err := tunnel.Underlay(addr); errors.Is(err, tunnel.ErrNoAddress) {
		return nil, fmt.Errorf("open the tunnel: %w: give it to one, lo will do, or start tapestry with another --vtep", err)
	}
	t, err := tunnel.Listen(netip.AddrPortFrom(addr, f.cfg.Port), f.cfg.Poller.Workers())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("UDP port %d is taken by %s: start tapestry with another --vxlan-port on every host, or free this one", f.cfg.Port, tunnel.PortUser(f.cfg.Port))
	}
	if err != nil {
		return nil, fmt.Errorf("open the tunnel: %w", err)
	}
	t.CompleteChecksums = f.cfg.CompleteChecksums
	v := &vtep{VTEP: t}
	failed := func(err error) {
		select {
		case f.fatal <- err:
		default: // the first error ends Run
		}
	}
	for i, r := range t.Receivers() {
		h, err := f.cfg.Poller.Add(r, i, failed)
		if err != nil {
			return nil, errors.Join(err, v.close(f.cfg.Poller.Sync))
		}
		v.handles = append(v.handles, h)
	}
	later := 0
	t.StartReceiver = func(r *tunnel.Receiver) (func(), error) {
		later++
		h, err := f.cfg.Poller.Add(r, later, failed)
		if err != nil {
			return nil, err
		}
		return h.Remove, nil
	}
	f.log.Info("tunnel open", "vtep", t.Local)
	return v, nil
}

func (v *vtep) close(sync func()) error {
	for _, h := range v.handles {
		h.Remove()
	}
	sync() // from here on nobody sends
	return v.VTEP.Close()
}

// closeIdleVTEP closes the VXLAN socket if no network has a VNI any more.
func (f *Fabric) closeIdleVTEP() error {
	for _, n := range f.networks {
		if n.VNI != 0 {
			return nil
		}
	}
	f.vtepWhy = nil
	return f.closeVTEP()
}

// checkVTEP closes the tunnel if this host has lost the tunnel's address; fix opens it again, with another address if needed.
func (f *Fabric) checkVTEP() {
	if f.vtep == nil {
		return
	}
	_, err := tunnel.Underlay(f.vtep.Local.Addr())
	if !errors.Is(err, tunnel.ErrNoAddress) {
		if err := f.moveVTEP(); err != nil { // the Swarm's address may have been added
			f.log.Warn("the tunnel's move is not complete", "err", err)
		}
		return
	}
	f.log.Warn("tunnel lost its address", "vtep", f.vtep.Local, "err", err)
	for _, n := range f.networks {
		if n.VNI != 0 {
			f.disconnect(n)
			n.down = err
		}
	}
	f.vtepWhy = errors.Join(err, f.closeVTEP())
}

// addCounts adds more to all, by reason.
func addCounts(all, more map[string]uint64) {
	for reason, n := range more {
		all[reason] += n
	}
}

func (f *Fabric) closeVTEP() error {
	if f.vtep == nil {
		return nil
	}
	addCounts(f.rxDropped, f.vtep.RxDropped())
	addCounts(f.kernelDropped, f.vtep.KernelDropped())
	err := f.vtep.close(f.synchronize)
	f.vtep = nil
	f.log.Info("tunnel closed")
	return err
}

// connect adds and removes a network's remotes so that they are those of its peer list. A peer that fails is left out, and
// network.down says why.
func (f *Fabric) connect(n *network) (err error) {
	defer func() { n.down = err }()
	if err := f.openVTEP(); err != nil {
		return err
	}
	want := f.peersOf(n)
	for _, r := range n.remotes {
		if !slices.Contains(want, r.addr) {
			f.removeRemote(n, r)
		}
	}
	var errs []error
	for _, a := range want {
		err := tunnel.CheckPeer(f.vtep.Local.Addr(), a.Addr())
		if err == nil && n.remotes[a.Addr()] == nil {
			err = f.addRemote(n, a)
		}
		if f.told(n, a.Addr()) == "" { // Docker and the cluster may tell of hosts that cannot be reached: the view of a peer says why
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// peersOf are the peers of a network with their ports, without this host.
func (f *Fabric) peersOf(n *network) []netip.AddrPort {
	peers := f.namedPeers(n)
	own, _ := f.underlay()
	var out []netip.AddrPort
	for _, a := range peers {
		if a = f.withPort(a); a.Addr() != own {
			out = append(out, a)
		}
	}
	return out
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

// namedPeers are the peers of a network as they were configured or told, perhaps with this host and without ports.
func (f *Fabric) namedPeers(n *network) []netip.AddrPort {
	all := slices.Clone(f.configuredPeers(n))
	add := func(a netip.AddrPort) {
		if !slices.ContainsFunc(all, func(b netip.AddrPort) bool { return a.Addr() == b.Addr() }) {
			all = append(all, a)
		}
	}
	if n.usesNodes() {
		for _, d := range f.swarm.Nodes {
			add(netip.AddrPortFrom(d.Addr, 0))
		}
	}
	for _, s := range f.seats(n) {
		add(s.VTEP)
	}
	return all
}

// swarmNode returns the node of the Swarm that a peer of the network is, if it is a peer because of that.
func (f *Fabric) swarmNode(n *network, addr netip.Addr) (d state.Node, ok bool) {
	node := f.swarm.Node(addr)
	if node == nil || !n.usesNodes() || slices.ContainsFunc(f.configuredPeers(n), func(a netip.AddrPort) bool { return a.Addr() == addr }) {
		return state.Node{}, false
	}
	return *node, true
}

func (f *Fabric) withPort(a netip.AddrPort) netip.AddrPort {
	if a.Port() == 0 {
		return netip.AddrPortFrom(a.Addr(), f.cfg.Port)
	}
	return a
}

func (f *Fabric) addRemote(n *network, a netip.AddrPort) error {
	l, err := f.vtep.Link(n.VNI, a)
	if err != nil {
		return err
	}
	r := &remote{addr: a, link: l}
	r.faults = fault.Attach(n.sw, n.ID, a.Addr().String(), l, true, 0)
	r.port = r.faults.Port
	f.updateRemote(n, r)
	v := n.remoteView(r)
	v.Number = r.port.Number
	f.cfg.Observer.Plug(v, f.vtep.Local, a)
	l.Bind(r.faults.Ingress)
	n.remotes[a.Addr()] = r
	return nil
}

// updateRemote limits the frames that are sent to the remote to the path MTU.
func (f *Fabric) updateRemote(n *network, r *remote) {
	if mtu := f.mtu(r.addr.Addr()); mtu != r.mtu {
		r.mtu = mtu
		const ethernet = 14
		r.port.SetLimit(r.innerMTU() + ethernet)
		f.cfg.Observer.SetMTU(r.port.Number, r.innerMTU())
	}
	n.setSegmentMTU(r)
}

// setSegmentMTU sets the size to which super-frames that arrive from a remote unsegmented are cut, so that every container
// here accepts them.
func (n *network) setSegmentMTU(r *remote) {
	mtu := r.innerMTU()
	for _, e := range n.endpoints {
		mtu = min(mtu, e.MTU)
	}
	r.link.SetMTU(mtu)
}

func (f *Fabric) removeRemote(n *network, r *remote) {
	f.clearFaults(r.faults)
	_ = r.link.Close()
	r.port.Detach()
	f.cfg.Observer.Unplug(r.port.Number)
	delete(n.remotes, r.addr.Addr())
}

func (f *Fabric) disconnect(n *network) {
	for _, r := range n.remotes {
		f.removeRemote(n, r)
	}
}

// AddPeer adds a remote host to a network with a VNI, and saves it. It is no error if the peer is there already. A network that
// used the daemon's --peer list has its own list from now on; the Swarm's nodes stay peers too.
func (f *Fabric) AddPeer(ctx context.Context, id string, a netip.AddrPort) error {
	return f.changePeers(ctx, id, func(n *network, peers []netip.AddrPort) ([]netip.AddrPort, error) {
		if _, told := f.swarmNode(n, a.Addr()); told && f.withPort(a).Port() == f.cfg.Port {
			return peers, nil
		}
		if s, told := f.seat(n, a.Addr()); told && f.withPort(a) == s.VTEP {
			return peers, nil
		}
		if addr, err := f.underlay(); err == nil {
			if a.Addr() == addr {
				return nil, fmt.Errorf("%s is this host itself", a.Addr())
			}
			if err := f.checkPeer(addr, a.Addr()); err != nil {
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
		if _, told := f.swarmNode(n, a.Addr()); told {
			return nil, fmt.Errorf("%s is a node of the Swarm, and so a peer of each of its networks that was made without tapestry.peers", a.Addr())
		}
		if s, told := f.seat(n, a.Addr()); told {
			return nil, fmt.Errorf("%s is host %s of the cluster, which has the network too: remove the network there, or if the host is gone: tapestry cluster forget %s", a.Addr(), s.Name, s.Name)
		}
		left := slices.DeleteFunc(slices.Clone(peers), func(p netip.AddrPort) bool {
			return p.Addr() == a.Addr() && (a.Port() == 0 || f.withPort(p) == a)
		})
		if len(left) == len(peers) {
			return nil, fmt.Errorf("network %s: %w %s, its peers are %v", short(n.ID), ErrNoPeer, a.Addr(), f.peersOf(n))
		}
		return left, nil
	})
}

func (f *Fabric) changePeers(ctx context.Context, id string, change func(*network, []netip.AddrPort) ([]netip.AddrPort, error)) error {
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
	old := n.peers
	peers, err := change(n, f.configuredPeers(n))
	if err != nil {
		return err
	}
	n.peers = append([]netip.AddrPort{}, peers...) // never nil: its own list, be it empty
	if err := f.dir.Save(n.record()); err != nil {
		n.peers = old
		return err
	}
	if err := f.connect(n); err != nil { // saved all the same: fix tries again
		f.log.Info("network has no tunnel for now", "network", n.ID, "err", err)
	}
	f.log.Info("peers changed", "network", n.ID, "peers", f.peersOf(n))
	return nil
}
