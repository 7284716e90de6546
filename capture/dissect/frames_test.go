package dissect

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

var (
	webMAC = net.HardwareAddr{2, 0x42, 10, 77, 0, 2}
	dbMAC  = net.HardwareAddr{2, 0x42, 10, 77, 0, 3}
	allMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

func names(a netip.Addr) string {
	return map[string]string{
		"10.77.0.2": "web", "10.77.0.3": "db", "10.77.0.9": "dns", "fd00::2": "web", "fd00::3": "db",
	}[a.String()]
}

// build is the frame of these layers, lengths and checksums computed.
func build(_ testing.TB, ls ...gopacket.SerializableLayer) []byte { return packets.Serialize(ls...) }

func eth(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: webMAC, DstMAC: dbMAC, EthernetType: kind}
}

func wide(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: webMAC, DstMAC: allMAC, EthernetType: kind}
}

func ip4(proto layers.IPProtocol, dst string) *layers.IPv4 {
	src, to := net.IP{10, 77, 0, 2}, net.ParseIP(dst).To4()
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: src, DstIP: to}
}

func ip6(proto layers.IPProtocol) *layers.IPv6 {
	src, dst := net.ParseIP("fd00::2"), net.ParseIP("fd00::3")
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src, DstIP: dst}
}

func raw(b []byte) gopacket.Payload { return gopacket.Payload(b) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\t' {
			return -1
		}
		return r
	}, s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func udpFrame(t testing.TB, src, dst uint16, payload []byte) []byte {
	return build(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP, "10.77.0.9"),
		&layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}, raw(payload))
}

func tcpFrame(t testing.TB, src, dst uint16, payload []byte) []byte {
	return build(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP, "10.77.0.3"),
		&layers.TCP{
			SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), Seq: 1, Ack: 9, PSH: true, ACK: true,
			Window: 501,
		}, raw(payload))
}

func syn(t testing.TB) []byte {
	return build(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP, "10.77.0.3"),
		&layers.TCP{SrcPort: 51034, DstPort: 5432, SYN: true, Window: 64240, Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}}})
}

func serial(t testing.TB, l gopacket.SerializableLayer) []byte { return build(t, l) }

func query(t testing.TB, name string) []byte {
	return serial(t, &layers.DNS{ID: 7, RD: true, QDCount: 1, Questions: []layers.DNSQuestion{
		{Name: []byte(name), Type: layers.DNSTypeA, Class: layers.DNSClassIN}}})
}

func response(t testing.TB) []byte {
	return serial(t, &layers.DNS{ID: 7, QR: true, QDCount: 1, ANCount: 2, Questions: []layers.DNSQuestion{
		{Name: []byte("api.mynet"), Type: layers.DNSTypeA, Class: layers.DNSClassIN}},
		Answers: []layers.DNSResourceRecord{
			{Name: []byte("api.mynet"), Type: layers.DNSTypeCNAME, Class: layers.DNSClassIN, CNAME: []byte("a.mynet")},
			{Name: []byte("a.mynet"), Type: layers.DNSTypeA, Class: layers.DNSClassIN, IP: net.IP{10, 77, 0, 3}}}})
}

func nxdomain(t testing.TB) []byte {
	return serial(t, &layers.DNS{ID: 7, QR: true, ResponseCode: layers.DNSResponseCodeNXDomain, QDCount: 1,
		Questions: []layers.DNSQuestion{{Name: []byte("no.mynet"), Type: layers.DNSTypeAAAA,
			Class: layers.DNSClassIN}}})
}

func dhcp(t testing.TB, kind layers.DHCPMsgType, mine string, opts ...layers.DHCPOption) []byte {
	opts = append([]layers.DHCPOption{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})}, opts...)
	return serial(t, &layers.DHCPv4{Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet,
		HardwareLen:  6,
		ClientHWAddr: webMAC, YourClientIP: net.ParseIP(mine).To4(), Options: opts})
}

// hello is a ClientHello, or a ServerHello, with these extensions.
func hello(kind byte, exts ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	if kind == clientHello {
		body = append(body, 0, 0, 2, 0x13, 1, 1, 0)
	} else {
		body = append(body, 0, 0x13, 1, 0)
	}
	var all []byte
	for _, e := range exts {
		all = append(all, e...)
	}
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(all))), all...)
	b := append([]byte{kind, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	return append([]byte{22, 3, 1, byte(len(b) >> 8), byte(len(b))}, b...)
}

func ext(kind byte, body ...byte) []byte { return append([]byte{0, kind, 0, byte(len(body))}, body...) }

func sni(name string) []byte {
	n := byte(len(name))
	return ext(extServerName, append([]byte{0, n + 3, 0, 0, n}, name...)...)
}

var (
	alpn     = ext(extALPN, append([]byte{0, 3, 2}, "h2"...)...)
	versions = ext(extVersions, 6, 0x7a, 0x7a, 3, 4, 3, 3)
	chosen   = ext(extVersions, 3, 4)
)

func icmp4(t testing.TB, code layers.ICMPv4TypeCode, id, seq uint16, payload []byte) []byte {
	return build(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4, "10.77.0.3"),
		&layers.ICMPv4{TypeCode: code, Id: id, Seq: seq}, raw(payload))
}

func icmp6(t testing.TB, kind uint8, body []byte) []byte {
	return build(t, eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}, raw(body))
}

func arp(t testing.TB, op uint16, src, dst string) []byte {
	e := eth(layers.EthernetTypeARP)
	if op == 1 {
		e = wide(layers.EthernetTypeARP)
	}
	return build(t, e, &layers.ARP{AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: op, SourceHwAddress: webMAC, SourceProtAddress: net.ParseIP(src).To4(),
		DstHwAddress: make([]byte, 6), DstProtAddress: net.ParseIP(dst).To4()})
}

func fragment(t testing.TB, offset uint16, more bool) []byte {
	ip := ip4(layers.IPProtocolUDP, "10.77.0.3")
	ip.Id, ip.FragOffset = 0x1234, offset/8
	if more {
		ip.Flags = layers.IPv4MoreFragments
	}
	b := make([]byte, 64)
	copy(b, []byte{0, 53, 0x30, 0x39, 2, 0, 0, 0})
	return build(t, eth(layers.EthernetTypeIPv4), ip, raw(b))
}

func a16(s string) []byte {
	a := netip.MustParseAddr(s).As16()
	return a[:]
}

// flat is all of these bytes in a row.
func flat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// A sample is a frame and its line.
type sample struct {
	name  string
	frame []byte
	want  string
}

// samples are well-formed frames of common protocols.
func samples(t testing.TB) []sample {
	v4, v6 := layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
	udp := func() *layers.UDP { return &layers.UDP{SrcPort: 1000, DstPort: 2000} }
	tcp6 := &layers.TCP{SrcPort: 1, DstPort: 2, Seq: 3, FIN: true, ACK: true, Ack: 4, Window: 5}
	tooBig := layers.CreateICMPv4TypeCode(3, 4)
	quoted := syn(t)[14:42]
	copy(quoted[20:], []byte{0, 1, 0, 2})
	quoted6 := build(t, eth(v6), ip6(layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 6}, raw(make([]byte,
		8)))[14:]
	noAddr := ip4(layers.IPProtocolUDP, "255.255.255.255")
	noAddr.SrcIP = net.IP{0, 0, 0, 0}
	q := &layers.Dot1Q{VLANIdentifier: 100, Type: layers.EthernetTypeDot1Q}
	q2 := &layers.Dot1Q{VLANIdentifier: 12, Priority: 5, Type: v4}
	frag6 := flat(unhex(t, "11 00 00 01 0000beef"), []byte{3, 0xe8, 7, 0xd0, 0x05, 0xdc, 0, 0}, make([]byte, 16))
	return []sample{
		{"DNS query", udpFrame(t, 40212, 53, query(t, "api.mynet")), "web → dns  UDP 40212→53  DNS A? api.mynet  69 B"},
		{"DNS answer", udpFrame(t, 53, 40212, response(t)),
			"web → dns  UDP 53→40212  DNS A api.mynet is a.mynet, 10.77.0.3  122 B"},
		{"DNS error", udpFrame(t, 53, 40212, nxdomain(t)), "web → dns  UDP 53→40212  DNS AAAA no.mynet NXDOMAIN  68 B"},
		{"DNS over TCP", tcpFrame(t, 40212, 53, flat([]byte{0, 27}, query(t, "api.mynet"))),
			"web → db  TCP 40212→53 [PSH,ACK] seq 1 ack 9 win 501 len 29  DNS A? api.mynet  83 B"},
		{"SYN", syn(t), "web → db  TCP 51034→5432 [SYN] seq 0 win 64240 mss 1460  62 B"},
		{"TCP on IPv6", build(t, eth(v6), ip6(layers.IPProtocolTCP), tcp6),
			"web → db  TCP 1→2 [FIN,ACK] seq 3 ack 4 win 5  74 B"},
		{"HTTP request", tcpFrame(t, 5, 80,
			[]byte("GET /path?q=1 HTTP/1.1\r\nUser-Agent: x\r\nhost: api.mynet:80\r\n\r\n")),
			"web → db  TCP 5→80 [PSH,ACK] seq 1 ack 9 win 501 len 61  HTTP GET /path?q=1 api.mynet:80  115 B"},
		{"HTTP response", tcpFrame(t, 80, 5, []byte("HTTP/1.1 404 Not Found\r\n\r\n")),
			"web → db  TCP 80→5 [PSH,ACK] seq 1 ack 9 win 501 len 26  HTTP 404 Not Found  80 B"},
		{"ClientHello", tcpFrame(t, 5, 443, hello(clientHello, sni("example.com"), alpn, versions)),
			"web → db  TCP 5→443 [PSH,ACK] seq 1 ack 9 win 501 len 92  TLS 1.3 ClientHello SNI example.com ALPN h2  146 B"},
		{"ServerHello", tcpFrame(t, 443, 5, hello(serverHello, chosen)),
			"web → db  TCP 443→5 [PSH,ACK] seq 1 ack 9 win 501 len 55  TLS 1.3 ServerHello  109 B"},
		{"DHCP discover", build(t, wide(v4), noAddr, &layers.UDP{SrcPort: 68, DstPort: 67},
			raw(dhcp(t, layers.DHCPMsgTypeDiscover, "0.0.0.0", layers.NewDHCPOption(layers.DHCPOptHostname,
				[]byte("web"))))),
			"0.0.0.0 → broadcast  UDP 68→67  DHCP discover for 02:42:0a:4d:00:02 name web  291 B"},
		{"DHCP request", udpFrame(t, 68, 67, dhcp(t, layers.DHCPMsgTypeRequest, "0.0.0.0",
			layers.NewDHCPOption(layers.DHCPOptRequestIP, []byte{10, 77, 0, 5}))),
			"web → dns  UDP 68→67  DHCP request 10.77.0.5 for 02:42:0a:4d:00:02  292 B"},
		{"DHCP ack", udpFrame(t, 67, 68, dhcp(t, layers.DHCPMsgTypeAck, "10.77.0.5")),
			"web → dns  UDP 67→68  DHCP ack 10.77.0.5 for 02:42:0a:4d:00:02  286 B"},
		{"ARP request", arp(t, 1, "10.77.0.2", "10.77.0.3"),
			"web → broadcast  ARP who has 10.77.0.3? tell 10.77.0.2  60 B"},
		{"ARP reply", arp(t, 2, "10.77.0.2", "10.77.0.3"), "web → db  ARP 10.77.0.2 is at 02:42:0a:4d:00:02  60 B"},
		{"ARP probe", arp(t, 1, "0.0.0.0", "10.77.0.3"),
			"02:42:0a:4d:00:02 → broadcast  ARP who has 10.77.0.3? (probe)  60 B"},
		{"ARP announcement", arp(t, 1, "10.77.0.2", "10.77.0.2"),
			"web → broadcast  ARP announces 10.77.0.2 is at 02:42:0a:4d:00:02  60 B"},
		{"ping", icmp4(t, layers.CreateICMPv4TypeCode(8, 0), 7, 1, make([]byte, 56)),
			"web → db  ICMP echo request id 7 seq 1  98 B"},
		{"ping reply", icmp4(t, layers.CreateICMPv4TypeCode(0, 0), 7, 1, make([]byte, 56)),
			"web → db  ICMP echo reply id 7 seq 1  98 B"},
		{"need to fragment", icmp4(t, tooBig, 0, 1400, quoted),
			"web → db  ICMP unreachable need to fragment, mtu 1400 (about web → db TCP 1→2)  70 B"},
		{"port unreachable", icmp4(t, layers.CreateICMPv4TypeCode(3, 3), 0, 0, quoted),
			"web → db  ICMP unreachable port (about web → db TCP 1→2)  70 B"},
		{"time exceeded", icmp4(t, layers.CreateICMPv4TypeCode(11, 0), 0, 0, quoted),
			"web → db  ICMP time exceeded in transit (about web → db TCP 1→2)  70 B"},
		{"redirect", icmp4(t, layers.CreateICMPv4TypeCode(5, 1), 0x0a4d, 0x0001, quoted),
			"web → db  ICMP redirect to 10.77.0.1 (about web → db TCP 1→2)  70 B"},
		{"ping 6", icmp6(t, echo6, flat([]byte{0, 7, 0, 1}, make([]byte, 8))),
			"web → db  ICMPv6 echo request id 7 seq 1  70 B"},
		{"neighbour who has", icmp6(t, neighborAsk, flat(make([]byte, 4), a16("fd00::3"), []byte{1, 1}, webMAC)),
			"web → db  ICMPv6 who has fd00::3?  86 B"},
		{"neighbour is at", icmp6(t, neighborTell, flat(make([]byte, 4), a16("fd00::2"), []byte{2, 1}, webMAC)),
			"web → db  ICMPv6 fd00::2 is at 02:42:0a:4d:00:02  86 B"},
		{"router solicitation", icmp6(t, routerAsk, make([]byte, 4)), "web → db  ICMPv6 router solicitation  62 B"},
		{"router advertisement", icmp6(t, routerTell, make([]byte, 12)), "web → db  ICMPv6 router advertisement  70 B"},
		{"packet too big", icmp6(t, tooBig6, flat([]byte{0, 0, 5, 0}, quoted6)),
			"web → db  ICMPv6 packet too big, mtu 1280 (about web → db UDP 5→6)  118 B"},
		{"MLD report", icmp6(t, mldReport2, flat([]byte{0, 0, 0, 1, 4, 0, 0, 0}, a16("ff02::fb"))),
			"web → db  ICMPv6 MLD join ff02::fb  82 B"},
		{"MLD query", icmp6(t, mldQuery, make([]byte, 20)), "web → db  ICMPv6 MLD query  78 B"},
		{"IGMPv2 report", build(t, eth(v4), ip4(layers.IPProtocolIGMP, "239.1.1.1"), raw(unhex(t,
			"16 00 f901 ef010101"))),
			"web → 239.1.1.1  IGMP join 239.1.1.1  60 B"},
		{"IGMPv3 leave", build(t, eth(v4), ip4(layers.IPProtocolIGMP, "224.0.0.22"), raw(unhex(t,
			"22 00 eafb 0000 0001 03000000 ef010102"))),
			"web → 224.0.0.22  IGMP leave 239.1.1.2  60 B"},
		{"first fragment", fragment(t, 0, true),
			"web → db  UDP 53→12345  fragment id 0x1234 offset 0, more follow  98 B"},
		{"last fragment", fragment(t, 1480, false), "web → db  UDP  fragment id 0x1234 offset 1480  98 B"},
		{"IPv6 fragment", build(t, eth(v6), ip6(layers.IPProtocolIPv6Fragment), raw(frag6)),
			"web → db  UDP 1000→2000  fragment id 0xbeef offset 0, more follow  86 B"},
		{"IPv6 options", build(t, eth(v6), ip6(layers.IPProtocolIPv6HopByHop), raw(unhex(t,
			"11 00 010400000000 03e807d0 00080000"))),
			"web → db  UDP 1000→2000  70 B"},
		{"two tags", build(t, eth(layers.EthernetTypeDot1Q), q, q2, ip4(layers.IPProtocolUDP, "10.77.0.3"), udp()),
			"web → db  VLAN 100.12  UDP 1000→2000  60 B"},
		{"SCTP", build(t, eth(v4), ip4(layers.IPProtocolSCTP, "10.77.0.3"), raw(make([]byte, 12))),
			"web → db  SCTP  60 B"},
		{"IP protocol", build(t, eth(v4), ip4(253, "10.77.0.3"), raw(make([]byte, 12))),
			"web → db  IP protocol 253  60 B"},
		{"ethertype", build(t, wide(0x88b5), raw(make([]byte, 46))),
			"02:42:0a:4d:00:02 → broadcast  ethertype 0x88b5  60 B"},
		{"LLDP", build(t, eth(0x88cc), raw(make([]byte, 46))), "02:42:0a:4d:00:02 → 02:42:0a:4d:00:03  LLDP  60 B"},
		{"LLC", flat(dbMAC, webMAC, unhex(t, "0026 424203"), make([]byte, 35)),
			"02:42:0a:4d:00:02 → 02:42:0a:4d:00:03  802.3 LLC, 38 bytes  52 B"},
	}
}
