package main

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/session"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
)

// newCaptureChange is capture change. It changes a capture that any command has begun.
func newCaptureChange(c *cli) *cobra.Command {
	expr := ""
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "change ID -f EXPR",
		Short: "Give a capture that runs another filter",
		Long: `Give a capture that runs another filter, which holds from the next frame on. ID is what tapestry status shows. An empty
EXPR lets every frame of its targets through. Names in EXPR stand for the addresses that they have now. The log has a line
about it, and files go on telling the filter that their capture began with.`,
		Example: `  tapestry status
  tapestry capture change 3 -f 'tcp port 5432'
  tapestry capture change 3 -- not port 22`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			l := liveView{session.View{Filter: expr}}
			given := cmd.Flags().Changed("filter") || cmd.ArgsLenAtDash() >= 0
			words, err := l.takeFilter(cmd, args)
			switch {
			case err != nil:
				return err
			case len(words) != 1:
				return exit.Errorf(exit.Usage, "%s: want one ID, which tapestry status shows: tapestry capture change ID -f EXPR",
					human.Plural(uint64(len(words)), "capture"))
			case !given:
				return exit.Errorf(exit.Usage, "no filter: want -f EXPR, or -f '' to let every frame through")
			}
			ctx := cmd.Context()
			n, err := docker.LoadNames(ctx, c.Client)
			if err != nil {
				return err
			}
			_, f, err := docker.CompileFilter(strings.TrimSpace(l.Filter), n.Addrs)
			if err != nil {
				return err
			}
			return c.Call(ctx, http.MethodPatch, api.CapturePath(words[0]), api.CaptureChange{Filter: &f}, nil)
		},
	})
	cmd.Flags().StringVarP(&expr, "filter", "f", "", "frames that match `EXPR`, as tcpdump has it")
	return cmd
}
