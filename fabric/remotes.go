package fabric

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric/guard"
	"github.com/tapestry-net/tapestry/fabric/vtep"
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
	state cluster.State // as the cluster last said
	gone  bool          // nothing is sent to it
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

// addrs are the addresses of this host: the VTEP's, and a second one.
func (f *Fabric) addrs() vtep.Addrs {
	main, _ := f.underlay()
	return vtep.Addrs{Main: main, Second: f.cfg.Second}
}

// towards is this host's address for a peer. Who was told of this host by a cluster or a Swarm knows its main address only.
func (f *Fabric) towards(p peer) netip.Addr {
	own := f.addrs()
	if p.node != nil || p.seat != nil {
		return own.Main
	}
	return own.To(p.addr.Addr())
}

// openVTEP opens the VXLAN socket if it is not open, and then that at the second address, too.
func (f *Fabric) openVTEP() error {
	if f.vtep != nil {
		return nil
	}
	addr, err := f.underlay()
	if err == nil {
		s := vtep.Settings{Port: f.cfg.Port, CompleteChecksums: f.cfg.CompleteChecksums, Poller: f.cfg.Poller, Failed: f.fatal, OnFits: f.fitsChanged}
		f.vtep, err = s.Open(addr)
	}
	if f.vtepWhy = err; err == nil {
		f.events.Info(events.TunnelUp, "tunnel open", "vtep", f.vtep.Local)
		f.openSecond()
	}
	return err
}

// openSecond opens the tunnel at the second address, if there is one. That it fails is no reason against the main one: fix tries again.
func (f *Fabric) openSecond() {
	if f.vtep == nil {
		return
	}
	failed := f.vtep.SecondWhy != nil
	if f.vtep.OpenSecond(f.cfg.Second) {
		f.events.Info(events.TunnelUp, "tunnel open at its second address", "vtep", f.cfg.Second)
	} else if why := f.vtep.SecondWhy; why != nil && !failed {
		f.events.Warn(events.TunnelDown, "tunnel is not open at its second address: it is tried again", "vtep", f.cfg.Second, "err", why)
	}
}

// checkSecond closes the tunnel at the second address if this host has lost that; fix opens it again.
func (f *Fabric) checkSecond() {
	if f.vtep == nil || !f.vtep.HasSecond() {
		return
	}
	_, err := tunnel.Underlay(f.cfg.Second)
	if !errors.Is(err, tunnel.ErrNoAddress) {
		return
	}
	f.events.Warn(events.TunnelDown, "tunnel lost its second address", "vtep", f.cfg.Second, "err", err)
	for _, n := range f.networks {
		var gone []*remote
		for host, r := range n.remotes {
			if host.Is4() == f.cfg.Second.Is4() {
				gone, n.down = append(gone, r), err
			}
		}
		f.removeRemotes(n, gone...)
	}
	f.vtep.CloseSecond(err, &f.drops, f.synchronize)
}

// heardStranger is called on the data path.
func (f *Fabric) heardStranger() {
	select {
	case f.strangers <- struct{}{}:
	default: // what is pending covers this host too
	}
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
		to, better := f.vtep.Elsewhere(err)
		err := f.moveVTEP() // the Swarm's address may have been added
		if _, named := f.swarmAddr(); better && !named && !f.cfg.VTEP.IsValid() {
			f.log.Warn("the tunnel follows the default route: hosts that list this one by its address need the new one", "vtep", to, "was", f.vtep.Local)
			err = f.reopenVTEP()
		}
		if err != nil {
			f.log.Warn("the tunnel's move is not complete", "err", err)
		}
		return
	}
	f.events.Warn(events.TunnelDown, "tunnel lost its address", "vtep", f.vtep.Local, "err", err)
	for _, n := range f.networks {
		if n.VNI != 0 {
			f.disconnect(n)
			n.down = err
		}
	}
	f.vtepWhy = errors.Join(err, f.closeVTEP())
}

func (f *Fabric) closeVTEP() error {
	if f.vtep == nil {
		return nil
	}
	f.drops.Close(f.vtep)
	err := f.vtep.Close(f.synchronize)
	f.vtep = nil
	f.events.Info(events.TunnelDown, "tunnel closed")
	return err
}

// connect adds and removes a network's remotes so that they are those of its peer list. A peer that fails is left out, and
// network.down says why.
func (f *Fabric) connect(n *network) (err error) {
	defer func() { n.down = err }()
	if err := f.openVTEP(); err != nil {
		return err
	}
	peers := f.peersOf(n)
	stay := make(map[netip.AddrPort]bool, len(peers))
	for _, p := range peers {
		stay[p.addr] = true
	}
	var gone []*remote
	for _, r := range n.remotes {
		if !stay[r.addr] {
			gone = append(gone, r)
		}
	}
	f.removeRemotes(n, gone...)
	var fresh []netip.AddrPort
	var errs []error
	for _, p := range peers {
		err := tunnel.CheckPeer(f.towards(p), p.addr.Addr())
		if p.group {
			err = nil
		}
		switch {
		case err == nil && n.remotes[p.addr.Addr()] == nil:
			fresh = append(fresh, p.addr)
		case !p.told(): // of one that was told, the view of the peer says why
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, f.addRemotes(n, fresh))...)
}

func (f *Fabric) withPort(a netip.AddrPort) netip.AddrPort {
	if a.Port() == 0 {
		return netip.AddrPortFrom(a.Addr(), f.cfg.Port)
	}
	return a
}

// addRemotes makes hosts remotes of a network: one change of the tunnel and one of the switch, however many there are.
func (f *Fabric) addRemotes(n *network, hosts []netip.AddrPort) error {
	if len(hosts) == 0 {
		return nil
	}
	var links []*tunnel.Link
	var groupErr error
	if i := slices.IndexFunc(hosts, func(a netip.AddrPort) bool { return a.Addr().IsMulticast() }); i >= 0 {
		var l *tunnel.Link
		if l, groupErr = f.vtep.Group(n.VNI, n.Wire, hosts[i], f.heardStranger); groupErr == nil {
			links = append(links, l)
		}
		hosts = slices.Delete(slices.Clone(hosts), i, i+1)
	}
	made, err := f.vtep.Links(n.VNI, n.Wire, hosts...)
	links, err = append(links, made...), errors.Join(groupErr, err)
	fallback := f.fallbackMTU()
	var remotes []*remote
	var ports []*vswitch.Port
	for _, l := range links {
		r := &remote{addr: l.Host, link: l}
		r.faults = fault.NewPoint(n.sw, n.ID, l.Host.Addr().String(), l, true, 0)
		r.port = r.faults.Port
		r.port.SetReached(n.Group.IsValid() && l.Host.Addr() != n.Group)
		r.port.SetPolicy(guard.OfRemote(&n.Network))
		f.updateRemote(n, r, fallback)
		f.cfg.Observer.Plug(n.remoteView(r), nil, l)
		n.remotes[l.Host.Addr()] = r
		remotes, ports = append(remotes, r), append(ports, r.port)
	}
	n.sw.Add(ports...)
	for _, r := range remotes {
		r.link.Bind(r.faults.Ingress)
	}
	return err
}

// updateRemote limits the frames that are sent to the remote to the path MTU.
func (f *Fabric) updateRemote(n *network, r *remote, fallback func() int) {
	if mtu := f.paths.MTU(r.addr.Addr(), f.source, fallback); mtu != r.mtu {
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

// removeRemotes undoes addRemotes.
func (f *Fabric) removeRemotes(n *network, gone ...*remote) {
	if len(gone) == 0 {
		return
	}
	var links []*tunnel.Link
	var ports []*vswitch.Port
	for _, r := range gone {
		f.clearFaults(r.faults)
		links, ports = append(links, r.link), append(ports, r.port)
	}
	f.vtep.CloseLinks(links...)
	n.sw.Detach(ports...)
	for _, r := range gone {
		f.cfg.Observer.Unplug(r.port.Number)
		delete(n.remotes, r.addr.Addr())
	}
}

func (f *Fabric) disconnect(n *network) {
	f.removeRemotes(n, slices.Collect(maps.Values(n.remotes))...)
}
