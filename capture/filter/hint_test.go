package filter

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// hinted are expressions of people who come from Wireshark, or know only a part of tcpdump's language: what the error says, and the hint.
var hinted = []struct{ expr, why, hint string }{
	{"tcp.port eq 80", "Wireshark", "tcp port 80"},
	{"tcp.port==80", "Wireshark", "tcp port 80"},
	{"tcp.port != 80", "Wireshark", "not tcp port 80"},
	{"tcp.dstport >= 1024", "Wireshark", "tcp dst portrange 1024-65535"},
	{"udp.srcport lt 1024", "Wireshark", "udp src portrange 0-1023"},
	{"udp.port == 53", "Wireshark", "udp port 53"},
	{"udp.port > 65535", "Wireshark", "udp"},
	{"tcp.port == tcp.port", "Wireshark", "tcp"},
	{"ip.addr == 10.0.0.1", "Wireshark", "host 10.0.0.1"},
	{"tcp && ip.src==10.0.0.1", "Wireshark", "src host 10.0.0.1"},
	{"ip.dst == 10.1.2.3/8", "Wireshark", "dst net 10.0.0.0/8"},
	{"ipv6.addr == 2001:db8::1", "Wireshark", "host 2001:db8::1"},
	{"ip.ttl < 5", "Wireshark", "ip[8] < 5"},
	{"ip.proto == 6", "Wireshark", "ip proto 6"},
	{"eth.addr == 02:42:0a:4d:00:02", "Wireshark", "ether host 02:42:0a:4d:00:02"},
	{"eth.type == 0x806", "Wireshark", "ether proto 0x806"},
	{"tcp.flags.syn == 1", "Wireshark", "tcp[tcpflags] & tcp-syn != 0"},
	{"tcp.flags.reset", "Wireshark", "tcp[tcpflags] & tcp-rst != 0"},
	{"!(tcp.flags.ack == 0)", "Wireshark", "tcp[tcpflags] & tcp-ack = 0"},
	{"tcp.flags.fin != 1", "Wireshark", "tcp[tcpflags] & tcp-fin = 0"},
	{"tcp.flags == 0x12", "Wireshark", "tcp[tcpflags] = 0x12"},
	{"icmp.type == 8", "Wireshark", "icmp[icmptype] = 8"},
	{"arp.opcode eq 1", "Wireshark", "arp[6:2] = 1"},
	{"frame.len > 100", "Wireshark", "len > 100"},
	{"vlan.id == 5", "Wireshark", "vlan 5"},
	{"vxlan.vni == 80", "Wireshark", "vxlan 80"},
	{"http.request.method == GET", "Wireshark", "tcp port 80"},
	{"tcp.analysis.retransmission", "Wireshark", "tcp"},
	{"frame.number == 5", "Wireshark", ""},
	{"host 10.0.0.1 and tcp.port == 80", "Wireshark", "tcp port 80"},
	{"port 80 and tcp.flags.syn == 1", "Wireshark", "tcp[tcpflags] & tcp-syn != 0"},
	{"net 10.0.0.0/8 and ip.src == 10.0.0.1", "Wireshark", "src host 10.0.0.1"},
	{"tcp xor udp", "Wireshark", ""},
	{"http", "no word of tcpdump's", "tcp port 80"},
	{"udp and dns", "no word of tcpdump's", "port 53"},
	{"host 10.0.0.1 and tls", "no word of tcpdump's", "tcp port 443"},
	{"ipv4", "no word of tcpdump's", "ip"},
	{"icmpv6", "no word of tcpdump's", "icmp6"},
	{"syn", "no word of tcpdump's", "tcp[tcpflags] & tcp-syn != 0"},

	{"IP", "lower case", "ip"},
	{"TCP port 80", "lower case", "tcp"},
	{"Port 80", "lower case", "port"},
	{"tcp AND udp", "lower case", "and"},
	{"port 80 and TCP", "lower case", "tcp"},
	{"tcp[TCPFLAGS] = 2", "lower case", "tcpflags"},
	{"port HTTP", "unknown port", "port http"},
	{`\ip`, "after proto only", "ip"},
	{`\tcp port 80`, "after proto only", "tcp"},

	{"net 0/0", "at least one dot", "net 0.0.0.0/0"},
	{"net (0/0)", "at least one dot", "net 0.0.0.0/0"},
	{"src net 10/8", "at least one dot", "net 10.0.0.0/8"},
	{"host 10/8", "at least one dot", "net 10.0.0.0/8"},
	{"net 300/8", "not arithmetic", ""},
	{"port 80/0", "not arithmetic", ""},
	{"host 10.0.0.1/24", "net only", "net 10.0.0.0/24"},
	{"dst host 2001:db8::1/64", "net only", "dst net 2001:db8::/64"},
	{"host 10.0.0.1 mask 255.0.0.255", "net only", "net 10.0.0.1 mask 255.0.0.255"},
	{"net 10.0.0.0/255.0.0.0", "0 to 32 bits", "net 10.0.0.0 mask 255.0.0.0"},
	{"host 10.0.0.*", "no address", "net 10.0.0"},
	{"host fe80::1%eth0", "zone", "host fe80::1"},
	{"dst 10.0.0.1:80", "term of its own", "dst host 10.0.0.1 and dst port 80"},
	{"tcp 10.0.0.1", "want and between", "tcp and host 10.0.0.1"},
	{"tcp src host 10.0.0.1", "tcp has no addresses", "tcp and src host 10.0.0.1"},
	{"udp host 2001:db8::1", "udp has no addresses", "udp and host 2001:db8::1"},
	{"80", "alone has no meaning", "port 80"},
	{"tcp 80", "want port", "port 80"},
	{"port 80,443", "join terms with or", ""},
	{"port 80-90", "unknown port", "portrange 80-90"},
	{"portrange 80:90", "two ports", "portrange 80-90"},
	{"tcp port == 80", "without =", "tcp port 80"},
	{"port != 80", "without !=", "not port 80"},
	{"dst port > 1024", "without >", "dst portrange 1025-65535"},
	{"host=10.0.0.1", "without =", "host 10.0.0.1"},
	{"host dns.example.com", "no address is known", ""},
}

// Each hint compiles, or is the word to write instead; and tcpdump refuses the expression as well.
func TestHints(t *testing.T) {
	for _, tc := range hinted {
		_, err := Compile(tc.expr, nil)
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%q: %v, want a *SyntaxError", tc.expr, err)
			continue
		}
		if !strings.Contains(e.message(), tc.why) || e.Hint != tc.hint {
			t.Errorf("%q: %s\nwant %q and the hint %q", tc.expr, e.message(), tc.why, tc.hint)
		}
		if _, err := Compile(e.Hint, nil); err != nil {
			if _, err = Compile(strings.Replace(tc.expr, e.Found, e.Hint, 1), nil); err != nil && !strings.HasPrefix(tc.expr, `\`) {
				t.Errorf("%q: the hint %q: %v", tc.expr, e.Hint, err)
			}
		}
	}
}

// Each of Wireshark's fields that has an equivalent here has one that compiles.
func TestForms(t *testing.T) {
	values := []string{"80", "10.0.0.1", "2001:db8::1", "02:42:0a:4d:00:02"}
	for field := range wiresharkFields {
		if !slices.ContainsFunc(values, func(v string) bool {
			p := parser{lexer: lexer{expr: field + " == " + v}}
			return p.translate(token{kind: tokName, text: field}) != ""
		}) {
			t.Errorf("%s: its equivalent takes no value", field)
		}
	}
	for word, form := range wiresharkProtos {
		if _, err := Compile(form, nil); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// If a host has such a name, the word means the host.
func TestHintsOfHosts(t *testing.T) {
	names := func(string) []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.0.0.1")} }
	for _, name := range []string{"http", "IP", "dns.example.com"} {
		_, err := Compile(name, names)
		var e *SyntaxError
		if !errors.As(err, &e) || e.Hint != "host "+name {
			t.Errorf("%s: %v, want the hint host %s", name, err, name)
		}
		if _, err := Compile("host "+name, names); err != nil {
			t.Error(err)
		}
	}
}

func TestHintedAgainstTcpdump(t *testing.T) {
	var exprs []string
	for _, tc := range hinted {
		if !strings.Contains(tc.expr, "host dns.") && !strings.Contains(tc.expr, "*") { // tcpdump would ask the DNS
			exprs = append(exprs, tc.expr)
		}
	}
	tr := newReference(corpus(11, 3))
	if n := tr.check(t, exprs); n.accepted > 0 {
		t.Errorf("%d are taken by tcpdump", n.accepted)
	}
}
