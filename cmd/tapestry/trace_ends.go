package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
)

// traceEnds is where a trace may begin and end: the ports of all networks, or of the one that was chosen, with names.
type traceEnds struct {
	docker *docker
	ports  []portReply
}

// containers gives the ports of the container that arg names, one for each of its networks, or the port whose endpoint id
// begins so.
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
	return traceLink{}, failf(exitUsage, "%s is on several networks, choose one: --network %s", e.docker.portLabel(links[0].from.Name),
		strings.Join(names, " or --network "))
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

// aim decides which frame goes from where to where.
func (t *tracing) aim(e traceEnds, from, to string) error {
	froms, err := e.containers(from)
	if err != nil {
		return err
	}
	if mac, err := ether.ParseMAC(to); err == nil {
		return t.aimMAC(e, froms, mac)
	}
	if addr, err := netip.ParseAddr(to); err == nil {
		return t.aimAddr(e, froms, addr.Unmap().WithZone(""))
	}
	tos, err := e.containers(to)
	if err != nil {
		return err
	}
	links := e.meet(froms, func(p portReply) bool {
		return slices.ContainsFunc(tos, func(q portReply) bool { return q.Name == p.Name })
	})
	if len(links) == 0 {
		where := func(ports []portReply) string {
			return strings.Join(each(ports, func(p portReply) string { return e.docker.label(p.Network) }), ", ")
		}
		return failf(exitNo, "%s and %s share no network of tapestry's: %s is on %s, %s on %s", from, to, from, where(froms), to, where(tos))
	}
	l, err := e.one(links)
	if err != nil {
		return err
	}
	return t.aimPort(e, l)
}

// aimPort is for a container of this host: IPv4 if both have it.
func (t *tracing) aimPort(e traceEnds, l traceLink) error {
	t.from, t.to = l.from, l.to
	for _, v6 := range []bool{false, true} {
		from, ok := ownAddr(l.from, v6)
		to, both := ownAddr(l.to, v6)
		if ok && both {
			return t.fill(e, l.to.MAC, from.Addr(), to.Addr())
		}
	}
	return t.fill(e, l.to.MAC, netip.Addr{}, netip.Addr{})
}

// aimMAC is for a MAC address, of a container of this host or not.
func (t *tracing) aimMAC(e traceEnds, froms []portReply, mac ether.MAC) error {
	links := e.meet(froms, func(p portReply) bool { return p.MAC == mac.String() })
	if len(links) == 0 {
		links = each(froms, func(p portReply) traceLink { return traceLink{from: p} })
	}
	l, err := e.one(links)
	if err != nil {
		return err
	}
	if l.to.Name != "" {
		return t.aimPort(e, l)
	}
	t.from = l.from
	return t.fill(e, mac.String(), netip.Addr{}, netip.Addr{})
}

// aimAddr is for an IP address: of a container of this host, of somebody else in a subnet of FROM's, or of a group.
func (t *tracing) aimAddr(e traceEnds, froms []portReply, addr netip.Addr) error {
	links := e.meet(froms, func(p portReply) bool {
		return slices.ContainsFunc(prefixes(p), func(own netip.Prefix) bool { return own.Addr() == addr })
	})
	known := len(links) > 0
	var nets []string
	for _, p := range froms {
		for _, own := range prefixes(p) {
			nets = append(nets, own.Masked().String())
			if !known && own.Addr().Is4() == addr.Is4() && (own.Contains(addr) || addr.IsMulticast() || addr == broadcastAddr) {
				links = append(links, traceLink{from: p})
				break
			}
		}
	}
	who := e.docker.portLabel(froms[0].Name)
	if nets == nil {
		return failf(exitNo, "tapestry knows no IP address of %s (its network has none from Docker): trace it to a MAC address", who)
	}
	if len(links) == 0 {
		return failf(exitNo, "%s is in no subnet of %s's (%s). tapestry is layer 2: %s would send such a packet to the MAC address of its gateway, "+
			"if it has one there. See `docker exec %s ip route`, and trace to that address", addr, who, strings.Join(nets, ", "), who, who)
	}
	l, err := e.one(links)
	if err != nil {
		return err
	}
	t.from, t.to = l.from, l.to
	own := prefixes(l.from)
	i := slices.IndexFunc(own, func(p netip.Prefix) bool { return p.Addr().Is4() == addr.Is4() && (known || p.Contains(addr)) })
	if i < 0 {
		i = slices.IndexFunc(own, func(p netip.Prefix) bool { return p.Addr().Is4() == addr.Is4() })
	}
	if i < 0 {
		return failf(exitNo, "%s has no IPv%s address on %s", who, map[bool]string{true: "4", false: "6"}[addr.Is4()], e.docker.label(l.from.Network))
	}
	switch {
	case known:
		return t.fill(e, l.to.MAC, own[i].Addr(), addr)
	case addr.IsMulticast(), addr == broadcastAddr, addr.Is4() && addr == lastAddr(own[i]):
		return t.fill(e, groupMAC(addr).String(), own[i].Addr(), addr)
	}
	t.packet.kind, t.packet.size = "arp", 0
	asks := "by ARP, of all stations (ff:ff:ff:ff:ff:ff)"
	if addr.Is6() {
		asks = "by a neighbour solicitation, of a group of stations"
	}
	t.notes = append(t.notes, fmt.Sprintf("No container of this host has %s. Before anything else %s would ask who has it, %s: that question is traced.", addr, who, asks))
	return t.fill(e, "", own[i].Addr(), addr)
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

func ownAddr(p portReply, v6 bool) (netip.Prefix, bool) {
	all := prefixes(p)
	i := slices.IndexFunc(all, func(x netip.Prefix) bool { return x.Addr().Is6() == v6 })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return all[i], true
}

// fill completes the packet; dst is "" where the packet knows its destination itself.
func (t *tracing) fill(e traceEnds, dst string, from, to netip.Addr) error {
	p := &t.packet
	if !from.IsValid() {
		if p.kind != "" {
			return failf(exitUsage, "--%s needs IP addresses, and none is known that both ends could use: leave it out, or trace to an IP address", p.kind)
		}
		t.notes = append(t.notes, "No IP address is known that both ends could use: the frame carries none.")
	} else if p.kind == "" {
		p.kind = "icmp"
	}
	var err error
	if p.src, err = ether.ParseMAC(t.from.MAC); err != nil {
		return fmt.Errorf("the daemon gave a port without its address: %w", err)
	}
	if dst != "" {
		if p.dst, err = ether.ParseMAC(dst); err != nil {
			return fmt.Errorf("the daemon gave a port without its address: %w", err)
		}
	}
	p.from, p.to = from, to
	switch own := prefixes(t.from); {
	case t.to.Name == t.from.Name:
		t.notes = append(t.notes, "That is its own address: a container's kernel never sends such a frame.")
	case t.to.Name != "" && to.IsValid() && !slices.ContainsFunc(own, func(x netip.Prefix) bool { return x.Contains(to) }):
		t.notes = append(t.notes, fmt.Sprintf("%s is in no subnet of %s's (%s): it would send the packet to its gateway. What is traced is a packet that went here all the same.",
			to, e.docker.portLabel(t.from.Name), strings.Join(t.from.Addresses, ", ")))
	}
	if p.size > t.from.MTU {
		t.notes = append(t.notes, fmt.Sprintf("The MTU of %s is %d: its kernel would cut or refuse such a packet. What is traced is a packet that left all the same.",
			e.docker.portLabel(t.from.Name), t.from.MTU))
	}
	return nil
}

// describe says which frame it is.
func (t *tracing) describe(d *docker, length int) {
	p := t.packet
	what := fmt.Sprintf("%s → %s", p.src, p.dst)
	switch {
	case p.kind == "tcp", p.kind == "udp":
		what = fmt.Sprintf("%s %s → %s", map[string]string{"tcp": "TCP SYN", "udp": "UDP"}[p.kind],
			netip.AddrPortFrom(p.from, p.sport), netip.AddrPortFrom(p.to, p.dport))
	case p.kind == "icmp":
		what = fmt.Sprintf("ICMP echo request %s → %s", p.from, p.to)
	case p.kind == "arp" && p.to.Is4():
		what = fmt.Sprintf("ARP, who has %s? tell %s", p.to, p.from)
	case p.kind == "arp":
		what = fmt.Sprintf("neighbour solicitation, who has %s? tell %s", p.to, p.from)
	}
	ends := d.portLabel(t.from.Name)
	if t.to.Name != "" {
		ends += " to " + d.portLabel(t.to.Name)
	}
	t.about = fmt.Sprintf("%s, %d bytes, from %s on %s", what, length, ends, d.label(t.from.Network))
}
