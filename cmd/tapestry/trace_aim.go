package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
)

// aim decides which frame goes from where to where.
func (t *tracing) aim(e traceEnds, from, to string) error {
	froms, err := resolvePorts("container", from, e.ports, e.docker)
	if err != nil {
		return err
	}
	if froms[0].Kind == "remote" {
		if froms, err = t.aimFrom(e, froms); err != nil {
			return err
		}
	}
	if mac, err := ether.ParseMAC(to); err == nil {
		return t.aimMAC(e, froms, mac)
	}
	if addr, err := netip.ParseAddr(to); err == nil {
		return t.aimAddr(e, froms, addr.Unmap().WithZone(""))
	}
	tos, err := resolvePorts("container", to, e.containers(), e.docker)
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
		return failf(exitNo, "%s and %s share no network of tapestry's: %s is on %s, %s on %s",
			from, to, from, where(froms), to, where(tos))
	}
	return t.aimPort(e, links)
}

// aimFrom is for frames from another host: only those networks count on which an address behind it is known.
func (t *tracing) aimFrom(e traceEnds, froms []portReply) ([]portReply, error) {
	known := slices.DeleteFunc(slices.Clone(froms), func(p portReply) bool { return p.MAC == "" })
	if len(known) == 0 {
		return nil, failf(exitNo, "no MAC address is known behind peer:%s, so there is none that a frame could come from: "+
			"see `tapestry fdb`, and `tapestry peers` for when it was last heard", froms[0].Name)
	}
	t.note("It comes from the address that was last seen behind %s.", e.docker.portLabel(known[0].Name))
	return known, nil
}

// aimPort is for a container of this host: by IPv4 if both have it.
func (t *tracing) aimPort(e traceEnds, links []traceLink) error {
	l, err := e.one(links)
	if err != nil {
		return err
	}
	t.from, t.to = l.from, l.to
	to := prefixes(l.to)
	slices.SortStableFunc(to, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	for _, x := range to {
		if own, ok := ownAddr(l.from, x.Addr()); ok {
			return t.fill(e, l.to.MAC, own.Addr(), x.Addr())
		}
	}
	return t.fill(e, l.to.MAC, netip.Addr{}, netip.Addr{})
}

// aimMAC is for a MAC address, of a container of this host or not.
func (t *tracing) aimMAC(e traceEnds, froms []portReply, mac ether.MAC) error {
	links := e.meet(froms, func(p portReply) bool { return p.MAC == mac.String() })
	if len(links) > 0 {
		return t.aimPort(e, links)
	}
	l, err := e.one(each(froms, func(p portReply) traceLink { return traceLink{from: p} }))
	if err != nil {
		return err
	}
	t.from = l.from
	return t.fill(e, mac.String(), netip.Addr{}, netip.Addr{})
}

// aimAddr is for an IP address: of a container of this host, of a group, or of somebody else in a subnet of FROM's.
func (t *tracing) aimAddr(e traceEnds, froms []portReply, addr netip.Addr) error {
	links := e.meet(froms, func(p portReply) bool {
		return slices.ContainsFunc(prefixes(p), func(x netip.Prefix) bool { return x.Addr() == addr })
	})
	if len(links) == 0 {
		var err error
		if links, err = e.reach(froms, addr); err != nil {
			return err
		}
	}
	l, err := e.one(links)
	if err != nil {
		return err
	}
	t.from, t.to = l.from, l.to
	who := e.docker.portLabel(l.from.Name)
	own, ok := ownAddr(l.from, addr)
	switch {
	case !ok:
		return failf(exitNo, "tapestry knows no %s address of %s on %s: trace it to a MAC address",
			map[bool]string{true: "IPv4", false: "IPv6"}[addr.Is4()], who, e.docker.label(l.from.Network))
	case l.to.Name != "":
		return t.fill(e, l.to.MAC, own.Addr(), addr)
	case addr.IsMulticast(), addr == broadcastAddr, addr.Is4() && addr == lastAddr(own):
		return t.fill(e, groupMAC(addr).String(), own.Addr(), addr)
	}
	t.packet.kind, t.packet.size = "arp", 0
	asks := "by ARP, of all stations (ff:ff:ff:ff:ff:ff)"
	if addr.Is6() {
		asks = "by a neighbour solicitation, of a group of stations"
	}
	t.note("No container of this host has %s. Before anything else %s would ask who has it, %s: that question is traced.",
		addr, who, asks)
	return t.fill(e, "", own.Addr(), addr)
}

func (t *tracing) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// fill completes the packet; dst is "" where the packet knows its destination itself.
func (t *tracing) fill(e traceEnds, dst string, from, to netip.Addr) error {
	p := &t.packet
	if !from.IsValid() {
		if p.kind != "" {
			return failf(exitUsage, "--%s needs IP addresses, and none is known that both ends could use: leave it out, "+
				"or trace to an IP address", p.kind)
		}
		t.note("No IP address is known that both ends could use: the frame carries none.")
	} else if p.kind == "" {
		p.kind = "icmp"
	}
	err := p.src.UnmarshalText([]byte(t.from.MAC))
	if err == nil && dst != "" {
		err = p.dst.UnmarshalText([]byte(dst))
	}
	if err != nil {
		return fmt.Errorf("the daemon shows a container without its MAC address: %w", err)
	}
	p.from, p.to = from, to
	who := e.docker.portLabel(t.from.Name)
	near := slices.ContainsFunc(prefixes(t.from), func(x netip.Prefix) bool { return x.Contains(to) })
	switch {
	case t.to.Name == t.from.Name:
		t.note("That is its own address: a container's kernel never sends such a frame.")
	case t.to.Name != "" && to.IsValid() && !near:
		t.note("%s is in no subnet of %s's (%s): it would send the packet to its gateway. What is traced is a packet that "+
			"went here all the same.", to, who, strings.Join(t.from.Addresses, ", "))
	}
	if p.size > t.from.MTU && t.from.Kind != "remote" {
		t.note("The MTU of %s is %d: its kernel would cut or refuse such a packet. What is traced is a packet that left "+
			"all the same.", who, t.from.MTU)
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
