package filter

import "github.com/tapestry-net/tapestry/ether"

// protos are the protocols by their keywords.
var protos = map[string]proto{
	"ether": {},

	"ip": {linkType: typeIP}, "ip6": {linkType: typeIP6}, "arp": {linkType: typeARP}, "rarp": {linkType: typeRARP},
	"atalk": {linkType: typeATalk}, "aarp": {linkType: typeAARP}, "decnet": {linkType: 0x6003}, "lat": {linkType: 0x6004},
	"sca": {linkType: 0x6007}, "mopdl": {linkType: 0x6001}, "moprc": {linkType: 0x6002},
	"iso": {linkType: sapISO}, "stp": {linkType: 0x42}, "ipx": {linkType: sapIPX}, "netbeui": {linkType: sapNetBEUI},

	"tcp": {numbers: []uint32{6}}, "udp": {numbers: []uint32{17}},
	"sctp": {numbers: []uint32{132}}, "pim": {numbers: []uint32{103}},
	"ah": {numbers: []uint32{51}}, "esp": {numbers: []uint32{50}},
	"icmp": {parent: "ip", numbers: []uint32{1}}, "igmp": {parent: "ip", numbers: []uint32{2}},
	"igrp": {parent: "ip", numbers: []uint32{9}}, "vrrp": {parent: "ip", numbers: []uint32{112}},
	"carp": {parent: "ip", numbers: []uint32{112}}, "icmp6": {parent: "ip6", numbers: []uint32{58}},

	"clnp": {parent: "iso", numbers: []uint32{0x81}}, "esis": {parent: "iso", numbers: []uint32{0x82}},
	"isis": {parent: "iso", numbers: []uint32{protoISIS}},
	"l1":   {parent: "isis", numbers: []uint32{26, 24, 18, 15, 17}},
	"l2":   {parent: "isis", numbers: []uint32{27, 25, 20, 16, 17}},
	"iih":  {parent: "isis", numbers: []uint32{17, 15, 16}}, "lsp": {parent: "isis", numbers: []uint32{18, 20}},
	"snp":  {parent: "isis", numbers: []uint32{27, 26, 24, 25}},
	"csnp": {parent: "isis", numbers: []uint32{24, 25}}, "psnp": {parent: "isis", numbers: []uint32{26, 27}},
}

// A proto is either a link type or numbers in the header of the protocol above it, "" for IPv4 and IPv6.
type proto struct {
	linkType uint32
	parent   string
	numbers  []uint32
}

// Link types up to maxLength are service access points of IEEE 802.2.
const (
	maxLength  = 1500
	sapIP      = 0x06
	sapIPX     = 0xe0
	sapNetBEUI = 0xf0
	sapISO     = 0xfe
	typeIP     = ether.TypeIPv4
	typeIP6    = ether.TypeIPv6
	typeARP    = ether.TypeARP
	typeRARP   = 0x8035
	typeATalk  = 0x809b
	typeAARP   = 0x80f3
	typeIPX    = 0x8137
	typeMPLS   = 0x8847
	typePPPoED = 0x8863
	protoISIS  = 0x83
)

// linkTypes are the names after "ether proto".
var linkTypes = map[string]uint32{
	"aarp": typeAARP, "arp": typeARP, "atalk": typeATalk, "decnet": 0x6003, "ip": typeIP, "ip6": typeIP6, "lat": 0x6004,
	"loopback": 0x9000, "mopdl": 0x6001, "moprc": 0x6002, "rarp": typeRARP, "sca": 0x6007,
	"iso": sapISO, "stp": 0x42, "ipx": sapIPX, "netbeui": sapNetBEUI,
}

var aliases = map[string]string{
	"link": "ether", "ppp": "ether", "slip": "ether", "fddi": "ether", "tr": "ether", "wlan": "ether",
	"es-is": "esis", "is-is": "isis", "length": "len", "&&": "and", "||": "or", "not": "!", "==": "=",
}

var keywords = set("src", "dst", "host", "net", "mask", "port", "portrange", "proto", "less", "greater", "broadcast",
	"multicast", "and", "or", "!", "len", "vlan", "mpls", "vxlan", "pppoed", "llc", "rnr")

// hints are what a misspelt word may have been, wherever it stands.
var hints = []string{"tcp", "udp", "icmp", "icmp6", "ip6", "arp", "host", "port", "net", "portrange", "src", "dst",
	"proto", "vlan", "vxlan", "mpls", "ether", "broadcast", "multicast", "less", "greater", "and", "not", "tcpflags", "icmptype"}

func set(words ...string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}

// unsupported are keywords of libpcap that this package does not do, and why.
var unsupported = func() map[string]string {
	m := make(map[string]string)
	for why, words := range map[string][]string{
		"%s is not supported: write ether host and not host":                       {"gateway"},
		"%s is not supported: write ip proto or ip6 proto":                         {"protochain"},
		"%s is not supported: a frame does not say which way it went":              {"inbound", "outbound"},
		"%s is not supported: a frame does not say its interface":                  {"ifindex", "on", "ifname"},
		"%s is not supported: write ether[N], as in ether[0] & 1 != 0":             {"byte"},
		"%s is not supported: only the plain frame, VLAN, MPLS and VXLAN are read": {"pppoes", "geneve"},
		"%s is for pf, not for Ethernet": {"rset", "ruleset", "rulenum", "srnr", "subrulenum", "reason",
			"action"},
		"%s is for 802.11, not for Ethernet": {"type", "subtype", "direction", "dir", "address1", "addr1", "address2",
			"addr2", "address3", "addr3", "address4", "addr4", "ra", "ta", "radio"},
		"%s is for ATM, not for Ethernet": {"lane", "metac", "bcc", "oam", "oamf4", "oamf4ec", "oamf4sc", "sc", "ilmic",
			"vpi", "vci", "connectmsg", "metaconnect"},
		"%s is for SS7, not for Ethernet": {"fisu", "lssu", "lsu", "msu", "hfisu", "hlssu", "hmsu", "sio", "opc", "dpc",
			"sls", "hsio", "hopc", "hdpc", "hsls"},
	} {
		for _, w := range words {
			m[w] = why
		}
	}
	return m
}()

// constants are the numbers that have names.
var constants = map[string]uint32{
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17,
	"icmp-maskreply": 18,

	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142,
	"icmp6-multicastlistenerreportv2": 143, "icmp6-homeagentdiscoveryrequest": 144,
	"icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146, "icmp6-mobileprefixadvert": 147,
	"icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149, "icmp6-multicastrouteradvert": 151,
	"icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,

	"tcpflags": 13, "tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10,
	"tcp-urg": 0x20, "tcp-ece": 0x40, "tcp-cwr": 0x80,
}
