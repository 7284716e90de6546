package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/dissect"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// lines is a sink that prints packets for people, or as JSON.
type lines struct {
	out     io.Writer
	json    bool
	verbose bool // every field, too
	headers bool // frames were cut behind their headers
	colour  bool
	labels  labels
	sum     sums
	buf     []byte
}

// A frame is a packet in words; watch --json prints it, and docs/json.md explains it.
type frame struct {
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

func (l *lines) put(b pcapng.Block) error {
	switch b := b.(type) {
	case *pcapng.Interface:
		l.labels.add(b)
	case *pcapng.Packet:
		return l.packet(b)
	}
	return nil
}

func (l *lines) packet(p *pcapng.Packet) error {
	f := l.frame(p)
	l.sum.add(f, p.Time)
	switch {
	case l.json:
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		l.buf = append(append(l.buf, text...), '\n')
	default:
		if p.Drops > 0 {
			l.line(yellow, fmt.Sprintf("(%s lost here: more came than was read in time)", count(p.Drops, "frame")))
		}
		l.line(l.colourOf(f), clockText(p.Time, l.sum.today)+" "+l.text(f))
		if l.verbose {
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

func (l *lines) line(colour, text string) {
	if l.colour {
		text = paint(colour, text)
	}
	l.buf = append(append(l.buf, text...), '\n')
}

// link is a packet's link type.
func (l *lines) link(p *pcapng.Packet) int {
	if uint(p.Interface) < uint(len(l.labels.interfaces)) {
		return l.labels.interfaces[p.Interface].LinkType
	}
	return pcapng.Ethernet
}

// frame says what is known of a packet.
func (l *lines) frame(p *pcapng.Packet) *frame {
	s := dissect.DissectLink(l.link(p), p.Data, p.Len)
	f := &frame{Time: time.Unix(0, p.Time).UTC().Format(time.RFC3339Nano), ID: p.ID, Interface: l.labels.of(p.Interface),
		Lost: p.Drops, Summary: s}
	if uint(p.Interface) < uint(len(l.labels.ports)) {
		if port := &l.labels.ports[p.Interface]; port.Network != "" {
			f.Network = l.labels.network(port)
		}
		if snap := l.labels.interfaces[p.Interface].SnapLen; !l.json && s.Captured > 0 &&
			(l.headers || snap > 0 && snap < s.Len) {
			s.Captured = 0 // cut on purpose
		}
	}
	l.verdict(f, p)
	if src, dst, ok := addrs(s); ok {
		f.SrcName, f.DstName = l.labels.addr(src, f.ports[:]...), l.labels.addr(dst, f.ports[:]...)
	}
	f.sender = l.sender(f, p)
	return f
}

// sender is the port that a frame came in by, where its addresses say something else. Behind a remote host is whoever
// is called something.
func (l *lines) sender(f *frame, p *pcapng.Packet) string {
	in, spoofed := f.ports[1], f.Reason == vswitch.Spoofed.String()
	if in < 0 && (spoofed || p.Flags&pcapng.Direction == pcapng.Inbound) {
		in = p.Interface
	}
	if uint(in) >= uint(len(l.labels.ports)) {
		return ""
	}
	label, port := l.labels.of(in), &l.labels.ports[in]
	name, _, _ := strings.Cut(label, "@")
	another := f.SrcName != "" && port.Network != "" && !port.Remote
	if f.SrcName != name && (another || spoofed) {
		return label
	}
	return ""
}

// verdict takes what the daemon tells, or else the words of a file's comment.
func (l *lines) verdict(f *frame, p *pcapng.Packet) {
	d, ok := capture.ReadDetail(p)
	if f.ports = [3]int{p.Interface, d.In, d.Out}; ok {
		f.Verdict, f.Fault, f.Out = d.Verdict.String(), d.Fault.String(), l.labels.of(d.Out)
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

// text is the line but its time. What was simply forwarded says so by silence.
func (l *lines) text(f *frame) string {
	text := f.Line(func(a netip.Addr) string { return l.labels.addr(a, f.ports[:]...) })
	if f.Segments > 1 {
		text += fmt.Sprintf(" ×%d", f.Segments)
	}
	if f.sender != "" {
		text += "  sent by " + printable(f.sender)
	}
	if f.Verdict == vswitch.Flooded.String() {
		text += "  flooded"
	}
	if f.Reason != "" {
		text += "  DROP " + printable(f.Reason)
		if why := whyDropped(f.Reason); why != "" {
			text += ": " + why
		}
	}
	if f.Fault != "" {
		text += "  FAULT " + printable(f.Fault)
	}
	if f.Comment != "" {
		text += "  (" + printable(f.Comment) + ")"
	}
	return text
}

// printable is a text of a file as a terminal may get it: in one line, of what is seen only, and not too long.
func printable(s string) string {
	s = oneLine(s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// oneLine has spaces for what is not seen.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
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

func (l *lines) colourOf(f *frame) string {
	switch {
	case f.Reason != "":
		return red
	case f.Fault != "" || f.Error != "":
		return yellow
	case f.L4 != nil && f.L4.TCP != nil && strings.Contains(f.L4.Flags.String(), "RST"):
		return magenta
	case f.App != nil:
		return cyan
	case f.ICMP != nil:
		return green
	case f.ARP != nil || f.Verdict == vswitch.Flooded.String():
		return faint
	}
	return plain
}

func (l *lines) flush() error {
	if len(l.buf) == 0 {
		if readerGone(l.out) {
			return errReaderGone
		}
		return nil
	}
	_, err := l.out.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

func (l *lines) close() error { return l.flush() }
