package main

import (
	"context"
	"net/netip"
	"strings"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// What stands here is a stand-in until names.go, targets.go, follow.go and blocks.go are there.

type blocks interface{ Next() (pcapng.Block, error) }

type names struct {
	d     *docker
	ports []portReply
}

func (c *client) names(ctx context.Context) (*names, error) {
	d, err := c.askDocker(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := of[portReply](ctx, c, "ports", "")
	if err != nil {
		return nil, err
	}
	nameAll(ctx, d, ports, func(*portReply) {}, func(p portReply) string { return p.Network })
	return &names{d, ports}, nil
}

func (n *names) Container(endpoint string) string { return n.d.containers[endpoint] }
func (n *names) Network(id string) string         { return n.d.name(id) }

func (n *names) Addr(a netip.Addr) string {
	for _, p := range n.All() {
		if p.Addr == a {
			return p.Name
		}
	}
	return ""
}

func (n *names) Host(name string) (all []netip.Addr) {
	for _, p := range n.All() {
		if p.Name == name {
			all = append(all, p.Addr)
		}
	}
	return all
}

func (n *names) All() (all pcapng.Names) {
	for _, p := range n.ports {
		for _, a := range p.Addresses {
			if prefix, err := netip.ParsePrefix(a); err == nil && n.Container(p.Name) != "" {
				all = append(all, pcapng.Name{Addr: prefix.Addr(), Name: n.Container(p.Name)})
			}
		}
	}
	return all
}

type targets struct{ captureTargets }

func (t *targets) Request() captureTargets { return t.captureTargets }

func (c *client) targets(_ context.Context, n *names, words []string, _ bool) (*targets, error) {
	t := &targets{}
	for _, word := range words {
		if network, ok := strings.CutPrefix(word, "network:"); ok {
			t.Networks, t.Some = append(t.Networks, network), true
			continue
		}
		found := false
		for endpoint, name := range n.d.containers {
			if name == word {
				t.Endpoints, t.Some, found = append(t.Endpoints, endpoint), true, true
			}
		}
		if !found {
			return nil, failf(exitNoTarget, "no container %q", word)
		}
	}
	return t, nil
}

type followed struct{ *stream }

func (c *client) follow(_ context.Context, s *stream, _ *names, _ *targets, _ string) *followed {
	return &followed{s}
}
