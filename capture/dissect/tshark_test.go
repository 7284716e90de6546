package dissect

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// A field is one of tshark's, and what a Summary has for it; "": nothing.
type field struct {
	name string
	ours func(s *Summary) string
}

func ip(version int, of func(*IP) string) func(*Summary) string {
	return func(s *Summary) string {
		if s.IP == nil || s.IP.Version != version {
			return ""
		}
		return of(s.IP)
	}
}

func l4(proto string, of func(*L4) string) func(*Summary) string {
	return func(s *Summary) string {
		if s.L4 == nil || s.L4.Proto != proto {
			return ""
		}
		return of(s.L4)
	}
}

func tcp(of func(*L4) string) func(*Summary) string {
	return func(s *Summary) string {
		if s.L4 == nil || s.L4.TCP == nil {
			return ""
		}
		return of(s.L4)
	}
}

func icmp(version int, of func(*ICMP) string) func(*Summary) string {
	return func(s *Summary) string {
		if s.ICMP == nil || s.IP.Version != version {
			return ""
		}
		return of(s.ICMP)
	}
}

func app(of func(*App) string) func(*Summary) string {
	return func(s *Summary) string {
		if s.App == nil {
			return ""
		}
		return of(s.App)
	}
}

// answers are the addresses of a kind among the answers.
func answers(d *DNS, kind func(netip.Addr) bool) string {
	if d == nil {
		return ""
	}
	return strings.Join(slices.DeleteFunc(slices.Clone(d.Answers), func(text string) bool {
		a, err := netip.ParseAddr(text)
		return err != nil || !kind(a)
	}), ",")
}

func num[T uint8 | uint16 | uint32 | int](n T) string { return fmt.Sprint(n) }

var fields = []field{
	{"eth.src", func(s *Summary) string { return s.Eth.Src.String() }},
	{"eth.dst", func(s *Summary) string { return s.Eth.Dst.String() }},
	{"vlan.id", func(s *Summary) string {
		var ids []string
		for _, id := range s.Eth.VLAN {
			ids = append(ids, num(id))
		}
		return strings.Join(ids, ",")
	}},
	{"arp.opcode", func(s *Summary) string {
		if s.ARP == nil {
			return ""
		}
		return num(s.ARP.Op)
	}},
	{"arp.src.proto_ipv4", func(s *Summary) string {
		if s.ARP == nil {
			return ""
		}
		return s.ARP.SenderIP.String()
	}},
	{"ip.src", ip(4, func(h *IP) string { return h.Src.String() })},
	{"ip.dst", ip(4, func(h *IP) string { return h.Dst.String() })},
	{"ip.ttl", ip(4, func(h *IP) string { return num(h.TTL) })},
	{"ip.proto", ip(4, func(h *IP) string { return num(h.Proto) })},
	{"ipv6.src", ip(6, func(h *IP) string { return h.Src.String() })},
	{"ipv6.dst", ip(6, func(h *IP) string { return h.Dst.String() })},
	{"ipv6.hlim", ip(6, func(h *IP) string { return num(h.TTL) })},
	{"tcp.srcport", l4("tcp", func(l *L4) string { return num(l.SrcPort) })},
	{"tcp.dstport", l4("tcp", func(l *L4) string { return num(l.DstPort) })},
	{"tcp.seq_raw", tcp(func(l *L4) string { return num(l.Seq) })},
	{"tcp.ack_raw", tcp(func(l *L4) string { return num(l.Ack) })},
	{"tcp.window_size_value", tcp(func(l *L4) string { return num(l.Window) })},
	{"tcp.len", tcp(func(l *L4) string { return num(l.Len) })},
	{"tcp.flags", tcp(func(l *L4) string { return fmt.Sprintf("0x%04x", uint8(l.Flags)) })},
	{"tcp.options.mss_val", tcp(func(l *L4) string {
		if l.MSS == 0 {
			return ""
		}
		return num(l.MSS)
	})},
	{"udp.srcport", l4("udp", func(l *L4) string { return num(l.SrcPort) })},
	{"udp.dstport", l4("udp", func(l *L4) string { return num(l.DstPort) })},
	{"icmp.type", icmp(4, func(c *ICMP) string { return num(c.Type) })},
	{"icmp.code", icmp(4, func(c *ICMP) string { return num(c.Code) })},
	{"icmp.seq", icmp(4, func(c *ICMP) string {
		if c.Echo == nil {
			return ""
		}
		return num(c.Seq)
	})},
	{"icmp.mtu", icmp(4, func(c *ICMP) string {
		if c.MTU == 0 {
			return ""
		}
		return num(c.MTU)
	})},
	{"icmpv6.type", icmp(6, func(c *ICMP) string { return num(c.Type) })},
	{"icmpv6.code", icmp(6, func(c *ICMP) string { return num(c.Code) })},
	{"igmp.maddr", func(s *Summary) string {
		if s.IGMP == nil || len(s.IGMP.Members) == 0 {
			return ""
		}
		return s.IGMP.Members[0].Group.String()
	}},
	{"dns.qry.name", func(s *Summary) string {
		if s.App == nil || s.App.DNS == nil || s.L4.SrcPort == portMDNS { // those have no question
			return ""
		}
		return s.App.DNS.Name
	}},
	{"dns.a", app(func(a *App) string { return answers(a.DNS, netip.Addr.Is4) })},
	{"dns.aaaa", app(func(a *App) string { return answers(a.DNS, netip.Addr.Is6) })},
	{"dns.flags.rcode", app(func(a *App) string {
		if a.DNS == nil || !a.DNS.Response {
			return ""
		}
		return num(a.DNS.RCode)
	})},
	{"dhcp.option.dhcp", app(func(a *App) string {
		for i, name := range dhcpTypes {
			if a.DHCP != nil && a.DHCP.Type == name && i > 0 {
				return strconv.Itoa(i)
			}
		}
		return ""
	})},
	{"dhcp.option.hostname", app(func(a *App) string {
		if a.DHCP == nil {
			return ""
		}
		return a.DHCP.Host
	})},
	{"tls.handshake.extensions_server_name", app(func(a *App) string {
		if a.TLS == nil {
			return ""
		}
		return a.TLS.SNI
	})},
	{"tls.handshake.extensions_alpn_str", app(func(a *App) string {
		if a.TLS == nil {
			return ""
		}
		return strings.Join(a.TLS.ALPN, ",")
	})},
	{"http.request.method", app(func(a *App) string {
		if a.HTTP == nil || a.HTTP.Method == "PRI" { // of HTTP/2 tshark shows no request here
			return ""
		}
		return a.HTTP.Method
	})},
	{"http.request.uri", app(func(a *App) string {
		if a.HTTP == nil || a.HTTP.Method == "PRI" {
			return ""
		}
		return a.HTTP.Path
	})},
	{"http.host", app(func(a *App) string {
		if a.HTTP == nil {
			return ""
		}
		return a.HTTP.Host
	})},
	{"http.response.code", app(func(a *App) string {
		if a.HTTP == nil || a.HTTP.Status == 0 {
			return ""
		}
		return num(a.HTTP.Status)
	})},
}

// corpus is the samples, and more of what containers send: each method, type, port and option in turn.
func corpus(t *testing.T) (frames [][]byte) {
	for _, s := range append(samples(t), rare(t)...) {
		frames = append(frames, s.frame)
	}
	for i, m := range httpMethods[:9] {
		text := fmt.Appendf(nil, "%s /%d?a=b%%20c HTTP/1.1\r\nAccept: */*\r\nHost: h%d.mynet\r\n\r\n", m, i, i)
		frames = append(frames, tcpFrame(t, uint16(20000+i), 80, text))
	}
	for i := range 20 {
		frames = append(frames,
			udpFrame(t, uint16(30000+i), 53, query(t, fmt.Sprintf("%s.x%d.example", strings.Repeat("a", i+1), i))),
			tcpFrame(t, uint16(30000+i), 443, hello(clientHello, versions, ext(0x2b), sni(fmt.Sprintf("s%d.example",
				i)), alpn)),
			tcpFrame(t, uint16(30000+i), 9000, bytes.Repeat([]byte{byte(i)}, i*70)),
			udpFrame(t, uint16(30000+i), 9000, bytes.Repeat([]byte{byte(i)}, i*70)),
			icmp4(t, layers.CreateICMPv4TypeCode(8, 0), uint16(i), uint16(i*7), make([]byte, i)))
	}
	for kind := layers.DHCPMsgTypeDiscover; kind <= layers.DHCPMsgTypeInform; kind++ {
		host := layers.NewDHCPOption(layers.DHCPOptHostname, []byte("web"))
		frames = append(frames, udpFrame(t, 68, 67, dhcp(t, kind, "10.77.0.5", host)))
	}
	for flags := range 256 {
		b := syn(t)
		b[47] = byte(flags)
		b[34], b[35] = 0x40, byte(flags) // a stream of its own
		frames = append(frames, b)
	}
	opts := ip4(layers.IPProtocolUDP, "10.77.0.3")
	opts.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	return append(frames, build(t, eth(layers.EthernetTypeIPv4), opts, &layers.UDP{SrcPort: 1000, DstPort: 2000}))
}

// tshark returns the fields of each frame.
func tshark(t *testing.T, frames [][]byte) (rows [][]string) {
	t.Helper()
	testhost.Tools(t, "tshark")
	path := filepath.Join(t.TempDir(), "corpus.pcap")
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(f), Length: len(f)}
		if err := w.WritePacket(info, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each frame by itself, as Dissect sees it: no streams, no fragments joined.
	args := []string{"-r", path, "-n", "-T", "fields", "-E", "separator=|", "-o", "tcp.desegment_tcp_streams:FALSE",
		"-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"}
	for _, f := range fields {
		args = append(args, "-e", f.name)
	}
	cmd := exec.Command("tshark", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, stderr.String())
	}
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "|"))
	}
	if len(rows) != len(frames) {
		t.Fatalf("tshark shows %d frames of %d", len(rows), len(frames))
	}
	return rows
}

// Behind a packet's own fields tshark shows those of the one that an ICMP error quotes.
func own(s *Summary, f field, theirs string) string {
	if s.ICMP == nil || s.ICMP.About == nil {
		return theirs
	}
	if strings.HasPrefix(f.name, "tcp.") || strings.HasPrefix(f.name, "udp.") {
		return ""
	}
	theirs, _, _ = strings.Cut(theirs, ",")
	return theirs
}

// begins tells whether part is all of whole, the first items of that list, or its beginning with a mark that it was cut.
func begins(whole, part string) bool {
	begun, cut := strings.CutSuffix(part, ellipsis)
	return part == whole || strings.HasPrefix(whole, part+",") || cut && strings.HasPrefix(whole, begun)
}

// Dissect reads what tshark reads; of a frame that was captured in part it may read less, but nothing else.
func TestTshark(t *testing.T) {
	frames := corpus(t)
	agreed := map[string]int{}
	for i, row := range tshark(t, frames) {
		whole := Dissect(frames[i], 0)
		for j, f := range fields {
			row[j] = own(whole, f, row[j])
			if ours := f.ours(whole); ours != row[j] {
				t.Errorf("frame %d, %s: got %q, tshark %q; %s", i+1, f.name, ours, row[j], whole.Line(nil))
			} else if ours != "" {
				agreed[f.name]++
			}
		}
		for n := 14; n < len(frames[i]); n++ {
			s := Dissect(frames[i][:n], len(frames[i]))
			line := s.Line(nil)
			if !strings.Contains(line, "cut short") {
				t.Errorf("frame %d does not say that it is cut short at %d: %s", i+1, n, line)
			}
			for j, f := range fields {
				ours := f.ours(s)
				if ours != "" && !begins(row[j], ours) {
					t.Errorf("frame %d cut at %d, %s: got %q, tshark of the whole %q", i+1, n, f.name, ours, row[j])
				}
			}
		}
	}
	for _, f := range fields {
		if agreed[f.name] == 0 {
			t.Errorf("no frame has %s", f.name)
		}
	}
}
