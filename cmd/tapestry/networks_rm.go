package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

// newNetworksRemove is networks rm. It is needed since Docker tells a driver only once that a network was removed: if the daemon
// was down at that time, it keeps the network.
func newNetworksRemove(c *cli) *cobra.Command {
	force := false
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "rm NET",
		Short: "Forget a network that Docker has forgotten",
		Long: `Forget a network that Docker removed while this daemon was down: Docker does not tell it again. A network that
Docker still has is left alone, docker network rm is for that one, and so is one that a container runs on. It exits 1
then.`,
		Example: `  tapestry networks rm 7d95fb28f4c6
  tapestry networks rm 80 --force`,
		Args:              usage.Arguments(1, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			net, err := netArgument(args)
			if err != nil {
				return err
			}
			t, err := docker.FindNetwork(cmd.Context(), c.Client, net)
			if err != nil {
				return err
			}
			switch name := t.Engine.NetworkName(t.ID); {
			case name != "":
				return exit.Errorf(exit.Failure, "Docker still has network %s: use docker network rm %s", name, name)
			case !t.Engine.Answered && !force:
				return exit.Errorf(exit.Failure, "Docker does not answer at %s, so it may still have network %s: --force removes it all the same", t.Engine.Address, api.ShortID(t.ID))
			}
			if err := c.ForgetNetwork(cmd.Context(), t.ID); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "network %s forgotten\n", api.ShortID(t.ID))
			return err
		},
	})
	cmd.Flags().BoolVar(&force, "force", false, "do it even if Docker does not answer")
	return cmd
}
