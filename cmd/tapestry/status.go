package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/doctor"
)

func newStatus(c *cli) *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use:   "status",
		Short: "Show the daemon at a glance",
		Long: `Show the daemon at a glance: what Docker calls its driver, as what and since when it runs, its tunnel to other hosts, who captures and whether the
flight recorder is on, and what somebody should look at: datagrams that were refused on receive, ports that are down, offloads of the
kernel that are off, addresses that two containers claim. It exits 0 whenever the daemon answers; programs read the tunnel's state from --json.` +
			fmt.Sprintf(jsonHelp, "one object"),
		Example: `  tapestry status
  tapestry status --json | jq .tunnel`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			d, err := docker.Load(cmd.Context(), c.Client)
			if err != nil {
				return err
			}
			by := docker.SupervisorAt(cmd.Context(), d, c.SocketPath())
			s.Plugin, s.PluginID = by.Plugin.Name, by.Plugin.ID
			docker.FillNames(cmd.Context(), d, s.Conflicts, func(r *api.Conflict) { r.NetworkName, r.Container = d.NetworkName(r.Network), d.Containers[r.Owner] },
				func(r api.Conflict) string { return r.Network })
			docker.FillNames(cmd.Context(), d, s.Guards, func(r *api.Trip) {
				r.NetworkName, r.Container, r.OwnerContainer = d.NetworkName(r.Network), d.Containers[r.Port], d.Containers[r.Owner]
			},
				func(r api.Trip) string { return r.Network })
			docker.FillNames(cmd.Context(), d, s.Captures, func(*api.CaptureStats) {}, func(b api.CaptureStats) string { return b.Network })
			if c.json {
				return human.PrintJSON(cmd.OutOrStdout(), s)
			}
			return printStatus(cmd.OutOrStdout(), s, d)
		},
	})
}

func printStatus(w io.Writer, s api.Status, d *docker.Engine) error {
	tunnel := s.Tunnel
	switch s.Tunnel {
	case "open":
		tunnel += ", " + s.At()
	case "closed":
		tunnel += ", no network has a VNI"
	default:
		tunnel += ": " + s.Why
	}
	by := docker.Supervisor{Plugin: docker.Plugin{ID: s.PluginID, Name: s.Plugin}}
	driver := by.Driver(s.Name)
	if s.Scope != "" { // "": a daemon of an older version
		driver += ", scope " + s.Scope
	}
	facts := [][2]string{
		{"driver", driver},
		{"runs as", by.String()},
		{"version", s.Version},
		{"running", fmt.Sprintf("%s, since %s, pid %d", human.Age(s.UptimeSeconds), s.StartedAt.Format(time.RFC3339), s.PID)},
		{"workers", strconv.Itoa(s.Workers)},
		{"tunnel", tunnel},
		{"networks", strconv.Itoa(s.Networks)},
		{"endpoints", strconv.Itoa(s.Endpoints)},
	}
	if dropped := human.Counts(s.RxDropped); dropped != "" {
		facts = append(facts, [2]string{"rx_dropped", dropped + " (datagrams that were refused on receive: they reached no network here)"})
	}
	if outside := human.Counts(s.KernelDropped); outside != "" {
		facts = append(facts, [2]string{"outside", outside + " (UDP datagrams of the whole host that its kernel dropped and no socket got)"})
	}
	if offloads := doctor.OffloadsText(s.Offloads); offloads != "" {
		facts = append(facts, [2]string{"offloads", offloads})
	}
	if s.PortsDown > 0 {
		facts = append(facts, [2]string{"ports", fmt.Sprintf("%d down, see tapestry ports", s.PortsDown)})
	}
	if s.Faults > 0 {
		facts = append(facts, [2]string{"faults", fmt.Sprintf("%d set on purpose, see tapestry fault list", s.Faults)})
	}
	if len(s.Captures) > 0 {
		facts = append(facts, [2]string{"captures", fmt.Sprintf("%d: %s", len(s.Captures),
			strings.Join(api.Map(s.Captures, func(b api.CaptureStats) string { return d.CaptureText(b) }), "; "))})
	}
	facts = append(facts, [2]string{"recorder", recorderText(&s.Recorder)})
	for _, f := range facts {
		if _, err := fmt.Fprintf(w, "%-10s %s\n", f[0], f[1]); err != nil {
			return err
		}
	}
	if len(s.Guards) > 0 {
		fmt.Fprintln(w, "\nFrames that guards have dropped (docs/drops.md: why, and how to allow it):")
		rows := api.Map(s.Guards, func(x api.Trip) []string {
			return []string{d.NetworkLabel(x.Network), d.PortLabel(x.Port), x.Guard, d.PortLabel(x.Owner), human.Number(x.Frames)}
		})
		if err := human.PrintTable(w, []string{"NETWORK", "FROM", "GUARD", "OWNER", "FRAMES"}, rows); err != nil {
			return err
		}
	}
	if len(s.Conflicts) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nAddresses claimed twice (the owner keeps its address, the rival's frames are dropped):")
	var rows [][]string
	for _, x := range s.Conflicts {
		rows = append(rows, []string{d.NetworkLabel(x.Network), x.MAC.String(), strings.Join(x.Addresses, " "),
			d.PortLabel(x.Owner), d.PortLabel(x.Rival), human.Number(x.Frames)})
	}
	return human.PrintTable(w, []string{"NETWORK", "MAC", "ADDRESSES", "OWNER", "RIVAL", "FRAMES"}, rows)
}
