package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/bench"
	"github.com/tapestry-net/tapestry/bench/report"
	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

func newRoot() *cobra.Command {
	var o bench.Options
	var out output
	var merge bool
	cmd := &cobra.Command{
		Use:         "tapestry-bench [--merge FILE…]",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "tapestry bench"}, // how a user calls it
		Version:     buildVersion(),
		Short:       "Measure tapestry against the kernel's own networks, here",
		Long: `Measure tapestry against other setups that connect containers, on this machine, as root: the kernel's bridge and
VXLAN, Docker's bridge and overlay, Open vSwitch and VDE in user space, and wireguard-go (which encrypts). What is not
installed is left out, with the reason. Each measure is taken of all setups in turn, A B C A B C, and the table shows
medians, tapestry's ratio to each other setup, and the interval that holds the true ratio with 95 %.

All that it makes is in namespaces of its own, and is removed when it ends, also by Ctrl-C. It needs no daemon and
affects none that runs; but it keeps the machine busy, and other programs spoil the figures. A full run takes 16 minutes.
Three runs are more reliable than one: --merge measures nothing, it makes one report of those that --json printed.

How costs grow with the hosts of a cluster is measured by tapestry bench scale.

NAME in --only is a part of the name of a rung ("two hosts"; a rung is what is measured on one topology), of a measure
("UDP"), "parts" or "curves".

With --json it prints one object; docs/json.md explains the keys.`,
		Example: `  tapestry bench --quick
  tapestry bench --html report.html --results .
  tapestry bench --only "TCP, 1 flow" --pairs 5 --seconds 3
  tapestry bench --json | jq '.cases[] | {rung, measure, ratios}'
  tapestry bench --merge one.json two.json three.json --results .`,
		Args: func(cmd *cobra.Command, args []string) error {
			if merge {
				return nil
			}
			return usage.Subcommand(cmd, args)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			if merge {
				return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if merge {
				r, err := mergeReports(o, args)
				if err != nil {
					return err
				}
				return out.deliver(cmd.OutOrStdout(), r, false)
			}
			switch {
			case o.Quick && o.Check:
				return exit.Errorf(exit.Usage, "--quick and --check are two plans: want one of them, or none for a full run")
			case o.Check && o.Pairs > 0 && o.Pairs < bench.FewestPairs:
				return exit.Errorf(exit.Usage, "--check with --pairs %d could never fail: want %d pairs or more", o.Pairs, bench.FewestPairs)
			}
			o.Progress = cmd.ErrOrStderr()
			r, err := bench.Run(cmd.Context(), o)
			var skipped bench.Unable
			var nothing bench.NothingMatches
			switch {
			case errors.Is(err, context.Canceled):
				return errors.New("interrupted; all that it made is removed")
			case errors.As(err, &nothing):
				return exit.WithCode(exit.Usage, nothing)
			case errors.As(err, &skipped):
				return fmt.Errorf("the bench cannot run here: %w", skipped)
			case err != nil:
				return err
			}
			return out.deliver(cmd.OutOrStdout(), r, o.Check)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Quick, "quick", false, "2 minutes: fewer measures, shorter runs, wide intervals")
	f.BoolVar(&o.Check, "check", false, "4 minutes: exit 1 when a ratio misses its bound with its whole interval, twice")
	f.BoolVar(&out.json, "json", false, "print JSON")
	f.StringVar(&out.html, "html", "", "write a report with plots to `FILE` as well")
	f.StringVar(&out.results, "results", "", "write RESULTS.md and its plots into `DIR` as well")
	f.StringArrayVar(&o.Only, "only", nil, "measure only what has `NAME` in its name; may be repeated")
	f.BoolVar(&merge, "merge", false, "make one report of those in the FILEs, JSON of several runs")
	pairs, seconds := bench.Defaults(bench.Options{})
	quickPairs, quickSeconds := bench.Defaults(bench.Options{Quick: true})
	checkPairs, checkSeconds := bench.Defaults(bench.Options{Check: true})
	f.Var(usage.Set(&o.Pairs, "N", "", parseCount), "pairs",
		fmt.Sprintf("take each measure `N` times (default %d; %d quick, %d check)", pairs, quickPairs, checkPairs))
	f.Var(usage.Set(&o.Seconds, "S", "", parseSeconds), "seconds",
		fmt.Sprintf("send for `S` seconds each time (default %g; %g quick, %g check)", seconds, quickSeconds, checkSeconds))
	_ = cmd.MarkFlagFilename("html", "html") // the flags exist, so neither call can fail
	_ = cmd.MarkFlagDirname("results")
	cmd.PersistentFlags().String("api-socket", "", "")
	_ = cmd.PersistentFlags().MarkHidden("api-socket") // all commands of tapestry have it; this one asks no daemon
	f.Bool("version", false, "print the version of tapestry-bench")
	f.BoolP("help", "h", false, "help for bench")
	cmd.SetFlagErrorFunc(usage.FlagError)
	cmd.AddCommand(newScale())
	cmd.CompletionOptions.DisableDefaultCmd = true // tapestry's own completion asks this program
	return cmd
}

// output is where a report goes.
type output struct {
	json    bool
	html    string // a file; "": none
	results string // a directory; "": none
}

// mergeReports makes one report of those in files.
func mergeReports(o bench.Options, paths []string) (*results.Report, error) {
	if o.Quick || o.Check || o.Only != nil || o.Pairs > 0 || o.Seconds > 0 {
		return nil, exit.Errorf(exit.Usage, "--merge measures nothing: want it with files, --json, --html and --results alone")
	}
	if len(paths) < 2 {
		return nil, exit.Errorf(exit.Usage, "--merge with %d files: want two or more that tapestry bench --json printed", len(paths))
	}
	var all []*results.Report
	for _, path := range paths {
		r, err := results.Read(path)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return results.Merge(all)
}

// deliver prints a report to w and writes its files.
func (o output) deliver(w io.Writer, r *results.Report, check bool) (err error) {
	if o.json {
		err = human.PrintJSON(w, r)
	} else {
		err = report.WriteTable(w, r)
	}
	if err == nil && o.html != "" {
		err = writeHTML(o.html, r)
	}
	if err == nil && o.results != "" {
		err = report.WriteResults(o.results, r)
	}
	if err == nil && check {
		err = r.Verdict()
	}
	return err
}

func writeHTML(path string, r *results.Report) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(report.WriteHTML(f, r), f.Close())
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 1000 {
		return 0, errors.New("want a number from 1 to 1000")
	}
	return n, nil
}

func parseSeconds(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n < 0.1 || n > 600 {
		return 0, errors.New("want seconds from 0.1 to 600")
	}
	return n, nil
}
