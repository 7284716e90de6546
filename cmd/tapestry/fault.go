package main

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/fault"
)

func newFault(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fault",
		Short: "Make a container's network bad on purpose",
		Long: `Make the network of a container, or the path to another host, bad on purpose: slow, lossy, out of order.
Faults apply to each frame as on a wire, also to those in a super-frame. Captures mark a frame that a fault has acted on. One
that is lost is counted as drop "fault" or, on its way to the container, as refused.

Faults are kept in the daemon's memory only, and belong to the connection of a container to a network: they end when the
container is stopped or restarted, or leaves the network, and when the daemon restarts.`,
		Example: `  tapestry fault set web --loss 2% --delay 50ms
  tapestry fault list
  tapestry fault clear web`,
		Args: usage.Subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFaultSet(c), newFaultList(c), newFaultClear(c))
	return cmd
}

func newFaultSet(c *cli) *cobra.Command {
	var spec fault.Spec
	dir := "both"
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "set PORT",
		Short: "Put a fault on a port",
		Long: `Put a fault on a port, in place of the one that was there. --dir from is what comes from the container (or the
other host), to is what goes there, both is each of them: with --delay 50ms a round trip takes 100 ms longer.

What waits in a delay or for a rate is let out in order when the fault is cleared. At most 32 MB wait in one direction;
what comes then is lost. A delay is kept to about a millisecond.

` + portHelp,
		Example: `  tapestry fault set web --loss 2% --delay 50ms --jitter 10ms --for 1m
  tapestry fault set web --dir to --rate 10mbit
  tapestry fault set web --loss 5% --burst 10 --seed 7
  tapestry fault set peer:192.0.2.2 --loss 100%`,
		Args:              usage.Arguments(1, 1),
		ValidArgsFunction: c.completeContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := spec.Check(); err != nil {
				return exit.WithCode(exit.Usage, err)
			}
			ports, d, err := docker.FindPorts(cmd.Context(), c.Client, args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			ends := ""
			if spec.For > 0 {
				ends = fmt.Sprintf(", for %v", spec.For)
			}
			var said error
			for _, name := range portNames(ports) {
				if err := c.Call(cmd.Context(), http.MethodPut, api.FaultPath(name, dir), daemon.FaultToAPI(spec), nil); err != nil {
					return exit.Errorf(exit.Code(err), "%s: %w", portPlace(name, ports, d), err)
				}
				for _, p := range ports {
					if p.Name != name {
						continue
					}
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "fault set on %s of %s, %s: %v%s\n",
						d.PortLabel(p.Name), d.NetworkLabel(p.Network), directionText(dir), spec, ends); said == nil {
						said = err // what was asked for is done all the same
					}
				}
			}
			return said
		},
	})
	f := cmd.Flags()
	share := func(to *float64, name, about string) {
		f.Var(usage.Set(to, "PERCENT", "", fault.ParsePercent), name, "`PERCENT` of frames that "+about)
	}
	f.Var(usage.Set(&spec.Delay, "TIME", "", fault.ParseDelay), "delay", "`TIME` by which each frame comes later, such as 50ms")
	f.Var(usage.Set(&spec.Jitter, "TIME", "", fault.ParseDelay), "jitter",
		"let the delay wander by up to `TIME` to either side; frames keep their order")
	share(&spec.Loss, "loss", "are lost, such as 2%")
	f.Var(usage.Set(&spec.Burst, "N", "", fault.ParseBurst), "burst",
		"lose `N` frames in a row on average, as many in the long run as without")
	share(&spec.Duplicate, "duplicate", "come twice")
	share(&spec.Reorder, "reorder", "are held back until the next three have passed, or for 50 ms if fewer come")
	share(&spec.Corrupt, "corrupt", "have one bit flipped behind the Ethernet header, with the checksum of before")
	f.Var(usage.Set(&spec.Rate, "RATE", "", fault.ParseRate), "rate",
		"let through no more than `RATE`, such as 10mbit; what comes faster waits in a queue of 100 ms, or of 32 kB where that is more")
	f.Var(usage.Set(&spec.Seed, "N", "", fault.ParseSeed), "seed",
		"repeat the choices of another time: with the same seed the same frames of a sequence are hit (default: drawn, see fault list)")
	f.Var(usage.Set(&spec.For, "TIME", "", parseGrace), "for", "end by itself after `TIME`, such as 1m")
	directionFlag(cmd, &dir)
	return cmd
}

func newFaultList(c *cli) *cobra.Command {
	return c.withJSON(&cobra.Command{
		Use:   "list",
		Short: "List the faults that are set",
		Long: `List the faults that are set, and what each has done. Frames are counted as on a wire: a super-frame is many.` +
			fmt.Sprintf(jsonHelp, "an array, an object for one direction of a port"),
		Example: `  tapestry fault list
  tapestry fault list --json | jq '.[] | {container, direction, lost}'`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listRows(cmd, c, nil, api.FaultsPath,
				func(r *api.Fault, d *docker.Engine) {
					r.NetworkName, r.Container = d.NetworkName(r.Network), d.Containers[r.Name]
				},
				func(r api.Fault) string { return r.Network },
				[]string{"NETWORK", "PORT", "DIRECTION", "FAULT", "SEED", "ENDS", "FRAMES", "DONE"},
				func(r api.Fault, d *docker.Engine) []string {
					ends := ""
					if r.LeftSeconds != nil {
						ends = "in " + human.Age(int64(math.Ceil(*r.LeftSeconds)))
					}
					done := map[string]uint64{"lost": r.Lost, "over rate": r.OverRate, "overflow": r.Overflow,
						"duplicated": r.Duplicated, "delayed": r.Delayed, "reordered": r.Reordered, "corrupted": r.Corrupted,
						"refused": r.Refused, "waiting": uint64(r.Waiting)}
					return []string{d.NetworkLabel(r.Network), d.PortLabel(r.Name), r.Direction, daemon.FaultFromAPI(r.FaultSpec).String(),
						human.Number(r.Seed), ends, human.Number(r.Frames), human.Counts(done)}
				})
		},
	})
}

func newFaultClear(c *cli) *cobra.Command {
	dir := "both"
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "clear PORT|all",
		Short: "Take faults away",
		Long: `Take faults away from a port, or from all. What waits is let out in order, nothing is lost. Where none is set
nothing is done, and it exits 0.

` + portHelp,
		Example: `  tapestry fault clear web
  tapestry fault clear web --dir to
  tapestry fault clear all`,
		Args:              usage.Arguments(1, 1),
		ValidArgsFunction: c.completeContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, sum := []string{"all"}, 0
			var ports []api.Port
			var d *docker.Engine
			var failed error
			if args[0] != "all" {
				if ports, d, failed = docker.FindPorts(cmd.Context(), c.Client, args[0], cmd.ErrOrStderr()); failed != nil {
					return failed
				}
				names = portNames(ports)
			}
			for _, name := range names {
				var r api.Cleared
				if failed = c.Call(cmd.Context(), http.MethodDelete, api.FaultPath(name, dir), nil, &r); failed != nil {
					if ports != nil {
						failed = exit.Errorf(exit.Code(failed), "%s: %w", portPlace(name, ports, d), failed)
					}
					break
				}
				sum += r.Cleared
			}
			if failed != nil && sum == 0 {
				return failed
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s cleared\n", human.Plural(uint64(sum), "fault")); failed == nil {
				failed = err
			}
			return failed
		},
	})
	directionFlag(cmd, &dir)
	return cmd
}

// portPlace names a port and the networks that it is on.
func portPlace(name string, ports []api.Port, d *docker.Engine) string {
	var on []string
	for _, p := range ports {
		if p.Name == name {
			on = append(on, d.NetworkLabel(p.Network))
		}
	}
	return d.PortLabel(name) + " of " + strings.Join(on, ", ")
}

func directionFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().Var(usage.Set(dir, "DIR", *dir, oneOf("from", "to", "both")), "dir",
		"`DIR`ection, seen from the container: from, to, both")
}

func directionText(dir string) string {
	if dir == "both" {
		return "both directions"
	}
	return "direction " + dir
}

const portHelp = `PORT is a container's name (all of its ports, if it is on several networks; of one that shares another's
network, those of that other one), the beginning of an endpoint id that no other has, peer:ADDR for another host, in all
networks that reach it, or host:NET for this host's own port on a network. container:NAME is a container, whatever it is called.`

// portNames returns the daemon's names of ports, each once: a remote port has the same name in every network.
func portNames(ports []api.Port) []string {
	return slices.Compact(slices.Sorted(slices.Values(api.Map(ports, func(p api.Port) string { return p.Name }))))
}
