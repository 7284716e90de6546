package trace

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
)

// candidates are the ports that a trace may begin or end at: those of all networks, or of the one that was chosen.
type candidates struct {
	docker *docker.Engine
	ports  []api.Port
	away   elsewhere
}

// containers are the ports of containers, and the host's own.
func (e candidates) containers() []api.Port {
	return slices.DeleteFunc(slices.Clone(e.ports), func(p api.Port) bool { return p.Kind == "remote" })
}

// A portPair is the ports of FROM and TO on one network. to is the zero Port if TO is neither a port of this host nor a container
// on another one, which then is other.
type portPair struct {
	from, to api.Port
	other    docker.Other
}

// single returns the only pair. Several are an error that lists their networks.
func (e candidates) single(links []portPair) (portPair, error) {
	if len(links) == 1 {
		return links[0], nil
	}
	names := api.Map(links, func(l portPair) string { return e.docker.NetworkLabel(l.from.Network) })
	slices.Sort(names)
	return portPair{}, exit.Errorf(exit.Usage, "%s is on several networks, choose one: --network %s",
		e.label(links[0].from), strings.Join(names, " or --network "))
}

// sharedWith returns the pairs of one of froms and a wanted port on the same network.
func (e candidates) sharedWith(froms []api.Port, wanted func(api.Port) bool) (links []portPair) {
	for _, from := range froms {
		for _, to := range e.containers() {
			if to.Network == from.Network && wanted(to) {
				links = append(links, portPair{from: from, to: to})
			}
		}
	}
	return links
}

// reachable returns the ports of froms that would send to addr directly and not by a gateway. None is an error.
func (e candidates) reachable(froms []api.Port, addr netip.Addr) (links []portPair, err error) {
	var nets []string
	for _, p := range froms {
		for _, own := range prefixes(p) {
			nets = append(nets, own.Masked().String())
			near := own.Contains(addr) || addr.IsMulticast() || addr == broadcastAddr
			if near && own.Addr().Is4() == addr.Is4() && (len(links) == 0 || links[len(links)-1].from.Name != p.Name) {
				links = append(links, portPair{from: p})
			}
		}
	}
	who := e.label(froms[0])
	switch {
	case nets == nil:
		return nil, exit.Errorf(exit.Failure, "tapestry knows no IP address of %s (its network has none from Docker): "+
			"trace it to a MAC address", who)
	case links == nil:
		return nil, exit.Errorf(exit.Failure, "%s is in no subnet of %s's (%s). tapestry is layer 2: %s would send such a packet "+
			"to the MAC address of its gateway, if it has one there. See `docker exec %s ip route`, and trace to that address",
			addr, who, strings.Join(nets, ", "), who, who)
	}
	return links, nil
}

var broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// lastAddr returns an IPv4 subnet's broadcast address; the zero Addr of a /31 or /32, which has none (RFC 3021).
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

func prefixes(p api.Port) (all []netip.Prefix) {
	for _, a := range p.Addresses {
		if x, err := netip.ParsePrefix(a); err == nil {
			all = append(all, x)
		}
	}
	return all
}

// ownAddr returns the source address that a port would use towards to: one whose subnet contains to, else one of the same IP version.
func ownAddr(p api.Port, to netip.Addr) (own netip.Prefix, ok bool) {
	for _, x := range prefixes(p) {
		if x.Addr().Is4() == to.Is4() && (!ok || x.Contains(to) && !own.Contains(to)) {
			own, ok = x, true
		}
	}
	return own, ok
}
