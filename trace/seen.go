package trace

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A SeenFrame is a frame that was seen, and what the switch would do with the same bytes a moment later; trace --live --json prints
// it.
type SeenFrame struct {
	Frame   *show.Frame `json:"frame"`
	Trace   *api.Trace  `json:"trace"`   // null: the daemon could not be asked, see Note
	Differs bool        `json:"differs"` // the switch decided otherwise
	Note    string      `json:"note"`    // the reason of either; "": neither
}

// ExplainSeen has the daemon explain a frame that was seen. If its port is gone, that is a note and no error.
func ExplainSeen(ctx context.Context, c *client.Client, d *docker.Engine, lines *show.LinePrinter, p *pcapng.Packet) (r SeenFrame, err error) {
	r.Frame = lines.Frame(p)
	left := capture.ReadComment(p.Comment)["out"]
	if r.Frame.Out == "" && left != "" {
		r.Frame.Out = d.PortLabel(left)
	}
	var port capture.Port
	if uint(p.Interface) < uint(len(lines.Labels.Ports)) {
		port = lines.Labels.Ports[p.Interface]
	}
	switch {
	case port.Network == "":
		r.Note = "the port that it came in by has gone, and nothing is known of it any more"
		return r, nil
	case p.Flags&pcapng.Direction == pcapng.Outbound:
		r.Note = "this frame was leaving by " + r.Frame.Interface + ": the switch had decided about it before"
		return r, nil
	case len(p.Data) < p.Len:
		r.Note = "it was not kept whole, so that it cannot be asked again"
		return r, nil
	}
	seen, _ := capture.ReadDetail(p)
	t, err := Explain(ctx, c, d, requestOf(&port, p, seen))
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

// checksumField is ether.ChecksumField of the frame whose IP header begins at ip.
func checksumField(b []byte, ip int) (start, offset uint16) {
	base := ip - ether.HeaderLen
	if base > len(b) {
		return 0, 0
	}
	if start, offset = ether.ChecksumField(b[base:]); start > 0 {
		start += uint16(base)
	}
	return start, offset
}

// setNote notes where the explanation differs from what happened. left is the port that the frame left by, "" if none or several.
func (r *SeenFrame) setNote(seen capture.Detail, left string, d *docker.Engine) {
	was, would := seen.Verdict.String(), r.Trace.Verdict
	switch {
	case seen.Verdict == vswitch.Fault:
		r.Note = "it was lost on purpose (" + r.Frame.Fault + "); without that it " + Outcome(*r.Trace)
		return
	case was == would && left != "" && len(r.Trace.Egress) == 1 && api.WithoutPort(left) != api.WithoutPort(r.Trace.Egress[0].Port):
		was, would = was+" to "+r.Frame.Out, would+" to "+d.PortLabel(r.Trace.Egress[0].Port)
	case was == would:
		return
	case seen.Verdict == vswitch.Answered && would == vswitch.Flooded.String():
		r.Note = "it was answered by tapestry; the same question within a minute goes to all"
		return
	}
	r.Differs = true
	r.Note = fmt.Sprintf("the switch's verdict was %s, and asked a moment later it is %s: "+
		"addresses, ports or faults have changed in between", was, would)
}

// Print writes the frame, what the switch did with it, and the explanation. more says that it is not the first one.
func (r *SeenFrame) Print(w io.Writer, lines *show.LinePrinter, d *docker.Engine, more bool) error {
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
	text := fmt.Sprintf("%s%s\n%-12s %s\n", at, lines.Text(f), "switch", did)
	if f.Lost > 0 {
		text += fmt.Sprintf("%-12s %s before it came faster than they were read\n", "note", human.Count(f.Lost, "frame"))
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if r.Trace != nil {
		if err := Print(w, *r.Trace, d); err != nil {
			return err
		}
	}
	if r.Note == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "%-12s %s\n", map[bool]string{true: "differs", false: "note"}[r.Differs], r.Note)
	return err
}
