package dissect

import (
	"fmt"
	"net/netip"
)

var unreachableText4 = [...]string{
	"net", "host", "protocol", "port", "need to fragment", "source route failed", "net unknown", "host unknown",
	"source isolated", "net prohibited", "host prohibited", "net for this service", "host for this service",
	"prohibited", "precedence violation", "precedence cutoff",
}

var unreachableText6 = [...]string{
	"no route", "prohibited", "beyond scope", "address", "port", "source policy", "route rejected", "source routing",
}

// code is the text of an ICMP code.
func code(texts []string, n uint8) string {
	if int(n) < len(texts) {
		return texts[n]
	}
	return fmt.Sprintf("code %d", n)
}

func (c *ICMP) describe(b []byte, version int, names Names) []byte {
	if version == 4 {
		b = append(append(b, "ICMP "...), c.text4()...)
	} else {
		b = append(append(b, "ICMPv6 "...), c.text6()...)
	}
	if c.Echo != nil {
		b = fmt.Appendf(b, " id %d seq %d", c.Echo.ID, c.Echo.Seq)
	}
	if c.MTU > 0 {
		b = fmt.Appendf(b, ", mtu %d", c.MTU)
	}
	if c.About != nil {
		b = c.About.describe(b, names)
	}
	return b
}

func (c *ICMP) text4() string {
	switch c.Type {
	case echo4:
		return "echo request"
	case echoReply4:
		return "echo reply"
	case unreachable4:
		return "unreachable " + code(unreachableText4[:], c.Code)
	case exceeded4:
		return exceeded(c.Code)
	case parameter4:
		return "parameter problem"
	case redirect4:
		return "redirect to " + c.Target.String()
	}
	return fmt.Sprintf("type %d code %d", c.Type, c.Code)
}

func (c *ICMP) text6() string {
	switch c.Type {
	case echo6:
		return "echo request"
	case echoReply6:
		return "echo reply"
	case unreachable6:
		return "unreachable " + code(unreachableText6[:], c.Code)
	case tooBig6:
		return "packet too big"
	case exceeded6:
		return exceeded(c.Code)
	case parameter6:
		return "parameter problem"
	case routerAsk:
		return "router solicitation"
	case routerTell:
		return "router advertisement"
	case neighborAsk:
		return "who has " + shown(c.Target) + "?"
	case neighborTell:
		if c.MAC.IsZero() {
			return shown(c.Target) + " is here"
		}
		return shown(c.Target) + " is at " + c.MAC.String()
	case redirect6:
		return "redirect to " + shown(c.Target)
	case mldQuery, mldReport, mldDone, mldReport2:
		return "MLD" + members(c.Members)
	}
	return fmt.Sprintf("type %d code %d", c.Type, c.Code)
}

// exceeded is the text of time exceeded, the same in both versions.
func exceeded(code uint8) string {
	if code == 1 {
		return "time exceeded in reassembly"
	}
	return "time exceeded in transit"
}

// shown is a, or "?" if the message ends before it.
func shown(a netip.Addr) string {
	if !a.IsValid() {
		return "?"
	}
	return a.String()
}

func (g *IGMP) describe(b []byte) []byte {
	if len(g.Members) == 0 {
		return fmt.Appendf(b, "IGMP type 0x%02x", g.Type)
	}
	return append(append(b, "IGMP"...), members(g.Members)...)
}

func members(list []Member) (text string) {
	for i, m := range list {
		if i > 0 {
			text += ","
		}
		text += " " + m.Action
		if a := known(m.Group); a.IsValid() {
			text += " " + a.String()
		}
	}
	return text
}
