package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric/paths"
	"github.com/tapestry-net/tapestry/fabric/vtep"
	"github.com/tapestry-net/tapestry/tunnel"
)

// path is the route to another host.
func (f *Fabric) path(host netip.Addr) paths.Path { return f.paths.To(host, f.source) }

func (f *Fabric) source() (s paths.Source) {
	s.Addr, s.Err = f.underlay()
	s.To = vtep.Addrs{Main: s.Addr, Second: f.cfg.Second}.To
	return s
}

// learnPaths asks the kernel for the routes to hosts of which nothing is known, before they become peers. The lock is not held.
func (f *Fabric) learnPaths(ctx context.Context, hosts []netip.Addr) {
	if len(hosts) == 0 || f.acquire(ctx) != nil {
		return
	}
	from := f.source()
	f.release()
	f.paths.Learn(hosts, from)
}

// updatePaths asks the kernel again for the route to each peer, and follows what has changed. The lock is not held: there may be
// thousands of peers.
func (f *Fabric) updatePaths(ctx context.Context) {
	if f.acquire(ctx) != nil {
		return
	}
	hosts, from := f.peerHosts(), f.source()
	for {
		f.release()
		changed := f.paths.Update(hosts, from)
		if f.acquire(ctx) != nil {
			return
		}
		if now := f.source(); now.Addr == from.Addr {
			f.pathsChanged(changed)
			f.release()
			return
		} else {
			from = now // the tunnel has moved meanwhile
		}
	}
}

// peerHosts are the peers of all networks.
func (f *Fabric) peerHosts() (all []netip.Addr) {
	known := make(map[netip.Addr]bool)
	for _, n := range f.networks {
		if n.VNI == 0 {
			continue
		}
		for _, p := range f.peersOf(n) {
			if host := p.addr.Addr(); !known[host] {
				known[host] = true
				all = append(all, host)
			}
		}
	}
	return all
}

// pathsChanged logs which peers can be reached now and which cannot, updates the remotes, and joins groups again whose link is another one.
func (f *Fabric) pathsChanged(changed map[netip.Addr]paths.Path) {
	for host, p := range changed {
		switch {
		case f.vtep == nil: // which is reported already
		case p.Err != nil:
			f.events.Warn(events.PeerDown, "peer unreachable", "peer", host, "err", p.Err)
		default:
			f.events.Info(events.PeerUp, "peer reachable again", "peer", host, "link", p.Link, "mtu", p.MTU)
		}
	}
	f.vtep.JoinAgain(f.log)
	fallback := f.fallbackMTU()
	for _, n := range f.networks {
		for _, r := range n.remotes {
			f.updateRemote(n, r, fallback)
		}
	}
}

// linksChanged is called after changes of links, addresses or routes. The lock is not held.
func (f *Fabric) linksChanged(ctx context.Context) {
	if f.acquire(ctx) != nil {
		return
	}
	f.checkCarriers()
	f.release()
	f.updatePaths(ctx)
	if f.acquire(ctx) != nil {
		return
	}
	defer f.release()
	if !f.cfg.VTEP.IsValid() {
		return // without --vtep the default route decides, which may still change: fix chooses it later
	}
	why := f.vtepWhy
	if f.vtep != nil {
		why = f.vtep.SecondWhy
	}
	if errors.Is(why, tunnel.ErrNoAddress) || errors.Is(why, unix.EADDRNOTAVAIL) { // the address may just have been added
		f.fix()
	}
}

// fitsChanged is called when a path is found to take less than the kernel says, or that again, and of new peers. The lock is held.
func (f *Fabric) fitsChanged(host netip.Addr, fits int) {
	if f.paths.Hold(host, fits, f.log) {
		f.pathsChanged(nil)
	}
}

// fallbackMTU is the MTU towards hosts to which there is no route at the moment. The kernel is asked once, when it is needed.
func (f *Fabric) fallbackMTU() func() int {
	return sync.OnceValue(func() int {
		mtu, _ := f.underlayMTU()
		return mtu
	})
}

// underlayMTU is the MTU of the underlay's link: of the outer IP packet, in bytes.
func (f *Fabric) underlayMTU() (int, error) { return f.source().LinkMTU() }

// tunnelMTU is the longest inner IP packet in bytes that fits the paths to all peers of the network, and what bounds it, in words.
func (f *Fabric) tunnelMTU(n *network) (bound string, mtu int, err error) {
	mtu, err = f.underlayMTU()
	if err != nil {
		return "", 0, err
	}
	bound, mtu = "the underlay", mtu-tunnel.Overhead(f.addrs().Main.Is6())
	known := false
	for _, a := range f.peerAddrs(n) {
		p := f.path(a.Addr())
		if most := min(p.MTU, ether.MaxIPLen) - tunnel.Overhead(a.Addr().Is6()); p.MTU > 0 && (!known || most < mtu) {
			known, mtu, bound = true, most, "the path to "+a.Addr().String()
		}
	}
	return bound, mtu, nil
}

// checkPeers refuses addresses that can never be a peer.
func (f *Fabric) checkPeers(n *network) error {
	if _, err := f.underlay(); err != nil {
		return nil // connect will report it
	}
	for _, p := range f.peersOf(n) {
		if p.told() || p.group {
			continue
		}
		if err := f.checkPeer(f.towards(p), p.addr.Addr()); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fabric) checkPeer(own, host netip.Addr) error {
	if err := tunnel.CheckPeer(own, host); err != nil {
		return err
	}
	if err := f.path(host).Err; errors.Is(err, tunnel.ErrNoHost) {
		return fmt.Errorf("peer %w: name the address that the other host has as its VTEP, as this one has %s", err, own)
	}
	return nil
}

func (f *Fabric) monitorFailed(err error) {
	f.log.Warn("the kernel does not report changes of links and routes: they are looked for each second", "err", err)
	f.unmonitored.Store(true)
}
