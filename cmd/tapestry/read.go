package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const jsonHelp = "\n\nWith --json it prints %s; docs/json.md explains the keys."

const netHelp = `NET is a network's Docker name, its id, its VNI, or the beginning of its id that no other network has.
Without NET it shows all networks of this host.`

// reader gives a command the flags of those that read.
func (c *client) reader(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return c.namer(cmd)
}

// namer gives a command the flag of those that ask Docker for names.
func (c *client) namer(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&c.dockerHost, "docker-host", "",
		"`ADDR` of Docker, to learn names from: unix:///PATH or tcp://HOST:PORT (default $DOCKER_HOST, else unix:///var/run/docker.sock)")
	return cmd
}

func newStatus(c *client) *cobra.Command {
	return c.reader(&cobra.Command{
		Use:   "status",
		Short: "Show the daemon at a glance",
		Long: `Show the daemon at a glance: what Docker calls its driver, as what and since when it runs, its tunnel to other hosts, who captures and whether the
flight recorder is on, and what somebody should look at: datagrams from strangers, ports that are down, offloads of the
kernel that are off, addresses that two containers claim. It exits 0 whenever the daemon answers; programs read the tunnel's state from --json.` +
			fmt.Sprintf(jsonHelp, "one object"),
		Example: `  tapestry status
  tapestry status --json | jq .tunnel`,
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.status(cmd.Context())
			if err != nil {
				return err
			}
			d, err := c.askDocker(cmd.Context())
			if err != nil {
				return err
			}
			by := supervisorAt(cmd.Context(), c.at(), d)
			s.Plugin, s.PluginID = by.plugin.Name, by.plugin.ID
			nameAll(cmd.Context(), d, s.Conflicts, func(r *conflictReply) { r.NetworkName, r.Container = d.name(r.Network), d.containers[r.Owner] },
				func(r conflictReply) string { return r.Network })
			nameAll(cmd.Context(), d, s.Captures, func(*captureBooks) {}, func(b captureBooks) string { return b.Network })
			if c.json {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return printStatus(cmd.OutOrStdout(), s, d)
		},
	})
}

// nameAll fills in Docker's names, asking only about the networks in rows.
func nameAll[R any](ctx context.Context, d *docker, rows []R, name func(*R), network func(R) string) {
	ids := map[string]bool{}
	for _, r := range rows {
		ids[network(r)] = true
	}
	d.nameContainers(ctx, ids)
	for i := range rows {
		name(&rows[i])
	}
}

func printStatus(w io.Writer, s statusReply, d *docker) error {
	tunnel := s.Tunnel
	switch s.Tunnel {
	case "open":
		tunnel += fmt.Sprintf(", %s port %d", s.VTEP, s.VXLANPort)
	case "closed":
		tunnel += ", no network has a VNI"
	default:
		tunnel += ": " + s.Why
	}
	by := supervisor{dockerPlugin{ID: s.PluginID, Name: s.Plugin}}
	driver := by.driver(s.Name)
	if s.Scope != "" { // "": a daemon of an older version
		driver += ", scope " + s.Scope
	}
	facts := [][2]string{
		{"driver", driver},
		{"runs as", by.text()},
		{"version", s.Version},
		{"running", fmt.Sprintf("%s, since %s, pid %d", agoText(s.UptimeSeconds), s.StartedAt.Format(time.RFC3339), s.PID)},
		{"workers", strconv.Itoa(s.Workers)},
		{"tunnel", tunnel},
		{"networks", strconv.Itoa(s.Networks)},
		{"endpoints", strconv.Itoa(s.Endpoints)},
	}
	if strangers := countsText(s.Strangers); strangers != "" {
		facts = append(facts, [2]string{"strangers", strangers + " (datagrams that belong to no network here)"})
	}
	if outside := countsText(s.Outside); outside != "" {
		facts = append(facts, [2]string{"outside", outside + " (UDP datagrams of the whole host that its kernel dropped and no socket got)"})
	}
	if offloads := offloadsText(s.Offloads); offloads != "" {
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
			strings.Join(each(s.Captures, func(b captureBooks) string { return b.text(d) }), "; "))})
	}
	facts = append(facts, [2]string{"recorder", s.Recorder.text()})
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
		rows = append(rows, []string{d.label(x.Network), x.MAC.String(), strings.Join(x.Addresses, " "),
			d.portLabel(x.Owner), d.portLabel(x.Rival), number(x.Frames)})
	}
	return printTable(w, []string{"NETWORK", "MAC", "ADDRESSES", "OWNER", "RIVAL", "FRAMES"}, rows)
}

// text says whose a running capture is, and how it goes.
func (b captureBooks) text(d *docker) string {
	if b.State == "armed" || b.State == "kept" {
		return b.armedText(d)
	}
	who := "somebody"
	if b.UID >= 0 {
		who = fmt.Sprintf("uid %d pid %d", b.UID, b.PID)
	}
	return fmt.Sprintf("capture %s of %s %q %s, %s, %s lost", b.ID, who, printable(b.Name),
		secondsText(time.Duration(b.Seconds*float64(time.Second))), count(b.Delivered, "frame"), thousands(b.Dropped))
}

// offloadsText names the offloads that are on everywhere, and then the others one by one.
func offloadsText(all []offloadReply) string {
	var on, off []string
	for _, o := range all {
		counts := ""
		if o.Refused > 0 {
			counts = fmt.Sprintf("refused %s×, %s sent again", number(o.Refused), number(o.Resent))
		}
		switch o.State {
		case "on":
			if counts != "" {
				off = append(off, o.Name+" on ("+counts+")")
				continue
			}
			on = append(on, o.Name)
		case "off", "unavailable":
			text := fmt.Sprintf("%s %s at %d of %d (%s", o.Name, o.State, o.Off, o.Users, o.Why)
			if o.OffSeconds != nil {
				text += ", since " + agoText(*o.OffSeconds)
			}
			if counts != "" {
				text += ", " + counts
			}
			off = append(off, text+")")
		}
	}
	if on != nil {
		off = append([]string{strings.Join(on, " ") + " on"}, off...)
	}
	return strings.Join(off, "; ")
}

func newNetworks(c *client) *cobra.Command {
	networks := c.reader(&cobra.Command{
		Use:   "networks",
		Short: "List the networks of this host, forget lost ones",
		Long: `List the networks of this host with what their switches did. A network without a VNI stays on this host.
Frames are counted as received, a super-frame once: rx = forwarded + flooded + drops.` + fmt.Sprintf(jsonHelp, "an array, an object for a network"),
		Example: `  tapestry networks
  tapestry networks --json | jq '.[] | select(.down != "")'`,
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.networks(cmd.Context())
			if err != nil {
				return err
			}
			d, err := c.askDocker(cmd.Context())
			if err != nil {
				return err
			}
			for i := range all {
				all[i].Name = d.name(all[i].ID)
			}
			if c.json {
				return printJSON(cmd.OutOrStdout(), all)
			}
			rows := each(all, func(n networkReply) []string {
				return []string{d.label(n.ID), short(n.ID), vniText(n.VNI), mtuText(n.MTU), n.Attach,
					strconv.Itoa(n.Endpoints), strconv.Itoa(n.AddressesKnown), number(n.Rx), number(n.Forwarded),
					number(n.Flooded), countsText(n.Drops), stateText(n.Down)}
			})
			return printTable(cmd.OutOrStdout(), []string{"NETWORK", "ID", "VNI", "MTU", "ATTACH", "ENDPOINTS", "ADDRESSES",
				"RX", "FORWARDED", "FLOODED", "DROPS", "STATE"}, rows)
		},
	})
	networks.AddCommand(newForget(c))
	return networks
}

func newPorts(c *client) *cobra.Command {
	return c.reader(&cobra.Command{
		Use:   "ports [NET]",
		Short: "List the ports of the switches: containers, this host, remote hosts",
		Long: `List the ports of the switches. A port is a container's link, this host's own, or a remote host of that network. RX came from
it, TX left to it; DROPS are its own frames that were not passed on, with the reason, "refused" those that it
could not take, and "missed" those that the container sent faster than they were read.

` + netHelp + fmt.Sprintf(jsonHelp, "an array, an object for a port"),
		Example: `  tapestry ports
  tapestry ports mynet
  tapestry ports 80 --json | jq '.[] | {name, drops}'`,
		Args:              arguments(0, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd, c, args, "ports",
				func(p *portReply, d *docker) { p.NetworkName, p.Container = d.name(p.Network), d.containers[p.Name] },
				func(p portReply) string { return p.Network },
				[]string{"NETWORK", "PORT", "KIND", "STATE", "MAC", "ADDRESSES", "MTU", "RX", "RX SIZE", "TX", "TX SIZE", "DROPS"},
				func(p portReply, d *docker) []string {
					drops := map[string]uint64{"refused": p.Refused, "missed": p.Missed}
					maps.Copy(drops, p.Drops)
					return []string{d.label(p.Network), d.portLabel(p.Name), p.Kind, stateText(p.Why), p.MAC,
						strings.Join(p.Addresses, " "), mtuText(p.MTU), number(p.RxFrames), bytesText(p.RxBytes),
						number(p.TxFrames), bytesText(p.TxBytes), countsText(drops)}
				})
		},
	})
}

func newFDB(c *client) *cobra.Command {
	return c.reader(&cobra.Command{
		Use:   "fdb [NET]",
		Short: "List the addresses that the switches know, and where",
		Long: `List the forwarding tables: which MAC address is behind which port. A pinned address is a container's of this
host and stays; a learned one was seen in traffic and goes when it has been silent for the network's ageing time.

` + netHelp + fmt.Sprintf(jsonHelp, "an array, an object for an address"),
		Example: `  tapestry fdb mynet
  tapestry fdb --json | jq '.[] | select(.kind == "learned")'`,
		Args:              arguments(0, 1),
		ValidArgsFunction: c.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd, c, args, "fdb",
				func(e *entryReply, d *docker) { e.NetworkName, e.Container = d.name(e.Network), d.containers[e.Port] },
				func(e entryReply) string { return e.Network },
				[]string{"NETWORK", "VNI", "MAC", "PORT", "KIND", "AGE"},
				func(e entryReply, d *docker) []string {
					age := ""
					if e.Kind != "pinned" {
						age = agoText(e.AgeSeconds)
					}
					return []string{d.label(e.Network), vniText(e.VNI), e.MAC.String(), d.portLabel(e.Port), e.Kind, age}
				})
		},
	})
}

// show is a command that lists what is on one network or on all: read, name, print.
func show[R any](cmd *cobra.Command, c *client, args []string, what string, name func(*R, *docker),
	network func(R) string, head []string, row func(R, *docker) []string) error {
	arg, err := netArgument(args)
	if err != nil {
		return err
	}
	t, err := c.find(cmd.Context(), arg)
	if err != nil {
		return err
	}
	all, err := of[R](cmd.Context(), c, what, t.id)
	if err != nil {
		return err
	}
	nameAll(cmd.Context(), t.docker, all, func(r *R) { name(r, t.docker) }, network)
	if c.json {
		return printJSON(cmd.OutOrStdout(), all)
	}
	return printTable(cmd.OutOrStdout(), head, each(all, func(r R) []string { return row(r, t.docker) }))
}

// netArgument is the NET among the arguments, "" when there is none.
func netArgument(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if args[0] == "" {
		return "", failf(exitUsage, "NET is empty: want a network's name, id or VNI, or nothing for all of them")
	}
	return args[0], nil
}
