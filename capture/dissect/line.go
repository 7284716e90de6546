package dissect

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
)

const broadcast = "broadcast"

var broadcastMAC = ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Line is one line for people, without a newline and of at most 512 bytes: who to whom by name where names knows it,
// what, how long, and what is wrong with the frame:
//
//	web → dns  UDP 40212→53  DNS A? api.mynet  70 B
func (s *Summary) Line(names Names) string {
	b := make([]byte, 0, 256)
	if s.Eth != nil || s.Link != nil {
		src, dst := s.ends(names)
		b = append(b, src...)
		b = append(b, " → "...)
		b = append(b, dst...)
		b = append(b, "  "...)
	}
	if s.ICMP != nil && s.ICMP.About != nil {
		b = s.describe(b, names) // its addresses have names too
	} else {
		b = append(b, s.Info...)
	}
	tail := fmt.Sprintf("  %d B", s.Len)
	if s.Captured > 0 {
		tail += fmt.Sprintf(", cut short at %d", s.Captured)
	}
	if s.Error != "" {
		tail += "  " + clean(s.Error)
	}
	return string(append(clip(b, maxLine-len(tail)), tail...))
}

// name is what people call a: its container, or the address.
func (names Names) name(a netip.Addr) string {
	if names != nil {
		if n := names(a); n != "" {
			return clean(n)
		}
	}
	return a.String()
}

// ends are the names of the two ends: of containers, else their IP addresses, else their MACs.
func (s *Summary) ends(names Names) (src, dst string) {
	all := false // it went to all
	if s.Eth != nil {
		src, dst, all = s.Eth.Src.String(), s.Eth.Dst.String(), s.Eth.Dst == broadcastMAC
	} else {
		src, dst, all = "?", "?", s.Link.Packet == broadcast
		if s.Link.Src != "" {
			src = s.Link.Src
		}
	}
	if all {
		dst = broadcast
	}
	switch {
	case s.IP != nil:
		src = names.name(s.IP.Src)
		if !all || s.IP.Dst.IsMulticast() {
			dst = names.name(s.IP.Dst)
		}
	case s.ARP != nil:
		if a := known(s.ARP.SenderIP); a.IsValid() {
			src = names.name(a)
		}
		if a := known(s.ARP.TargetIP); a.IsValid() && !all {
			dst = names.name(a)
		}
	}
	return src, dst
}

// describe appends what Info holds; addresses in it are named.
func (s *Summary) describe(b []byte, names Names) []byte {
	var typ EtherType
	switch {
	case s.Link != nil:
		typ = s.Link.Proto
	case s.Eth == nil:
		return append(b, "not an Ethernet frame"...)
	default:
		typ = s.Eth.Type
		for i, id := range s.Eth.VLAN {
			b = append(b, []string{"VLAN ", "."}[i]...)
			b = strconv.AppendUint(b, uint64(id), 10)
		}
		if len(s.Eth.VLAN) > 0 {
			b = append(b, "  "...)
		}
	}
	switch {
	case s.IP == nil && s.ARP == nil:
		return append(b, typ.describe()...)
	case s.ARP != nil:
		return s.ARP.describe(b)
	case s.L4 != nil:
		b = s.L4.describe(b)
	case s.ICMP != nil:
		b = s.ICMP.describe(b, s.IP.Version, names)
	case s.IGMP != nil:
		b = s.IGMP.describe(b)
	default:
		b = append(b, protoName(s.IP.Proto)...)
	}
	if f := s.IP.Frag; f != nil {
		b = fmt.Appendf(b, "  fragment id 0x%x offset %d", f.ID, f.Offset)
		if f.More {
			b = append(b, ", more follow"...)
		}
	}
	if s.App != nil {
		b = append(b, "  "...)
		b = append(b, s.App.describe()...)
	}
	return b
}

var typeNames = map[EtherType]string{
	typeIPv4: "IPv4", typeARP: "ARP", typeIPv6: "IPv6", typeVLAN: "VLAN", typeQinQ: "VLAN",
	0x8035: "RARP", 0x8847: "MPLS", 0x8863: "PPPoE discovery", 0x8864: "PPPoE", 0x888e: "EAPOL",
	0x88cc: "LLDP", 0x88e5: "MACsec", 0x88f7: "PTP",
}

func (t EtherType) describe() string {
	switch name := typeNames[t]; {
	case t < minType:
		return fmt.Sprintf("802.3 LLC, %d bytes", uint16(t))
	case name != "":
		return name
	}
	return "ethertype " + t.String()
}

func protoName(n uint8) string {
	if name, ok := protoNames[n]; ok {
		return name
	}
	return "IP protocol " + strconv.Itoa(int(n))
}

func (a *ARP) describe(b []byte) []byte {
	switch {
	case a.Op == 1 && !known(a.SenderIP).IsValid():
		return fmt.Appendf(b, "ARP who has %s? (probe)", a.TargetIP)
	case a.SenderIP == a.TargetIP && (a.Op == 1 || a.Op == 2):
		return fmt.Appendf(b, "ARP announces %s is at %s", a.SenderIP, a.SenderMAC)
	case a.Op == 1:
		return fmt.Appendf(b, "ARP who has %s? tell %s", a.TargetIP, a.SenderIP)
	case a.Op == 2:
		return fmt.Appendf(b, "ARP %s is at %s", a.SenderIP, a.SenderMAC)
	}
	return fmt.Appendf(b, "ARP op %d", a.Op)
}

func (l *L4) describe(b []byte) []byte {
	b = append(b, strings.ToUpper(l.Proto)...)
	b = append(b, ' ')
	b = appendPorts(b, l.SrcPort, l.DstPort)
	if l.TCP == nil {
		return b
	}
	b = append(b, " ["...)
	b = append(b, l.Flags.String()...)
	b = append(b, "] seq "...)
	b = strconv.AppendUint(b, uint64(l.Seq), 10)
	const ack = 0x10
	if l.Flags&ack != 0 {
		b = append(b, " ack "...)
		b = strconv.AppendUint(b, uint64(l.Ack), 10)
	}
	b = append(b, " win "...)
	b = strconv.AppendUint(b, uint64(l.Window), 10)
	if l.MSS > 0 {
		b = append(b, " mss "...)
		b = strconv.AppendUint(b, uint64(l.MSS), 10)
	}
	if l.Len > 0 {
		b = append(b, " len "...)
		b = strconv.AppendInt(b, int64(l.Len), 10)
	}
	return b
}

func appendPorts(b []byte, src, dst uint16) []byte {
	b = strconv.AppendUint(b, uint64(src), 10)
	b = append(b, "→"...)
	return strconv.AppendUint(b, uint64(dst), 10)
}

func (a *About) describe(b []byte, names Names) []byte {
	b = fmt.Appendf(b, " (about %s → %s %s", names.name(a.Src), names.name(a.Dst), protoName(a.Proto))
	if a.hasPorts() && a.SrcPort|a.DstPort != 0 {
		b = appendPorts(append(b, ' '), a.SrcPort, a.DstPort)
	}
	return append(b, ')')
}

func (a *App) describe() string {
	switch {
	case a.DNS != nil:
		return a.DNS.describe()
	case a.DHCP != nil:
		return a.DHCP.describe()
	case a.TLS != nil:
		return a.TLS.describe()
	case a.HTTP.Status != 0:
		return spaced("HTTP", strconv.Itoa(a.HTTP.Status), a.HTTP.Reason)
	}
	return spaced("HTTP", a.HTTP.Method, a.HTTP.Path, a.HTTP.Host)
}

func (d *DNS) describe() string {
	text := "DNS " + d.Type
	switch {
	case !d.Response:
		return text + "? " + d.Name
	case d.RCode != 0:
		return text + " " + d.Name + " " + rcodes[d.RCode&15]
	case d.Count == 0:
		return text + " " + d.Name + " no answer"
	case len(d.Answers) == 0:
		return fmt.Sprintf("%s %s %d answers", text, d.Name, d.Count)
	}
	text += " " + d.Name + " is " + strings.Join(d.Answers, ", ")
	if more := int(d.Count) - len(d.Answers); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (d *DHCP) describe() string {
	text := spaced("DHCP", d.Type)
	if d.Address.IsValid() {
		text += " " + d.Address.String()
	}
	text += " for " + d.MAC.String()
	if d.Host != "" {
		text += " name " + d.Host
	}
	return text
}

func (t *TLS) describe() string {
	text := spaced("TLS", t.Version) + " ClientHello"
	if t.Hello == "server" {
		text = spaced("TLS", t.Version) + " ServerHello"
	}
	if t.SNI != "" {
		text += " SNI " + t.SNI
	}
	if len(t.ALPN) > 0 {
		text += " ALPN " + strings.Join(t.ALPN, ",")
	}
	return text
}

// spaced is the words that are there, with a space between them.
func spaced(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}
