package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/plugin"
)

// A finding is one line of tapestry doctor.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // good, warn, bad
	Seen   string `json:"seen"`
	Remedy string `json:"remedy"` // a command where there is one; "" of a good one
}

const good, warn, bad = "ok", "warn", "fail"

// doctor is what the checks are told; what they look at is in the machine.
type doctor struct {
	*client
	machine
	name, pluginDir, stateDir string // name and stateDir: "" if not given, until meet
	vtep                      netip.Addr
	port                      uint16 // 0 if not given, until meet

	// What meet has found.
	info     dockerInfo
	plugins  []dockerPlugin
	unlisted error      // why the list of plugins is not known
	by       supervisor // of the daemon that is examined
	scope    string     // of its networks; "": not known
}

func newDoctor(c *client, m machine) *cobra.Command {
	d := &doctor{client: c, machine: m, pluginDir: pluginSockets}
	cmd := c.reader(&cobra.Command{
		Use:   "doctor",
		Short: "Examine this host and its daemon, and say what to do",
		Long: `Examine this host and its daemon. Each line is ok, warn or fail, with what was seen, and below it what to do. As root.

It looks at the machine, whether the daemon runs or not: /dev/net/tun, veth, tc, UDP (buffers, segmentation), the
underlay and its MTU, the VXLAN port, Docker, and the state directory. What it tries, it tries in a network namespace
of its own or on the loopback address; only the VXLAN port it takes for a moment, if no daemon has it. Then it looks at the daemon: its version, its networks and peers, whether the
frames of its containers fit the ways to other hosts, and the offloads. With peers that are tapestry too it sends
test frames, to see that none arrives mangled. Of a managed plugin it looks at the settings, at where Docker keeps its
files, and at why its last start failed; on a node of a Swarm, at whether the daemon fits it and knows the other nodes.

Flags that tapestry run was given (--name, --plugin-dir, --state-dir, --vtep, --vxlan-port) are given here too; those of
a managed plugin are known.

It exits 1 if any line says fail, else 0: also with warnings, and without a daemon on a host that has no network yet.` +
			fmt.Sprintf(jsonHelp, "an array, an object for a line"),
		Example: `  tapestry doctor
  tapestry doctor --vtep 192.0.2.1 --vxlan-port 4790
  tapestry doctor --json | jq '.[] | select(.state != "ok")'`,
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if m.root == "/" && os.Geteuid() != 0 {
				return failf(exitNo, "tapestry doctor tries what the daemon does: run it as root")
			}
			return d.run(cmd.Context(), cmd.OutOrStdout())
		},
	})
	f := cmd.Flags()
	f.Var(set(&d.name, "NAME", "", parseDriver), "name", "the driver's name, as in docker network create -d `NAME` (default the daemon's, else tapestry)")
	f.Var(set(&d.pluginDir, "DIR", d.pluginDir, parseDir), "plugin-dir", "`DIR` where Docker looks for the sockets of plugins")
	f.Var(set(&d.stateDir, "DIR", "", parseDir), "state-dir", "`DIR` that remembers networks and endpoints (default the plugin's, else /var/lib/tapestry)")
	f.Var(set(&d.vtep, "ADDR", "", plugin.ParseVTEP), "vtep", "this host's `ADDR` towards other hosts (default the daemon's, else that of the default route)")
	f.Var(set(&d.port, "PORT", "", parsePort), "vxlan-port", "UDP `PORT` for VXLAN (default the daemon's, else the plugin's, else 4789)")
	_ = cmd.MarkFlagDirname("plugin-dir") // the flags exist, so neither call can fail
	_ = cmd.MarkFlagDirname("state-dir")
	return cmd
}

// run prints each finding as it comes, or all of them as JSON.
func (d *doctor) run(ctx context.Context, out io.Writer) error {
	all, count := []finding{}, map[string]int{}
	var failed error
	err := d.examine(ctx, func(f finding) {
		all = append(all, f)
		count[f.State]++
		if !d.json && failed == nil {
			failed = printFinding(out, f)
		}
	})
	if d.json && (err == nil || len(all) > 0) {
		failed = printJSON(out, all)
	}
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if !d.json {
		_, err = fmt.Fprintf(out, "\n%d ok, %d warn, %d fail\n", count[good], count[warn], count[bad])
	}
	if err == nil && count[bad] > 0 {
		return failf(exitNo, "%d of %d checks failed", count[bad], len(all))
	}
	return err
}

func printFinding(w io.Writer, f finding) error {
	const indent = 19 // of what was seen
	_, err := fmt.Fprintf(w, "%-5s %-12s %s\n", f.State, f.Check, f.Seen)
	if err == nil && f.Remedy != "" {
		_, err = fmt.Fprintf(w, "%s→ %s\n", strings.Repeat(" ", indent), f.Remedy)
	}
	return err
}

// examine gives the findings in order: the machine's, Docker's, the daemon's.
func (d *doctor) examine(ctx context.Context, tell func(finding)) error {
	status, away := d.status(ctx)
	names, err := d.askDocker(ctx)
	if err != nil {
		return err
	}
	d.meet(ctx, names, status, away)
	if away == nil {
		if vtep, err := netip.ParseAddr(status.VTEP); err == nil {
			d.vtep = vtep
		}
	}
	networks := 0
	for _, section := range []func(){
		func() { d.examineKernel(tell) },
		func() { d.examineUnderlay(status, tell) },
		func() { d.examineDocker(ctx, names, status, tell) },
		func() { networks = d.examineState(tell) },
		func() { tell(checkDaemon(status, away, buildVersion().Version, d.stateDir, networks, d.by)) },
		func() {
			if away == nil {
				d.examineDaemon(ctx, status, names, tell)
				return
			}
			for _, f := range d.checkLost(names.networks, nil, nil) {
				tell(f)
			}
		},
	} {
		if ctx.Err() == nil {
			section()
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return nil
}
