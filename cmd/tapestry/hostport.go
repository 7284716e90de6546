package main

import (
	"context"
	"strings"

	"github.com/tapestry-net/tapestry/fabric"
)

const hostWord = "host:" // and a network: how people name the host's own port on it

// hostNetwork is the id of the network on which the host's own port has this name; "" if it is no such name.
func hostNetwork(port string) string {
	if id, ok := strings.CutPrefix(port, fabric.HostPortID("")); ok {
		return id
	}
	return ""
}

// host takes the host's own port on a network.
func (l *lookup) host(ctx context.Context, t *targets, name string) error {
	if name == "" {
		return failf(exitUsage, "host: names no network: want host:NAME, with its name, id or VNI")
	}
	if err := l.askNetworks(ctx); err != nil {
		return err
	}
	found, err := resolve(name, l.networks, l.n.docker)
	switch {
	case err != nil:
		return err
	case len(found.Host) == 0:
		return failf(exitNoTarget, "this host has no port on network %s: that has to be made with -o tapestry.host=on", l.n.docker.label(found.ID))
	}
	t.endpoints[fabric.HostPortID(found.ID)] = true
	return nil
}

// isHost tells whether a port is the host's own on the network that word names.
func (d *docker) isHost(p portReply, word string) bool {
	name, ok := strings.CutPrefix(word, hostWord)
	return ok && p.Kind == "host" && (name == d.name(p.Network) || name == vniText(p.VNI) || len(name) >= 4 && strings.HasPrefix(p.Network, name))
}
