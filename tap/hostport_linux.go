package tap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The host's own port is a TAP with addresses that stays in the daemon's namespace. The host must not become a router by
// it. So the route to the network is not in the main table but in one of its own, which a rule selects for packets of the
// host itself and not for forwarded ones (ip-rule(8), "iif lo"). A second rule prohibits what comes in by the TAP and is
// for none of the host's addresses.
const (
	hostTable    = 4789
	hostPriority = 10 // of the rules: after the local table's, before all others
)

// hostSysctls are set below /proc/sys/net/FAMILY/conf/LINK. A station of the network must not change the host's routes or
// addresses, nor learn other addresses of the host.
var hostSysctls = map[int][][2]string{
	unix.AF_INET:  {{"forwarding", "0"}, {"rp_filter", "1"}, {"arp_ignore", "1"}, {"arp_announce", "2"}, {"proxy_arp", "0"}, {"accept_redirects", "0"}},
	unix.AF_INET6: {{"forwarding", "0"}, {"accept_ra", "0"}, {"autoconf", "0"}, {"accept_redirects", "0"}, {"disable_ipv6", "0"}},
}

// RepairHostPort restores the addresses, routes and rules of an open host port that others have removed.
func RepairHostPort(s Spec) error {
	p, err := s.newSetup()
	if err != nil {
		return err
	}
	defer p.Close()
	name, _, _ := Names(s.ID)
	l, err := p.find(name)
	if err != nil {
		return err
	}
	return p.configureHostPort(l)
}

// configureHostPort gives the TAP the host's addresses, and the host its routes and rules.
func (p *linkSetup) configureHostPort(l netlink.Link) error {
	name := l.Attrs().Name
	speaks := families(p.Host)
	if err := p.disableLinkLocal(l); err != nil {
		return err
	}
	if !slices.Contains(speaks, unix.AF_INET6) {
		disableIPv6(name)
	}
	for _, family := range speaks {
		for _, s := range hostSysctls[family] {
			if err := sysctl(family, name, s[0], s[1]); err != nil {
				return err
			}
		}
	}
	has, err := p.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, explain(err, ""))
	}
	for _, a := range p.Host {
		if slices.ContainsFunc(has, func(h netlink.Addr) bool { return prefixOf(h.IPNet) == a }) {
			continue
		}
		if err := p.checkSubnetFree(l, a.Masked()); err != nil {
			return err
		}
		flags := unix.IFA_F_NOPREFIXROUTE
		if a.Addr().Is6() {
			flags |= unix.IFA_F_NODAD
		}
		if err := p.AddrReplace(l, &netlink.Addr{IPNet: ipNet(a), Flags: flags}); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, a, explain(err, ""))
		}
	}
	if err := p.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring link %s up: %w", name, explain(err, ""))
	}
	for _, a := range p.Host {
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(a.Masked()), Src: a.Addr().AsSlice(), Table: hostTable,
			Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC}
		if err := p.RouteReplace(r); err != nil {
			return fmt.Errorf("make the host's route to %s by %s: %w", a.Masked(), name, explain(err, ""))
		}
	}
	for _, r := range hostRules(name, p.Host) {
		if err := p.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
			if r.Family == unix.AF_INET6 && !slices.Contains(speaks, unix.AF_INET6) {
				continue // a host without IPv6
			}
			return fmt.Errorf("make the rule %q (the kernel needs policy routing, IP_MULTIPLE_TABLES): %w", r, explain(err, ""))
		}
	}
	return nil
}

// hostRules are the rules of one host port: first those that prohibit forwarding, then those that select hostTable.
func hostRules(name string, addrs []netip.Prefix) (all []*netlink.Rule) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		r := netlink.NewRule()
		r.Family, r.Priority, r.IifName, r.Type = family, hostPriority, name, unix.FR_ACT_PROHIBIT
		all = append(all, r)
	}
	for _, a := range addrs {
		r := netlink.NewRule()
		r.Family, r.Priority, r.IifName, r.Dst, r.Table = families([]netip.Prefix{a})[0], hostPriority, "lo", ipNet(a.Masked()), hostTable
		all = append(all, r)
	}
	return all
}

// removeHostRules removes the rules of a host port, as far as they exist.
func (p *linkSetup) removeHostRules(name string, addrs []netip.Prefix) error {
	var errs []error
	for _, r := range hostRules(name, addrs) {
		err := p.RuleDel(r)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			errs = append(errs, fmt.Errorf("remove the rule %q: %w", r, explain(err, "")))
		}
	}
	return errors.Join(errs...)
}

// hostAddrs are the addresses of l, if it is a host port.
func (p *linkSetup) hostAddrs(l netlink.Link) (all []netip.Prefix) {
	has, _ := p.AddrList(l, netlink.FAMILY_ALL) // an error means that the link has gone
	for _, h := range has {
		if a := prefixOf(h.IPNet); !a.Addr().IsLinkLocalUnicast() {
			all = append(all, a)
		}
	}
	return all
}

// checkSubnetFree returns an error if this host reaches the subnet by another link already: directly, or by a route with a
// prefix at least as long.
func (p *linkSetup) checkSubnetFree(l netlink.Link, subnet netip.Prefix) error {
	routes, err := p.RouteListFiltered(families([]netip.Prefix{subnet})[0], &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list this host's routes: %w", explain(err, ""))
	}
	for _, r := range routes {
		dst := prefixOf(r.Dst)
		switch {
		case r.LinkIndex == l.Attrs().Index, !dst.IsValid(), dst.Bits() == 0,
			r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_LOCAL,
			!slices.Contains([]int{unix.RT_TABLE_MAIN, unix.RT_TABLE_LOCAL, hostTable}, r.Table):
			continue
		}
		direct := r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0
		if subnet.Overlaps(dst) && (dst.Bits() >= subnet.Bits() || direct) {
			by := "another link"
			if o, err := p.LinkByIndex(r.LinkIndex); err == nil {
				by = o.Attrs().Name
			}
			return fmt.Errorf("this host has %s on %s already, so it cannot have a port on %s as well: take another --subnet, or leave tapestry.host away",
				dst, by, subnet)
		}
	}
	return nil
}

// sysctl sets a value of a link, unless it is set already: /proc/sys may be read-only.
func sysctl(family int, link, key, value string) error {
	path := "/proc/sys/net/" + map[int]string{unix.AF_INET: "ipv4", unix.AF_INET6: "ipv6"}[family] + "/conf/" + link + "/" + key
	is, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(is)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		switch {
		case errors.Is(err, unix.ENOENT) && family == unix.AF_INET6:
			err = fmt.Errorf("this kernel has no IPv6 (ipv6.disable): allow it, or give the host no IPv6 address with tapestry.host=ADDRESS (%w)", unix.ENOENT)
		case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			err = fmt.Errorf("this process may not write there, as in a managed plugin or in a container without --privileged: run tapestry by its systemd unit (in a container: mount -o remount,rw /proc/sys), or leave tapestry.host away (%w)", errors.Unwrap(err))
		}
		return fmt.Errorf("keep containers from changing this host's network: set %s to %s: %w", path, value, err)
	}
	return nil
}

// families are the address families of addrs, each once.
func families(addrs []netip.Prefix) (all []int) {
	for _, a := range addrs {
		f := unix.AF_INET
		if a.Addr().Is6() {
			f = unix.AF_INET6
		}
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is the zero Prefix for nil.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
