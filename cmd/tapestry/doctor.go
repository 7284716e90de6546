package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/doctor"
	"github.com/tapestry-net/tapestry/plugin"
)

func newDoctor(c *cli, m doctor.Machine) *cobra.Command {
	d := &doctor.Doctor{Client: c.Client, RunFlags: runFlags, Machine: m, Version: buildVersion().Version, PluginDir: client.PluginDir}
	cmd := c.withJSON(&cobra.Command{
		Use:   "doctor",
		Short: "Examine this host and its daemon, and say what to do",
		Long: `Examine this host and its daemon. Each line is ok, warn or fail, with what was seen, and below it what to do. As root.

It looks at the machine, whether the daemon runs or not: /dev/net/tun, veth, tc, UDP (buffers, segmentation), the
underlay and its MTU, the VXLAN port, Docker, and the state directory. What it tries, it tries in a network namespace
of its own or on the loopback address; only the VXLAN port it takes for a moment, if no daemon has it. Then it looks at the daemon: its version, its networks and peers, whether the
frames of its containers fit the paths to other hosts, and the offloads. With peers that are tapestry too it sends
test frames, to see that none arrives mangled. Of a managed plugin it looks at the settings, at where Docker keeps its
files, and at why its last start failed; on a node of a Swarm, at whether the daemon fits it and knows the other nodes; in a cluster, at
whether it is reached, what hosts contradict in, and whether Docker asks tapestry resolver.

Flags that tapestry run was given (--name, --plugin-dir, --state-dir, --vtep, --vxlan-port) are given here too; those of
a managed plugin are known.

It exits 1 if any line says fail, else 0: also with warnings, and without a daemon on a host that has no network yet.` +
			fmt.Sprintf(jsonHelp, "an array, an object for a line"),
		Example: `  tapestry doctor
  tapestry doctor --vtep 192.0.2.1 --vxlan-port 4790
  tapestry doctor --json | jq '.[] | select(.state != "ok")'`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if m.Root == "/" && os.Geteuid() != 0 {
				return exit.Errorf(exit.Failure, "tapestry doctor tries what the daemon does: run it as root")
			}
			return diagnose(cmd.Context(), d, cmd.OutOrStdout(), c.json)
		},
	})
	f := cmd.Flags()
	f.Var(usage.Set(&d.Name, "NAME", "", parseDriver), "name", "the driver's name, as in docker network create -d `NAME` (default the daemon's, else tapestry)")
	f.Var(usage.Set(&d.PluginDir, "DIR", d.PluginDir, parseDir), "plugin-dir", "`DIR` where Docker looks for the sockets of plugins")
	f.Var(usage.Set(&d.StateDir, "DIR", "", parseDir), "state-dir", "`DIR` that remembers networks and endpoints (default the plugin's, else /var/lib/tapestry)")
	f.Var(usage.Set(&d.VTEP, "ADDR[,ADDR]", "", plugin.ReadVTEPs(&d.Second)), "vtep", "this host's `ADDR[,ADDR]` towards other hosts (default the daemon's, else that of the default route)")
	f.Var(usage.Set(&d.Port, "PORT", "", parsePort), "vxlan-port", "UDP `PORT` for VXLAN (default the daemon's, else the plugin's, else 4789)")
	_ = cmd.MarkFlagDirname("plugin-dir") // the flags exist, so neither call can fail
	_ = cmd.MarkFlagDirname("state-dir")
	return cmd
}

// diagnose prints each finding as it comes, or at the end all of them as JSON. A finding that fails is an error of exit.Failure.
func diagnose(ctx context.Context, d *doctor.Doctor, out io.Writer, asJSON bool) error {
	all, count := []doctor.Finding{}, map[string]int{}
	var failed error
	err := d.Examine(ctx, func(f doctor.Finding) {
		all = append(all, f)
		count[f.State]++
		if !asJSON && failed == nil {
			failed = printFinding(out, f)
		}
	})
	if asJSON && (err == nil || len(all) > 0) {
		failed = human.PrintJSON(out, all)
	}
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if !asJSON {
		_, err = fmt.Fprintf(out, "\n%d ok, %d warn, %d fail\n", count[doctor.OK], count[doctor.Warn], count[doctor.Fail])
	}
	if err == nil && count[doctor.Fail] > 0 {
		return exit.Errorf(exit.Failure, "%d of %d checks failed", count[doctor.Fail], len(all))
	}
	return err
}

func printFinding(w io.Writer, f doctor.Finding) error {
	const indent = 19 // of what was seen
	_, err := fmt.Fprintf(w, "%-5s %-12s %s\n", f.State, f.Check, f.Seen)
	if err == nil && f.Remedy != "" {
		_, err = fmt.Fprintf(w, "%s→ %s\n", strings.Repeat(" ", indent), f.Remedy)
	}
	return err
}

// runFlags is Doctor.RunFlags: it parses a plugin's arguments as tapestry run does.
func runFlags(p docker.Plugin) (value func(flag string) string, err error) {
	run, words, err := newRoot().Find(slices.Concat(p.Config.Entrypoint[min(1, len(p.Config.Entrypoint)):], p.Settings.Args))
	if err != nil {
		return nil, err
	}
	if run.Name() != "run" {
		return nil, fmt.Errorf("its entrypoint is %q, want tapestry run", strings.Join(p.Config.Entrypoint, " "))
	}
	if err := run.ParseFlags(words); err != nil {
		return nil, usage.FlagError(run, err)
	}
	if err := cmp.Or(run.ValidateArgs(run.Flags().Args()), checkManaged(run.Flags())); err != nil {
		return nil, err
	}
	return func(flag string) string {
		if f := run.Flag(flag); f != nil {
			return f.Value.String()
		}
		return ""
	}, nil
}
