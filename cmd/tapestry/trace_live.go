package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/trace"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// liveTrace is trace --live and its flags.
type liveTrace struct {
	liveView
	on     bool
	frames uint64
	drops  bool
	during time.Duration
}

// A realTrace is a frame that was seen, and what the switch would do with the same bytes a moment later; trace --live --json prints
// it.
type realTrace struct {
	Frame   *show.Frame `json:"frame"`
	Trace   *api.Trace  `json:"trace"`   // null: the daemon could not be asked, see Note
	Differs bool        `json:"differs"` // the switch decided otherwise
	Note    string      `json:"note"`    // the reason of either; "": neither
}

func (l *liveTrace) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&l.on, "live", false, "explain real frames, as they pass")
	l.filterFlag(cmd)
	f.VarP(usage.Set(&l.frames, "N", "5", parseFrames), "count", "n", "with --live: stop after so many frames")
	f.BoolVar(&l.drops, "drops", false, "with --live: only frames that the switch dropped")
	f.Var(usage.Set(&l.during, "TIME", "", parseSpan), "for", "with --live: stop after this time, such as 30s")
}

// check refuses the flags of real frames without --live, and those of a made-up frame with it.
func (l *liveTrace) check(cmd *cobra.Command) error {
	names, format := []string{"filter", "count", "drops", "for"}, "--%s is of real frames: want --live, too"
	if l.on {
		names = []string{"tcp", "udp", "icmp", "arp", "sport", "size", "network", "inject"}
		format = "--%s is of a frame that is made up, --live is of real ones: leave out one of them"
	}
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return exit.Errorf(exit.Usage, format, name)
		}
	}
	return nil
}

// run explains the next frames that match.
func (l *liveTrace) run(ctx context.Context, c *cli, cmd *cobra.Command, args []string) error {
	if err := l.resolve(ctx, c, cmd, args); err != nil {
		return err
	}
	l.request.Headers, l.request.Snap, l.request.Drops = false, 0, l.drops
	l.request.Annotate = "all" // a comment names the port that a frame left by, also one that is no target
	l.request.Name = "tapestry " + human.ShellQuote(commandWords(cmd))
	if l.during > 0 {
		l.request.Seconds = l.during.Seconds()
	}
	if !l.request.Targets.New { // with New the daemon sends more than is wanted, and cannot count
		l.request.Frames = l.frames
	}
	from, end, err := l.open(ctx, c)
	if err != nil {
		return err
	}
	defer end()
	show, out := &show.LinePrinter{Labels: show.Labels{Resolver: l.names}}, cmd.OutOrStdout()
	var seen, dropped uint64
	lost := map[int]uint64{} // by interface: frames that came faster than they were read
	for seen < l.frames && ctx.Err() == nil {
		b, err := from.Next()
		if ctx.Err() != nil || err == io.EOF {
			break
		}
		if err != nil {
			return exit.Errorf(exit.Failure, "the daemon went away in the middle: %w", exit.WithoutURL(err))
		}
		if i, ok := b.(*pcapng.Interface); ok {
			show.Labels.AddInterface(i)
		}
		if s, ok := b.(*pcapng.Stats); ok {
			lost[s.Interface] = max(lost[s.Interface], s.Dropped)
		}
		p, ok := b.(*pcapng.Packet)
		if !ok {
			continue
		}
		d := l.names.Engine()
		r, err := c.explainReal(ctx, d, show, p)
		if ctx.Err() != nil {
			break
		}
		if err == nil && c.json {
			err = json.NewEncoder(out).Encode(r)
		} else if err == nil {
			err = r.print(out, show, d, seen > 0)
		}
		if err != nil {
			return err
		}
		seen++
		if r.Frame.Reason != "" {
			dropped++
		}
	}
	var short error // why there are fewer than were wanted
	if seen < l.frames {
		short = l.endReason(ctx, nil)
	}
	switch {
	case dropped > 0 && short != nil:
		return exit.Errorf(exit.Failure, "%d of %s dropped, and %w", dropped, human.Count(seen, "frame"), short)
	case dropped > 0:
		return exit.Errorf(exit.Failure, "%d of %s dropped", dropped, human.Count(seen, "frame"))
	case short != nil:
		return short
	case seen == 0:
		return l.noneSeen(cmd.ErrOrStderr(), lost)
	}
	return nil
}

// noneSeen says that no frame was seen. If some were lost it is an error: it is not known whether one has passed.
func (l *liveTrace) noneSeen(w io.Writer, lost map[int]uint64) error {
	var all uint64
	for _, n := range lost {
		all += n
	}
	if all > 0 {
		return exit.Errorf(exit.Failure, "no such frame was seen%s", missing(all, api.Evicted{}))
	}
	_, err := fmt.Fprintln(w, "no such frame has passed")
	return err
}

// explainReal has the daemon explain a frame that was seen. If its port is gone, that is a note and no error.
func (c *cli) explainReal(ctx context.Context, d *docker.Engine, show *show.LinePrinter, p *pcapng.Packet) (r realTrace, err error) {
	r.Frame = show.Frame(p)
	left := capture.ReadComment(p.Comment)["out"]
	if r.Frame.Out == "" && left != "" {
		r.Frame.Out = d.PortLabel(left)
	}
	var port capture.Port
	if uint(p.Interface) < uint(len(show.Labels.Ports)) {
		port = show.Labels.Ports[p.Interface]
	}
	switch {
	case port.Network == "":
		r.Note = "the port that it came in by has gone, and nothing is known of it any more"
		return r, nil
	case p.Flags&pcapng.Direction == pcapng.Outbound:
		r.Note = "this was on its way out to " + r.Frame.Interface + ": what the switch decides had been decided"
		return r, nil
	case len(p.Data) < p.Len:
		r.Note = "it was not kept whole, so that it cannot be asked again"
		return r, nil
	}
	seen, _ := capture.ReadDetail(p)
	t, err := trace.Explain(ctx, c.Client, d, requestOf(&port, p, seen))
	if code := exit.Code(err); err != nil && (code == exit.NoTarget || code == exit.Failure) {
		r.Note = fmt.Sprintf("the port that it came in by cannot be asked any more: %v", err)
		return r, nil
	} else if err != nil {
		return r, err
	}
	r.Trace = &t
	r.setNote(seen, left, d)
	return r, nil
}

// requestOf returns the request about a frame as it came in by its port.
func requestOf(port *capture.Port, p *pcapng.Packet, seen capture.Detail) api.TraceRequest {
	t := api.TraceRequest{Network: port.Network, Port: port.Name, Frame: p.Data}
	if port.Remote {
		t.Port = api.WithoutPort(port.Name)
	}
	if seen.Kind != ether.None {
		t.Offload.Kind, t.Offload.Segment, t.Offload.Inner = seen.Kind.String(), seen.Segment, uint16(seen.Inner)
	}
	if p.Flags&pcapng.ChecksumNotReady != 0 {
		t.Offload.ChecksumStart, t.Offload.ChecksumOffset = checksumField(p.Data, max(ether.HeaderLen, int(seen.Inner)))
		t.Offload.PartialChecksum = t.Offload.ChecksumStart > 0
	}
	return t
}

// checksumField says where a kernel leaves the checksum of TCP or UDP to be finished, behind the IP header at ip; zero of
// anything else, as of IPv6 with extension headers.
func checksumField(b []byte, ip int) (start, offset uint16) {
	proto := byte(0)
	switch {
	case len(b) < ip+20:
	case binary.BigEndian.Uint16(b[ip-2:]) == 0x0800:
		proto, start = b[ip+9], uint16(ip)+uint16(b[ip]&15)*4
	case binary.BigEndian.Uint16(b[ip-2:]) == 0x86dd:
		proto, start = b[ip+6], uint16(ip)+40
	}
	switch proto {
	case trace.ProtoTCP:
		return start, 16
	case trace.ProtoUDP:
		return start, 6
	}
	return 0, 0
}

// setNote notes where the explanation differs from what happened. left is the port that the frame left by, "" if none or several.
func (r *realTrace) setNote(seen capture.Detail, left string, d *docker.Engine) {
	was, would := seen.Verdict.String(), r.Trace.Verdict
	switch {
	case seen.Verdict == vswitch.Fault:
		r.Note = "it was lost on purpose (" + r.Frame.Fault + "); without that it " + trace.Outcome(*r.Trace)
		return
	case was == would && left != "" && len(r.Trace.Egress) == 1 && api.WithoutPort(left) != api.WithoutPort(r.Trace.Egress[0].Port):
		was, would = was+" to "+r.Frame.Out, would+" to "+d.PortLabel(r.Trace.Egress[0].Port)
	case was == would:
		return
	}
	r.Differs = true
	r.Note = fmt.Sprintf("the switch's verdict was %s, and asked a moment later it is %s: "+
		"addresses, ports or faults have changed in between", was, would)
}

// print writes the frame, what the switch did with it, and the explanation. more says that it is not the first one.
func (r *realTrace) print(w io.Writer, show *show.LinePrinter, d *docker.Engine, more bool) error {
	f, at := r.Frame, ""
	if seen, err := time.Parse(time.RFC3339Nano, f.Time); err == nil {
		at = seen.Local().Format("15:04:05.000000 ")
	}
	did := f.Verdict
	switch {
	case f.Reason != "":
		did = "dropped (" + f.Reason + ")"
	case f.Out != "":
		did += " to " + f.Out
	}
	if more {
		at = "\n" + at
	}
	text := fmt.Sprintf("%s%s\n%-12s %s\n", at, show.Text(f), "switch", did)
	if f.Lost > 0 {
		text += fmt.Sprintf("%-12s %s before it came faster than they were read\n", "note", human.Count(f.Lost, "frame"))
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if r.Trace != nil {
		if err := trace.Print(w, *r.Trace, d); err != nil {
			return err
		}
	}
	if r.Note == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "%-12s %s\n", map[bool]string{true: "differs", false: "note"}[r.Differs], r.Note)
	return err
}
