package dissect

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/gopacket/layers"
)

func TestLine(t *testing.T) {
	for _, tc := range samples(t) {
		t.Run(tc.name, func(t *testing.T) {
			if got := Dissect(tc.frame, len(tc.frame)).Line(names); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// What is wrong with a frame is told, and what is there is shown all the same.
func TestBroken(t *testing.T) {
	edit := func(frame []byte, fn func(b []byte)) []byte { fn(frame); return frame }
	dns := udpFrame(t, 40212, 53, query(t, "api.mynet"))
	for _, tc := range []struct {
		name  string
		frame []byte
		wire  int
		want  string
	}{
		{"nothing", nil, 0, "not an Ethernet frame  0 B  Ethernet header cut short: 0 of 14 bytes"},
		{"captured in part", tcpFrame(t, 1, 2, make([]byte, 1000))[:128], 1054,
			"web → db  TCP 1→2 [PSH,ACK] seq 1 ack 9 win 501 len 1000  1054 B, cut short at 128"},
		{"question captured in part", dns[:58], 69, "web → dns  UDP 40212→53  69 B, cut short at 58"},
		{"answer captured in part", udpFrame(t, 53, 40212, response(t))[:80], 122,
			"web → dns  UDP 53→40212  DNS A api.mynet 2 answers  122 B, cut short at 80"},
		{"hello captured in part", tcpFrame(t, 5, 443, hello(clientHello, sni("example.com"), alpn,
			versions))[:130], 146,
			"web → db  TCP 5→443 [PSH,ACK] seq 1 ack 9 win 501 len 92  TLS ClientHello SNI example.com  146 B, cut short at 130"},
		{"request captured in part", tcpFrame(t, 5, 80, []byte("GET /path HTTP/1.1\r\nHost: web\r\n\r\n"))[:61], 87,
			"web → db  TCP 5→80 [PSH,ACK] seq 1 ack 9 win 501 len 33  HTTP GET /pa…  87 B, cut short at 61"},
		{"in the TCP header", syn(t)[:40], 62,
			"web → db  TCP 51034→5432  62 B, cut short at 40  TCP header cut short: 6 of 20 bytes"},
		{"in the IPv4 header", syn(t)[:30], 62,
			"02:42:0a:4d:00:02 → 02:42:0a:4d:00:03  IPv4  62 B, cut short at 30  IPv4 header cut short: 16 of 20 bytes"},
		{"shorter than IPv4 says", syn(t)[:58], 58,
			"web → db  TCP 51034→5432 [SYN] seq 0 win 64240  58 B  IPv4 packet cut short: 44 of 48 bytes"},
		{"header length", edit(syn(t), func(b []byte) { b[14] = 0x44 }), 0,
			"web → db  TCP  62 B  IPv4 header length is 16, want at least 20"},
		{"total length", edit(syn(t), func(b []byte) { b[17] = 19 }), 0,
			"web → db  TCP  62 B  IPv4 length is 19, less than its header of 20"},
		{"IPv6 version", edit(icmp6(t, routerAsk, make([]byte, 4)), func(b []byte) { b[14] = 0x45 }), 0,
			"02:42:0a:4d:00:02 → 02:42:0a:4d:00:03  IPv6  62 B  EtherType says IPv6, the packet says version 4"},
		{"shorter than IPv6 says", icmp6(t, routerAsk, make([]byte, 4))[:61], 61,
			"web → db  ICMPv6  61 B  IPv6 packet cut short: 47 of 48 bytes"},
		{"IPv6 extension header", build(t, eth(layers.EthernetTypeIPv6), ip6(0), raw([]byte{17, 1, 0, 0, 0, 0, 0,
			0})), 0,
			"web → db  hop-by-hop options  62 B  IPv6 extension header cut short"},
		{"version", edit(syn(t), func(b []byte) { b[14] = 0x65 }), 0,
			"02:42:0a:4d:00:02 → 02:42:0a:4d:00:03  IPv4  62 B  EtherType says IPv4, the packet says version 6"},
		{"data offset", edit(syn(t), func(b []byte) { b[46] = 0x40 }), 0,
			"web → db  TCP 51034→5432 [SYN] seq 0 win 64240  62 B  TCP header length is 16, want 20 to 28"},
		{"UDP length", edit(udpFrame(t, 1, 2, nil), func(b []byte) { b[39] = 7 }), 0,
			"web → dns  UDP 1→2  60 B  UDP length is 7, want at least 8"},
		{"UDP too long", edit(udpFrame(t, 1, 2, nil), func(b []byte) { b[39] = 99 }), 0,
			"web → dns  UDP 1→2  60 B  UDP datagram cut short: 8 of 99 bytes"},
		{"ARP of another kind", edit(arp(t, 1, "10.77.0.2", "10.77.0.3"), func(b []byte) { b[15] = 6 }), 0,
			"02:42:0a:4d:00:02 → broadcast  ARP  60 B  ARP is not for IPv4 on Ethernet: hardware 6, protocol 0x0800"},
		{"tag", flat(dbMAC, webMAC, []byte{0x81, 0, 0}), 0,
			"02:42:0a:4d:00:02 → 02:42:0a:4d:00:03  VLAN  15 B  VLAN tag cut short: 1 of 4 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Dissect(tc.frame, tc.wire).Line(names); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// A super-frame is longer than its length fields can say.
func TestSuperFrame(t *testing.T) {
	frame := flat(syn(t)[:54], make([]byte, 65549-54))
	frame[46] = 0x50
	for _, total := range []int{0, 65535} {
		frame[16], frame[17] = byte(total>>8), byte(total)
		s := Dissect(frame, len(frame))
		if s.Error != "" || s.L4.Len != 65549-54 {
			t.Errorf("IPv4 length %d: error %q, payload %d, want %d", total, s.Error, s.L4.Len, 65549-54)
		}
	}
}

// The JSON keys are stable: a change of testdata/summary.jsonl breaks other people's programs.
func TestJSON(t *testing.T) {
	golden, err := os.ReadFile("testdata/summary.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	all := append(samples(t), rare(t)...)
	all = append(all, sample{name: "cut short", frame: syn(t)[:40]})
	want := strings.Split(strings.TrimSpace(string(golden)), "\n")
	if len(want) != len(all) {
		t.Fatalf("%d lines for %d samples", len(want), len(all))
	}
	for i, tc := range all {
		t.Run(tc.name, func(t *testing.T) {
			got, err := json.Marshal(Dissect(tc.frame, 60))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want[i] {
				t.Errorf("line %d: got\n%s\nwant\n%s", i+1, got, want[i])
			}
		})
	}
}

// No frame can control the terminal that it is shown on: escape sequences, carriage returns, text that runs backwards, bytes that are no UTF-8.
func TestEscapes(t *testing.T) {
	const hostile = "\x1b]0;owned\x07\x1b[2J\r\n\x00\x7f\u009b31m\u202e\u2028\xff\xc0\\"
	const size = byte(len(hostile))
	unprintable := func(text string) bool {
		return strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
	}
	for name, frame := range map[string][]byte{
		"DNS":  udpFrame(t, 5, 53, query(t, hostile)),
		"DHCP": udpFrame(t, 68, 67, dhcp(t, 1, "0.0.0.0", layers.NewDHCPOption(layers.DHCPOptHostname, []byte(hostile)))),
		"TLS": tcpFrame(t, 5, 443, hello(clientHello, sni(hostile), ext(extALPN, flat([]byte{0, size + 1, size},
			[]byte(hostile))...))),
		"path": tcpFrame(t, 5, 80, []byte("GET /"+strings.ReplaceAll(hostile, "\n", "")+" HTTP/1.1\r\nHost: "+hostile)),
		"code": tcpFrame(t, 80, 5, []byte("HTTP/1.1 200 "+hostile)),
	} {
		t.Run(name, func(t *testing.T) {
			s := Dissect(frame, 0)
			if s.App == nil || !strings.Contains(s.Info, `\x1b`) {
				t.Fatalf("the text is not shown: %s", s.Info)
			}
			j, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, out := range []string{s.Line(names), string(j), strings.NewReplacer("\n", "").Replace(Full(frame))} {
				if unprintable(out) || !utf8.ValidString(out) {
					t.Errorf("hostile text came through: %q", out)
				}
			}
		})
	}
	if got := (Names(func(netip.Addr) string { return hostile })).name(addr4([]byte{1, 2, 3, 4})); unprintable(got) {
		t.Errorf("hostile name came through: %q", got)
	}
}

func TestClean(t *testing.T) {
	long := strings.Repeat("a", 200)
	for in, want := range map[string]string{
		"":             "",
		"api.mynet":    "api.mynet",
		"käse":         "käse",
		"a\tb":         `a\tb`,
		`a\b`:          `a\\b`,
		"\x1b[2J":      `\x1b[2J`,
		"\xff":         `\xff`,
		"\u202e":       `\u202e`,
		long:           long[:maxText-3] + "…",
		long[:maxText]: long[:maxText],
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// A line whose parts are all as long as they can be still fits, and it is not the frame's length that is cut off.
func TestLineBound(t *testing.T) {
	long := func(netip.Addr) string { return strings.Repeat("☃", 100) }
	name := strings.Repeat("\x01", 63)
	frame := udpFrame(t, 5, 53, query(t, name+"."+name+"."+name))
	s := Dissect(frame, 70000)
	s.Info += strings.Repeat("☃", 300)
	line := s.Line(long)
	if len(line) > maxLine || !utf8.ValidString(line) || !strings.Contains(line, "…  70000 B, cut short at") {
		t.Errorf("%d bytes: %q", len(line), line)
	}
}

func TestFull(t *testing.T) {
	frame := udpFrame(t, 53, 40212, response(t))
	got := Full(frame)
	for _, want := range []string{
		"Ethernet (14 bytes)\n", "    SrcMAC: 02:42:0a:4d:00:02\n", "IPv4 (20 bytes)\n", "    DstIP: 10.77.0.9\n",
		"    TTL: 64\n",
		"UDP (8 bytes)\n", "DNS (80 bytes)\n", "api.mynet", "10.77.0.3",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if got := Full(frame[:20]); !strings.Contains(got, "Error: ") {
		t.Errorf("a broken frame has no error:\n%s", got)
	}
}

// Gopacket panics on this ARP packet, whose hardware addresses are longer than the frame.
func TestFullPanic(t *testing.T) {
	frame := arp(t, 1, "10.77.0.2", "10.77.0.3")[:50]
	frame[18] = 0x86
	got := Full(frame)
	if !strings.HasPrefix(got, "Ethernet (14 bytes)\n") || !strings.Contains(got, "Error: runtime error") {
		t.Errorf("the panic is not told:\n%s", got)
	}
}

// No tree is longer than its limit, whatever is in the frame.
func TestFullBound(t *testing.T) {
	d := &layers.DNS{QR: true, QDCount: 100, ANCount: 100}
	name := []byte(strings.Repeat("a.", 100) + "b")
	for range 100 {
		d.Questions = append(d.Questions, layers.DNSQuestion{Name: name, Type: layers.DNSTypeTXT})
		d.Answers = append(d.Answers, layers.DNSResourceRecord{
			Name: name, Type: layers.DNSTypeTXT, TXTs: [][]byte{make([]byte, 200)}})
	}
	got := Full(udpFrame(t, 53, 5, serial(t, d)))
	if len(got) > maxFull || !strings.HasSuffix(got, "…\n") {
		t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-20:])
	}
}

// Layers nested up to the end of the longest frame are all read, and the output stays within its limit.
func TestDeep(t *testing.T) {
	ip := build(t, ip4(layers.IPProtocolIPv4, "10.77.0.3"))
	ip[2], ip[3] = 0xff, 0xff
	for name, frame := range map[string][]byte{
		"VLAN":      flat(dbMAC, webMAC, bytes.Repeat([]byte{0x81, 0, 0, 1}, 16383)),
		"MPLS":      flat(dbMAC, webMAC, []byte{0x88, 0x47}, make([]byte, 65535)),
		"IP in IP":  flat(dbMAC, webMAC, []byte{8, 0}, bytes.Repeat(ip, 3276)),
		"IPv6":      flat(build(t, eth(layers.EthernetTypeIPv6), ip6(0))[:54], make([]byte, 65495)),
		"TCP zeros": flat(syn(t)[:54], make([]byte, 65495)),
		"DNS loops": flat(udpFrame(t, 5, 53, nil)[:42], unhex(t, "0007 8180 ffff ffff ffff ffff"),
			bytes.Repeat([]byte{0xc0, 12, 0, 1}, 16370)),
	} {
		t.Run(name, func(t *testing.T) {
			line := Dissect(frame, 0).Line(nil)
			if len(line) > maxLine || !strings.Contains(line, strconv.Itoa(len(frame))+" B") {
				t.Errorf("%d bytes: %s", len(line), line)
			}
			if got := Full(frame); len(got) > maxFull || !strings.HasPrefix(got, "Ethernet (14 bytes)\n") {
				t.Errorf("%d bytes: %.100q", len(got), got)
			}
		})
	}
}
