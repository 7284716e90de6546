package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// traceEnds is where a trace may begin and end: the ports of all networks, or of the one that was chosen, with names.
type traceEnds struct {
	docker *docker
	ports  []portReply
}

// containers gives the ports of the container that arg names, one for each of its networks, or the port whose endpoint
// id begins so.
func (e traceEnds) containers(arg string) ([]portReply, error) {
	var named, begin []portReply
	for _, p := range e.ports {
		if p.Kind != "container" {
			continue
		}
		if p.Container == arg && arg != "" {
			named = append(named, p)
		}
		if strings.HasPrefix(p.Name, arg) && arg != "" {
			begin = append(begin, p)
		}
	}
	switch {
	case len(named) > 0:
		return named, nil
	case len(begin) > 1:
		return nil, failf(exitUsage, "%q can be the endpoint %s: name one by more of its id", arg,
			strings.Join(each(begin, func(p portReply) string { return p.Name }), " or "))
	case len(begin) == 1:
		return begin, nil
	}
	return nil, e.notFound(arg)
}

// notFound says what there is instead of arg.
func (e traceEnds) notFound(arg string) error {
	unnamed := ""
	if !e.docker.answered {
		unnamed = fmt.Sprintf(" (Docker does not answer at %s, so containers are known by endpoint id only)", e.docker.at)
	}
	var labels []string
	for _, p := range e.ports {
		if p.Kind == "container" {
			labels = append(labels, e.docker.portLabel(p.Name))
		}
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	if len(labels) == 0 {
		return failf(exitNoTarget, "no container %q: there is none%s", arg, unnamed)
	}
	if near := nearest(arg, labels); len(near) > 0 {
		return failf(exitNoTarget, "no container %q, did you mean %s?%s", arg, strings.Join(near, " or "), unnamed)
	}
	if len(labels) > 5 {
		labels = append(labels[:5], "…")
	}
	return failf(exitNoTarget, "no container %q, there are: %s%s", arg, strings.Join(labels, ", "), unnamed)
}

// A traceLink is a network that FROM and TO meet on; to is empty when TO is no port of this host.
type traceLink struct{ from, to portReply }

// one takes the only link there is.
func (e traceEnds) one(links []traceLink) (traceLink, error) {
	if len(links) == 1 {
		return links[0], nil
	}
	names := each(links, func(l traceLink) string { return e.docker.label(l.from.Network) })
	slices.Sort(names)
	return traceLink{}, failf(exitUsage, "%s is on several networks, choose one: --network %s",
		e.docker.portLabel(links[0].from.Name), strings.Join(names, " or --network "))
}

// meet gives the networks on which one of froms can meet a port that is wanted.
func (e traceEnds) meet(froms []portReply, wanted func(portReply) bool) (links []traceLink) {
	for _, from := range froms {
		for _, to := range e.ports {
			if to.Network == from.Network && to.Kind == "container" && wanted(to) {
				links = append(links, traceLink{from, to})
			}
		}
	}
	return links
}

// reach gives the networks on which one of froms would send to addr itself: not by a gateway.
func (e traceEnds) reach(froms []portReply, addr netip.Addr) (links []traceLink, err error) {
	var nets []string
	for _, p := range froms {
		for _, own := range prefixes(p) {
			nets = append(nets, own.Masked().String())
			near := own.Contains(addr) || addr.IsMulticast() || addr == broadcastAddr
			if near && own.Addr().Is4() == addr.Is4() && (len(links) == 0 || links[len(links)-1].from.Name != p.Name) {
				links = append(links, traceLink{from: p})
			}
		}
	}
	who := e.docker.portLabel(froms[0].Name)
	switch {
	case nets == nil:
		return nil, failf(exitNo, "tapestry knows no IP address of %s (its network has none from Docker): "+
			"trace it to a MAC address", who)
	case links == nil:
		return nil, failf(exitNo, "%s is in no subnet of %s's (%s). tapestry is layer 2: %s would send such a packet "+
			"to the MAC address of its gateway, if it has one there. See `docker exec %s ip route`, and trace to that address",
			addr, who, strings.Join(nets, ", "), who, who)
	}
	return links, nil
}

var broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// lastAddr is an IPv4 subnet's broadcast address; zero of one too small to have any.
func lastAddr(p netip.Prefix) netip.Addr {
	if p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

func prefixes(p portReply) (all []netip.Prefix) {
	for _, a := range p.Addresses {
		if x, err := netip.ParsePrefix(a); err == nil {
			all = append(all, x)
		}
	}
	return all
}

// ownAddr is the address that a port would send from to one like to: of its subnet, else of its IP version.
func ownAddr(p portReply, to netip.Addr) (own netip.Prefix, ok bool) {
	for _, x := range prefixes(p) {
		if x.Addr().Is4() == to.Is4() && (!ok || x.Contains(to) && !own.Contains(to)) {
			own, ok = x, true
		}
	}
	return own, ok
}
