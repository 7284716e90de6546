package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Path is the route of datagrams from this host to another one, as the kernel knows it at one moment.
type Path struct {
	MTU  int    // path MTU of outer IP packets, in bytes: the route's, or less after an ICMP "too big"; 0: not known
	Link string // the egress link; "": not known
}

// ErrNoHost is an address that no other host can have.
var ErrNoHost = errors.New("no other host has it")

// FindPath asks the kernel for the path from an address of this host to another host. The error says why there is none:
// no route, a link that is down or has no carrier, or an address that no other host can have (ErrNoHost). With an error
// too, the path is as far as it is known.
func FindPath(local, host netip.Addr) (p Path, err error) {
	if host.IsMulticast() { // it needs no route: see VTEP.Group
		return Underlay(local)
	}
	routes, err := netlink.RouteGetWithOptions(host.AsSlice(), &netlink.RouteGetOptions{SrcAddr: local.AsSlice()})
	switch {
	case err != nil && !hasAddr(local):
		return p, fmt.Errorf("%w %s", ErrNoAddress, local)
	case errors.Is(err, unix.ENETUNREACH):
		return p, fmt.Errorf("no route to %s", host)
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES):
		return p, fmt.Errorf("the route to %s is one that refuses, unreachable or prohibit (%w)", host, err)
	case errors.Is(err, unix.EINVAL):
		return p, fmt.Errorf("the route to %s is a black hole", host)
	case err != nil:
		return p, fmt.Errorf("find a route to %s: %w", host, explainLimit(err))
	case len(routes) == 0:
		return p, fmt.Errorf("no route to %s", host)
	}
	switch r := routes[0]; {
	case r.Type == unix.RTN_BROADCAST:
		return p, fmt.Errorf("%s is the broadcast address of one of this host's networks: %w", host, ErrNoHost)
	case r.Type == unix.RTN_LOCAL && !host.IsLoopback():
		return p, fmt.Errorf("%s is an address of this host itself: %w", host, ErrNoHost)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return p, fmt.Errorf("find the link of the route to %s: %w", host, explainLimit(err))
	}
	p.Link = link.Attrs().Name
	mtu, err := pathMTU(local, host)
	if err != nil {
		return p, err
	}
	p.MTU = min(mtu, link.Attrs().MTU)
	return p, linkState(link.Attrs())
}

// linkState returns why a link cannot send: nil if it can.
func linkState(l *netlink.LinkAttrs) error {
	switch {
	case l.RawFlags&unix.IFF_UP == 0:
		return fmt.Errorf("link %s is down", l.Name)
	case l.RawFlags&unix.IFF_RUNNING == 0: // RFC 2863's operational state, netdevice(7)
		return fmt.Errorf("link %s has no carrier", l.Name)
	}
	return nil
}

// pathMTU is the path MTU to a host, in bytes of outer IP packet, as the kernel knows it now: the route's, or less after
// an ICMP "too big" (ip(7), IP_MTU).
func pathMTU(local, host netip.Addr) (int, error) {
	fd, err := bind(netip.AddrPortFrom(local, 0), false)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	const discard = 9 // any port will do: nothing is sent
	if err := unix.Connect(fd, toSockaddr(netip.AddrPortFrom(host, discard))); err != nil {
		return 0, fmt.Errorf("find a route to %s: %w", host, explainLimit(err))
	}
	if host.Is4() {
		return unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
	}
	return unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
}

// PathMTU is the path MTU to a host, in bytes of outer IP packet.
func (v *VTEP) PathMTU(host netip.Addr) (int, error) { return pathMTU(v.Local.Addr(), host) }

// ErrNoAddress is an address that this host does not have.
var ErrNoAddress = errors.New("no link of this host has the address")

func hasAddr(addr netip.Addr) bool {
	_, err := addrLink(addr)
	return !errors.Is(err, ErrNoAddress)
}

// addrLink is the link that has an address.
func addrLink(addr netip.Addr) (netlink.Link, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", explainLimit(err))
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == addr {
			link, err := netlink.LinkByIndex(a.LinkIndex)
			if err != nil {
				return nil, fmt.Errorf("find the link of %s: %w", addr, explainLimit(err))
			}
			return link, nil
		}
	}
	return nil, fmt.Errorf("%w %s", ErrNoAddress, addr)
}

// Underlay is a guess at the paths to other hosts while no other host is known: by the link that has the address; or by
// the link of the default route, if the address is on the loopback link, as on hosts that run a routing protocol. The
// error says why it cannot be used: ErrNoAddress, or the link's state. An MTU of 0 is not known.
func Underlay(addr netip.Addr) (Path, error) {
	link, err := underlayLink(addr)
	if link == nil || err != nil {
		return Path{}, err
	}
	return Path{MTU: link.Attrs().MTU, Link: link.Attrs().Name}, linkState(link.Attrs())
}

// underlayLink is Underlay's link; nil if it is not known.
func underlayLink(addr netip.Addr) (netlink.Link, error) {
	link, err := addrLink(addr)
	if err == nil && link.Attrs().RawFlags&unix.IFF_LOOPBACK != 0 && !addr.IsLoopback() {
		return defaultLink(addr)
	}
	return link, err
}

// defaultLink is the link of the default route of an address's IP version; nil if there is none.
func defaultLink(addr netip.Addr) (netlink.Link, error) {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	best, err := defaultRoute(family)
	if best == nil || err != nil {
		return nil, err
	}
	link, err := netlink.LinkByIndex(best.LinkIndex)
	if err != nil {
		return nil, fmt.Errorf("find the default route's link: %w", explainLimit(err))
	}
	return link, nil
}

// A Monitor reports changes of this host's links, addresses, routes and routing rules (rtnetlink(7)).
type Monitor struct {
	socket *nl.NetlinkSocket
	closed atomic.Bool
}

// NewMonitor subscribes to the changes.
func NewMonitor() (*Monitor, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, fmt.Errorf("listen for changes of links and routes: %w", explainLimit(err))
	}
	return &Monitor{socket: s}, nil
}

// Wait returns when something may have changed since the last call. An error ends it: net.ErrClosed after Close.
func (m *Monitor) Wait() error {
	_, _, err := m.socket.Receive()
	switch {
	case m.closed.Load():
		return net.ErrClosed
	case errors.Is(err, unix.ENOBUFS): // messages were lost: something has changed
		return nil
	case err != nil:
		return fmt.Errorf("read changes of links and routes: %w", err)
	}
	return nil
}

// Close ends Wait.
func (m *Monitor) Close() {
	m.closed.Store(true)
	m.socket.Close()
}
