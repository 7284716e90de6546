package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
)

// newPeersLearn is peers learn: Docker tells a driver of the nodes that come to its Swarm, and of none that is there
// already. The daemon never asks Docker; this does.
func newPeersLearn(c *client) *cobra.Command {
	return c.reader(&cobra.Command{
		Use:   "learn",
		Short: "Tell the daemon of the Swarm's nodes that Docker knows",
		Long: `Ask Docker which nodes its Swarm has, and tell the daemon: they become peers of all networks of the Swarm that
have no tapestry.peers, now and after a restart. It is for a plugin that was enabled, or installed anew, on a node of a
Swarm: Docker tells it of the nodes that come later, and of those that are there only when dockerd starts again.

A manager knows all nodes. A worker knows the managers, and the nodes that have containers on networks that it has
containers on too: there, run it again when the first tasks have come. Docker names a node by the address of
--advertise-addr; where docker swarm init or join was given another --data-path-addr, it is no VTEP, and tapestry doctor
says what to do.` +
			fmt.Sprintf(jsonHelp, "one object"),
		Example: `  tapestry peers learn
  tapestry peers learn --json | jq -r '.new[]'`,
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, notes, err := c.learnNodes(cmd.Context())
			if err != nil {
				return err
			}
			for _, note := range notes {
				fmt.Fprintln(cmd.ErrOrStderr(), note)
			}
			if c.json {
				return printJSON(cmd.OutOrStdout(), r)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), r.text())
			return err
		},
	})
}

// learnReply is what peers learn has found, and what was new.
type learnReply struct {
	Found []string `json:"found"`
	New   []string `json:"new"`
	Nodes []string `json:"nodes"`
}

func (r learnReply) text() string {
	text := fmt.Sprintf("Docker knows %s of the Swarm", many(len(r.Found), "other node"))
	if len(r.Found) > 0 {
		text += ": " + strings.Join(r.Found, ", ")
	}
	if len(r.New) > 0 {
		return text + "\nnew to the daemon: " + strings.Join(r.New, ", ") + "\n"
	}
	return text + "\nnone is new to the daemon\n"
}

// learnNodes asks Docker and tells the daemon. notes say what Docker may not have told.
func (c *client) learnNodes(ctx context.Context) (r learnReply, notes []string, err error) {
	s, err := c.status(ctx)
	if err != nil {
		return r, nil, err
	}
	d, err := c.askDocker(ctx)
	if err != nil {
		return r, nil, err
	}
	if !d.answered {
		return r, nil, failf(exitNo, "Docker does not answer at %s, and nobody else knows the Swarm's nodes", d.at)
	}
	info, by := d.info(ctx), supervisorAt(ctx, c.at(), d)
	switch {
	case !info.node():
		return r, nil, failf(exitNo, "this host is in no Swarm that works: docker info says %q", info.Swarm.LocalNodeState)
	case !by.managed():
		return r, nil, failf(exitNo, "the daemon is no managed plugin of Docker, so it has no networks of the Swarm, which follow its nodes: name its peers by tapestry.peers or --peer")
	}
	own, _ := netip.ParseAddr(info.Swarm.NodeAddr) // none: none to leave out
	vtep, _ := netip.ParseAddr(s.VTEP)
	found, err := d.swarmNodes(ctx, info, by.driver(s.Name), own, vtep)
	if err != nil {
		return r, nil, failf(exitNo, "%w", err)
	}
	if !info.Swarm.ControlAvailable {
		notes = append(notes, "this node is a worker: Docker tells it the managers, and the nodes with containers on networks that have some here too")
	}
	if own.IsValid() && vtep.IsValid() && own != vtep {
		notes = append(notes, fmt.Sprintf("this node's address in the Swarm is %s, its VTEP %s: if the other nodes have two as well (--data-path-addr), these are not their VTEPs", own, vtep))
	}
	request := nodesReply{each(found, netip.Addr.String)}
	if err := c.call(ctx, http.MethodPost, "/v1/nodes", request, &r); err != nil {
		return r, nil, err
	}
	r.Found = request.Nodes
	return r, notes, nil
}

// nodes are the nodes of the Swarm that the daemon knows.
func (c *client) nodes(ctx context.Context) (all []netip.Addr, err error) {
	var r nodesReply
	if err := c.call(ctx, http.MethodGet, "/v1/nodes", nil, &r); err != nil {
		return nil, err
	}
	for _, text := range r.Nodes {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("what answers at %s is no tapestry of this version: %w", c.at(), err)
		}
		all = append(all, a)
	}
	return all, nil
}
