package plugin

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/fabric"
)

// setHostPort parses tapestry.host: on, off, or the host port's addresses. completeHostPort does the rest.
func setHostPort(n *fabric.Network, value string) error {
	if value == "off" {
		return nil
	}
	n.HostPort = &fabric.Endpoint{ID: fabric.HostPortID(n.ID)}
	if value == "on" {
		return nil
	}
	for s := range strings.SplitSeq(value, ",") {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if a, e := netip.ParseAddr(s); e == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" || !p.Addr().IsGlobalUnicast() {
			return errors.New("want on (this host has the network's gateway address), off, or this host's addresses on the network, as in 10.77.0.9 or 10.77.0.9,fd77::9")
		}
		if slices.ContainsFunc(n.HostPort.Addrs, func(q netip.Prefix) bool { return q.Addr() == p.Addr() }) {
			return fmt.Errorf("%s is there twice", p.Addr())
		}
		n.HostPort.Addrs = append(n.HostPort.Addrs, p)
	}
	return nil
}

// A pool is a subnet with the addresses that Docker assigns to no container.
type pool struct {
	subnet   netip.Prefix
	gateway  netip.Addr // zero: none
	reserved []netip.Addr
}

// poolsForHostPort parses the subnets in which the host port can have an address, IPv4 first. It skips invalid ones, which
// parsePools has refused.
func poolsForHostPort(lists ...[]*network.IPAMData) (all []pool) {
	for _, list := range lists {
		for _, d := range list {
			if d == nil {
				continue
			}
			subnet, err := netip.ParsePrefix(d.Pool)
			if err != nil || subnet.Bits() == 0 {
				continue
			}
			p := pool{subnet: subnet.Masked()}
			if g, err := netip.ParsePrefix(d.Gateway); err == nil {
				p.gateway, p.reserved = g.Addr(), []netip.Addr{g.Addr()}
			}
			for _, text := range d.AuxAddresses {
				s, _ := text.(string)
				s, _, _ = strings.Cut(s, "/")
				if a, err := netip.ParseAddr(s); err == nil {
					p.reserved = append(p.reserved, a)
				}
			}
			all = append(all, p)
		}
	}
	return all
}

// completeHostPort sets the host port's addresses: those of the option, else the gateways'. Docker must assign none of them to
// a container, so each must be one that it has reserved.
func completeHostPort(h *fabric.Endpoint, pools []pool) error {
	if h.Addrs == nil && len(pools) == 0 {
		return fmt.Errorf("%s=on: this network has no subnet; name the host's address with its prefix length, as in %s=10.77.0.1/24", optHostPort, optHostPort)
	}
	if h.Addrs == nil {
		for _, p := range pools {
			if !p.gateway.IsValid() {
				return fmt.Errorf("%s=on gives this host the network's gateway address, and %s has none: add --gateway ADDRESS, or name the address, %s=ADDRESS",
					optHostPort, p.subnet, optHostPort)
			}
			h.Addrs = append(h.Addrs, netip.PrefixFrom(p.gateway, p.subnet.Bits()))
		}
	} else if len(pools) > 0 {
		for i, a := range h.Addrs {
			at := slices.IndexFunc(pools, func(p pool) bool { return p.subnet.Contains(a.Addr()) })
			if at < 0 {
				return fmt.Errorf("%s: %s is in no subnet of this network's", optHostPort, a.Addr())
			}
			p := pools[at]
			if a.Bits() != p.subnet.Bits() && a.Bits() != a.Addr().BitLen() {
				return fmt.Errorf("%s: %s is in %s; leave the prefix length away", optHostPort, a, p.subnet)
			}
			if !slices.Contains(p.reserved, a.Addr()) {
				return fmt.Errorf("%s: Docker may give %s to a container; reserve it with --aux-address host=%s", optHostPort, a.Addr(), a.Addr())
			}
			h.Addrs[i] = netip.PrefixFrom(a.Addr(), p.subnet.Bits())
		}
	} else if i := slices.IndexFunc(h.Addrs, netip.Prefix.IsSingleIP); i >= 0 {
		return fmt.Errorf("%s: this network has no subnet, so say how long the prefix of %s is, as in %s/24", optHostPort, h.Addrs[i].Addr(), h.Addrs[i].Addr())
	}
	slices.SortStableFunc(h.Addrs, func(a, b netip.Prefix) int { return cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()) })
	h.MAC = makeMAC(*h)
	return nil
}
