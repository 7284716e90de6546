package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/offload"
)

// A multicast group in place of a list of peers (RFC 7348 section 4.2): frames for everybody go to the group by one datagram, and
// whoever is in the group on the underlay's link gets them. Datagrams leave with a TTL of 1, as a kernel vxlan device's do: no
// router passes them on, unless Wire.TTL says otherwise.
//
// Datagrams of a VNI that has a group are accepted from every host. Those of hosts without a link of their own are delivered to
// the group's link, which remembers these hosts for Strangers.

// maxStrangers is the number of hosts that a group's link remembers until Strangers is called.
const maxStrangers = 64

// groupKey is where the links of groups are in VTEP.links: no datagram comes from the zero address.
func groupKey(vni uint32) linkKey { return linkKey{vni: vni} }

// membership is this host's membership in one group, for all VNIs that use it.
type membership struct {
	group    netip.AddrPort
	receiver *Receiver
	on       int // index of the link on which it is joined
	links    int // guarded by VTEP.mu, as the fields above
}

// strangers are hosts that have sent to a VNI with a group and have no link of their own.
type strangers struct {
	told func() // there are new ones; nil: nobody waits

	mu  sync.Mutex // the data path does not wait for it
	all [maxStrangers]netip.Addr
	n   int
}

// CheckGroup returns why an address cannot be a group for a VTEP, which may not be known yet: nil if it can.
func CheckGroup(vtep, group netip.Addr) error {
	switch {
	case !group.IsMulticast():
		return fmt.Errorf("%s is no multicast group: want one of 224.0.0.0/4, such as 239.1.1.1, or of ff00::/8, such as ff05::100", group)
	case group.Zone() != "", group.IsInterfaceLocalMulticast():
		return fmt.Errorf("%s holds on one host or link only by its form: want a group without a zone, such as ff05::100", group)
	case vtep.IsValid() && vtep.Is4() != group.Is4():
		return fmt.Errorf("group %s and this host's VTEP %s are of different IP versions: take a group of the VTEP's, or start tapestry with an address of each version: --vtep %s,ADDR", group, vtep, vtep)
	}
	return nil
}

// Group makes the link to a multicast group, which this host joins on the link that has the VTEP's address (see Underlay), and makes the VNI accept
// datagrams from every host. A VNI has one group. told is called, on the data path, when Strangers has new hosts: it must not block.
func (v *VTEP) Group(vni uint32, w Wire, group netip.AddrPort, told func()) (l *Link, err error) {
	if err := CheckGroup(v.Local.Addr(), group.Addr()); err != nil {
		return nil, err
	}
	if vni == 0 || vni > ether.MaxVNI {
		return nil, fmt.Errorf("VNI %d: want 1 to %d", vni, ether.MaxVNI)
	}
	header, err := template(vni)
	if err != nil {
		return nil, fmt.Errorf("write the VXLAN header of VNI %d: %w", vni, err)
	}
	l = &Link{VNI: vni, Host: group, wire: w, v: v, to: rawSockaddr(group), header: header, strangers: &strangers{told: told}}
	l.gso.Block(offload.ErrUnsupported) // what everybody gets is short
	l.peer.Store(v.newPeer(group))      // who does nothing, and is told nothing
	v.changeLinks(func(links map[linkKey]*Link) {
		if _, taken := links[groupKey(vni)]; taken {
			err = fmt.Errorf("VNI %d has a group already", vni)
			return
		}
		if err = v.join(group); err == nil {
			links[groupKey(vni)] = l
		}
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Strangers returns the hosts that have sent to the VNI of a group's link and had no link, and forgets them.
func (l *Link) Strangers() []netip.Addr {
	s := l.strangers
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.Clone(s.all[:s.n])
	s.n = 0
	return found
}

// note remembers a host. It neither waits nor allocates: a host that is missed sends again.
func (s *strangers) note(host netip.Addr) {
	if !s.mu.TryLock() {
		return
	}
	fresh := s.n < len(s.all) && !slices.Contains(s.all[:s.n], host)
	if fresh {
		s.all[s.n] = host
		s.n++
	}
	s.mu.Unlock()
	if fresh && s.told != nil {
		s.told()
	}
}

// groupLink is the link of a VNI's group, for a datagram from a host that has no link; nil: the VNI has none.
func (r *Receiver) groupLink(vni uint32, host netip.Addr) *Link {
	l := r.links[groupKey(vni)]
	if l == nil || !host.IsValid() || host == r.v.Local.Addr() {
		return nil
	}
	l.strangers.note(host)
	return l
}

// join makes this host a member of a group. v.mu is held.
func (v *VTEP) join(group netip.AddrPort) error {
	if m := v.groups[group.Addr()]; m != nil {
		m.links++
		return nil
	}
	m := &membership{group: group, links: 1}
	if _, err := v.joinOn(m); err != nil {
		return err
	}
	v.groups[group.Addr()] = m
	return nil
}

// Rejoin joins groups anew whose link is not the one that has the VTEP's address now: the underlay's link was made anew, or the
// address has moved to another one. It tells whether there were such groups. After an error those that failed are as before.
func (v *VTEP) Rejoin() (moved bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, m := range v.groups {
		again, err := v.joinOn(m)
		moved = moved || again
		errs = append(errs, err)
	}
	return moved, errors.Join(errs...)
}

// joinOn joins a group on the link that has the VTEP's address, unless it is joined there. v.mu is held.
func (v *VTEP) joinOn(m *membership) (joined bool, err error) {
	on, err := underlayLink(v.Local.Addr())
	if err == nil && on == nil {
		err = fmt.Errorf("join the group %s: %s is on the loopback link, and no default route tells by which link other hosts are reached", m.group.Addr(), v.Local.Addr())
	}
	if err != nil {
		return false, err
	}
	index := on.Attrs().Index
	if index == m.on {
		return false, nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("join the group %s on link %s: %w", m.group.Addr(), on.Attrs().Name, explainLimit(err))
		}
	}()
	for _, fd := range v.send {
		if err := setGroupLink(fd, v.Local.Addr(), index); err != nil {
			return false, err
		}
	}
	fd, err := v.bindGroup(m.group, index)
	if err != nil {
		return false, err
	}
	r := &Receiver{v: v, fd: fd}
	if v.StartReceiver != nil {
		if r.stopWorker, err = v.StartReceiver(r); err != nil {
			return false, errors.Join(err, unix.Close(fd))
		}
	}
	_ = m.receiver.close() // a membership on a link that is gone
	m.receiver, m.on = r, index
	return true, nil
}

// setGroupLink makes a socket send to groups by a link, and not to this host itself (ip(7), ipv6(7)).
func setGroupLink(fd int, local netip.Addr, index int) error {
	if local.Is4() {
		return errors.Join(unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Address: local.As4(), Ifindex: int32(index)}),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0), unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 1))
	}
	return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0), unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 1))
}

// bindGroup opens a socket that receives what is sent to a group on a link, and nothing else. It has no UDP_GRO: the kernel joins
// nothing for it.
func (v *VTEP) bindGroup(group netip.AddrPort, index int) (fd int, err error) {
	at := group
	if group.Addr().Is6() { // RFC 4007: a link-local group needs its link
		at = netip.AddrPortFrom(group.Addr().WithZone(fmt.Sprint(index)), group.Port())
	}
	if fd, err = bindReceiver(at); err != nil {
		return -1, err
	}
	if group.Addr().Is4() {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0),
			unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.Addr().As4(), Ifindex: int32(index)}))
	} else {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0),
			unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_ADD_MEMBERSHIP, &unix.IPv6Mreq{Multiaddr: group.Addr().As16(), Interface: uint32(index)}))
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// leave ends what join began, for one VNI. v.mu is held.
func (v *VTEP) leave(group netip.Addr) {
	m := v.groups[group]
	if m.links--; m.links == 0 {
		delete(v.groups, group)
		_ = m.receiver.close()
	}
}
