package main

import (
	"context"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// names, targets and followed stand in for what another branch makes, behind the same signatures.
type names struct {
	*docker
	addrs pcapng.Names
}

// stubNames are given to every client of a test.
var stubNames pcapng.Names

func (c *client) names(ctx context.Context) (*names, error) {
	d, err := c.askDocker(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, n := range d.networks {
		ids[n.ID] = true
	}
	d.nameContainers(ctx, ids)
	return &names{d, stubNames}, nil
}

func (n *names) Container(endpoint string) string { return n.containers[endpoint] }
func (n *names) Network(id string) string         { return n.name(id) }
func (n *names) All() pcapng.Names                { return n.addrs }
func (n *names) Version() uint64                  { return 1 }

func (n *names) Addr(a netip.Addr) string {
	if i := slices.IndexFunc(n.addrs, func(x pcapng.Name) bool { return x.Addr == a }); i >= 0 {
		return n.addrs[i].Name
	}
	return ""
}

func (n *names) Host(name string) (all []netip.Addr) {
	for _, x := range n.addrs {
		if x.Name == name {
			all = append(all, x.Addr)
		}
	}
	return all
}

type targets struct{ want captureTargets }

func (c *client) targets(_ context.Context, _ *names, words []string, wait bool) (*targets, error) {
	t := &targets{captureTargets{New: wait}}
	for _, w := range words {
		if w == "web" {
			t.want.Endpoints = append(t.want.Endpoints, webIDStub)
		} else if w != "all" {
			return nil, failf(exitNoTarget, "no target %q", w)
		}
	}
	return t, nil
}

const webIDStub = "9b1d444444444444444444444444444444444444444444444444444444444444"

func (t *targets) Request() captureTargets { return t.want }

type followed struct{ *stream }

func (c *client) follow(_ context.Context, s *stream, _ *names, _ *targets, _ string) *followed {
	return &followed{s}
}
