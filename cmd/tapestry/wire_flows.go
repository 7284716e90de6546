package main

import (
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/capture/dissect"
	"github.com/tapestry-net/tapestry/capture/flow"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// What flows and top print as JSON; docs/json.md explains every key.

type flowsReply struct {
	Source  string       `json:"source"` // recorder, live, file
	Since   string       `json:"since"`  // RFC 3339; "": nothing was there
	Until   string       `json:"until"`
	Seconds float64      `json:"seconds"`
	Why     string       `json:"why"` // they are fewer than were asked for
	Lost    uint64       `json:"lost"`
	Total   countsReply  `json:"total"`
	Evicted evictedReply `json:"evicted"`
	Flows   []flowReply  `json:"flows"`
}

type topReply struct {
	Time    time.Time    `json:"time"`
	Seconds float64      `json:"seconds"`
	Lost    uint64       `json:"lost"`
	Total   countsReply  `json:"total"`
	Evicted evictedReply `json:"evicted"`
	Flows   []flowReply  `json:"flows,omitempty"`
	Ports   []trafficRow `json:"ports,omitempty"`
}

type countsReply struct {
	Frames     uint64 `json:"frames"`
	WireFrames uint64 `json:"wire_frames"`
	Bytes      uint64 `json:"bytes"`
}

type evictedReply struct {
	Flows uint64 `json:"flows"`
	countsReply
}

type endReply struct {
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	Name    string `json:"name,omitempty"`
}

// flowReply is a conversation, or with by pair all those of two.
type flowReply struct {
	Network     string            `json:"network"`
	NetworkName string            `json:"network_name,omitempty"`
	EtherType   string            `json:"ether_type"`
	Proto       string            `json:"proto"`
	A           endReply          `json:"a"`
	B           endReply          `json:"b"`
	Out         countsReply       `json:"a_to_b"`
	Back        countsReply       `json:"b_to_a"`
	Forwarded   uint64            `json:"forwarded"`
	Flooded     uint64            `json:"flooded"`
	Drops       map[string]uint64 `json:"drops"`
	Faults      uint64            `json:"faults"`
	TCP         []string          `json:"tcp"`
	State       string            `json:"state"`
	First       time.Time         `json:"first"`
	Last        time.Time         `json:"last"`
	Rate        float64           `json:"bytes_per_second"`
}

type trafficRow struct {
	Network     string            `json:"network"`
	NetworkName string            `json:"network_name,omitempty"`
	Kind        string            `json:"kind"`
	Name        string            `json:"name"`
	Container   string            `json:"container,omitempty"`
	From        countsReply       `json:"from"`
	To          countsReply       `json:"to"`
	Drops       map[string]uint64 `json:"drops"`
	Rate        float64           `json:"bytes_per_second"`
}

func toCounts(c flow.Counts) countsReply { return countsReply{c.Frames, c.Wire, c.Bytes} }

// toFlow tells a flow of which so many seconds were seen.
func (t *tally) toFlow(l *look, f *flow.Flow, seconds float64) flowReply {
	end := func(e flow.End) endReply {
		r := endReply{e.MAC.String(), e.Port, t.name(l.n, f, e)}
		if e.Addr.IsValid() {
			r.Address = e.Addr.String()
		}
		return r
	}
	sum := f.Sum()
	r := flowReply{Network: f.Network.Value(), Proto: protoName(f), A: end(f.A), B: end(f.B),
		Out: toCounts(f.Out), Back: toCounts(f.Back), Forwarded: f.Verdicts[vswitch.Forwarded],
		Flooded: f.Verdicts[vswitch.Flooded], Drops: f.Verdicts.Drops(), Faults: f.Faults,
		TCP: []string{}, State: stateOf(f),
		First: time.Unix(0, f.First).UTC(), Last: time.Unix(0, f.Last).UTC(), Rate: perSecond(sum.Bytes, seconds)}
	if f.Type != 0 {
		r.EtherType = dissect.EtherType(f.Type).String()
	}
	if l.n != nil {
		r.NetworkName = l.n.Network(r.Network)
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

// protoName is the protocol of IP, or what an EtherType is called.
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

// stateOf is what TCP's flags tell of a conversation, "" if nothing.
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
