package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newForget is networks rm: Docker tells a driver only once that a network has gone, and never again
// if the daemon was down then.
func newForget(c *client) *cobra.Command {
	force := false
	cmd := c.namer(&cobra.Command{
		Use:   "rm NET",
		Short: "Forget a network that Docker has forgotten",
		Long: `Forget a network that Docker removed while this daemon was down: Docker does not tell it again. A network that
Docker still has is left alone, docker network rm is for that one, and so is one that a container runs on. It exits 1
then.`,
		Example: `  tapestry networks rm 7d95fb28f4c6
  tapestry networks rm 80 --force`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			net, err := netArgument(args)
			if err != nil {
				return err
			}
			t, err := c.find(cmd.Context(), net)
			if err != nil {
				return err
			}
			switch name := t.docker.name(t.id); {
			case name != "":
				return failf(exitNo, "Docker still has network %s: use docker network rm %s", name, name)
			case !t.docker.answered && !force:
				return failf(exitNo, "Docker does not answer at %s, so it may still have network %s: --force removes it all the same", t.docker.at, short(t.id))
			}
			if err := c.forgetNetwork(cmd.Context(), t.id); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "network %s forgotten\n", short(t.id))
			return err
		},
	})
	cmd.Flags().BoolVar(&force, "force", false, "do it even if Docker does not answer")
	return cmd
}
