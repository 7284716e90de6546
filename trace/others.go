package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
)

// elsewhere is what the cluster tells of containers on other hosts, as docker.Elsewhere has it. All are nil if it was not asked.
type elsewhere struct {
	find    func(word string) ([]docker.Other, error)
	suggest func(err error, word string) error
	at      func(network string, addr netip.Addr) (docker.Other, bool)
}

// isHere tells whether word can only mean a port of this host, or a MAC or IP address.
func (e candidates) isHere(word string) bool {
	name := strings.TrimPrefix(word, "container:")
	return strings.HasPrefix(word, "peer:") || strings.HasPrefix(word, api.HostPrefix) ||
		slices.ContainsFunc(e.ports, func(p api.Port) bool { return p.Container == name || p.Name == word })
}

// others returns the container on another host that word names, on each of its networks; nil: it names none.
func (e candidates) others(word string) ([]docker.Other, error) {
	if e.isHere(word) || e.away.find == nil {
		return nil, nil
	}
	return e.away.find(word)
}

// find returns those of all that word names on this host.
func (e candidates) find(word string, all []api.Port) ([]api.Port, error) {
	found, err := docker.ResolvePorts(e.docker, "container", word, all)
	if err != nil && e.away.suggest != nil {
		err = e.away.suggest(err, word)
	}
	return found, err
}

// peerOf returns the port to the host that a container is on.
func (e candidates) peerOf(o docker.Other) (p api.Port, ok bool) {
	i := slices.IndexFunc(e.ports, func(p api.Port) bool {
		return p.Kind == "remote" && p.Network == o.Network && api.WithoutPort(p.Name) == o.VTEP
	})
	if i < 0 {
		return p, false
	}
	return e.ports[i], true
}

// portOf describes a container on another host as a port, which it is not: with its addresses in the subnets of its network.
func (e candidates) portOf(o docker.Other) api.Port {
	p := api.Port{Network: o.Network, Kind: "other", Name: "other:" + o.Label, Container: o.Label, MAC: o.MAC}
	for _, a := range o.Addrs {
		bits := a.BitLen()
		for _, q := range e.ports {
			for _, x := range prefixes(q) {
				if q.Kind != "remote" && q.Network == o.Network && x.Contains(a) {
					bits = x.Bits()
				}
			}
		}
		p.Addresses = append(p.Addresses, netip.PrefixFrom(a, bits).String())
	}
	return p
}

// label is what people call a port, or a container on another host.
func (e candidates) label(p api.Port) string { return label(e.docker, p) }

func label(d *docker.Engine, p api.Port) string {
	if p.Kind == "remote" || p.Kind == "other" {
		if p.Container != "" {
			return p.Container
		}
	}
	return d.PortLabel(p.Name)
}

// fromOthers returns the ports by which frames of a container on another host come in, with its addresses.
func (q *Query) fromOthers(e candidates, there []docker.Other) (froms []api.Port, err error) {
	for _, o := range there {
		peer, ok := e.peerOf(o)
		if !ok || o.MAC == "" {
			continue
		}
		is := e.portOf(o)
		peer.MAC, peer.Addresses, peer.Container = is.MAC, is.Addresses, is.Container
		froms = append(froms, peer)
	}
	o := there[0]
	if len(froms) == 0 && o.MAC == "" {
		return nil, exit.Errorf(exit.Failure, "the cluster does not tell which MAC address %s has: trace from peer:%s", o.Label, o.VTEP)
	}
	if len(froms) == 0 {
		return nil, exit.Errorf(exit.Failure, "%s is on host %s (%s), which is no peer of %s here: see `tapestry peers`", o.Label, o.Host, o.VTEP, e.docker.NetworkLabel(o.Network))
	}
	q.addNote("%s: its frames come in by that peer.", whereOther(o))
	return froms, nil
}

// whereOther says where a container on another host is.
func whereOther(o docker.Other) string {
	text := fmt.Sprintf("%s is on host %s (%s)", o.Label, o.Host, o.VTEP)
	if o.Gone {
		return text + ", which is gone, as the cluster says"
	}
	return text + ", as the cluster says"
}

// linksTo returns the pairs of froms and a container on another host.
func (e candidates) linksTo(froms []api.Port, there []docker.Other) (links []portPair) {
	for _, from := range froms {
		for _, o := range there {
			if o.Network == from.Network {
				links = append(links, portPair{from: from, to: e.portOf(o), other: o})
			}
		}
	}
	return links
}

// noteOther says where TO is, if it is on another host.
func (q *Query) noteOther(e candidates, l portPair) {
	if l.other.Host == "" {
		return
	}
	_, peer := e.peerOf(l.other)
	switch {
	case !peer:
		q.addNote("%s. That is no peer of %s here, so nothing goes there: see `tapestry peers`.", whereOther(l.other), e.docker.NetworkLabel(l.other.Network))
	case l.other.Gone:
		q.addNote("%s: nothing is sent to it, unless it still answers over the tunnel.", whereOther(l.other))
	default:
		q.addNote("%s.", whereOther(l.other))
	}
}
