// Package trace makes the frame of a trace, asks the daemon what the switch would do with it, and prints the answer.
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

// A Query is the frame of a trace, the port that it comes from, and its destination. The caller sets Packet's Kind, Size and
// ports; Prepare fills in the rest.
type Query struct {
	Packet   Packet
	from, to api.Port // to is the zero Port if the destination is neither a port of this host nor a container on another one
	About    string   // the frame in one line
	Notes    []string // sentences about what is special in this frame
}

// resolve finds the ports of FROM and TO on the network that they share, and fills in the packet.
func (q *Query) resolve(e candidates, from, to string) error {
	froms, err := q.resolveFrom(e, from)
	if err != nil {
		return err
	}
	if mac, err := ether.ParseMAC(to); err == nil {
		return q.resolveMAC(e, froms, mac)
	}
	if addr, err := netip.ParseAddr(to); err == nil {
		return q.resolveAddr(e, froms, addr.Unmap().WithZone(""))
	}
	there, err := e.others(to)
	if err != nil {
		return err
	}
	links, tos := e.linksTo(froms, there), api.Map(there, e.portOf)
	if there == nil {
		if tos, err = e.find(to, e.containers()); err != nil {
			return err
		}
		links = e.sharedWith(froms, func(p api.Port) bool {
			return slices.ContainsFunc(tos, func(q api.Port) bool { return q.Name == p.Name })
		})
	}
	if len(links) == 0 {
		where := func(ports []api.Port) string {
			return strings.Join(api.Map(ports, func(p api.Port) string { return e.docker.NetworkLabel(p.Network) }), ", ")
		}
		return exit.Errorf(exit.Failure, "%s and %s share no network of tapestry's: %s is on %s, %s on %s",
			from, to, from, where(froms), to, where(tos))
	}
	return q.resolvePort(e, links)
}

// resolveFrom finds the ports of FROM.
func (q *Query) resolveFrom(e candidates, from string) ([]api.Port, error) {
	there, err := e.others(from)
	if err != nil {
		return nil, err
	}
	if there != nil {
		return q.fromOthers(e, there)
	}
	froms, err := e.find(from, e.ports)
	if err == nil && froms[0].Kind == "remote" {
		return q.resolveRemote(e, froms)
	}
	return froms, err
}

// resolveRemote returns those ports of another host behind which a MAC address is known: a frame needs a source address.
func (q *Query) resolveRemote(e candidates, froms []api.Port) ([]api.Port, error) {
	known := slices.DeleteFunc(slices.Clone(froms), func(p api.Port) bool { return p.MAC == "" })
	if len(known) == 0 {
		return nil, exit.Errorf(exit.Failure, "no MAC address is known behind peer:%s, so there is none that a frame could come from: "+
			"see `tapestry fdb`, and `tapestry peers` for when it was last heard", froms[0].Name)
	}
	q.addNote("It comes from the address that was last seen behind %s.", e.docker.PortLabel(known[0].Name))
	return known, nil
}

// resolvePort handles a TO that is a port of this host, or a container on another one. The packet is of IPv4 if both ends have it, else
// of IPv6, else of none.
func (q *Query) resolvePort(e candidates, links []portPair) error {
	l, err := e.single(links)
	if err != nil {
		return err
	}
	q.from, q.to = l.from, l.to
	q.noteOther(e, l)
	to := prefixes(l.to)
	slices.SortStableFunc(to, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	for _, x := range to {
		if own, ok := ownAddr(l.from, x.Addr()); ok && l.to.MAC == "" {
			return q.ask(e, own.Addr(), x.Addr(), fmt.Sprintf("The cluster does not tell which MAC address has %s.", x.Addr()))
		} else if ok {
			return q.fill(e, l.to.MAC, own.Addr(), x.Addr())
		}
	}
	if l.to.MAC == "" {
		return exit.Errorf(exit.Failure, "the cluster does not tell which MAC address %s has: trace it to a MAC address", e.label(l.to))
	}
	return q.fill(e, l.to.MAC, netip.Addr{}, netip.Addr{})
}

// resolveMAC handles a TO that is a MAC address, of a container of this host or not.
func (q *Query) resolveMAC(e candidates, froms []api.Port, mac ether.MAC) error {
	links := e.sharedWith(froms, func(p api.Port) bool { return p.MAC == mac.String() })
	if len(links) > 0 {
		return q.resolvePort(e, links)
	}
	l, err := e.single(api.Map(froms, func(p api.Port) portPair { return portPair{from: p} }))
	if err != nil {
		return err
	}
	q.from = l.from
	return q.fill(e, mac.String(), netip.Addr{}, netip.Addr{})
}

// resolveAddr handles a TO that is an IP address: of a container of this host or of another one, multicast or broadcast, or another
// address in a subnet of FROM, for which the ARP request or neighbour solicitation is traced.
func (q *Query) resolveAddr(e candidates, froms []api.Port, addr netip.Addr) error {
	links := e.sharedWith(froms, func(p api.Port) bool {
		return slices.ContainsFunc(prefixes(p), func(x netip.Prefix) bool { return x.Addr() == addr })
	})
	if len(links) == 0 {
		var err error
		if links, err = e.reachable(froms, addr); err != nil {
			return err
		}
		for i, l := range links {
			if e.away.at == nil {
				break
			}
			if o, ok := e.away.at(l.from.Network, addr); ok {
				o.Addrs = []netip.Addr{addr}
				links[i] = portPair{from: l.from, to: e.portOf(o), other: o}
			}
		}
	}
	l, err := e.single(links)
	if err != nil {
		return err
	}
	q.from, q.to = l.from, l.to
	q.noteOther(e, l)
	who := e.label(l.from)
	own, ok := ownAddr(l.from, addr)
	switch {
	case !ok:
		return exit.Errorf(exit.Failure, "tapestry knows no %s address of %s on %s: trace it to a MAC address",
			map[bool]string{true: "IPv4", false: "IPv6"}[addr.Is4()], who, e.docker.NetworkLabel(l.from.Network))
	case l.to.MAC != "":
		return q.fill(e, l.to.MAC, own.Addr(), addr)
	case addr.IsMulticast(), addr == broadcastAddr, addr.Is4() && addr == lastAddr(own):
		return q.fill(e, groupMAC(addr).String(), own.Addr(), addr)
	}
	return q.ask(e, own.Addr(), addr, fmt.Sprintf("No container of this host has %s.", addr))
}

// ask fills in the question who has an address. why is a sentence.
func (q *Query) ask(e candidates, own, addr netip.Addr, why string) error {
	q.Packet.Kind, q.Packet.Size = "arp", 0
	asks := "by ARP, of all stations (ff:ff:ff:ff:ff:ff)"
	if addr.Is6() {
		asks = "by a neighbour solicitation, of a group of stations"
	}
	q.addNote("%s Before anything else %s would ask who has it, %s: that question is traced.", why, e.label(q.from), asks)
	return q.fill(e, "", own, addr)
}

// addNote adds a sentence to Notes.
func (q *Query) addNote(format string, args ...any) {
	q.Notes = append(q.Notes, fmt.Sprintf(format, args...))
}

// fill fills in the packet's addresses, and notes what a container's kernel would do otherwise. dst is the destination's MAC
// address, "" for ARP, whose destination follows from the packet.
func (q *Query) fill(e candidates, dst string, from, to netip.Addr) error {
	p := &q.Packet
	if !from.IsValid() {
		if p.Kind != "" {
			return exit.Errorf(exit.Usage, "--%s needs IP addresses, and none is known that both ends could use: leave it out, "+
				"or trace to an IP address", p.Kind)
		}
		q.addNote("No IP address is known that both ends could use: the frame carries none.")
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
	who := e.label(q.from)
	near := slices.ContainsFunc(prefixes(q.from), func(x netip.Prefix) bool { return x.Contains(to) })
	switch {
	case q.to.Name == q.from.Name:
		q.addNote("That is its own address: a container's kernel never sends such a frame.")
	case q.to.Name != "" && to.IsValid() && !near:
		q.addNote("%s is in no subnet of %s's (%s): it would send the packet to its gateway. What is traced is a packet that "+
			"went here all the same.", to, who, strings.Join(q.from.Addresses, ", "))
	}
	if p.Size > q.from.MTU && q.from.Kind != "remote" {
		q.addNote("The MTU of %s is %d: its kernel would cut or refuse such a packet. What is traced is a packet that left "+
			"all the same.", who, q.from.MTU)
	}
	return nil
}

// describe sets About. length is the frame's, in bytes.
func (q *Query) describe(d *docker.Engine, length int) {
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
	ends := label(d, q.from)
	if q.to.Name != "" {
		ends += " to " + label(d, q.to)
	}
	q.About = fmt.Sprintf("%s, %d bytes, from %s on %s", what, length, ends, d.NetworkLabel(q.from.Network))
}
