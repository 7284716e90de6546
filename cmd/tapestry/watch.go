package main

import (
	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/capture/show"
)

// watchSnap is the bytes of each frame that watch looks at: all of an ordinary frame, not of a super-frame.
const watchSnap = 1600

func newWatch(c *cli) *cobra.Command {
	o := &captureFlags{}
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "watch [TARGET...] [flags] [-- EXPR]",
		Short: "Show frames as they pass, a line each",
		Long: `Show frames as they pass, a line each: who to whom by name, what, how long, and what the switch decided unless
it simply forwarded it. DROP comes with the reason, FAULT is what tapestry fault did to a frame, and ×47 a super-frame
that is 47 on the wire. At the end it sums up, on stderr.

` + targetHelp + `

With --json it prints an object a line; docs/json.md explains the keys.`,
		Example: `  tapestry watch web
  tapestry watch web db -f 'tcp[tcpflags] & tcp-rst != 0'
  tapestry watch network:mynet --drops --for 1m
  tapestry watch --json -- port 53 | jq -r .info
  tapestry watch -r old.pcapng -v -n 1`,
		ValidArgsFunction: c.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := o.takeFilter(cmd, args)
			if err == nil {
				err = o.check(cmd, targets)
			}
			if err != nil {
				return err
			}
			j := newJob(c, cmd, &o.Options, targets)
			if j.Request.Snap = watchSnap; o.Verbose {
				j.Request.Snap = 0
			}
			j.PrintLines()
			return show.RunInterruptible(cmd.Context(), j.Run)
		},
	})
	o.commonFlags(cmd)
	cmd.Flags().BoolVarP(&o.Verbose, "verbose", "v", false, "all layers and fields of each frame, too")
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print JSON, an object a line")
	return cmd
}
