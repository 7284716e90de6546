package vtep

import (
	"errors"
	"net/netip"

	"github.com/tapestry-net/tapestry/tunnel"
)

// Addrs are this host's addresses towards others: the main one, and a second one of the other IP version, if it has one. With both,
// peers of a network may have addresses of either version.
type Addrs struct{ Main, Second netip.Addr }

// To is the address towards a host: of its IP version, if there is such a one.
func (a Addrs) To(host netip.Addr) netip.Addr {
	if a.Second.IsValid() && a.Second.Is4() == host.Is4() {
		return a.Second
	}
	return a.Main
}

// OpenSecond opens the VXLAN socket at the second address too, unless it is open there. An error leaves the main one as it is, and
// stays in SecondWhy until it succeeds.
func (v *VTEP) OpenSecond(at netip.Addr) (opened bool) {
	if at.IsValid() && v.second == nil {
		v.second, v.SecondWhy = v.settings.Open(at)
		opened = v.second != nil
	}
	return opened
}

// HasSecond tells whether the tunnel is open at the second address.
func (v *VTEP) HasSecond() bool { return v.second != nil }

// CloseSecond closes the sockets at the second address, which has no links any more. why will be SecondWhy.
func (v *VTEP) CloseSecond(why error, drops *Drops, sync func()) {
	drops.Close(v.second)
	v.SecondWhy = errors.Join(why, v.second.Close(sync))
	v.second = nil
}

// To is the tunnel towards a host: that of its IP version, if there is such a one.
func (v *VTEP) To(host netip.Addr) *tunnel.VTEP {
	if v.second != nil && v.second.Local.Addr().Is4() == host.Is4() {
		return v.second.VTEP
	}
	return v.VTEP
}

// absent is why there is no tunnel towards a host although there is to be one; nil: there is, or none is to be.
func (v *VTEP) absent(host netip.Addr) error {
	if v.second == nil && host.Is4() != v.Local.Addr().Is4() {
		return v.SecondWhy
	}
	return nil
}

// Links makes the links to hosts for one VNI, see tunnel.VTEP: to each from the address of its IP version.
func (v *VTEP) Links(vni uint32, w tunnel.Wire, hosts ...netip.AddrPort) (made []*tunnel.Link, err error) {
	from := make(map[*tunnel.VTEP][]netip.AddrPort)
	for _, h := range hosts {
		if absent := v.absent(h.Addr()); absent != nil {
			err = absent // the same of each
			continue
		}
		from[v.To(h.Addr())] = append(from[v.To(h.Addr())], h)
	}
	for t, hosts := range from {
		links, failed := t.Links(vni, w, hosts...)
		made, err = append(made, links...), errors.Join(err, failed)
	}
	return made, err
}

// Group makes the link to a multicast group, see tunnel.VTEP.
func (v *VTEP) Group(vni uint32, w tunnel.Wire, group netip.AddrPort, told func()) (*tunnel.Link, error) {
	if err := v.absent(group.Addr()); err != nil {
		return nil, err
	}
	return v.To(group.Addr()).Group(vni, w, group, told)
}

// CloseLinks ends links, see tunnel.VTEP.
func (v *VTEP) CloseLinks(closed ...*tunnel.Link) {
	of := make(map[*tunnel.VTEP][]*tunnel.Link)
	for _, l := range closed {
		of[v.To(l.Host.Addr())] = append(of[v.To(l.Host.Addr())], l)
	}
	for t, links := range of {
		t.CloseLinks(links...)
	}
}
