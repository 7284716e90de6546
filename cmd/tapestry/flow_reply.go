package main

import (
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/dissect"
	"github.com/tapestry-net/tapestry/capture/flow"
	"github.com/tapestry-net/tapestry/capture/show"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

func toCounts(c flow.Counts) api.Counts {
	return api.Counts{Frames: c.Frames, WireFrames: c.Wire, Bytes: c.Bytes}
}

// toFlow tells a flow of which so many seconds were seen.
func toFlow(t *show.Counter, n show.Resolver, f *flow.Flow, seconds float64) api.Flow {
	end := func(e flow.End) api.FlowEnd {
		r := api.FlowEnd{Address: e.MAC.String(), Port: e.Port, Name: t.EndName(n, f, e)}
		if e.Addr.IsValid() {
			r.Address = e.Addr.String()
		}
		return r
	}
	sum := f.Sum()
	r := api.Flow{Network: f.Network.Value(), Proto: protoName(f), A: end(f.A), B: end(f.B),
		Out: toCounts(f.Out), Back: toCounts(f.Back), Forwarded: f.Verdicts[vswitch.Forwarded],
		Flooded: f.Verdicts[vswitch.Flooded], Drops: f.Verdicts.Drops(), Faults: f.Faults,
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
	case f.Type == 0x0806:
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
