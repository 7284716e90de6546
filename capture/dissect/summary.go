// Package dissect tells people what a frame says: one line, one JSON object, or every field of every layer.
//
// It is for the side of the commands, never for the daemon: it allocates, and its input is hostile. Whatever the
// bytes are, nothing panics, every text from the wire is escaped and bounded, so that no frame can write to a
// terminal, and a frame that ends too early says so.
//
// It looks at one frame at a time. It joins no fragments and no streams: what is said of DNS, DHCP, TLS and HTTP is
// a hint from the first bytes of one segment.
package dissect

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// Names returns the container name of an address, "" if it knows none. A nil Names knows none.
type Names func(netip.Addr) string

// A Summary is what one frame says. Its JSON keys are stable; a layer that the frame does not have is left out.
// All text is escaped as in a Go string and bounded.
type Summary struct {
	Len      int    `json:"len"`                // bytes on the wire, without FCS
	Captured int    `json:"captured,omitempty"` // bytes that were kept, if fewer
	Eth      *Eth   `json:"eth,omitempty"`
	Link     *Link  `json:"link,omitempty"` // of what is not Ethernet
	ARP      *ARP   `json:"arp,omitempty"`
	IP       *IP    `json:"ip,omitempty"`
	L4       *L4    `json:"l4,omitempty"`
	ICMP     *ICMP  `json:"icmp,omitempty"` // ICMP or ICMPv6, as IP.Version says
	IGMP     *IGMP  `json:"igmp,omitempty"`
	App      *App   `json:"app,omitempty"`
	Info     string `json:"info"`            // what Line shows between the addresses and the length, without names
	Error    string `json:"error,omitempty"` // the first thing that is wrong with the frame, or missing
}

// Eth is the Ethernet header (IEEE 802.3 §3.2) with its VLAN tags (802.1Q §9).
type Eth struct {
	Src  ether.MAC `json:"src"`
	Dst  ether.MAC `json:"dst"`
	Type EtherType `json:"type"`           // behind the tags; under 0x0600 it is a length, and LLC follows
	VLAN []uint16  `json:"vlan,omitempty"` // VLAN identifiers, outermost first, at most two
}

// ARP is an ARP packet for IPv4 over Ethernet (RFC 826).
type ARP struct {
	Op        uint16     `json:"op"`
	SenderMAC ether.MAC  `json:"sender_mac"`
	SenderIP  netip.Addr `json:"sender_ip"`
	TargetMAC ether.MAC  `json:"target_mac"`
	TargetIP  netip.Addr `json:"target_ip"`
}

// IP is the IPv4 header (RFC 791 §3.1), or the IPv6 header (RFC 8200 §3) with its extension headers.
type IP struct {
	Version      int        `json:"version"`
	Src          netip.Addr `json:"src"`
	Dst          netip.Addr `json:"dst"`
	Proto        uint8      `json:"proto"` // behind the extension headers
	TTL          uint8      `json:"ttl"`   // hop limit
	TrafficClass uint8      `json:"traffic_class,omitempty"`
	DontFragment bool       `json:"dont_fragment,omitempty"` // IPv4
	Frag         *Frag      `json:"frag,omitempty"`
}

// Frag says which part of a packet a fragment is.
type Frag struct {
	ID     uint32 `json:"id"`
	Offset int    `json:"offset"` // bytes
	More   bool   `json:"more"`
}

// L4 is the header of TCP or UDP.
type L4 struct {
	Proto   string `json:"proto"` // tcp or udp
	SrcPort uint16 `json:"src_port"`
	DstPort uint16 `json:"dst_port"`
	Len     int    `json:"len"` // payload bytes on the wire, in this frame
	*TCP           // the keys of TCP stand beside these
}

// TCP is what a TCP header has more than ports (RFC 9293 §3.1). Numbers are as on the wire: not relative, not scaled.
type TCP struct {
	Flags  TCPFlags `json:"flags"`
	Seq    uint32   `json:"seq"`
	Ack    uint32   `json:"ack"`
	Window uint16   `json:"window"`
	MSS    uint16   `json:"mss,omitempty"`
}

// ICMP is an ICMP (RFC 792) or ICMPv6 message (RFC 4443), Neighbour Discovery (RFC 4861) and MLD (RFC 3810) included.
type ICMP struct {
	Type    uint8      `json:"type"`
	Code    uint8      `json:"code"`
	*Echo              // id and seq
	MTU     uint32     `json:"mtu,omitempty"`   // fragmentation needed, packet too big
	Target  netip.Addr `json:"target,omitzero"` // of Neighbour Discovery; of a redirect, the better router
	MAC     ether.MAC  `json:"mac,omitzero"`    // source or target link-layer address option
	Members []Member   `json:"members,omitempty"`
	About   *About     `json:"about,omitempty"`
}

// Echo is what an echo request or reply has.
type Echo struct {
	ID  uint16 `json:"id"`
	Seq uint16 `json:"seq"`
}

// About is the packet that an ICMP error tells about, as far as the error quotes it.
type About struct {
	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	Proto   uint8      `json:"proto"`
	SrcPort uint16     `json:"src_port,omitempty"`
	DstPort uint16     `json:"dst_port,omitempty"`
}

// IGMP is an IGMP message of any version (RFC 3376).
type IGMP struct {
	Type    uint8    `json:"type"`
	Members []Member `json:"members,omitempty"`
}

// A Member is what an IGMP or MLD message says about one group. At most four of a message are shown.
type Member struct {
	Action string     `json:"action"` // query, join or leave
	Group  netip.Addr `json:"group"`  // unspecified in a query for all groups
}

// App is a hint at what the payload is: at most one of these.
type App struct {
	DNS  *DNS  `json:"dns,omitempty"`
	DHCP *DHCP `json:"dhcp,omitempty"`
	TLS  *TLS  `json:"tls,omitempty"`
	HTTP *HTTP `json:"http,omitempty"`
}

// DNS is a DNS message (RFC 1035 §4), mDNS and LLMNR included.
type DNS struct {
	ID       uint16   `json:"id"`
	Response bool     `json:"response"`
	RCode    uint8    `json:"rcode"`
	Name     string   `json:"name"` // of the first question; of the first answer if there is no question
	Type     string   `json:"type"`
	Count    uint16   `json:"answer_count,omitempty"`
	Answers  []string `json:"answers,omitempty"` // addresses and names among the first of them, at most four
}

// DHCP is a DHCPv4 message (RFC 2131 §2, options RFC 2132).
type DHCP struct {
	Type    string     `json:"type,omitempty"`   // discover, offer, request, …; bootp if it has no such option
	MAC     ether.MAC  `json:"mac"`              // the client's
	Address netip.Addr `json:"address,omitzero"` // given, asked for, or in use: the first of these
	Host    string     `json:"host,omitempty"`
}

// TLS is a ClientHello or ServerHello (RFC 8446 §4.1). What stands behind the end of the segment is left out.
type TLS struct {
	Hello   string   `json:"hello"`             // client or server
	Version string   `json:"version,omitempty"` // the highest offered, or the one chosen: "1.3"
	SNI     string   `json:"sni,omitempty"`
	ALPN    []string `json:"alpn,omitempty"` // at most four
}

// HTTP is the first line of a request or a response of HTTP/1 (RFC 9112 §3, §4).
type HTTP struct {
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Host   string `json:"host,omitempty"`
	Status int    `json:"status,omitempty"`
	Reason string `json:"reason,omitempty"`
}
