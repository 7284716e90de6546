package docker

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// LearnNodes asks Docker which nodes its Swarm has, and tells the daemon. notes say what Docker may not have told.
func LearnNodes(ctx context.Context, c *client.Client) (r api.Learned, notes []string, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return r, nil, err
	}
	d, err := Load(ctx, c)
	if err != nil {
		return r, nil, err
	}
	if !d.Answered {
		return r, nil, exit.Errorf(exit.Failure, "Docker does not answer at %s, and nobody else knows the Swarm's nodes", d.Address)
	}
	info, by := d.Info(ctx), SupervisorAt(ctx, d, c.SocketPath())
	switch {
	case !info.InSwarm():
		return r, nil, exit.Errorf(exit.Failure, "this host is in no Swarm that works: docker info says %q", info.Swarm.LocalNodeState)
	case !by.Managed():
		return r, nil, exit.Errorf(exit.Failure, "the daemon is no managed plugin of Docker, so it has no networks of the Swarm, which follow its nodes: name its peers by tapestry.peers or --peer")
	}
	own, _ := netip.ParseAddr(info.Swarm.NodeAddr) // none: none to leave out
	vtep, _ := netip.ParseAddr(s.VTEP)
	found, err := d.SwarmNodes(ctx, info, by.Driver(s.Name), own, vtep)
	if err != nil {
		return r, nil, exit.Errorf(exit.Failure, "%w", err)
	}
	if !info.Swarm.ControlAvailable {
		notes = append(notes, "this node is a worker: Docker tells it the managers, and the nodes with containers on networks that have some here too")
	}
	if own.IsValid() && vtep.IsValid() && own != vtep {
		notes = append(notes, fmt.Sprintf("this node's address in the Swarm is %s, its VTEP %s: if the other nodes have two as well (--data-path-addr), these are not their VTEPs", own, vtep))
	}
	request := api.Nodes{Nodes: api.Map(found, netip.Addr.String)}
	if err := c.Call(ctx, http.MethodPost, api.NodesPath, request, &r); err != nil {
		return r, nil, err
	}
	r.Found = request.Nodes
	return r, notes, nil
}

// LearnedText says what LearnNodes has found, for people.
func LearnedText(r api.Learned) string {
	text := fmt.Sprintf("Docker knows %s of the Swarm", human.Plural(len(r.Found), "other node"))
	if len(r.Found) > 0 {
		text += ": " + strings.Join(r.Found, ", ")
	}
	if len(r.New) > 0 {
		return text + "\nnew to the daemon: " + strings.Join(r.New, ", ") + "\n"
	}
	return text + "\nnone is new to the daemon\n"
}
