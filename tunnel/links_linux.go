package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// Links makes the links to hosts for one VNI, in one change. There is one link for each VNI and host address. A host whose
// link cannot be made is left out, and the error says why.
func (v *VTEP) Links(vni uint32, w Wire, hosts ...netip.AddrPort) (made []*Link, err error) {
	if vni == 0 || vni > ether.MaxVNI {
		return nil, fmt.Errorf("VNI %d: want 1 to %d", vni, ether.MaxVNI)
	}
	header, err := template(vni)
	if err != nil {
		return nil, fmt.Errorf("write the VXLAN header of VNI %d: %w", vni, err)
	}
	var errs []error
	v.changeLinks(func(links map[linkKey]*Link) {
		for _, host := range hosts {
			if err := SameFamily(v.Local.Addr(), host.Addr()); err != nil {
				errs = append(errs, err)
				continue
			}
			k := linkKey{vni, host.Addr()}
			if _, taken := links[k]; taken {
				errs = append(errs, fmt.Errorf("VNI %d has a link to %s already", vni, host.Addr()))
				continue
			}
			l := &Link{VNI: vni, Host: host, wire: w, v: v, to: rawSockaddr(host), header: header}
			links[k] = l
			v.addPeer(l, links)
			made = append(made, l)
		}
	})
	return made, errors.Join(errs...)
}

// Link is Links for one host, with the default Wire.
func (v *VTEP) Link(vni uint32, host netip.AddrPort) (*Link, error) {
	links, err := v.Links(vni, Wire{}, host)
	if err != nil {
		return nil, err
	}
	return links[0], nil
}

// CloseLinks ends links, in one change: datagrams from their hosts are dropped as no_peer from now on.
func (v *VTEP) CloseLinks(closed ...*Link) {
	v.changeLinks(func(links map[linkKey]*Link) {
		for _, l := range closed {
			if links[groupKey(l.VNI)] == l {
				delete(links, groupKey(l.VNI))
				v.leave(l.Host.Addr())
			} else if k := (linkKey{l.VNI, l.Host.Addr()}); links[k] == l { // after a second Close it may be another link
				delete(links, k)
				v.removePeer(l, links)
			}
		}
	})
}

// Close is CloseLinks for one link.
func (l *Link) Close() { l.v.CloseLinks(l) }

// changeLinks replaces the map of links by a changed copy: one copy for each change, however many links it has.
func (v *VTEP) changeLinks(fn func(map[linkKey]*Link)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	links := maps.Clone(*v.links.Load())
	fn(links)
	v.links.Store(&links)
}

// SameFamily returns an error unless the VTEP and the peer are of the same IP version.
func SameFamily(vtep, peer netip.Addr) error {
	if vtep.Is4() != peer.Is4() {
		return fmt.Errorf("peer %s and this host's VTEP %s are of different IP versions: give the peer's other address, or start tapestry with another --vtep, or with one of each version: --vtep %s,ADDR", peer, vtep, vtep)
	}
	return nil
}
