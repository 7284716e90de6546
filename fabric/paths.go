package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tunnel"
)

// A path is the route to another host as of the last look-up.
type path struct {
	tunnel.Path
	err error // why there is no route
}

// path is the route to another host.
func (f *Fabric) path(host netip.Addr) path {
	p, known := f.paths[host]
	if !known {
		p = f.findPath(host)
		f.paths[host] = p
	}
	return p
}

// findPath asks the kernel for the route. While there is none, the last known MTU stays.
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

// linksChanged is called after changes of links, addresses or routes.
func (f *Fabric) linksChanged() {
	f.checkCarriers()
	f.updatePaths()
	if f.vtep != nil || !f.cfg.VTEP.IsValid() {
		return // without --vtep the default route decides, which may still change: fix chooses it later
	}
	if errors.Is(f.vtepWhy, tunnel.ErrNoAddress) || errors.Is(f.vtepWhy, unix.EADDRNOTAVAIL) { // the address may just have been added
		f.fix()
	}
}

// updatePaths asks the kernel again for the route to each peer, logs what has changed, and updates the remotes.
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
			case f.vtep == nil: // which is reported already
			case p.err != nil && before.err == nil:
				f.log.Warn("peer unreachable", "peer", host, "err", p.err)
			case p.err == nil && before.err != nil:
				f.log.Info("peer reachable again", "peer", host, "link", p.Link, "mtu", p.MTU)
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

// mtu is the path MTU to another host: of the outer IP packet, in bytes.
func (f *Fabric) mtu(host netip.Addr) int {
	if p := f.path(host); p.MTU > 0 {
		return min(p.MTU, ether.MaxIPLen)
	}
	mtu, _ := f.underlayMTU() // no route at the moment
	return mtu
}

const etherMTU = 1500 // if nothing is known

// underlayMTU is the MTU of the underlay's link: of the outer IP packet, in bytes.
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
	return min(p.MTU, ether.MaxIPLen), err
}

// tunnelMTU is the longest inner IP packet in bytes that fits the paths to all peers of the network, and what bounds it, in words.
func (f *Fabric) tunnelMTU(n *network) (bound string, mtu int, err error) {
	mtu, err = f.underlayMTU()
	if err != nil {
		return "", 0, err
	}
	bound = "the underlay"
	known := false
	for _, a := range f.peersOf(n) {
		if p := f.path(a.Addr()); p.MTU > 0 && (!known || p.MTU < mtu) {
			known, mtu, bound = true, min(p.MTU, ether.MaxIPLen), "the path to "+a.Addr().String()
		}
	}
	addr, _ := f.underlay() // underlayMTU found it
	return bound, mtu - tunnel.Overhead(addr.Is6()), nil
}

// checkPeers refuses addresses that can never be a peer.
func (f *Fabric) checkPeers(n *network) error {
	own, err := f.underlay()
	if err != nil {
		return nil // connect will report it
	}
	for _, a := range f.peersOf(n) {
		if f.told(n, a.Addr()) != "" {
			continue // no user named it
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

// monitorLinks returns a channel that receives after changes of links, addresses and routes, and a function that ends it.
func (f *Fabric) monitorLinks() (<-chan struct{}, func()) {
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	changed <- struct{}{} // there may have been changes before the monitor was open
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
			default: // one that is pending covers this change too
			}
		}
	}()
	return changed, func() { m.Close(); <-ended }
}

func (f *Fabric) monitorFailed(err error) {
	f.log.Warn("the kernel does not report changes of links and routes: they are looked for each second", "err", err)
	f.unmonitored.Store(true)
}
