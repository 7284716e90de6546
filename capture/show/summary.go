package show

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/cmd/human"
)

// maxConversations bounds the pairs of addresses that are counted one by one.
const maxConversations = 1 << 16

// A Summary is what watch and capture print at their end: counts of frames by verdict, reason and protocol, and the pairs that
// exchanged the most bytes.
type Summary struct {
	frames, bytes uint64
	verdicts      map[string]uint64
	reasons       map[string]uint64
	protocols     map[string]uint64
	conversations map[[2]string]*traffic
	other         traffic // of the pairs beyond maxConversations
	first, last   int64   // times, ns since 1970
	Today         string  // a date as by time.DateOnly; times of other days are printed with their date
}

type traffic struct{ frames, bytes uint64 }

func (s *Summary) add(f *Frame, at int64) {
	if s.frames == 0 {
		s.verdicts, s.reasons, s.protocols = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
		s.conversations = map[[2]string]*traffic{}
		s.first, s.last = at, at
	}
	s.first, s.last = min(s.first, at), max(s.last, at)
	s.frames++
	s.bytes += uint64(f.Len)
	if f.Verdict != "" {
		s.verdicts[human.Printable(f.Verdict)]++
	}
	if f.Reason != "" {
		s.reasons[human.Printable(f.Reason)]++
	}
	s.protocols[protocol(f)]++
	pair, ok := conversationOf(f)
	if !ok {
		return
	}
	t := s.conversations[pair]
	if t == nil && len(s.conversations) < maxConversations {
		t = new(traffic)
		s.conversations[pair] = t
	}
	if t == nil {
		t = &s.other
	}
	t.frames++
	t.bytes += uint64(f.Len)
}

// protocol returns the name under which a frame is counted.
func protocol(f *Frame) string {
	switch {
	case f.L4 != nil:
		return strings.ToUpper(f.L4.Proto)
	case f.ICMP != nil && f.IP.Version == 6:
		return "ICMPv6"
	case f.ICMP != nil:
		return "ICMP"
	case f.IGMP != nil:
		return "IGMP"
	case f.ARP != nil:
		return "ARP"
	case f.IP != nil:
		return fmt.Sprintf("IP protocol %d", f.IP.Proto)
	case f.Eth != nil:
		return f.Eth.Type.String()
	case f.Link != nil:
		return f.Link.Proto.String()
	}
	return "broken"
}

// conversationOf returns the source and destination of a frame, by name where there is one, else by address.
func conversationOf(f *Frame) (pair [2]string, ok bool) {
	if src, dst, ok := addrs(f.Summary); ok {
		return [2]string{cmp.Or(human.Printable(f.sender), human.Printable(f.SrcName), src.String()), cmp.Or(human.Printable(f.DstName), dst.String())}, true
	}
	if f.Eth != nil {
		return [2]string{cmp.Or(human.Printable(f.sender), f.Eth.Src.String()), f.Eth.Dst.String()}, true
	}
	return pair, false
}

// timeText returns the local time of day, with the date if it is not today's. today is a date as by time.DateOnly.
func timeText(ns int64, today string) string {
	at := time.Unix(0, ns)
	if at.Format(time.DateOnly) == today {
		return at.Format("15:04:05.000000")
	}
	return at.Format("2006-01-02 15:04:05.000000")
}

// Print writes the summary. lost is the number of frames that are missing in it.
func (s *Summary) Print(w io.Writer, lost uint64) {
	head := fmt.Sprintf("%s, %s, %s lost", human.Count(s.frames, "frame"), human.Bytes(s.bytes), human.Thousands(lost))
	if s.frames > 0 {
		head += fmt.Sprintf(", %s to %s", timeText(s.first, s.Today), timeText(s.last, s.Today))
	}
	fmt.Fprintln(w, head)
	if s.frames == 0 {
		return
	}
	if text := human.Counts(s.verdicts); text != "" {
		fmt.Fprintf(w, "verdicts   %s\n", text)
	}
	if text := human.Counts(s.reasons); text != "" {
		fmt.Fprintf(w, "drops      %s\n", text)
	}
	fmt.Fprintf(w, "protocols  %s\n", human.Counts(s.protocols))
	pairs := slices.SortedFunc(maps.Keys(s.conversations), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(s.conversations[b].bytes, s.conversations[a].bytes), strings.Compare(a[0]+" "+a[1], b[0]+" "+b[1]))
	})
	for i, p := range pairs[:min(5, len(pairs))] {
		head := "talkers  "
		if i > 0 {
			head = "         "
		}
		t := s.conversations[p]
		fmt.Fprintf(w, "%s  %s → %s  %s, %s\n", head, p[0], p[1], human.Count(t.frames, "frame"), human.Bytes(t.bytes))
	}
	if s.other.frames > 0 {
		fmt.Fprintf(w, "           and %s of more pairs than were counted\n", human.Count(s.other.frames, "frame"))
	}
}
