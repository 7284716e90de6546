package dissect

import (
	"testing"

	"github.com/google/gopacket/layers"
)

// rare are frames that people see less often.
func rare(t testing.TB) []sample {
	v4, v6 := layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
	quoted6 := build(t, eth(v6), ip6(layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 6}, raw(make([]byte,
		8)))[14:]
	udp := unhex(t, "03e807d0 00080000")
	later := fragment(t, 1480, false)[14:]
	igmp := func(dst, hex string) []byte {
		return build(t, eth(v4), ip4(layers.IPProtocolIGMP, dst), raw(unhex(t, hex)))
	}
	answer := func(kind uint16, data string) []byte { // for "a", in a message without a question, as mDNS has it
		b := unhex(t, data)
		return udpFrame(t, 5353, 5353, flat(unhex(t, "0000 8400 0000 0001 0000 0000 016100"),
			[]byte{byte(kind >> 8), byte(kind)},
			unhex(t, "0001 00000078 00"), []byte{byte(len(b))}, b))
	}
	const dns = "web → dns  UDP 5353→5353  DNS "
	return []sample{
		{"DNS PTR", answer(12, "01 62 c00c"), dns + "PTR a is b.a  71 B"},
		{"DNS SRV", answer(33, "0000 0000 1f90 01 62 c00c"), dns + "SRV a is b.a:8080  77 B"},
		{"DNS AAAA", answer(28, "fd000000000000000000000000000003"), dns + "AAAA a is fd00::3  83 B"},
		{"DNS TXT", answer(16, "0178"), dns + "TXT a 1 answers  69 B"},
		{"DNS unknown type", answer(65280, "0178"), dns + "TYPE65280 a 1 answers  69 B"},
		{"TLS 1.2", tcpFrame(t, 40007, 443, hello(clientHello, sni("a"))),
			"web → db  TCP 40007→443 [PSH,ACK] seq 1 ack 9 win 501 len 62  TLS 1.2 ClientHello SNI a  116 B"},
		{"HTTP/2", tcpFrame(t, 40007, 80, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
			"web → db  TCP 40007→80 [PSH,ACK] seq 1 ack 9 win 501 len 24  HTTP PRI *  78 B"},
		{"not HTTP", tcpFrame(t, 5, 9000, []byte("GET key\r\n")),
			"web → db  TCP 5→9000 [PSH,ACK] seq 1 ack 9 win 501 len 9  63 B"},
		{"DHCP without type", udpFrame(t, 67, 68, flat(dhcp(t, 5, "10.77.0.5")[:240], []byte{255})),
			"web → dns  UDP 67→68  DHCP bootp 10.77.0.5 for 02:42:0a:4d:00:02  283 B"},
		{"ARP op 9", arp(t, 9, "10.77.0.2", "10.77.0.3"), "web → db  ARP op 9  60 B"},
		{"ICMP parameter problem", icmp4(t, layers.CreateICMPv4TypeCode(12, 0), 0, 0, later),
			"web → db  ICMP parameter problem (about web → db UDP)  126 B"},
		{"ICMP reassembly", icmp4(t, layers.CreateICMPv4TypeCode(11, 1), 0, 0, later),
			"web → db  ICMP time exceeded in reassembly (about web → db UDP)  126 B"},
		{"ICMP unknown code", icmp4(t, layers.CreateICMPv4TypeCode(3, 77), 0, 0, nil),
			"web → db  ICMP unreachable code 77  60 B"},
		{"ICMP unknown type", icmp4(t, layers.CreateICMPv4TypeCode(42, 0), 0, 0, nil),
			"web → db  ICMP type 42 code 0  60 B"},
		{"ICMPv6 unreachable", icmp6(t, unreachable6, flat(make([]byte, 4), quoted6)),
			"web → db  ICMPv6 unreachable no route (about web → db UDP 5→6)  118 B"},
		{"ICMPv6 exceeded", icmp6(t, exceeded6, flat(make([]byte, 4), quoted6)),
			"web → db  ICMPv6 time exceeded in transit (about web → db UDP 5→6)  118 B"},
		{"ICMPv6 parameter problem", icmp6(t, parameter6, flat(make([]byte, 4), quoted6)),
			"web → db  ICMPv6 parameter problem (about web → db UDP 5→6)  118 B"},
		{"ICMPv6 echo reply", icmp6(t, echoReply6, []byte{0, 7, 0, 1}), "web → db  ICMPv6 echo reply id 7 seq 1  62 B"},
		{"ICMPv6 unknown", icmp6(t, 200, make([]byte, 4)), "web → db  ICMPv6 type 200 code 0  62 B"},
		{"neighbour without address", icmp6(t, neighborTell, flat(make([]byte, 4), a16("fd00::2"))),
			"web → db  ICMPv6 fd00::2 is here  78 B"},
		{"redirect 6", icmp6(t, redirect6, flat(make([]byte, 4), a16("fe80::1"), a16("fd00::3"))),
			"web → db  ICMPv6 redirect to fe80::1  94 B"},
		{"MLD done", icmp6(t, mldDone, flat(make([]byte, 4), a16("ff02::fb"))),
			"web → db  ICMPv6 MLD leave ff02::fb  78 B"},
		{"MLD two groups", icmp6(t, mldReport2, flat([]byte{0, 0, 0, 2, 4, 0, 0, 0}, a16("ff02::fb"),
			[]byte{3, 0, 0, 0}, a16("ff02::fc"))),
			"web → db  ICMPv6 MLD join ff02::fb, leave ff02::fc  102 B"},
		{"IGMP query", igmp("224.0.0.1", "11 64 ee9b 00000000"), "web → 224.0.0.1  IGMP query  60 B"},
		{"IGMP leave", igmp("224.0.0.2", "17 00 f8fd ef010101"), "web → 224.0.0.2  IGMP leave 239.1.1.1  60 B"},
		{"IGMP unknown", igmp("224.0.0.2", "99 00 66ff 00000000"), "web → 224.0.0.2  IGMP type 0x99  60 B"},
		{"IPv6 later fragment", build(t, eth(v6), ip6(layers.IPProtocolIPv6Fragment), raw(unhex(t,
			"11 00 05a8 0000beef 0000000000000000"))),
			"web → db  UDP  fragment id 0xbeef offset 1448  70 B"},
		{"IPv6 AH", build(t, eth(v6), ip6(layers.IPProtocolAH), raw(flat(unhex(t,
			"11 04 0000 00000001 00000001 000000000000000000000000"), udp))),
			"web → db  UDP 1000→2000  86 B"},
		{"IPv6 without more", build(t, eth(v6), ip6(layers.IPProtocolNoNextHeader), raw([]byte{1})),
			"web → db  nothing  60 B"},
	}
}

func TestRare(t *testing.T) {
	for _, tc := range rare(t) {
		t.Run(tc.name, func(t *testing.T) {
			if got := Dissect(tc.frame, len(tc.frame)).Line(names); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
