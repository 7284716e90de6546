package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

const targetHelp = `TARGET is a container's name, network:NAME, peer:HOST (another host), host:NAME (this host's own port
on a network), the beginning of an endpoint's id, or all. container:NAME is a container, whatever it is called. In a cluster it
is also one on another host: NAME, NAME.KEY (of a network), NAME@HOST. One that shares
another's network (docker run --network container:NAME) stands for that other one. Without a TARGET it looks at all of this host. The filter is
tcpdump's (pcap-filter(7)), by -f or behind --; containers' names are hosts in it.`

func newCapture(c *cli) *cobra.Command {
	o := &captureFlags{}
	cmd := c.withDockerHost(&cobra.Command{
		Use:   "capture [TARGET...] [flags] [-- EXPR]",
		Short: "Capture frames, into files or for Wireshark",
		Long: `Capture what the switch sees, each frame with its verdict, and write it as pcapng: for Wireshark, tshark,
tcpdump and all that read it. Interfaces have containers' names, dropped frames the reason as comment. Without --write
it prints a line a frame, as tapestry watch does.

` + targetHelp + `

What is written has a limit of 1 GiB and 1 hour, unless --bytes and --for say another, --no-limit lifts it, or --max-size
and --keep bound the disk themselves. Frames that come faster than they are read are lost in the capture, never in the
network; that is told at once, in the file and at the end.

Ctrl-C ends it in order. A file that ends in .pcap is classic pcap: packets only, without names, verdicts and drops.
With --max-size or --every the files are named as Wireshark's own sets are, db_00001_20260301080000.pcapng, and each
opens alone. Files are readable by you only.

With --read a file (pcapng or pcap) takes the daemon's place: filter it, cut it, split it, look at it.

With --json it prints an object a line, as tapestry watch does; docs/json.md explains the keys. capture change gives a
capture that runs another filter (a container of the name change is /change here).`,
		Example: `  tapestry capture web -w - | wireshark -k -i -
  tapestry capture web db -f 'tcp port 5432 and not host 10.77.0.9' -w db.pcapng -C 100MB -W 10
  tapestry capture network:mynet --drops
  tapestry capture web --listen 127.0.0.1:19000     # then: wireshark -k -i TCP@127.0.0.1:19000
  tapestry capture -r old.pcapng -w part.pcapng -- host web and port 53`,
		ValidArgsFunction: c.completeTarget,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := o.takeFilter(cmd, args)
			if err == nil {
				o.fileFormat(cmd)
				err = o.check(cmd, targets)
			}
			if err != nil {
				return err
			}
			j := newJob(c, cmd, &o.Options, targets)
			if o.Write == "" && o.Listen == "" {
				j.PrintLines()
			}
			return show.RunInterruptible(cmd.Context(), j.Run)
		},
	})
	o.commonFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.Write, "write", "w", "", "write pcapng into `FILE`; - is stdout")
	f.BoolVar(&o.Pcap, "pcap", false, "write classic pcap (default for names that end in .pcap)")
	f.BoolVar(&o.Force, "force", false, "replace a file that is no capture")
	f.VarP(usage.Set(&o.MaxBytes, "SIZE", "", parseFileSize), "max-size", "C",
		"begin the next file before one is longer, such as 100MB")
	f.VarP(usage.Set(&o.Every, "TIME", "", parseSpan), "every", "G", "begin the next file after this time, such as 60s")
	f.VarP(usage.Set(&o.Keep, "N", "", parseKeep), "keep", "W", "keep the latest N files, remove older ones of this capture")
	f.VarP(usage.Set(&o.Snap, "BYTES", "", parseSnap), "snap", "s", "keep the first bytes of each frame only")
	f.BoolVar(&o.Headers, "headers", false, "keep headers only, no payload")
	f.Var(usage.Set(&o.Point, "WHERE", "once", oneOf("once", "in", "out", "both")), "point",
		"take a frame once (where it came in), or at ports as it goes in, out, or both")
	f.Var(usage.Set(&o.View, "VIEW", "inner", oneOf("inner", "outer", "both")), "view",
		"of frames to other hosts: inner as the containers see them, outer rebuilt VXLAN datagrams, both")
	f.Var(usage.Set(&o.Offload, "HOW", "fix", oneOf("fix", "segment", "raw")), "offload",
		"partial checksums: fix completes them; segment also cuts super-frames as on the wire; raw")
	f.Var(usage.Set(&o.Annotate, "WHICH", "drops", oneOf("none", "drops", "all")), "annotate",
		"comments on frames: none, drops (and faults), all")
	f.Var(usage.Set(&o.Ring, "SIZE", "", parseRing), "ring",
		"memory in the daemon for what is not read in time (default 8MiB)")
	f.BoolVar(&o.Strict, "strict", false, "exit 3 if frames were lost")
	f.BoolVar(&o.Wait, "wait", false, "wait for containers that are not there yet")
	f.BoolVar(&o.NoLimit, "no-limit", false, "no limit of 1 GiB and 1 hour")
	f.StringVar(&o.Attach, "attach", "", "read the capture that a container was started with (tapestry.capture), by its name or the capture's `ID`")
	f.Var(usage.Set(&o.Bytes, "SIZE", "", parseSize), "bytes",
		"stop before the frames take more than this as pcapng, such as 100MB (default 1GiB with -w and --listen)")
	f.BoolVar(&o.JSON, "json", false, "print JSON, an object a line, as watch does")
	f.Var(usage.Set(&o.Listen, "ADDR:PORT", "", parseListen), "listen",
		"give each TCP connection from this host a capture of its own")
	cmd.AddCommand(newCaptureChange(c))
	return cmd
}

// commandWords returns the words of a command line from the command on, with all flags in their long form.
func commandWords(cmd *cobra.Command) []string {
	words := strings.Fields(cmd.CommandPath())[1:]
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case f.Name == "api-socket" || f.Name == "docker-host":
		case f.Value.Type() == "bool":
			words = append(words, "--"+f.Name)
		default:
			words = append(words, "--"+f.Name, f.Value.String())
		}
	})
	args := cmd.Flags().Args()
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		return append(append(append(words, args[:n]...), "--"), args[n:]...)
	}
	return append(words, args...)
}
