package show

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/dissect"
	"github.com/tapestry-net/tapestry/capture/flow"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/ether"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// counts converts counters.
func counts(c flow.Counts) api.Counts {
	return api.Counts{Frames: c.Frames, WireFrames: c.Wire, Bytes: c.Bytes}
}

// toFlow converts a flow; seconds is the time observed.
func toFlow(t *Counter, n Resolver, f *flow.Flow, seconds float64) api.Flow {
	end := func(e flow.End) api.FlowEnd {
		r := api.FlowEnd{Address: e.MAC.String(), Port: e.Port, Name: t.endName(n, f, e)}
		if e.Addr.IsValid() {
			r.Address = e.Addr.String()
		}
		return r
	}
	sum := f.Sum()
	r := api.Flow{Network: f.Network.Value(), Proto: protoName(f), A: end(f.A), B: end(f.B),
		Out: counts(f.Out), Back: counts(f.Back), Forwarded: f.Verdicts[vswitch.Forwarded],
		Flooded: f.Verdicts[vswitch.Flooded], Answered: f.Verdicts[vswitch.Answered], Drops: f.Verdicts.Drops(), Faults: f.Faults,
		TCP: []string{}, State: stateOf(f),
		First: time.Unix(0, f.First).UTC(), Last: time.Unix(0, f.Last).UTC(), Rate: perSecond(sum.Bytes, seconds)}
	if f.Type != 0 {
		r.EtherType = dissect.EtherType(f.Type).String()
	}
	if n != nil {
		r.NetworkName = n.Network(r.Network)
	}
	for _, hint := range []struct {
		bit  uint8
		name string
	}{{flow.SYN, "SYN"}, {flow.FIN, "FIN"}, {flow.RST, "RST"}} {
		if isTCP(f) && (f.Sent|f.Got)&hint.bit != 0 {
			r.TCP = append(r.TCP, hint.name)
		}
	}
	return r
}

func perSecond(n uint64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}

// protocols that tables name, by their number (IANA).
var protocols = map[uint8]string{1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6",
	47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite"}

func isTCP(f *flow.Flow) bool { return f.A.Addr.IsValid() && f.Proto == 6 }

// protoName returns the name of the IP protocol, or of the EtherType if the frame has no IP.
func protoName(f *flow.Flow) string {
	switch {
	case f.A.Addr.IsValid() && protocols[f.Proto] != "":
		return protocols[f.Proto]
	case f.A.Addr.IsValid():
		return "ip " + strconv.Itoa(int(f.Proto))
	case f.Type == ether.TypeARP:
		return "arp"
	}
	return dissect.EtherType(f.Type).String()
}

// stateOf returns the state of a TCP conversation as far as its flags show it, else "".
func stateOf(f *flow.Flow) string {
	switch {
	case !isTCP(f):
		return ""
	case f.Sent&flow.SYN != 0 && f.Got&flow.SYN == 0 && f.Got&flow.RST != 0:
		return "refused"
	case (f.Sent|f.Got)&flow.RST != 0:
		return "reset"
	case f.Sent&flow.SYN != 0 && f.Got&flow.SYN == 0 && f.Back.Frames == 0:
		return "no answer"
	case f.Sent&f.Got&flow.FIN != 0:
		return "closed"
	}
	return ""
}

// Missing says which flows and frames a table does not show; "" if it shows all.
func Missing(lost uint64, evicted api.Evicted) (text string) {
	if evicted.Flows > 0 {
		text += fmt.Sprintf("; %s more had no room in the table (%s, %s)", human.Plural(evicted.Flows, "flow"),
			human.Plural(evicted.Frames, "frame"), human.Bytes(evicted.Bytes))
	}
	if lost > 0 {
		text += fmt.Sprintf("; %s LOST, more came than were read in time", human.Plural(lost, "frame"))
	}
	return text
}

// flowOrders are the orders of --sort, greatest first.
var flowOrders = map[string]func(a, b api.Flow) int{
	"bytes":  func(a, b api.Flow) int { return cmp.Compare(b.Out.Bytes+b.Back.Bytes, a.Out.Bytes+a.Back.Bytes) },
	"frames": func(a, b api.Flow) int { return cmp.Compare(b.Out.Frames+b.Back.Frames, a.Out.Frames+a.Back.Frames) },
	"drops":  func(a, b api.Flow) int { return cmp.Compare(dropSum(b.Drops), dropSum(a.Drops)) },
	"last":   func(a, b api.Flow) int { return b.Last.Compare(a.Last) },
}

func dropSum(drops map[string]uint64) (n uint64) {
	for _, x := range drops {
		n += x
	}
	return n
}

// endLabel returns the name of one end of a flow, or its address.
func endLabel(e api.FlowEnd) string { return cmp.Or(e.Name, e.Address) }

// flowWhat returns the protocol, the ports and the state.
func flowWhat(f *api.Flow) string {
	text := f.Proto
	if f.A.Port != 0 || f.B.Port != 0 {
		text += fmt.Sprintf(" %d→%d", f.A.Port, f.B.Port)
	}
	if f.State != "" {
		text += " " + f.State
	}
	return text
}

func flowDrops(f *api.Flow) string {
	text := human.Counts(f.Drops)
	if f.Faults > 0 {
		text = strings.TrimPrefix(text+fmt.Sprintf(", %d by tapestry fault", f.Faults), ", ")
	}
	return text
}

// Fill puts the flows that were counted into r, in one of flowOrders, and what they are together. Rates are over r.Seconds.
func (t *Counter) Fill(r *api.Flows, n Resolver, order string) {
	r.Flows = []api.Flow{}
	for f := range t.Table.All() {
		r.Flows = append(r.Flows, toFlow(t, n, f, r.Seconds))
	}
	slices.SortStableFunc(r.Flows, flowOrders[order])
	gone, evicted := t.Table.Evicted()
	r.Lost, r.Total, r.Evicted = t.Lost(), counts(t.Table.Total().Counts), api.Evicted{Flows: gone, Counts: counts(evicted.Counts)}
}

// PrintFlows writes flows as a table. What LAST shows is the time from a flow's last frame to until.
func PrintFlows(w io.Writer, flows []api.Flow, n Resolver, until time.Time) error {
	return human.PrintTable(w, []string{"NETWORK", "A", "B", "PROTO/PORTS", "FRAMES", "BYTES", "RATE", "DROPS", "LAST"},
		api.Map(flows, func(f api.Flow) []string {
			return []string{networkLabel(n, f.Network), endLabel(f.A), endLabel(f.B), flowWhat(&f),
				human.Number(f.Out.Frames) + "/" + human.Number(f.Back.Frames), human.Bytes(f.Out.Bytes + f.Back.Bytes), human.Rate(f.Rate),
				flowDrops(&f), human.Age(int64(max(0, until.Sub(f.Last))/time.Second)) + " ago"}
		}))
}
