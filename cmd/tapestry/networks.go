package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

func newNetworks(c *cli) *cobra.Command {
	networks := c.withJSON(&cobra.Command{
		Use:   "networks",
		Short: "List the networks of this host, forget lost ones",
		Long: `List the networks of this host with what their switches did. A network without a VNI stays on this host.
Frames are counted as received, a super-frame once: rx = forwarded + flooded + answered + drops (docs/json.md). SETTINGS are options
that differ from the default, of containers that have none of their own (docs/options.md).` + fmt.Sprintf(jsonHelp, "an array, an object for a network"),
		Example: `  tapestry networks
  tapestry networks --json | jq '.[] | select(.down != "")'`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.Networks(cmd.Context())
			if err != nil {
				return err
			}
			d, err := docker.Load(cmd.Context(), c.Client)
			if err != nil {
				return err
			}
			for i := range all {
				all[i].Name = d.NetworkName(all[i].ID)
			}
			if c.json {
				return human.PrintJSON(cmd.OutOrStdout(), all)
			}
			rows := api.Map(all, func(n api.Network) []string {
				return []string{d.NetworkLabel(n.ID), api.ShortID(n.ID), human.VNI(n.VNI), human.MTU(n.MTU), n.Attach,
					strconv.Itoa(n.Endpoints), strconv.Itoa(n.AddressesKnown), human.Number(n.Rx), human.Number(n.Forwarded),
					human.Number(n.Flooded), human.Number(n.Answered), human.Counts(n.Drops), human.State(n.Down), n.Settings.Text("", n.Snooping)}
			})
			return human.PrintSettings(cmd.OutOrStdout(), []string{"NETWORK", "ID", "VNI", "MTU", "ATTACH", "ENDPOINTS", "ADDRESSES",
				"RX", "FORWARDED", "FLOODED", "ANSWERED", "DROPS", "STATE", settingsHead}, rows)
		},
	})
	networks.AddCommand(newNetworksRemove(c))
	return networks
}
