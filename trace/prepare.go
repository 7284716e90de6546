package trace

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/docker"
)

// Explain asks the daemon what the switch would do with a frame, and fills in the names of containers and networks that d
// knows. The errors are those of the call.
func Explain(ctx context.Context, c *client.Client, d *docker.Engine, request api.TraceRequest) (r api.Trace, err error) {
	if err := c.Call(ctx, http.MethodPost, api.TracePath, request, &r); err != nil {
		return r, err
	}
	r.Request, r.NetworkName = request, d.NetworkName(r.Network)
	r.In.Container = d.Containers[r.In.Port]
	for i := range r.Steps {
		s := &r.Steps[i]
		s.Container = d.Containers[s.Port]
		if s.Evicts != nil {
			s.Evicts.NetworkName, s.Evicts.Container = r.NetworkName, d.Containers[s.Evicts.Port]
		}
	}
	for i := range r.Egress {
		r.Egress[i].Container = d.Containers[r.Egress[i].Port]
	}
	return r, nil
}

// Prepare finds the ports of from and to on network ("": any that both share), and builds the frame. It returns what Docker
// knows and the request for Explain. Its errors carry exit codes: exit.Usage of what was typed wrong, exit.NoTarget of a port or
// network that does not exist, exit.Failure of ports between which no frame can be.
func (q *Query) Prepare(ctx context.Context, c *client.Client, network, from, to string) (*docker.Engine, api.TraceRequest, error) {
	on, err := docker.FindNetwork(ctx, c, network)
	if err != nil {
		return nil, api.TraceRequest{}, err
	}
	ports, err := client.List[api.Port](ctx, c, api.PortsPath, on.ID)
	if err != nil {
		return nil, api.TraceRequest{}, err
	}
	name := func(p *api.Port) { p.Container = on.Engine.Containers[p.Name] }
	docker.FillNames(ctx, on.Engine, ports, name, func(p api.Port) string { return p.Network })
	if strings.HasPrefix(from, "peer:") {
		entries, err := client.List[api.Entry](ctx, c, api.EntriesPath, on.ID)
		if err != nil {
			return nil, api.TraceRequest{}, err
		}
		setRemoteMACs(ports, entries)
	}
	for _, word := range []*string{&from, &to} {
		found, note, err := on.Engine.PortWord(ctx, *word, ports)
		if err != nil {
			return nil, api.TraceRequest{}, err
		}
		if note != "" {
			q.addNote("%s.", note)
		}
		*word = found
	}
	e := candidates{docker: on.Engine, ports: ports}
	if addr, err := netip.ParseAddr(to); !e.isHere(from) || !e.isHere(to) && !(err == nil && addr.IsMulticast()) {
		e.away = askElsewhere(ctx, c, on.Engine)
	}
	if err := q.resolve(e, from, to); err != nil {
		return nil, api.TraceRequest{}, err
	}
	frame, err := q.Packet.frame()
	if err != nil {
		return nil, api.TraceRequest{}, exit.Errorf(exit.Usage, "--size %d: %w", q.Packet.Size, err)
	}
	q.describe(on.Engine, len(frame))
	request := api.TraceRequest{Network: q.from.Network, Port: q.from.Name, Frame: frame}
	if q.from.Kind == "remote" {
		request.Port = api.WithoutPort(q.from.Name)
	}
	return on.Engine, request, nil
}

// askElsewhere asks for what the cluster tells. If the daemon does not answer that, FROM and TO are looked for on this host only.
func askElsewhere(ctx context.Context, c *client.Client, d *docker.Engine) elsewhere {
	all, err := docker.FindElsewhere(ctx, c, d)
	if err != nil {
		return elsewhere{}
	}
	return elsewhere{all.Find, all.Suggest, func(network string, addr netip.Addr) (docker.Other, bool) {
		o, ok, err := all.At(ctx, network, addr)
		return o, ok && err == nil
	}}
}

// setRemoteMACs gives each remote port the MAC address that was last seen behind it, if one is known, and removes the
// host's own IP addresses: they belong to the underlay, no frame in the network has them.
func setRemoteMACs(ports []api.Port, entries []api.Entry) {
	slices.SortStableFunc(entries, func(a, b api.Entry) int { return cmp.Compare(a.AgeSeconds, b.AgeSeconds) })
	for i := range ports {
		p := &ports[i]
		if p.Kind != "remote" {
			continue
		}
		p.Addresses = nil
		at := slices.IndexFunc(entries, func(e api.Entry) bool {
			return e.Network == p.Network && api.WithoutPort(e.Port) == api.WithoutPort(p.Name)
		})
		if at >= 0 {
			p.MAC = entries[at].MAC.String()
		}
	}
}
