package filter

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// wiresharkFields are those of Wireshark's display filters (wireshark-filter(4)) that this language can say. %s stands for the value;
// without it the text is arithmetic, which is compared.
var wiresharkFields = map[string]string{
	"eth.addr": "ether host %s", "eth.src": "ether src %s", "eth.dst": "ether dst %s", "eth.type": "ether proto %s",
	"ip.addr": "host %s", "ip.src": "src host %s", "ip.dst": "dst host %s",
	"ip.host": "host %s", "ip.src_host": "src host %s", "ip.dst_host": "dst host %s",
	"ipv6.addr": "host %s", "ipv6.src": "src host %s", "ipv6.dst": "dst host %s",
	"ip.proto": "ip proto %s", "ip.ttl": "ip[8]", "ip.len": "ip[2:2]", "ip.id": "ip[4:2]",
	"ipv6.nxt": "ip6 proto %s", "ipv6.hlim": "ip6[7]", "ipv6.plen": "ip6[4:2]",
	"tcp.port": "tcp port %s", "tcp.srcport": "tcp src port %s", "tcp.dstport": "tcp dst port %s",
	"udp.port": "udp port %s", "udp.srcport": "udp src port %s", "udp.dstport": "udp dst port %s",
	"sctp.port": "sctp port %s", "sctp.srcport": "sctp src port %s", "sctp.dstport": "sctp dst port %s",
	"tcp.flags": "tcp[tcpflags]", "tcp.seq_raw": "tcp[4:4]", "tcp.ack_raw": "tcp[8:4]", "tcp.window_size_value": "tcp[14:2]",
	"udp.length": "udp[4:2]", "icmp.type": "icmp[icmptype]", "icmp.code": "icmp[icmpcode]",
	"icmpv6.type": "icmp6[icmp6type]", "icmpv6.code": "icmp6[icmp6code]", "arp.opcode": "arp[6:2]",
	"arp.src.proto_ipv4": "arp src host %s", "arp.dst.proto_ipv4": "arp dst host %s",
	"frame.len": "len", "vlan.id": "vlan %s", "vxlan.vni": "vxlan %s", "mpls.label": "mpls %s",
}

// wiresharkFlags are the fields of one TCP flag.
var wiresharkFlags = map[string]string{
	"fin": "tcp-fin", "syn": "tcp-syn", "reset": "tcp-rst", "push": "tcp-push", "ack": "tcp-ack", "urg": "tcp-urg",
	"ece": "tcp-ece", "cwr": "tcp-cwr",
}

// wiresharkProtos are protocols by Wireshark's name, and what finds them here: by their port, if a port is all that tells.
var wiresharkProtos = map[string]string{
	"ipv4": "ip", "ipv6": "ip6", "icmpv6": "icmp6", "eth": "", "frame": "", "ip": "ip", "tcp": "tcp", "udp": "udp", "sctp": "sctp",
	"icmp": "icmp", "igmp": "igmp", "arp": "arp", "vlan": "vlan", "vxlan": "vxlan", "mpls": "mpls", "ospf": "ip proto 89",
	"gre": "ip proto 47", "lldp": "ether proto 0x88cc", "http": "tcp port 80", "http2": "tcp port 443", "https": "tcp port 443",
	"tls": "tcp port 443", "ssl": "tcp port 443", "quic": "udp port 443", "dns": "port 53", "mdns": "udp port 5353",
	"dhcp": "udp port 67 or 68", "bootp": "udp port 67 or 68", "dhcpv6": "udp port 546 or 547", "ntp": "udp port 123",
	"snmp": "udp port 161", "syslog": "udp port 514", "ssh": "tcp port 22", "ftp": "tcp port 21", "telnet": "tcp port 23",
	"smtp": "tcp port 25", "pop": "tcp port 110", "imap": "tcp port 143", "bgp": "tcp port 179", "ldap": "tcp port 389",
	"smb": "tcp port 445", "smb2": "tcp port 445", "mysql": "tcp port 3306", "pgsql": "tcp port 5432", "redis": "tcp port 6379",
	"resp": "tcp port 6379", "sip": "udp port 5060", "rtp": "udp", "ping": "icmp or icmp6", "syn": "tcp[tcpflags] & tcp-syn != 0",
}

// rejectWireshark ends Compile at a word of another language, or one that is in capitals, and says what it is here. It returns if
// the word is neither, or names a host.
func (p *parser) rejectWireshark(t token) {
	if p.plain || t.kind != tokName || p.names != nil && len(p.names(t.text)) > 0 {
		return
	}
	e := &SyntaxError{Expr: p.expr, Pos: t.pos, Found: t.text}
	first, _, isField := strings.Cut(t.text, ".")
	lower := strings.ToLower(t.text)
	hint, isShown := wiresharkProtos[first]
	switch {
	case p.expr[t.pos] == '\\':
		if !isKeyword(t.text) {
			return
		}
		e.Why = `\` + t.text + ` stands after proto only`
		e.Hint = t.text
	case isShown && isField:
		if e.Hint = p.translate(t); e.Hint == "" {
			e.Hint = hint
		}
		e.Why = t.text + " is of Wireshark's display filters; filters here are in tcpdump's language, pcap-filter(7)"
	case isShown:
		e.Hint = hint
		e.Why = t.text + " is no word of tcpdump's language, pcap-filter(7)"
	case t.text == "xor":
		e.Why = "xor is an operator of Wireshark's display filters: write (A and not B) or (B and not A)"
	case lower != t.text && isKeyword(lower):
		e.Why, e.Hint = "keywords are in lower case", lower
	default:
		return
	}
	panic(e)
}

// rejectWiresharkTerm is rejectWireshark for a word that may stand for a term of its own; right behind host, port or the like it does not.
func (p *parser) rejectWiresharkTerm(t token, q qualifier) {
	if !q.direct {
		p.rejectWireshark(t)
	}
}

// isKeyword tells if a word has a meaning of its own.
func isKeyword(word string) bool {
	if main, ok := aliases[word]; ok {
		word = main
	}
	_, isProto := protos[word]
	_, isConstant := constants[word]
	return isProto || isConstant || keywords[word]
}

var comparedRE = regexp.MustCompile(`^\s*(===?|!==?|~=|>=|<=|=|>|<|(?:eq|ne|gt|lt|ge|le)\b)\s*([0-9A-Za-z.:/_-]+)`)

var wiresharkOperators = map[string]string{"eq": "=", "==": "=", "===": "=", "ne": "!=", "!==": "!=", "~=": "!=", "gt": ">", "lt": "<", "ge": ">=", "le": "<="}

// translate expresses a field of Wireshark and the comparison after it in pcap-filter; "" if that is not possible.
func (p *parser) translate(t token) (hint string) {
	op, v := "", ""
	if m := comparedRE.FindStringSubmatch(p.expr[t.pos+len(t.text):]); m != nil {
		if op, v = m[1], m[2]; wiresharkOperators[op] != "" {
			op = wiresharkOperators[op]
		}
	}
	form, known := wiresharkFields[t.text]
	flag, isFlag := wiresharkFlags[strings.TrimPrefix(t.text, "tcp.flags.")]
	switch {
	case isFlag && strings.HasPrefix(t.text, "tcp.flags."):
		off := (v == "0" || strings.EqualFold(v, "false")) != (op == "!=")
		hint = "tcp[tcpflags] & " + flag + map[bool]string{true: " = 0", false: " != 0"}[off]
	case !known || v == "":
	case !strings.Contains(form, "%s"):
		hint = form + " " + op + " " + v
	case op == "=" || op == "!=":
		if net, err := netip.ParsePrefix(v); err == nil && strings.Contains(form, "host") {
			form, v = strings.Replace(form, "host", "net", 1), net.Masked().String()
		}
		if hint = fmt.Sprintf(form, v); op == "!=" {
			hint = "not " + hint
		}
	case strings.Contains(form, "port"):
		hint = fmt.Sprintf(strings.Replace(form, "port", "portrange", 1), portsMatching(op, v))
	}
	return p.checked(hint)
}

// portsMatching are the ports that compare so with a number, as a range; "" if there are none.
func portsMatching(op, number string) string {
	n, err := strconv.ParseUint(number, 10, 16)
	low, high := int(n), int(n)
	switch op {
	case ">":
		low++
		high = 65535
	case ">=":
		high = 65535
	case "<":
		low = 0
		high--
	case "<=":
		low = 0
	}
	if err != nil || low > high {
		return ""
	}
	return fmt.Sprintf("%d-%d", low, high)
}

// checked is a hint that compiles, else "".
func (p *parser) checked(hint string) string {
	if p.plain {
		return ""
	}
	if _, err := compileFor(pcapng.Ethernet, hint, p.names, true); err != nil {
		return ""
	}
	return hint
}

// failWithHint ends Compile as fail does, with a hint if that compiles.
func (p *parser) failWithHint(t token, hint, format string, args ...any) {
	panic(&SyntaxError{Expr: p.expr, Pos: t.pos, Found: t.text, Why: fmt.Sprintf(format, args...), Hint: p.checked(hint)})
}

var argumentRE = regexp.MustCompile(`^\s*[0-9A-Za-z.:_-]+`)

// argument is the text behind the word read last, which must be a sign, up to the next word's end.
func (p *parser) argument() string { return strings.TrimSpace(argumentRE.FindString(p.expr[p.end:])) }

// notArithmetic refuses an operator behind the number of a port or network: only terms of their own are arithmetic.
func (p *parser) notArithmetic(t token, q qualifier) {
	_, isOp := precedence[p.tok.text]
	if p.tok.kind != tokWord || !isOp && p.comparison() == "" && !p.is(":") {
		return
	}
	next := p.argument()
	switch {
	case p.is("/") && (q.what == "net" || q.what == "host" || q.what == "") && t.num < 256:
		p.failWithHint(t, fmt.Sprintf("net %d.0.0.0/%s", t.num, next), "a mask stands after an address with at least one dot")
	case p.is(":") && q.what == "portrange":
		p.failWithHint(t, "portrange "+t.text+"-"+next, "want %s", wanted(q.what))
	}
	p.fail(t, "want %s, not arithmetic", wanted(q.what))
}

// compared refuses a comparison where a port's or an address's value must stand.
func (p *parser) compared(q qualifier) {
	hint := strings.Join(strings.Fields(q.proto+" "+q.dir+" "+q.what+" "+p.argument()), " ")
	switch p.tok.text {
	case "=":
	case "!=":
		hint = "not " + hint
	default:
		ports := portsMatching(p.tok.text, p.argument())
		hint = strings.Join(strings.Fields(q.proto+" "+q.dir+" portrange "+ports), " ")
		if q.what != "port" || ports == "" {
			hint = ""
		}
	}
	p.failWithHint(p.tok, hint, "want %s, without %s", wanted(q.what), p.tok.text)
}
