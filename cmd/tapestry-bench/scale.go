package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/bench"
	"github.com/tapestry-net/tapestry/bench/report"
	"github.com/tapestry-net/tapestry/bench/scale"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

func newScale() *cobra.Command {
	var o scale.Options
	var asJSON bool
	var plots string
	var names []string
	var list strings.Builder
	for _, p := range scale.Parts {
		names = append(names, p.Name)
		fmt.Fprintf(&list, "  %-10s %s\n", p.Name, p.What)
	}
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Measure how a cluster's costs grow with its hosts, here",
		Long: `Measure how costs grow with the number of hosts, records and peers, by simulation with the real code: up to 5,000 hosts
with an engine each on one real etcd-server, 200 members of gossip on loopback, 10,000 hosts that one host knows, a
switch that is told of 100,000 places. For each figure it says by which law it grows: flat, with N, with N².

The parts, all by default:
` + list.String() + `
It needs no root and no daemon, and etcd (Debian: etcd-server) for the first part. Nothing leaves this machine. The default
sizes want a machine with nothing beside and several GB of memory; start with --hosts 200 --members 50.

With --json it prints one object; docs/json.md explains the keys, docs/scale.md the figures.`,
		Example: `  tapestry bench scale --hosts 200 --members 50
  tapestry bench scale --part switch --part directory
  tapestry bench scale --json | jq '.parts[].curves[] | {name, law}'`,
		Args: usage.Subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range o.Parts {
				if !slices.Contains(names, p) {
					return exit.Errorf(exit.Usage, "--part %q: want one of %s", p, strings.Join(names, ", "))
				}
			}
			if plots != "" {
				if s, err := os.Stat(plots); err != nil || !s.IsDir() {
					return exit.Errorf(exit.Usage, "--plots %q: want a directory that exists", plots)
				}
			}
			o.Progress = cmd.ErrOrStderr()
			m, err := bench.Describe(cmd.Context())
			if err != nil {
				return err
			}
			r, err := scale.Run(cmd.Context(), o)
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted; all that it made is removed")
			}
			if err != nil {
				return err
			}
			r.Machine = m
			if asJSON {
				err = human.PrintJSON(cmd.OutOrStdout(), r)
			} else {
				err = report.WriteScaleTable(cmd.OutOrStdout(), r)
			}
			if err == nil && plots != "" {
				err = report.WriteScalePlots(plots, r)
			}
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Parts, "part", nil, "measure only this `PART`; may be repeated")
	size := func(to *int, name string, most int, text string) {
		f.Var(usage.Set(to, "N", "", func(s string) (int, error) {
			n, err := strconv.Atoi(s)
			if err != nil || n < 2 || n > most {
				return 0, fmt.Errorf("want a number from 2 to %d", most)
			}
			return n, nil
		}), name, text)
	}
	size(&o.Hosts, "hosts", scale.MostHosts, "etcd: up to `N` hosts (default 5000)")
	size(&o.Members, "members", scale.MostMembers, "gossip: up to `N` members (default 200)")
	size(&o.Known, "known", scale.MostKnown, "member: up to `N` hosts that one knows; directory: five times as many (default 10000)")
	size(&o.Records, "records", scale.MostRecords, "switch: up to `N` records, of a tenth as many hosts (default 100000)")
	size(&o.Peers, "peers", scale.MostKnown, "tunnel: up to `N` peers (default 10000)")
	f.StringVar(&o.Etcd, "etcd", "", "`PATH` of etcd (default the one in PATH)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&plots, "plots", "", "write a plot of each figure, as SVG, into `DIR` as well")
	f.BoolP("help", "h", false, "help for scale")
	_ = cmd.RegisterFlagCompletionFunc("part", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)) // the flags exist,
	_ = cmd.MarkFlagDirname("plots")                                                                              // so no call can fail
	_ = cmd.MarkFlagFilename("etcd")
	return cmd
}
