package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/capture/extcap"
	"github.com/tapestry-net/tapestry/capture/session"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

// extcapPrefix stands before a target in the name of Wireshark's interface.
const extcapPrefix = "tapestry-"

// extcapFlags are the flags that Wireshark calls an external capture program with (extcap(4)).
type extcapFlags struct {
	interfaces, config, dlts, capture bool
	version, name, fifo, filter       string
	ignored                           string

	view, offload, point string
	drops                bool
	snap                 int
}

func newExtcap(c *cli) *cobra.Command {
	e := &extcapFlags{}
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "extcap",
		Short: "Show tapestry's networks and containers among Wireshark's interfaces",
		Long: `Be an external capture program of Wireshark (extcap(4)): after tapestry extcap install its list of interfaces
has all of this host, each network and each container, with tapestry's choices in their options, and tshark knows
them too. Wireshark itself gives the flags below; whoever runs it must be allowed to talk to the daemon (root, or a
member of --api-group).`,
		Example: `  tapestry extcap install
  tshark -D | grep tapestry
  tshark -i tapestry-web -f 'tcp port 80'
  tapestry extcap remove`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case e.interfaces:
				return e.list(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
			case e.name == "":
				return cmd.Help()
			case !strings.HasPrefix(e.name, extcapPrefix):
				return exit.Errorf(exit.NoTarget, "no interface %q: want one that tapestry extcap --extcap-interfaces lists", e.name)
			case e.dlts:
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "dlt {number=1}{name=EN10MB}{display=Ethernet}")
				return err
			case e.config:
				_, err := fmt.Fprint(cmd.OutOrStdout(), extcap.Choices)
				return err
			case e.capture:
				return e.run(cmd.Context(), c, cmd.ErrOrStderr())
			}
			return e.verify(cmd.Context(), c, cmd.OutOrStdout())
		},
	})
	f := cmd.Flags()
	f.BoolVar(&e.interfaces, "extcap-interfaces", false, "list the interfaces")
	f.StringVar(&e.version, "extcap-version", "", "Wireshark's `VERSION`")
	f.StringVar(&e.name, "extcap-interface", "", "the `NAME` of an interface")
	f.BoolVar(&e.dlts, "extcap-dlts", false, "list its link types")
	f.BoolVar(&e.config, "extcap-config", false, "list its options")
	f.StringVar(&e.filter, "extcap-capture-filter", "", "capture filter `EXPR`; without --capture it is only checked")
	f.BoolVar(&e.capture, "capture", false, "capture")
	f.StringVar(&e.fifo, "fifo", "", "`PATH` to write to")
	f.StringVar(&e.ignored, "extcap-control-in", "", "not used")
	f.StringVar(&e.ignored, "extcap-control-out", "", "not used")
	f.Var(usage.Set(&e.view, "VIEW", "inner", oneOf("inner", "outer", "both")), "view", "as in tapestry capture")
	f.Var(usage.Set(&e.offload, "HOW", "fix", oneOf("fix", "segment", "raw")), "offload", "as in tapestry capture")
	f.Var(usage.Set(&e.point, "WHERE", "once", oneOf("once", "in", "out", "both")), "point", "as in tapestry capture")
	f.BoolVar(&e.drops, "drops", false, "as in tapestry capture")
	f.Var(usage.Set(&e.snap, "BYTES", "", parseSnap), "snap", "as in tapestry capture")
	_ = f.MarkHidden("extcap-control-in") // the flags exist, so neither call can fail
	_ = f.MarkHidden("extcap-control-out")
	e.view, e.offload, e.point = "inner", "fix", "once"
	cmd.AddCommand(newExtcapInstall(c), newExtcapRemove())
	return cmd
}

// list prints the interfaces. Without a daemon it prints none and succeeds, for Wireshark calls it at each start.
func (e *extcapFlags) list(ctx context.Context, c *cli, out, news io.Writer) error {
	if _, err := fmt.Fprintf(out, "extcap {version=%s}{display=tapestry}\n", buildVersion().Version); err != nil {
		return err
	}
	all, err := extcap.Interfaces(ctx, c.Client)
	if err != nil {
		fmt.Fprintf(news, "tapestry: no interfaces: %v\n", err)
		return nil
	}
	for _, i := range all {
		if _, err := fmt.Fprintf(out, "interface {value=%s%s}{display=tapestry: %s}\n", extcapPrefix, i.Target,
			i.Description); err != nil {
			return err
		}
	}
	return nil
}

// verify prints to out what is wrong with a filter, and nothing if it is valid: so Wireshark wants it.
func (e *extcapFlags) verify(ctx context.Context, c *cli, out io.Writer) error {
	n, err := docker.LoadNames(ctx, c.Client)
	if err != nil {
		return err
	}
	if _, _, err := docker.CompileFilter(e.filter, n.Addrs); err != nil {
		fmt.Fprintln(out, err)
	}
	return nil
}

// run captures into Wireshark's pipe, until Wireshark closes it or ends this process.
func (e *extcapFlags) run(ctx context.Context, c *cli, news io.Writer) error {
	if e.fifo == "" {
		return exit.Errorf(exit.Usage, "--capture without --fifo: want the pipe to write to")
	}
	pipe, err := os.OpenFile(e.fifo, os.O_WRONLY, 0)
	if err != nil {
		return exit.Errorf(exit.Failure, "--fifo: %w", err)
	}
	o := session.Options{Filter: e.filter, Write: "-", View: e.view, Offload: e.offload, Point: e.point, Drops: e.drops,
		Snap: e.snap, NoLimit: true}
	word := strings.TrimPrefix(e.name, extcapPrefix)
	j := &session.Job{Options: o, Client: c.Client, Targets: []string{word}, CommandLine: "tapestry extcap " + word,
		Version: buildVersion().Version, Out: pipe, Messages: io.Discard, Request: o.ToRequest()}
	return errors.Join(j.Live(ctx), pipe.Close())
}
