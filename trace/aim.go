// Package trace makes the frame that a trace asks about, and says in words what would become of it.
package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"
)

// A Question is what a trace asks: which frame, from where to where.
type Question struct {
	Packet   Packet
	from, to api.Port // to is empty when it is no port of this host
	About    string   // the frame in words
	Notes    []string // what else to know of it
}

// aim decides which frame goes from where to where.
func (q *Question) aim(e endpoints, from, to string) error {
	froms, err := docker.ResolvePorts("container", from, e.ports, e.docker)
	if err != nil {
		return err
	}
	if froms[0].Kind == "remote" {
		if froms, err = q.aimFrom(e, froms); err != nil {
			return err
		}
	}
	if mac, err := ether.ParseMAC(to); err == nil {
		return q.aimMAC(e, froms, mac)
	}
	if addr, err := netip.ParseAddr(to); err == nil {
		return q.aimAddr(e, froms, addr.Unmap().WithZone(""))
	}
	tos, err := docker.ResolvePorts("container", to, e.containers(), e.docker)
	if err != nil {
		return err
	}
	links := e.common(froms, func(p api.Port) bool {
		return slices.ContainsFunc(tos, func(q api.Port) bool { return q.Name == p.Name })
	})
	if len(links) == 0 {
		where := func(ports []api.Port) string {
			return strings.Join(api.Map(ports, func(p api.Port) string { return e.docker.NetworkLabel(p.Network) }), ", ")
		}
		return exit.Errorf(exit.No, "%s and %s share no network of tapestry's: %s is on %s, %s on %s",
			from, to, from, where(froms), to, where(tos))
	}
	return q.aimPort(e, links)
}

// aimFrom is for frames from another host: only those networks count on which an address behind it is known.
func (q *Question) aimFrom(e endpoints, froms []api.Port) ([]api.Port, error) {
	known := slices.DeleteFunc(slices.Clone(froms), func(p api.Port) bool { return p.MAC == "" })
	if len(known) == 0 {
		return nil, exit.Errorf(exit.No, "no MAC address is known behind peer:%s, so there is none that a frame could come from: "+
			"see `tapestry fdb`, and `tapestry peers` for when it was last heard", froms[0].Name)
	}
	q.note("It comes from the address that was last seen behind %s.", e.docker.PortLabel(known[0].Name))
	return known, nil
}

// aimPort is for a container of this host: by IPv4 if both have it.
func (q *Question) aimPort(e endpoints, links []traceLink) error {
	l, err := e.only(links)
	if err != nil {
		return err
	}
	q.from, q.to = l.from, l.to
	to := prefixes(l.to)
	slices.SortStableFunc(to, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	for _, x := range to {
		if own, ok := ownAddr(l.from, x.Addr()); ok {
			return q.complete(e, l.to.MAC, own.Addr(), x.Addr())
		}
	}
	return q.complete(e, l.to.MAC, netip.Addr{}, netip.Addr{})
}

// aimMAC is for a MAC address, of a container of this host or not.
func (q *Question) aimMAC(e endpoints, froms []api.Port, mac ether.MAC) error {
	links := e.common(froms, func(p api.Port) bool { return p.MAC == mac.String() })
	if len(links) > 0 {
		return q.aimPort(e, links)
	}
	l, err := e.only(api.Map(froms, func(p api.Port) traceLink { return traceLink{from: p} }))
	if err != nil {
		return err
	}
	q.from = l.from
	return q.complete(e, mac.String(), netip.Addr{}, netip.Addr{})
}

// aimAddr is for an IP address: of a container of this host, of a group, or of somebody else in a subnet of FROM's.
func (q *Question) aimAddr(e endpoints, froms []api.Port, addr netip.Addr) error {
	links := e.common(froms, func(p api.Port) bool {
		return slices.ContainsFunc(prefixes(p), func(x netip.Prefix) bool { return x.Addr() == addr })
	})
	if len(links) == 0 {
		var err error
		if links, err = e.reachable(froms, addr); err != nil {
			return err
		}
	}
	l, err := e.only(links)
	if err != nil {
		return err
	}
	q.from, q.to = l.from, l.to
	who := e.docker.PortLabel(l.from.Name)
	own, ok := ownAddr(l.from, addr)
	switch {
	case !ok:
		return exit.Errorf(exit.No, "tapestry knows no %s address of %s on %s: trace it to a MAC address",
			map[bool]string{true: "IPv4", false: "IPv6"}[addr.Is4()], who, e.docker.NetworkLabel(l.from.Network))
	case l.to.Name != "":
		return q.complete(e, l.to.MAC, own.Addr(), addr)
	case addr.IsMulticast(), addr == broadcastAddr, addr.Is4() && addr == lastAddr(own):
		return q.complete(e, groupMAC(addr).String(), own.Addr(), addr)
	}
	q.Packet.Kind, q.Packet.Size = "arp", 0
	asks := "by ARP, of all stations (ff:ff:ff:ff:ff:ff)"
	if addr.Is6() {
		asks = "by a neighbour solicitation, of a group of stations"
	}
	q.note("No container of this host has %s. Before anything else %s would ask who has it, %s: that question is traced.",
		addr, who, asks)
	return q.complete(e, "", own.Addr(), addr)
}

func (q *Question) note(format string, args ...any) {
	q.Notes = append(q.Notes, fmt.Sprintf(format, args...))
}

// complete completes the packet; dst is "" where the packet knows its destination itself.
func (q *Question) complete(e endpoints, dst string, from, to netip.Addr) error {
	p := &q.Packet
	if !from.IsValid() {
		if p.Kind != "" {
			return exit.Errorf(exit.Usage, "--%s needs IP addresses, and none is known that both ends could use: leave it out, "+
				"or trace to an IP address", p.Kind)
		}
		q.note("No IP address is known that both ends could use: the frame carries none.")
	} else if p.Kind == "" {
		p.Kind = "icmp"
	}
	err := p.src.UnmarshalText([]byte(q.from.MAC))
	if err == nil && dst != "" {
		err = p.dst.UnmarshalText([]byte(dst))
	}
	if err != nil {
		return fmt.Errorf("the daemon shows a container without its MAC address: %w", err)
	}
	p.from, p.to = from, to
	who := e.docker.PortLabel(q.from.Name)
	near := slices.ContainsFunc(prefixes(q.from), func(x netip.Prefix) bool { return x.Contains(to) })
	switch {
	case q.to.Name == q.from.Name:
		q.note("That is its own address: a container's kernel never sends such a frame.")
	case q.to.Name != "" && to.IsValid() && !near:
		q.note("%s is in no subnet of %s's (%s): it would send the packet to its gateway. What is traced is a packet that "+
			"went here all the same.", to, who, strings.Join(q.from.Addresses, ", "))
	}
	if p.Size > q.from.MTU && q.from.Kind != "remote" {
		q.note("The MTU of %s is %d: its kernel would cut or refuse such a packet. What is traced is a packet that left "+
			"all the same.", who, q.from.MTU)
	}
	return nil
}

// describe says which frame it is.
func (q *Question) describe(d *docker.Engine, length int) {
	p := q.Packet
	what := fmt.Sprintf("%s → %s", p.src, p.dst)
	switch {
	case p.Kind == "tcp", p.Kind == "udp":
		what = fmt.Sprintf("%s %s → %s", map[string]string{"tcp": "TCP SYN", "udp": "UDP"}[p.Kind],
			netip.AddrPortFrom(p.from, p.Sport), netip.AddrPortFrom(p.to, p.Dport))
	case p.Kind == "icmp":
		what = fmt.Sprintf("ICMP echo request %s → %s", p.from, p.to)
	case p.Kind == "arp" && p.to.Is4():
		what = fmt.Sprintf("ARP, who has %s? tell %s", p.to, p.from)
	case p.Kind == "arp":
		what = fmt.Sprintf("neighbour solicitation, who has %s? tell %s", p.to, p.from)
	}
	ends := d.PortLabel(q.from.Name)
	if q.to.Name != "" {
		ends += " to " + d.PortLabel(q.to.Name)
	}
	q.About = fmt.Sprintf("%s, %d bytes, from %s on %s", what, length, ends, d.NetworkLabel(q.from.Network))
}
