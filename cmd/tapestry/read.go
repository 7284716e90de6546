package main

import (
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/doctor"
)

const jsonHelp = "\n\nWith --json it prints %s; docs/json.md explains the keys."

const netHelp = `NET is a network's Docker name, its id, its VNI, or the beginning of its id that no other network has.
Without NET it shows all networks of this host.`

// withJSON gives a command the flags of those that read.
func (c *cli) withJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return c.withDockerHost(cmd)
}

// withDockerHost gives a command the flag of those that ask Docker for names.
func (c *cli) withDockerHost(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&c.DockerHost, "docker-host", "",
		"`ADDR` of Docker, to learn names from: unix:///PATH or tcp://HOST:PORT (default $DOCKER_HOST, else unix:///var/run/docker.sock)")
	return cmd
}

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
			by := docker.SupervisorAt(cmd.Context(), c.SocketPath(), d)
			s.Plugin, s.PluginID = by.Plugin.Name, by.Plugin.ID
			docker.FillNames(cmd.Context(), d, s.Conflicts, func(r *api.Conflict) { r.NetworkName, r.Container = d.NetworkName(r.Network), d.Containers[r.Owner] },
				func(r api.Conflict) string { return r.Network })
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
		tunnel += fmt.Sprintf(", %s port %d", s.VTEP, s.VXLANPort)
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
			strings.Join(api.Map(s.Captures, func(b api.CaptureStats) string { return captureText(b, d) }), "; "))})
	}
	facts = append(facts, [2]string{"recorder", recorderText(&s.Recorder)})
	for _, f := range facts {
		if _, err := fmt.Fprintf(w, "%-10s %s\n", f[0], f[1]); err != nil {
			return err
		}
	}
	if len(s.Conflicts) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nAddresses claimed twice (the owner keeps its address, the rival's frames are dropped as spoofed):")
	var rows [][]string
	for _, x := range s.Conflicts {
		rows = append(rows, []string{d.NetworkLabel(x.Network), x.MAC.String(), strings.Join(x.Addresses, " "),
			d.PortLabel(x.Owner), d.PortLabel(x.Rival), human.Number(x.Frames)})
	}
	return human.PrintTable(w, []string{"NETWORK", "MAC", "ADDRESSES", "OWNER", "RIVAL", "FRAMES"}, rows)
}

// captureText describes a running capture: whose it is, its duration, frames and losses.
func captureText(b api.CaptureStats, d *docker.Engine) string {
	if b.State == "armed" || b.State == "kept" {
		return armedText(b, d)
	}
	who := "somebody"
	if b.UID >= 0 {
		who = fmt.Sprintf("uid %d pid %d", b.UID, b.PID)
	}
	return fmt.Sprintf("capture %s of %s %q %s, %s, %s lost", b.ID, who, human.Printable(b.Name),
		human.Duration(time.Duration(b.Seconds*float64(time.Second))), human.Count(b.Delivered, "frame"), human.Thousands(b.Dropped))
}

func newNetworks(c *cli) *cobra.Command {
	networks := c.withJSON(&cobra.Command{
		Use:   "networks",
		Short: "List the networks of this host, forget lost ones",
		Long: `List the networks of this host with what their switches did. A network without a VNI stays on this host.
Frames are counted as received, a super-frame once: rx = forwarded + flooded + drops.` + fmt.Sprintf(jsonHelp, "an array, an object for a network"),
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
					human.Number(n.Flooded), human.Counts(n.Drops), human.State(n.Down)}
			})
			return human.PrintTable(cmd.OutOrStdout(), []string{"NETWORK", "ID", "VNI", "MTU", "ATTACH", "ENDPOINTS", "ADDRESSES",
				"RX", "FORWARDED", "FLOODED", "DROPS", "STATE"}, rows)
		},
	})
	networks.AddCommand(newNetworksRemove(c))
	return networks
}

func newPorts(c *cli) *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use:   "ports [NET]",
		Short: "List the ports of the switches: containers, this host, remote hosts",
		Long: `List the ports of the switches. A port is a container's link, this host's own, or a remote host of that network. RX came from
it, TX left to it; DROPS are its own frames that were not passed on, with the reason, "refused" those that it
could not take, and "missed" those that the container sent faster than they were read.

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
				[]string{"NETWORK", "PORT", "KIND", "STATE", "MAC", "ADDRESSES", "MTU", "RX", "RX SIZE", "TX", "TX SIZE", "DROPS"},
				func(p api.Port, d *docker.Engine) []string {
					drops := map[string]uint64{"refused": p.Refused, "missed": p.Missed}
					maps.Copy(drops, p.Drops)
					return []string{d.NetworkLabel(p.Network), d.PortLabel(p.Name), p.Kind, human.State(p.Why), p.MAC,
						strings.Join(p.Addresses, " "), human.MTU(p.MTU), human.Number(p.RxFrames), human.Bytes(p.RxBytes),
						human.Number(p.TxFrames), human.Bytes(p.TxBytes), human.Counts(drops)}
				})
		},
	})
}

func newFDB(c *cli) *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use:   "fdb [NET]",
		Short: "List the addresses that the switches know, and where",
		Long: `List the forwarding tables: which MAC address is behind which port. A pinned address is a container's of this
host and stays; a learned one was seen in traffic and goes when it has been silent for the network's ageing time.

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

// listRows is a command that prints what the API has at path, of one network or of all, with the names that Docker gives.
func listRows[R any](cmd *cobra.Command, c *cli, args []string, path string, name func(*R, *docker.Engine),
	network func(R) string, head []string, row func(R, *docker.Engine) []string) error {
	arg, err := netArgument(args)
	if err != nil {
		return err
	}
	t, err := docker.FindNetwork(cmd.Context(), c.Client, arg)
	if err != nil {
		return err
	}
	all, err := client.List[R](cmd.Context(), c.Client, path, t.ID)
	if err != nil {
		return err
	}
	docker.FillNames(cmd.Context(), t.Engine, all, func(r *R) { name(r, t.Engine) }, network)
	if c.json {
		return human.PrintJSON(cmd.OutOrStdout(), all)
	}
	return human.PrintTable(cmd.OutOrStdout(), head, api.Map(all, func(r R) []string { return row(r, t.Engine) }))
}

// netArgument is the NET among the arguments, "" when there is none.
func netArgument(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if args[0] == "" {
		return "", exit.Errorf(exit.Usage, "NET is empty: want a network's name, id or VNI, or nothing for all of them")
	}
	return args[0], nil
}

// armedText describes a capture without a reader: whose it is, and how many frames wait to be read.
func armedText(b api.CaptureStats, d *docker.Engine) string {
	state := "from its start on"
	if b.State == "kept" {
		state = "which has ended"
	}
	return fmt.Sprintf("capture %s of %s, %s, %q: %s to read, %s lost (tapestry capture --attach %s)", b.ID, d.PortLabel(b.Endpoint), state,
		human.Printable(strings.TrimPrefix(b.Name, "tapestry.capture=")), human.Count(b.Waiting, "frame"), human.Thousands(b.Dropped), b.ID)
}
