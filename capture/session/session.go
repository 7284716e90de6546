// Package session runs a capture that a command asked for: frames come from the daemon, its recorder or a file, and go into lines,
// a file or a connection. What was written, lost or cut off is said at the end, and a file that exists is touched with the first write
// only. It parses no flags, and decides nothing about how a frame looks: that is capture/show.
package session

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// Options say what to capture, and into what: the values of capture's flags, of which watch, extcap and recorder dump have some.
type Options struct {
	Filter      string // in tcpdump's language (pcap-filter(7))
	Write, Read string // files; - is stdout or stdin, "" is none
	Listen      string // ADDR:PORT for readers that connect; "" is none
	Attach      string // a capture that waits for its reader; "" is none

	MaxBytes int64         // of one file, then the next begins; 0: no bound
	Every    time.Duration // that one file covers; 0: all
	Keep     int           // the latest files; 0: all
	Pcap     bool          // classic pcap, in place of pcapng
	Force    bool          // replace a file that is no capture

	Frames  uint64 // 0: no bound
	Bytes   int64  // as pcapng; 0: the default limit, or none
	During  time.Duration
	NoLimit bool // not even the default limits

	Snap    int // bytes kept of each frame; 0: all
	Headers bool
	Drops   bool // only frames that the switch dropped
	Ring    int  // bytes; 0: the daemon's default

	Point, View, Offload, Annotate string // as api.CaptureRequest has them

	JSON, Verbose bool
	Colour        string // auto, always, never
	Strict        bool   // lost frames are an error
	Wait          bool   // for containers that are not there yet
}

// ToRequest returns the request to the daemon, without targets and filter.
func (o *Options) ToRequest() api.CaptureRequest {
	r := api.CaptureRequest{Drops: o.Drops, Snap: o.Snap, Headers: o.Headers, Point: o.Point, View: o.View, Offload: o.Offload,
		Annotate: o.Annotate, Frames: o.Frames, Ring: o.Ring}
	if !o.limited() {
		r.Bytes, r.Seconds = -1, -1
	}
	if o.During > 0 {
		r.Seconds = o.During.Seconds()
	}
	if o.Bytes > 0 {
		r.Bytes = o.Bytes
	}
	return r
}

// limited reports whether the default limits of 1 GiB and 1 hour apply: to what is written and has no other bound.
func (o *Options) limited() bool {
	ring := o.MaxBytes > 0 && o.Keep > 0
	return (o.Write != "" || o.Listen != "") && !o.NoLimit && !ring
}

// A Job is one run of capture, watch or recorder dump: where frames come from, and where they go.
type Job struct {
	Options
	Client        *client.Client
	Targets       []string
	CommandLine   string // as typed; it names the capture in the daemon and in files
	Version       string // of this program, for files
	In            io.Reader
	Out, Messages io.Writer
	Request       api.CaptureRequest
	printer       *show.LinePrinter // nil: frames go to a file or a connection
}

// PrintLines makes the job print frames in place of writing a file.
func (j *Job) PrintLines() {
	j.printer = &show.LinePrinter{Out: j.Out, JSON: j.JSON, Verbose: j.Verbose, Headers: j.Headers,
		Colour: human.Colours(j.Colour, j.Out)}
	j.printer.Summary.Today = time.Now().Format(time.DateOnly)
	j.Request.Detail, j.Request.Annotate = true, "none"
}

// Run captures until the daemon, the reader or the user ends it, or the file that is read ends.
func (j *Job) Run(ctx context.Context) error {
	if j.Write == "-" && human.IsTerminal(j.Out) {
		return exit.Errorf(exit.Usage, "stdout is a terminal: want a pipe or a file, such as: %s | wireshark -k -i -", j.CommandLine)
	}
	switch {
	case j.Read != "":
		return j.readFile(ctx)
	case j.Listen != "":
		return j.listen(ctx)
	}
	return j.Live(ctx)
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
func (j *Job) section() pcapng.Section {
	return pcapng.Section{Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: application + j.Version,
		Comment: j.CommandLine}
}

// openOutput returns what prints or writes the frames, as the flags say; where is nil if it prints. who gives names; first has
// link type, snap length and begin of the first file.
func (j *Job) openOutput(who show.Resolver, first file.Options) (to show.BlockWriter, where *destination, err error) {
	switch {
	case j.printer != nil:
		j.printer.Labels.Resolver = who
		return j.printer, nil, nil
	case j.Write == "-":
		w := show.NewStreamWriter(j.Out, j.Pcap, j.section(), first.LinkType, first.SnapLen)
		w.Labels.Resolver, w.Filter = who, j.Filter
		return w, destinationOf("stdout"), nil
	}
	first.Path, first.Pcap, first.Force, first.Section = j.Write, j.Pcap, j.Force, j.section()
	first.MaxBytes, first.Every, first.Keep = j.MaxBytes, j.Every, j.Keep
	s, err := file.Create(first)
	if err != nil {
		return nil, nil, exit.Errorf(exit.Failure, "%w", err)
	}
	w := show.NewSetWriter(s, j.Pcap, first.SnapLen)
	w.Labels.Resolver, w.Filter = who, j.Filter
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
