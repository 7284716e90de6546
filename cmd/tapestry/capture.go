package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

const targetHelp = `TARGET is a container's name, network:NAME, peer:HOST (another host), host:NAME (this host's own port
on a network), the beginning of an endpoint's id, or all. container:NAME is a container, whatever it is called. One that
shares another's network (docker run --network container:NAME) stands for that other one. Without a TARGET it looks at all of this host. The filter is
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
			j := &captureJob{c: c, flags: o, targets: targets, commandLine: "tapestry " + human.ShellQuote(commandWords(cmd)), in: cmd.InOrStdin(),
				out: cmd.OutOrStdout(), messages: cmd.ErrOrStderr(), request: o.request()}
			if o.write == "" && o.listen == "" {
				j.printLines()
			}
			return show.RunInterruptible(cmd.Context(), j.run)
		},
	})
	o.commonFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.write, "write", "w", "", "write pcapng into `FILE`; - is stdout")
	f.BoolVar(&o.pcap, "pcap", false, "write classic pcap (default for names that end in .pcap)")
	f.BoolVar(&o.force, "force", false, "replace a file that is no capture")
	f.VarP(usage.Set(&o.maxBytes, "SIZE", "", parseFileSize), "max-size", "C",
		"begin the next file before one is longer, such as 100MB")
	f.VarP(usage.Set(&o.every, "TIME", "", parseSpan), "every", "G", "begin the next file after this time, such as 60s")
	f.VarP(usage.Set(&o.keep, "N", "", parseKeep), "keep", "W", "keep the latest N files, remove older ones of this capture")
	f.VarP(usage.Set(&o.snap, "BYTES", "", parseSnap), "snap", "s", "keep the first bytes of each frame only")
	f.BoolVar(&o.headers, "headers", false, "keep headers only, no payload")
	f.Var(usage.Set(&o.point, "WHERE", "once", oneOf("once", "in", "out", "both")), "point",
		"take a frame once (where it came in), or at ports as it goes in, out, or both")
	f.Var(usage.Set(&o.view, "VIEW", "inner", oneOf("inner", "outer", "both")), "view",
		"of frames to other hosts: inner as the containers see them, outer rebuilt VXLAN datagrams, both")
	f.Var(usage.Set(&o.offload, "HOW", "fix", oneOf("fix", "segment", "raw")), "offload",
		"unfinished checksums: fix them; segment also cuts super-frames as on the wire; raw")
	f.Var(usage.Set(&o.annotate, "WHICH", "drops", oneOf("none", "drops", "all")), "annotate",
		"comments on frames: none, drops (and faults), all")
	f.Var(usage.Set(&o.ring, "SIZE", "", parseRing), "ring",
		"memory in the daemon for what is not read in time (default 8MiB)")
	f.BoolVar(&o.strict, "strict", false, "exit 3 if frames were lost")
	f.BoolVar(&o.wait, "wait", false, "wait for containers that are not there yet")
	f.BoolVar(&o.noLimit, "no-limit", false, "no limit of 1 GiB and 1 hour")
	f.StringVar(&o.attach, "attach", "", "read the capture that a container was started with (tapestry.capture), by its name or the capture's `ID`")
	f.Var(usage.Set(&o.bytes, "SIZE", "", parseSize), "bytes",
		"stop before the frames take more than this as pcapng, such as 100MB (default 1GiB with -w and --listen)")
	f.BoolVar(&o.json, "json", false, "print JSON, an object a line, as watch does")
	f.Var(usage.Set(&o.listen, "ADDR:PORT", "", parseListen), "listen",
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

// A captureJob is one run of capture, watch or recorder dump: where frames come from, and where they go.
type captureJob struct {
	c             *cli
	flags         *captureFlags
	targets       []string
	commandLine   string // as typed; it names the capture in the daemon and in files
	in            io.Reader
	out, messages io.Writer
	request       api.CaptureRequest
	printer       *show.LinePrinter // nil: frames go to a file or a connection
}

// printLines makes the job print frames in place of writing a file.
func (j *captureJob) printLines() {
	j.printer = &show.LinePrinter{Out: j.out, JSON: j.flags.json, Verbose: j.flags.verbose, Headers: j.flags.headers,
		Colour: human.Colours(j.flags.colour, j.out)}
	j.printer.Summary.Today = time.Now().Format(time.DateOnly)
	j.request.Detail, j.request.Annotate = true, "none"
}

func (j *captureJob) run(ctx context.Context) error {
	if j.flags.write == "-" && human.IsTerminal(j.out) {
		return exit.Errorf(exit.Usage, "stdout is a terminal: want a pipe or a file, such as: %s | wireshark -k -i -", j.commandLine)
	}
	switch {
	case j.flags.read != "":
		return j.readFile(ctx)
	case j.flags.listen != "":
		return j.listen(ctx)
	}
	return j.live(ctx)
}

// application is how the name of the program begins in files that it wrote; its version follows.
const application = "tapestry "

// A destination is where frames are written to: the text that names it, and what is still there at the end.
type destination struct {
	name func() string
	kept func() file.Count // how much of what was written is still there, of files that rotate; nil: all
}

func destinationOf(name string) *destination {
	return &destination{name: func() string { return name }}
}

// keptOf returns how much is still there of what was written, and whether that is less.
func (p *destination) keptOf(wrote file.Count) (kept file.Count, lacks bool) {
	if p.kept == nil {
		return wrote, false
	}
	kept = p.kept()
	return kept, kept.Packets < wrote.Packets
}

// describe adds to text, which says what was written, where that is.
func (p *destination) describe(wrote file.Count, text string) string {
	if kept, lacks := p.keptOf(wrote); lacks {
		return fmt.Sprintf("%s, of which the latest %s are kept in %s", text, human.Thousands(kept.Frames), p.name())
	}
	return text + " into " + p.name()
}

// section returns the head of a pcapng file: program, machine and command line.
func (j *captureJob) section() pcapng.Section {
	return pcapng.Section{Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: application + buildVersion().Version,
		Comment: j.commandLine}
}

// openOutput returns what prints or writes the frames, as the flags say; where is nil if it prints. who gives names; first has
// link type, snap length and begin of the first file.
func (j *captureJob) openOutput(who show.Resolver, first file.Options) (to show.BlockWriter, where *destination, err error) {
	switch {
	case j.printer != nil:
		j.printer.Labels.Resolver = who
		return j.printer, nil, nil
	case j.flags.write == "-":
		w := show.NewStreamWriter(j.out, j.flags.pcap, j.section(), first.LinkType, first.SnapLen)
		w.Labels.Resolver = who
		return w, destinationOf("stdout"), nil
	}
	first.Path, first.Pcap, first.Force, first.Section = j.flags.write, j.flags.pcap, j.flags.force, j.section()
	first.MaxBytes, first.Every, first.Keep = j.flags.maxBytes, j.flags.every, j.flags.keep
	s, err := file.Create(first)
	if err != nil {
		return nil, nil, exit.Errorf(exit.Failure, "%w", err)
	}
	w := show.NewSetWriter(s, j.flags.pcap, first.SnapLen)
	w.Labels.Resolver = who
	return w, &destination{func() string { return filesText(s.Paths()) }, s.Kept}, nil
}

// filesText names the files of a capture: one by its path, several by number, first and last.
func filesText(paths []string) string {
	switch len(paths) {
	case 0:
		return "no file"
	case 1:
		return paths[0]
	}
	return fmt.Sprintf("%d files, %s to %s", len(paths), paths[0], filepath.Base(paths[len(paths)-1]))
}

// sameFile reports whether path is the file that f has open.
func sameFile(path string, f *os.File) bool {
	a, err := os.Stat(path)
	if err != nil {
		return false
	}
	b, err := f.Stat()
	return err == nil && os.SameFile(a, b)
}
