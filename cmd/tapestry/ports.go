package main

import (
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

func newPorts(c *cli) *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use:   "ports [NET]",
		Short: "List the ports of the switches: containers, this host, remote hosts",
		Long: `List the ports of the switches. A port is a container's link, this host's own, or a remote host of that network. RX came from
it, TX left to it; DROPS are its own frames that were not passed on, with the reason, "refused" those that it
could not take, and "missed" those that the container sent faster than they were read. SETTINGS are options of a container and of its
network that are in force and differ from the default (docs/options.md).

` + netHelp + fmt.Sprintf(jsonHelp, "an array, an object for a port"),
		Example: `  tapestry ports
  tapestry ports mynet
  tapestry ports 80 --json | jq '.[] | {name, drops}'`,
		Args:              usage.Arguments(0, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			return listRows(cmd, c, args, api.PortsPath,
				func(p *api.Port, d *docker.Engine) {
					p.NetworkName, p.Container = d.NetworkName(p.Network), d.Containers[p.Name]
				},
				func(p api.Port) string { return p.Network },
				[]string{"NETWORK", "PORT", "KIND", "STATE", "MAC", "ADDRESSES", "MTU", "RX", "RX SIZE", "TX", "TX SIZE", "DROPS", settingsHead},
				func(p api.Port, d *docker.Engine) []string {
					drops := map[string]uint64{"refused": p.Refused, "missed": p.Missed}
					maps.Copy(drops, p.Drops)
					settings := ""
					if p.Kind == "container" {
						settings = p.Settings.Text(p.VLAN, false)
					}
					return []string{d.NetworkLabel(p.Network), d.PortLabel(p.Name), p.Kind, human.State(p.Why), p.MAC,
						strings.Join(p.Addresses, " "), human.MTU(p.MTU), human.Number(p.RxFrames), human.Bytes(p.RxBytes),
						human.Number(p.TxFrames), human.Bytes(p.TxBytes), human.Counts(drops), settings}
				})
		},
	})
}
