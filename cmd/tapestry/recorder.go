package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/session"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
)

const recorderBytes = 32 << 20 // what recorder on asks for

func newRecorder(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recorder",
		Short: "Look at what the flight recorder has kept, switch it on and off",
		Long: `The flight recorder keeps the headers of the latest frames of all networks in the daemon's memory, at most 128
bytes of each, so that one can see what led to something. Frames that the switch dropped have room of their own: no
flood of others washes them out. Nothing of it is on disk before recorder dump writes it.`,
		Example: `  tapestry recorder status
  tapestry recorder dump --last 30s -w before.pcapng
  tapestry recorder size 128MB`,
		Args: usage.Subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	status := &cobra.Command{
		Use:   "status",
		Short: "Show whether it is on, and what it holds",
		Long: "Show whether the recorder is on, since when, and how many frames it holds." +
			fmt.Sprintf(jsonHelp, "one object"),
		Example: "  tapestry recorder status --json | jq .on",
		Args:    usage.Arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.Recorder(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return human.PrintJSON(cmd.OutOrStdout(), r)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), recorderText(&r))
			return err
		},
	}
	status.Flags().BoolVar(&c.json, "json", false, "print JSON")
	on := &cobra.Command{
		Use:     "on",
		Short:   "Switch it on",
		Long:    "Switch the recorder on, with 32 MiB of memory until the daemon ends. One that is on stays as it is, with what it holds.",
		Example: "  tapestry recorder on",
		Args:    usage.Arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.Recorder(cmd.Context())
			if err != nil {
				return err
			}
			if r.On {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "it was on already: %s\n", recorderText(&r))
				return err
			}
			return c.resizeRecorder(cmd, recorderBytes)
		},
	}
	off := &cobra.Command{
		Use:     "off",
		Short:   "Switch it off",
		Long:    "Switch the recorder off until the daemon starts again. What it holds is gone.",
		Example: "  tapestry recorder off",
		Args:    usage.Arguments(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.resizeRecorder(cmd, 0) },
	}
	size := &cobra.Command{
		Use:   "size SIZE",
		Short: "Give it more memory, or less",
		Long: `Give the recorder another amount of memory, and switch it on if it is off. What it holds is gone. A frame of
128 bytes or more needs 184: 32 MiB are the last 180,000 frames. Beside that it takes an eighth as much for dropped ones.`,
		Example: `  tapestry recorder size 128MB`,
		Args:    usage.Arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := parseRecorder(args[0])
			if err != nil {
				return exit.Errorf(exit.Usage, "%q: %w", args[0], err)
			}
			return c.resizeRecorder(cmd, n)
		},
	}
	for _, sub := range []*cobra.Command{status, on, off, size} {
		sub.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.AddCommand(status, on, off, size, newRecorderDump(c))
	return cmd
}

func newRecorderDump(c *cli) *cobra.Command {
	var l liveView
	var last time.Duration
	path, asJSON := "", false
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "dump [TARGET...] [-- EXPR]",
		Short: "Show or save what it holds",
		Long: `Show what the recorder holds, a line for each frame, or save it as pcapng with -w, which Wireshark and tcpdump
read. It says which time that covers. From before that time there may be frames that the switch dropped, and no others.
A container that has stopped is a TARGET, too.

` + targetHelp + `

With --json it prints an object a line, as tapestry watch does; docs/json.md explains the keys.`,
		Example: `  tapestry recorder dump --last 30s -w before.pcapng
  tapestry recorder dump web -- tcp port 5432
  tapestry recorder dump -w - | tshark -r -`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: c.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			l.Include = docker.Stopped
			if err := l.resolve(ctx, c, cmd, args); err != nil {
				return err
			}
			if asJSON && path != "" {
				return exit.Errorf(exit.Usage, "--json with --write: lines of JSON go to stdout, want one of them")
			}
			if path == "-" && human.IsTerminal(cmd.OutOrStdout()) {
				return exit.Errorf(exit.Usage, "-w - would write pcapng to a terminal: want -w FILE, or a program behind a pipe")
			}
			l.Request.Detail, l.Request.Annotate, l.Request.Offload = path == "", "", ""
			s, covers, err := l.OpenDump(ctx, c.Client, last)
			if err != nil {
				return err
			}
			defer s.Close()
			j := &session.Job{Client: c.Client, CommandLine: l.Request.Name, Version: buildVersion().Version,
				Options: session.Options{Filter: l.Filter, Write: path, Colour: "auto", Headers: true, JSON: asJSON,
					Pcap: strings.EqualFold(filepath.Ext(path), ".pcap")},
				Out: cmd.OutOrStdout(), Messages: cmd.ErrOrStderr()}
			if path == "" {
				j.PrintLines()
			}
			return j.Dump(ctx, s, l.Names, covers)
		},
	})
	l.filterFlag(cmd)
	cmd.Flags().Var(usage.Set(&last, "DURATION", "", parseSpan), "last", "only the last `DURATION`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line, as watch does")
	cmd.Flags().StringVarP(&path, "write", "w", "", "save as pcapng to `FILE`, - for the standard output")
	return cmd
}

func (c *cli) resizeRecorder(cmd *cobra.Command, bytes int) error {
	var r api.Recorder
	if err := c.Call(cmd.Context(), http.MethodPut, api.RecorderPath, api.RecorderChange{Bytes: bytes}, &r); err != nil {
		return err
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), recorderText(&r))
	return err
}

func recorderText(r *api.Recorder) string {
	if !r.On || r.Since == nil {
		return "off: tapestry recorder on"
	}
	return fmt.Sprintf("on, %s, since %s (%s): %d frames seen, %d of them kept, %d drops kept", memoryText(r.Bytes),
		r.Since.Format(time.RFC3339), human.Age(int64(time.Since(*r.Since)/time.Second)), r.Frames, r.Kept, r.DropsKept)
}

// memoryText returns a number of bytes, a power of two, as it is set: 32 MiB.
func memoryText(n int) string {
	for shift, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n>>(10*shift) < 1024 {
			return fmt.Sprintf("%d %s", n>>(10*shift), unit)
		}
	}
	return fmt.Sprintf("%d GiB", n>>30)
}
