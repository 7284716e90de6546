// Package show presents captures: lines for people and JSON, sums, tallies of flows, files with names.
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

// Lines is a sink that prints packets for people, or as JSON.
type Lines struct {
	Out     io.Writer
	Json    bool
	Verbose bool // every field, too
	Headers bool // frames were cut behind their headers
	Colour  bool
	Labels  Labels
	Sum     Summary
	buf     []byte
}

// A Frame is a packet in words; watch --json prints it, and docs/json.md explains it.
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
	ports  [3]int // interfaces that it has to do with; -1: none
	sender string // interface that it came in by, if its source address is another's; "": it is not, or that is not known
}

func (l *Lines) put(b pcapng.Block) error {
	switch b := b.(type) {
	case *pcapng.Interface:
		l.Labels.Add(b)
	case *pcapng.Packet:
		return l.packet(b)
	}
	return nil
}

func (l *Lines) packet(p *pcapng.Packet) error {
	f := l.Frame(p)
	l.Sum.add(f, p.Time)
	switch {
	case l.Json:
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		l.buf = append(append(l.buf, text...), '\n')
	default:
		if p.Drops > 0 {
			l.line(human.Yellow, fmt.Sprintf("(%s lost here: more came than was read in time)", human.Count(p.Drops, "frame")))
		}
		l.line(l.colourOf(f), clockText(p.Time, l.Sum.Today)+" "+l.Text(f))
		if l.Verbose {
			for row := range strings.Lines(dissect.FullLink(l.link(p), p.Data)) {
				l.buf = append(append(l.buf, "    "...), row...)
			}
		}
	}
	if len(l.buf) >= writeAt {
		return l.flush()
	}
	return nil
}

func (l *Lines) line(colour, text string) {
	if l.Colour {
		text = human.Paint(colour, text)
	}
	l.buf = append(append(l.buf, text...), '\n')
}

// link is a packet's link type.
func (l *Lines) link(p *pcapng.Packet) int {
	if uint(p.Interface) < uint(len(l.Labels.interfaces)) {
		return l.Labels.interfaces[p.Interface].LinkType
	}
	return pcapng.Ethernet
}

// Frame says what is known of a packet.
func (l *Lines) Frame(p *pcapng.Packet) *Frame {
	s := dissect.DissectLink(l.link(p), p.Data, p.Len)
	f := &Frame{Time: time.Unix(0, p.Time).UTC().Format(time.RFC3339Nano), ID: p.ID, Interface: l.Labels.of(p.Interface),
		Lost: p.Drops, Summary: s}
	if uint(p.Interface) < uint(len(l.Labels.Ports)) {
		if port := &l.Labels.Ports[p.Interface]; port.Network != "" {
			f.Network = l.Labels.network(port)
		}
		if snap := l.Labels.interfaces[p.Interface].SnapLen; !l.Json && s.Captured > 0 &&
			(l.Headers || snap > 0 && snap < s.Len) {
			s.Captured = 0 // cut on purpose
		}
	}
	l.verdict(f, p)
	if src, dst, ok := addrs(s); ok {
		f.SrcName, f.DstName = l.Labels.addr(src, f.ports[:]...), l.Labels.addr(dst, f.ports[:]...)
	}
	f.sender = l.sender(f, p)
	return f
}

// sender is the port that a frame came in by, where its addresses say something else. Behind a remote host is whoever
// is called something.
func (l *Lines) sender(f *Frame, p *pcapng.Packet) string {
	in, spoofed := f.ports[1], f.Reason == vswitch.Spoofed.String()
	if in < 0 && (spoofed || p.Flags&pcapng.Direction == pcapng.Inbound) {
		in = p.Interface
	}
	if uint(in) >= uint(len(l.Labels.Ports)) {
		return ""
	}
	label, port := l.Labels.of(in), &l.Labels.Ports[in]
	name, _, _ := strings.Cut(label, "@")
	another := f.SrcName != "" && port.Network != "" && !port.Remote
	if f.SrcName != name && (another || spoofed) {
		return label
	}
	return ""
}

// verdict takes what the daemon tells, or else the words of a file's comment.
func (l *Lines) verdict(f *Frame, p *pcapng.Packet) {
	d, ok := capture.ReadDetail(p)
	if f.ports = [3]int{p.Interface, d.In, d.Out}; ok {
		f.Verdict, f.Fault, f.Out = d.Verdict.String(), d.Fault.String(), l.Labels.of(d.Out)
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

// addrs are the IP addresses of a frame's ends.
func addrs(s *dissect.Summary) (src, dst netip.Addr, ok bool) {
	switch {
	case s.IP != nil:
		return s.IP.Src, s.IP.Dst, true
	case s.ARP != nil:
		return s.ARP.SenderIP, s.ARP.TargetIP, true
	}
	return src, dst, false
}

// Text is the line but its time. What was simply forwarded says so by silence.
func (l *Lines) Text(f *Frame) string {
	text := f.Line(func(a netip.Addr) string { return l.Labels.addr(a, f.ports[:]...) })
	if f.Segments > 1 {
		text += fmt.Sprintf(" ×%d", f.Segments)
	}
	if f.sender != "" {
		text += "  sent by " + human.Printable(f.sender)
	}
	if f.Verdict == vswitch.Flooded.String() {
		text += "  flooded"
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

// whyDropped is capture.Reason of a verdict's name.
func whyDropped(reason string) string {
	for v := vswitch.Verdict(0); v.Known(); v++ {
		if v.String() == reason {
			return v.Meaning()
		}
	}
	return ""
}

func (l *Lines) colourOf(f *Frame) string {
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

func (l *Lines) flush() error {
	if len(l.buf) == 0 {
		if ReaderGone(l.Out) {
			return ErrReaderGone
		}
		return nil
	}
	_, err := l.Out.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

func (l *Lines) Close() error { return l.flush() }
