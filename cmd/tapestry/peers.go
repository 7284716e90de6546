package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/plugin"
)

func newPeers(c *cli) *cobra.Command {
	peers := c.withJSON(&cobra.Command{
		Use:   "peers [NET]",
		Short: "List a network's other hosts, add, learn and remove them",
		Long: `List the other hosts that a network reaches. A peer comes from the network's tapestry.peers, from peers add, or,
for networks that name none, from the daemon's --peer list (shown as default); behind its address is its DNS name, if it has one there; networks
with a multicast group have that and who has sent to it (group), networks of a Docker Swarm have the Swarm's nodes too (swarm), and those that a cluster's hosts share those hosts (cluster). A node that has left the Swarm stays a peer for a day; while nothing comes from it, frames are
flooded to it a few times a second at most. GSO tells whether many datagrams leave in one send: yes; untested, if the peer
does not tell how they arrive; no, with the reason. RTT is the last round trip; LOSS is what was lost in the last minute of the datagrams that two
tapestries send each other for this, on the way there / on the way back, and how many arrived out of order or twice; - for a host that does not take part. ` + "\n\n" + netHelp + fmt.Sprintf(jsonHelp, "an array, an object for a peer"),
		Example: `  tapestry peers
  tapestry peers wide
  tapestry peers add wide 192.0.2.3
  tapestry peers rm wide 192.0.2.3`,
		Args:              usage.Arguments(0, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			return listRows(cmd, c, args, api.PeersPath,
				func(p *api.Peer, d *docker.Engine) { p.NetworkName = d.NetworkName(p.Network) },
				func(p api.Peer) string { return p.Network },
				[]string{"NETWORK", "VNI", "PEER", "FROM", "STATE", "MTU", "GSO", "RTT", "LOSS", "RX", "RX SIZE", "TX", "TX SIZE", "HEARD"}, peerRow)
		},
	})
	peers.AddCommand(newPeersLearn(c),
		newPeerChange(c, "add", "add NET ADDR[:PORT]", "Let a network reach another host",
			`Let a network reach another host, from now on and after a restart. The other host must be told of this one too.
Without a port it is the daemon's --vxlan-port. Of a DNS name, all addresses are peers. Adding a peer that is there changes nothing. A network that used the
daemon's --peer list gets a list of its own by this, beginning with that one. A network of a Swarm has it beside the
Swarm's nodes, until the last container of this host leaves it.`,
			`  tapestry peers add wide 192.0.2.3
  tapestry peers add wide host-b.example.org:4789`, "added to"),
		newPeerChange(c, "rm", "rm NET ADDR[:PORT]", "Cut a network off from another host",
			`Cut a network off from another host, from now on and after a restart. It exits 4 when the network has no such
peer, and names those it has. Without a port it is the peer at this address, whatever its port.`,
			`  tapestry peers rm wide 192.0.2.3`, "removed from"))
	return peers
}

func peerRow(p api.Peer, d *docker.Engine) []string {
	from, heard := "network", "never"
	switch {
	case p.Default:
		from = "default"
	case p.Group, p.Learned:
		from = "group"
	case p.Swarm && p.Left:
		from = "swarm (left)"
	case p.Swarm:
		from = "swarm"
	case p.HostState == "alive":
		from = "cluster: " + p.Host
	case p.HostState != "":
		from = fmt.Sprintf("cluster: %s (%s)", p.Host, p.HostState)
	}
	if p.HeardSeconds != nil {
		heard = human.Age(*p.HeardSeconds) + " ago"
	}
	addr := cmp.Or(p.Addr, p.Name) // of a name, nothing may be found yet
	if p.Addr != "" && p.Name != "" {
		addr += " (" + p.Name + ")"
	}
	return []string{d.NetworkLabel(p.Network), human.VNI(p.VNI), addr, from, human.State(p.Why), human.MTU(p.MTU), gsoText(p), rttText(p), lossText(p.Health),
		human.Number(p.RxFrames), human.Bytes(p.RxBytes), human.Number(p.TxFrames), human.Bytes(p.TxBytes), heard}
}

// rttText is the last round trip.
func rttText(p api.Peer) string {
	if p.RTTSeconds == nil {
		return "-"
	}
	ms := *p.RTTSeconds * 1000
	if ms < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// lossText is what happened to the last minute's probes and echoes, but for what was well both ways.
func lossText(h *api.Health) string {
	if h == nil {
		return "-"
	}
	text := human.Percent(h.Lost, h.Probes) + " / " + human.Percent(h.LostBack, h.Echoes)
	if n := h.Reordered + h.ReorderedBack; n > 0 {
		text += fmt.Sprintf(", %d reordered", n)
	}
	if n := h.Duplicated + h.DuplicatedBack; n > 0 {
		text += fmt.Sprintf(", %d twice", n)
	}
	return text
}

// gsoText tells whether super-frames leave in one send, and if so whether they are known to arrive.
func gsoText(p api.Peer) string {
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

func newPeerChange(c *cli, verb, use, about, long, example, done string) *cobra.Command {
	return c.withDockerHost(&cobra.Command{
		Use:               use,
		Short:             about,
		Long:              long,
		Example:           example,
		Args:              usage.Arguments(2, 2),
		ValidArgsFunction: c.completePeer(verb),
		RunE: func(cmd *cobra.Command, args []string) error {
			net, err := netArgument(args)
			if err != nil {
				return err
			}
			if _, _, err := plugin.ParsePeer(args[1]); err != nil {
				return exit.WithCode(exit.Usage, err)
			}
			t, err := docker.FindNetwork(cmd.Context(), c.Client, net)
			if err != nil {
				return err
			}
			if err := c.ChangePeer(cmd.Context(), verb, api.PeerChange{Network: t.ID, Addr: args[1]}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "peer %s %s %s\n", args[1], done, t.Engine.NetworkLabel(t.ID))
			return err
		},
	})
}
