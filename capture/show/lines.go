// Package show presents captures: packets as lines or JSON, a closing summary, counts of flows, and capture files with
// containers' names. It does not capture and decides nothing about frames.
package show

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/dissect"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A LinePrinter is a BlockWriter that prints each packet as a line for people, or as an object of JSON.
type LinePrinter struct {
	Out     io.Writer
	JSON    bool
	Verbose bool // print all layers and fields below the line
	Headers bool // the payload was cut off on purpose, so that a line does not say that the frame is truncated
	Colour  bool
	Labels  Labels
	Summary Summary // of the packets so far
	buf     []byte  // not written yet
}

// A Frame is a packet as watch --json prints it; docs/json.md explains the keys.
type Frame struct {
	Time      string `json:"time"`
	ID        uint64 `json:"id,omitempty"`
	Interface string `json:"interface"`
	Out       string `json:"out,omitempty"`
	Network   string `json:"network,omitempty"`
	Verdict   string `json:"verdict,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Fault     string `json:"fault,omitempty"`
	Segments  int    `json:"segments,omitempty"`
	Lost      uint64 `json:"lost,omitempty"`
	Comment   string `json:"comment,omitempty"`
	SrcName   string `json:"src_name,omitempty"`
	DstName   string `json:"dst_name,omitempty"`
	*dissect.Summary
	ports  [3]int // interfaces: of the packet, ingress, egress; -1: none
	made   bool   // by the switch: an answer
	sender string // label of the ingress interface if the source address belongs to another one; "": it does not, or is not known
}

func (l *LinePrinter) put(b pcapng.Block) error {
	switch b := b.(type) {
	case *pcapng.Interface:
		l.Labels.AddInterface(b)
	case *pcapng.Packet:
		return l.packet(b)
	}
	return nil
}

func (l *LinePrinter) packet(p *pcapng.Packet) error {
	f := l.Frame(p)
	l.Summary.add(f, p.Time)
	switch {
	case l.JSON:
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		l.buf = append(append(l.buf, text...), '\n')
	default:
		if p.Drops > 0 {
			l.line(human.Yellow, fmt.Sprintf("(%s lost here: more came than was read in time)", human.Count(p.Drops, "frame")))
		}
		l.line(l.colourOf(f), timeText(p.Time, l.Summary.Today)+" "+l.Text(f))
		if l.Verbose {
			for row := range strings.Lines(dissect.FullLink(l.link(p), p.Data)) {
				l.buf = append(append(l.buf, "    "...), row...)
			}
		}
	}
	if len(l.buf) >= writeThreshold {
		return l.flush()
	}
	return nil
}

func (l *LinePrinter) line(colour, text string) {
	if l.Colour {
		text = human.Paint(colour, text)
	}
	l.buf = append(append(l.buf, text...), '\n')
}

// link returns the link type of a packet's interface, pcapng.Ethernet if there is no such interface.
func (l *LinePrinter) link(p *pcapng.Packet) int {
	if uint(p.Interface) < uint(len(l.Labels.interfaces)) {
		return l.Labels.interfaces[p.Interface].LinkType
	}
	return pcapng.Ethernet
}

// Frame dissects a packet and adds its names and what the switch decided.
func (l *LinePrinter) Frame(p *pcapng.Packet) *Frame {
	s := dissect.DissectLink(l.link(p), p.Data, p.Len)
	f := &Frame{Time: time.Unix(0, p.Time).UTC().Format(time.RFC3339Nano), ID: p.ID, Interface: l.Labels.label(p.Interface),
		Lost: p.Drops, Summary: s}
	if uint(p.Interface) < uint(len(l.Labels.Ports)) {
		if port := &l.Labels.Ports[p.Interface]; port.Network != "" {
			f.Network = l.Labels.networkName(port)
		}
		if snap := l.Labels.interfaces[p.Interface].SnapLen; !l.JSON && s.Captured > 0 &&
			(l.Headers || snap > 0 && snap < s.Len) {
			s.Captured = 0 // cut on purpose: not to be shown as truncated
		}
	}
	l.setVerdict(f, p)
	f.made = f.Verdict == vswitch.Answered.String() && p.Flags&pcapng.Direction == pcapng.Outbound
	if src, dst, ok := addrs(s); ok {
		f.SrcName, f.DstName = l.Labels.addrName(src, f.ports[:]...), l.Labels.addrName(dst, f.ports[:]...)
	}
	f.sender = l.sender(f, p)
	return f
}

// sender returns the label of the ingress port if the source address belongs to another container, else "". The containers
// behind a remote host are not known, so a frame from there is only told if the switch dropped it as a container's of this host.
func (l *LinePrinter) sender(f *Frame, p *pcapng.Packet) string {
	in, spoofed := f.ports[1], f.Reason == vswitch.Spoofed.String() || f.Reason == vswitch.OwnAddress.String()
	if in < 0 && (spoofed || p.Flags&pcapng.Direction == pcapng.Inbound) {
		in = p.Interface
	}
	if uint(in) >= uint(len(l.Labels.Ports)) {
		return ""
	}
	label, port := l.Labels.label(in), &l.Labels.Ports[in]
	name, _, _ := strings.Cut(label, "@")
	another := f.SrcName != "" && port.Network != "" && !port.Remote
	if f.SrcName != name && (another || spoofed) {
		return label
	}
	return ""
}

// setVerdict fills in the switch's verdict: from the daemon's binary detail, or else from the words of a file's comment.
func (l *LinePrinter) setVerdict(f *Frame, p *pcapng.Packet) {
	d, ok := capture.ReadDetail(p)
	if f.ports = [3]int{p.Interface, d.In, d.Out}; ok {
		f.Verdict, f.Fault, f.Out = d.Verdict.String(), d.Fault.String(), l.Labels.label(d.Out)
		if d.Verdict.Drop() {
			f.Verdict, f.Reason = "drop", d.Verdict.String()
		}
		if d.Kind != ether.None && d.Segment > 0 && f.L4 != nil {
			f.Segments = (f.L4.Len + int(d.Segment) - 1) / int(d.Segment)
		}
		return
	}
	words := capture.ReadComment(p.Comment)
	if words == nil {
		f.Comment = p.Comment
		return
	}
	f.Verdict, f.Reason, f.Fault, f.Out = words["verdict"], words["reason"], words["fault"], words["out"]
}

// addrs returns the source and destination of a frame with IP or ARP.
func addrs(s *dissect.Summary) (src, dst netip.Addr, ok bool) {
	switch {
	case s.IP != nil:
		return s.IP.Src, s.IP.Dst, true
	case s.ARP != nil:
		return s.ARP.SenderIP, s.ARP.TargetIP, true
	}
	return src, dst, false
}

// Text returns a frame's line without its time. The verdict is in it unless the frame was simply forwarded.
func (l *LinePrinter) Text(f *Frame) string {
	text := f.Line(func(a netip.Addr) string { return l.Labels.addrName(a, f.ports[:]...) })
	if f.Segments > 1 {
		text += fmt.Sprintf(" ×%d", f.Segments)
	}
	if f.sender != "" {
		text += "  sent by " + human.Printable(f.sender)
	}
	switch {
	case f.Verdict == vswitch.Flooded.String():
		text += "  flooded"
	case f.made:
		text += "  made by tapestry"
	case f.Verdict == vswitch.Answered.String():
		text += "  answered by tapestry"
	}
	if f.Reason != "" {
		text += "  DROP " + human.Printable(f.Reason)
		if why := whyDropped(f.Reason); why != "" {
			text += ": " + why
		}
	}
	if f.Fault != "" {
		text += "  FAULT " + human.Printable(f.Fault)
	}
	if f.Comment != "" {
		text += "  (" + human.Printable(f.Comment) + ")"
	}
	return text
}

// whyDropped returns the meaning of a verdict by its name, "" if no verdict has that name.
func whyDropped(reason string) string {
	for v := vswitch.Verdict(0); v.Known(); v++ {
		if v.String() == reason {
			return v.Meaning()
		}
	}
	return ""
}

func (l *LinePrinter) colourOf(f *Frame) string {
	switch {
	case f.Reason != "":
		return human.Red
	case f.Fault != "" || f.Error != "":
		return human.Yellow
	case f.L4 != nil && f.L4.TCP != nil && strings.Contains(f.L4.Flags.String(), "RST"):
		return human.Magenta
	case f.App != nil:
		return human.Cyan
	case f.ICMP != nil:
		return human.Green
	case f.ARP != nil || f.Verdict == vswitch.Flooded.String():
		return human.Faint
	}
	return human.Plain
}

func (l *LinePrinter) flush() error {
	if len(l.buf) == 0 {
		if readerGone(l.Out) {
			return errReaderGone
		}
		return nil
	}
	_, err := l.Out.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

// Close writes what is buffered. It does not close Out.
func (l *LinePrinter) Close() error { return l.flush() }
