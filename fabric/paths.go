package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/tunnel"
)

// A path is the way to another host as it was when it was last looked at.
type path struct {
	tunnel.Path
	err error // why there is no way
}

// path gives the way to another host.
func (f *Fabric) path(host netip.Addr) path {
	p, known := f.paths[host]
	if !known {
		p = f.findPath(host)
		f.paths[host] = p
	}
	return p
}

// findPath asks the kernel. How long packets may be is remembered while there is no way.
func (f *Fabric) findPath(host netip.Addr) (p path) {
	local, err := f.underlay()
	if err != nil {
		p.err = err
	} else {
		p.Path, p.err = tunnel.FindPath(local, host)
	}
	if p.MTU == 0 {
		p.MTU = f.paths[host].MTU
	}
	return p
}

// linksChanged hears that links, addresses or routes have.
func (f *Fabric) linksChanged() {
	f.checkCarriers()
	f.updatePaths()
	if f.vtep != nil || !f.cfg.VTEP.IsValid() {
		return // an address that is chosen by the default route is chosen when that has settled, see mendEvery
	}
	if errors.Is(f.vtepWhy, tunnel.ErrNoAddress) || errors.Is(f.vtepWhy, unix.EADDRNOTAVAIL) { // that may just have changed
		f.fix()
	}
}

// updatePaths asks the kernel anew for the way to each peer, and lets everything follow.
func (f *Fabric) updatePaths() {
	paths := make(map[netip.Addr]path)
	for _, n := range f.networks {
		if n.VNI == 0 {
			continue
		}
		for _, a := range f.peersOf(n) {
			host := a.Addr()
			if _, done := paths[host]; done {
				continue
			}
			p, before := f.findPath(host), f.paths[host]
			paths[host] = p
			switch {
			case f.vtep == nil: // and that has been said
			case p.err != nil && before.err == nil:
				f.log.Warn("no way to a peer", "peer", host, "err", p.err)
			case p.err == nil && before.err != nil:
				f.log.Info("there is a way to a peer again", "peer", host, "link", p.Link, "mtu", p.MTU)
			}
		}
	}
	f.paths = paths
	for _, n := range f.networks {
		for _, r := range n.remotes {
			f.updateRemote(n, r)
		}
	}
}

// mtu is the longest outer IP packet that the way to a host takes, in bytes.
func (f *Fabric) mtu(host netip.Addr) int {
	if p := f.path(host); p.MTU > 0 {
		return min(p.MTU, maxPacket)
	}
	mtu, _ := f.underlayMTU() // no way just now: sending will tell
	return mtu
}

const (
	etherMTU  = 1500  // where nothing is known
	maxPacket = 65535 // RFC 791's total length; lo's MTU is more
)

// underlayMTU is the longest outer IP packet that the underlay takes where no peer says more.
func (f *Fabric) underlayMTU() (int, error) {
	addr, err := f.underlay()
	if err != nil {
		return etherMTU, err
	}
	p, err := tunnel.Underlay(addr)
	if p.MTU == 0 {
		p.MTU = etherMTU
	}
	if !errors.Is(err, tunnel.ErrNoAddress) {
		err = nil
	}
	return min(p.MTU, maxPacket), err
}

// tunnelMTU is the longest inner IP packet that every way to the network's peers takes, and what bounds it, in words.
func (f *Fabric) tunnelMTU(n *network) (bound string, mtu int, err error) {
	mtu, err = f.underlayMTU()
	if err != nil {
		return "", 0, err
	}
	bound = "the underlay"
	known := false
	for _, a := range f.peersOf(n) {
		if p := f.path(a.Addr()); p.MTU > 0 && (!known || p.MTU < mtu) {
			known, mtu, bound = true, min(p.MTU, maxPacket), "the way to "+a.Addr().String()
		}
	}
	addr, _ := f.underlay() // underlayMTU found it
	return bound, mtu - tunnel.Overhead(addr.Is6()), nil
}

// checkPeers refuses peers that can never be reached.
func (f *Fabric) checkPeers(n *network) error {
	own, err := f.underlay()
	if err != nil {
		return nil // connect will say why
	}
	for _, a := range f.peersOf(n) {
		if _, told := f.swarmNode(n, a.Addr()); told {
			continue // nobody here named it
		}
		if err := f.checkPeer(own, a.Addr()); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fabric) checkPeer(own, host netip.Addr) error {
	if err := tunnel.CheckPeer(own, host); err != nil {
		return err
	}
	if err := f.findPath(host).err; errors.Is(err, tunnel.ErrNoHost) {
		return fmt.Errorf("peer %w: name the address that the other host has as its VTEP, as this one has %s", err, own)
	}
	return nil
}

// monitorLinks gives what fires after changes of links, addresses and routes, and what ends that.
func (f *Fabric) monitorLinks() (<-chan struct{}, func()) {
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	changed <- struct{}{} // what was looked at before may have changed since
	m, err := tunnel.NewMonitor()
	if err != nil {
		f.monitorFailed(err)
		return changed, func() {}
	}
	go func() {
		defer close(ended)
		for {
			err := m.Wait()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				f.monitorFailed(err)
				return
			}
			select {
			case changed <- struct{}{}:
			default: // all is looked at at once
			}
		}
	}()
	return changed, func() { m.Close(); <-ended }
}

func (f *Fabric) monitorFailed(err error) {
	f.log.Warn("changes of links and routes are not heard of, and looked for each second", "err", err)
	f.unmonitored.Store(true)
}
