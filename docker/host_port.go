package docker

import (
	"context"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// hostNetwork is the id of the network on which the host's own port has this name; "" if it is no such name.
func hostNetwork(port string) string {
	if id, ok := strings.CutPrefix(port, api.HostPortName("")); ok {
		return id
	}
	return ""
}

// hostPort takes the host's own port on a network.
func (l *resolver) hostPort(ctx context.Context, t *Targets, name string) error {
	if name == "" {
		return exit.Errorf(exit.Usage, "host: names no network: want host:NAME, with its name, id or VNI")
	}
	if err := l.askNetworks(ctx); err != nil {
		return err
	}
	found, err := resolve(l.n.engine, name, l.networks)
	switch {
	case err != nil:
		return err
	case len(found.Host) == 0:
		return exit.Errorf(exit.NoTarget, "this host has no port on network %s: that has to be made with -o tapestry.host=on", l.n.engine.NetworkLabel(found.ID))
	}
	t.Endpoints[api.HostPortName(found.ID)] = true
	return nil
}

// isHostPort tells whether a port is the host's own on the network that word names.
func (d *Engine) isHostPort(p api.Port, word string) bool {
	name, ok := strings.CutPrefix(word, api.HostPrefix)
	return ok && p.Kind == "host" && (name == d.NetworkName(p.Network) || name == human.VNI(p.VNI) || len(name) >= 4 && strings.HasPrefix(p.Network, name))
}
