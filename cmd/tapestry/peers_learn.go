package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

// newPeersLearn is peers learn: Docker tells a driver of the nodes that come to its Swarm, and of none that is there
// already. The daemon never asks Docker; this does.
func newPeersLearn(c *cli) *cobra.Command {
	return c.withJSON(&cobra.Command{
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
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, notes, err := docker.LearnNodes(cmd.Context(), c.Client)
			if err != nil {
				return err
			}
			for _, note := range notes {
				fmt.Fprintln(cmd.ErrOrStderr(), note)
			}
			if c.json {
				return human.PrintJSON(cmd.OutOrStdout(), r)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), docker.LearnedText(r))
			return err
		},
	})
}
