package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/plugin"
)

func newPeers(c *client) *cobra.Command {
	peers := c.reader(&cobra.Command{
		Use:   "peers [NET]",
		Short: "List a network's other hosts, add, learn and remove them",
		Long: `List the other hosts that a network reaches. A peer comes from the network's tapestry.peers, from peers add, or,
for networks that name none, from the daemon's --peer list (shown as default); networks of a Docker Swarm have the
Swarm's nodes too (swarm). One that has left, Docker says, stays a peer for a day: while it is silent, what is flooded goes
to it a few times a second at most. GSO tells whether many datagrams leave
in one send: yes; untested, when the peer does not tell how they arrive; no, with the reason.

` + netHelp + fmt.Sprintf(jsonHelp, "an array, an object for a peer"),
		Example: `  tapestry peers
  tapestry peers wide
  tapestry peers add wide 192.0.2.3
  tapestry peers rm wide 192.0.2.3`,
		Args:              arguments(0, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd, c, args, "peers",
				func(p *peerReply, d *docker) { p.NetworkName = d.name(p.Network) },
				func(p peerReply) string { return p.Network },
				[]string{"NETWORK", "VNI", "PEER", "FROM", "STATE", "MTU", "GSO", "RX", "RX SIZE", "TX", "TX SIZE", "HEARD"}, peerRow)
		},
	})
	peers.AddCommand(newPeersLearn(c),
		newPeerChange(c, "add", "add NET ADDR[:PORT]", "Let a network reach another host",
			`Let a network reach another host, from now on and after a restart. The other host must be told of this one too.
Without a port it is the daemon's --vxlan-port. Adding a peer that is there changes nothing. A network that used the
daemon's --peer list gets a list of its own by this, beginning with that one. A network of a Swarm has it beside the
Swarm's nodes, until the last container of this host leaves it.`,
			`  tapestry peers add wide 192.0.2.3
  tapestry peers add wide [2001:db8::3]:4789`, "added to"),
		newPeerChange(c, "rm", "rm NET ADDR[:PORT]", "Cut a network off from another host",
			`Cut a network off from another host, from now on and after a restart. It exits 4 when the network has no such
peer, and names those it has. Without a port it is the peer at this address, whatever its port.`,
			`  tapestry peers rm wide 192.0.2.3`, "removed from"))
	return peers
}

func peerRow(p peerReply, d *docker) []string {
	from, heard := "network", "never"
	switch {
	case p.Default:
		from = "default"
	case p.Swarm && p.Left:
		from = "swarm (left)"
	case p.Swarm:
		from = "swarm"
	}
	if p.HeardSeconds != nil {
		heard = agoText(*p.HeardSeconds) + " ago"
	}
	return []string{d.label(p.Network), vniText(p.VNI), p.Addr, from, stateText(p.Why), mtuText(p.MTU), gsoText(p),
		number(p.RxFrames), bytesText(p.RxBytes), number(p.TxFrames), bytesText(p.TxBytes), heard}
}

// gsoText tells whether super-frames leave in one send, and if so whether they are known to arrive.
func gsoText(p peerReply) string {
	switch {
	case p.State == "down":
		return ""
	case p.GSO && p.Test == "ok":
		return "yes"
	case p.GSO:
		return "untested"
	case p.Test == "mangled":
		return "no (mangled)"
	}
	return fmt.Sprintf("no (refused: %s)", p.GSOWhy)
}

func newPeerChange(c *client, verb, use, about, long, example, done string) *cobra.Command {
	return c.namer(&cobra.Command{
		Use:               use,
		Short:             about,
		Long:              long,
		Example:           example,
		Args:              arguments(2, 2),
		ValidArgsFunction: c.completePeer(verb),
		RunE: func(cmd *cobra.Command, args []string) error {
			net, err := netArgument(args)
			if err != nil {
				return err
			}
			if _, err := plugin.ParsePeer(args[1]); err != nil {
				return &failure{exitUsage, err}
			}
			t, err := c.find(cmd.Context(), net)
			if err != nil {
				return err
			}
			if err := c.changePeer(cmd.Context(), verb, peerChange{t.id, args[1]}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "peer %s %s %s\n", args[1], done, t.docker.label(t.id))
			return err
		},
	})
}

// completeNetwork offers the names of the daemon's networks, or ids where Docker tells no name.
func (c *client) completeNetwork(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	all, err := c.networks(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	d, err := c.askDocker(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return each(all, func(n networkReply) string {
		about := "stays on this host"
		if n.VNI != 0 {
			about = "VNI " + vniText(n.VNI)
		}
		return cobra.CompletionWithDesc(d.label(n.ID), about)
	}), cobra.ShellCompDirectiveNoFileComp
}

// completePeer offers networks, and then, to rm, the peers of the one given.
func (c *client) completePeer(verb string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if verb != "rm" || len(args) != 1 {
			return c.completeNetwork(cmd, args, typed)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
		defer cancel()
		t, err := c.find(ctx, args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		peers, _ := of[peerReply](ctx, c, "peers", t.id) // nothing to offer when the daemon does not answer
		return each(peers, func(p peerReply) string { return p.Addr }), cobra.ShellCompDirectiveNoFileComp
	}
}
