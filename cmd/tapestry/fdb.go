package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

func newFDB(c *cli) *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use:   "fdb [NET]",
		Short: "List the addresses that the switches know, and where",
		Long: `List the forwarding tables: which MAC address is behind which port. A pinned address is a container's of this
host and stays; a learned one was seen in traffic and goes when it has been silent for the network's ageing time.
With tapestry.snooping, a group is a multicast address that somebody behind the port wants.

` + netHelp + fmt.Sprintf(jsonHelp, "an array, an object for an address"),
		Example: `  tapestry fdb mynet
  tapestry fdb --json | jq '.[] | select(.kind == "learned")'`,
		Args:              usage.Arguments(0, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			return listRows(cmd, c, args, api.EntriesPath,
				func(e *api.Entry, d *docker.Engine) {
					e.NetworkName, e.Container = d.NetworkName(e.Network), d.Containers[e.Port]
				},
				func(e api.Entry) string { return e.Network },
				[]string{"NETWORK", "VNI", "MAC", "PORT", "KIND", "AGE"},
				func(e api.Entry, d *docker.Engine) []string {
					age := ""
					if e.Kind != "pinned" {
						age = human.Age(e.AgeSeconds)
					}
					return []string{d.NetworkLabel(e.Network), human.VNI(e.VNI), e.MAC.String(), d.PortLabel(e.Port), e.Kind, age}
				})
		},
	})
}
