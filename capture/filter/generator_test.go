package filter

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A generator makes random expressions of the language, nearly all of them valid.
type generator struct{ *rand.Rand }

func (g generator) of(words ...string) string { return words[g.IntN(len(words))] }

// maybe returns s, or "".
func (g generator) maybe(s string) string {
	if g.IntN(2) == 0 {
		return ""
	}
	return s + " "
}

func (g generator) expr(depth int) string {
	if depth <= 0 {
		return g.term()
	}
	switch g.IntN(8) {
	case 0:
		return g.of("not ", "! ", "!") + g.group(depth-1)
	case 1:
		return g.term()
	case 2:
		return "(" + g.expr(depth-1) + ")"
	case 3:
		return g.listed() + g.of(" and ", " or ") + g.group(depth-1)
	}
	return g.group(depth-1) + g.of(" and ", " or ", " && ", " || ") + g.expr(depth-1)
}

// group is in parentheses or not: without them the grouping is libpcap's.
func (g generator) group(depth int) string {
	if g.IntN(3) == 0 {
		return "(" + g.expr(depth) + ")"
	}
	return g.expr(depth)
}

// listed is a qualifier with more than one thing behind it.
func (g generator) listed() string {
	switch g.IntN(4) {
	case 0:
		return g.proto("tcp", "udp", "sctp", "") + g.dir() + "port " + g.of("80 or 443", "(80 or 53)",
			"(not 22 and not (80 or 443))", "domain or not 80", "80 and (1 or 2)")
	case 1:
		return g.dir() + "host (10.0.0.1 or 10.0.0.2) and not 192.168.1.1"
	case 2:
		return "ether host 02:42:0a:4d:00:01 or 02:42:0a:4d:00:02"
	}
	return "ip proto (6 or 17) or not 1"
}

func (g generator) proto(names ...string) string {
	if s := g.of(names...); s != "" {
		return s + " "
	}
	return ""
}

func (g generator) dir() string {
	if s := g.of("", "", "src", "dst", "src or dst", "src and dst", "dst or src", "dst and src"); s != "" {
		return s + " "
	}
	return ""
}

func (g generator) port() string {
	return g.of("80", "443", "53", "22", "4789", "0", "65535", "1024", "0x50", "domain", "http", "ssh", "(80)", "https")
}

func (g generator) term() string {
	switch g.IntN(20) {
	case 0, 1:
		return g.of("ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "igrp", "esp", "ah", "pim",
			"vrrp", "carp", "stp", "ipx", "netbeui", "iso", "clnp", "esis", "isis", "atalk", "aarp", "decnet", "lat", "sca",
			"mopdl", "moprc", "l1", "l2", "iih", "lsp", "snp", "csnp", "psnp", "es-is", "is-is")
	case 2:
		return g.proto("", "ip", "arp", "rarp") + g.of(g.dir()+"host ", g.of("src ", "dst ", "src or dst ")) + g.of(v4s...)
	case 3:
		return g.proto("", "ip6") + g.of(g.dir()+"host ", g.of("src ", "dst ")) + g.of(v6s...)
	case 4:
		return g.proto("", "ip", "arp", "rarp") + g.dir() + "net " + g.of("10", "10.1", "10.0.0", "192.168.1.1", "10.0.0.0/8",
			"10.0.0.0/30", "192.168/16", "10.0 mask 255.255.0.0", "10.0.0.0 mask 255.0.0.255", "0.0.0.0/0", "192.168.1.0/24",
			"10.1.2.2/31", "224.0.0.0/4", "172", "0xa0001", "10.0.0.1/8")
	case 5:
		return g.proto("", "ip6") + g.dir() + "net " + g.of("2001:db8::/32", "2001:db8:1::/48", "fe80::/10", "ff00::/8",
			"::/0", "2001:db8::1", "::1/128", "2001:db8::/31", "2001:db8::/126", "2001:db8::1/64")
	case 6, 7:
		return g.proto("", "tcp", "udp", "sctp", "") + g.dir() + "port " + g.port()
	case 8:
		return g.proto("", "tcp", "udp", "sctp") + g.dir() + "portrange " + g.of("80-443", "443-80", "0-65535", "1024-1024",
			"80", "53-http", "22-79", "domain-443")
	case 9:
		return g.of("ip ", "ip6 ", "") + "proto " + g.of("6", "17", "1", "58", "44", "0", "300", `\tcp`, `\udp`, `\icmp`,
			"gre", "ospf")
	case 10:
		return "ether proto " + g.of("0x800", "0x86dd", "0x806", "0x42", "0xe0", "0xf0", "0xfe", "6", "0x8137", "0x809b",
			"0x80f3", "1500", "1501", `\ip`, `\ip6`, `\arp`, `\rarp`, "loopback", `\stp`, `\ipx`, "0x8100", "4")
	case 11:
		return "ether " + g.of("host ", "src ", "dst ", "src host ", "dst host ", "src and dst ") + g.of("02:42:0a:4d:00:01",
			"2-42-a-4d-0-2", "ff:ff:ff:ff:ff:ff", "0242.0a4d.0002", "02420a4d0001", "33:33:0:0:0:1")
	case 12:
		return g.of("broadcast", "multicast", "ether broadcast", "ether multicast", "ip broadcast",
			"ip multicast", "ip6 multicast")
	case 13:
		return g.of("less ", "greater ") + g.of("60", "100", "0x40", "64", "0", "1000")
	case 14:
		return "vlan" + g.of("", " 5", " 7", " 4095", " (5)", " 0x1000", " 4096")
	case 15:
		return "mpls" + g.of("", " 16", " 100", " 1000", " 1048576")
	case 16:
		return "llc" + g.of("", " i", " s", " u", " rr", " rnr", " rej", " ui", " XID", " test", " sabme", " disc", " dm",
			" ua", " frmr") + g.maybe(" or stp")
	case 17:
		return "iso proto " + g.of(`\isis`, `\clnp`, `\esis`, "0x81", "0x83")
	}
	return g.relation()
}

func (g generator) relation() string {
	if g.IntN(3) == 0 {
		return g.of("tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-fin) = tcp-syn", "tcp[13] = 18",
			"icmp[icmptype] == icmp-echo", "icmp6[icmp6type] = icmp6-echo", "ip[0] & 0xf > 5", "ip[6:2] & 0x1fff = 0",
			"ether[0] & 1 = 0", "udp[8:4] = 0x08000000", "tcp[((tcp[12:1] & 0xf0) >> 2):4] != 0", "len > 80", "ip6[6] = 6",
			"((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0", "arp[6:2] = 1", "len <= 100")
	}
	return g.arith(3) + " " + g.of("=", "==", "!=", "<", ">", "<=", ">=") + " " + g.arith(2)
}

func (g generator) arith(depth int) string {
	if depth <= 0 || g.IntN(3) == 0 {
		switch g.IntN(5) {
		case 0:
			return "len"
		case 1, 2:
			return g.of("0", "1", "2", "4", "6", "12", "17", "20", "31", "40", "64", "255", "0x800", "0xffffffff",
				"1500", "tcp-syn")
		}
		return g.load(g.of("0", "1", "2", "4", "6", "8", "9", "12", "13", "16", "20", "30", "60", "0xfffffffc"))
	}
	switch g.IntN(10) {
	case 0:
		return "-" + g.arith(depth-1)
	case 1:
		return g.load(g.arith(depth - 1))
	case 2, 3:
		return "(" + g.arith(depth-1) + ")"
	}
	op := g.of("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>")
	return g.arith(depth-1) + " " + op + " " + g.arith(depth-1)
}

func (g generator) load(index string) string {
	p := g.of("ether", "ip", "ip6", "arp", "rarp", "tcp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "igrp", "pim",
		"vrrp", "carp", "ip", "ether", "decnet", "atalk")
	return fmt.Sprintf("%s[%s%s]", p, index, g.of("", "", ":1", ":2", ":4"))
}

// known are expressions from manuals and daily use, and some that once gave a wrong result, or that are refused.
var known = strings.Split(strings.TrimSpace(`
tcp or udp and host 10.0.0.1
17 / len ^ 40 > 0
len % 7 * 2 = 4
len * 7 % 3 = 1
len / tcp[9:2] < 1
len - tcp[9] > 3
not tcp[200] = 1
not (ether[100] = 1)
port ssh
tcp port ssh
udp port ssh
host 10.0.0.1
ip6 proto 6
ip6 proto 44
vlan and port 80
vlan or port 80
vlan 5 and vlan 7
mpls and tcp
mpls 16 and mpls 100 and host 10.0.0.1
mpls and arp
mpls and vlan
mpls and llc
vlan and mpls and port 80
tcp[tcpflags] & tcp-syn != 0
tcp[-8] = 1
tcp[0xfffffff8:4] != 0
len >> 32 = 0
len << 31 = 0
1 << tcp[32] = 0
len / 0 = 1
len / (0 + len) = 1
len % len = 0
len / ip[8] = 1
len / ip[0] = 1
1 >> len = 0
5-3 > 1
len-1 > 2
10 > 5
host 5
net 5
net 0
net 10/8
host 10.0.0
host 256.1.1.1
net 1.2.3.4.5
port 65536
port 80-90
portrange 80-90
portrange 80
tcp port 80 and 443
tcp port 80 and tcp and 443
tcp port (80 or 443)
tcp port 80 and (not 90) and 100
(tcp port 80) and 90
tcp port 80 and (port 90) and 100
ether host ff:ff:ff:ff:ff:ff
ether host 10.0.0.1
ether port 80
host ff:ff:ff:ff:ff:ff
10.0.0.1
tcp 80
ether
broadcast and multicast
ip broadcast
tcp broadcast
ip6 broadcast
arp multicast
less 60 and greater 10
greater 60 or 5 > 6
() 
(tcp
tcp)
tcp and
and tcp
not
!!tcp
! ! 5 > 6
not (not (5 > 6))
((((5)) + 3)) > ((4))
((5)) > 4
port ((80))
tcp[((0))] = 5
--len = 5
- - len = len
-len ^ 3 + 1 > 5
tcp[0:3] = 1
tcp[0:len] = 1
iso[0] = 1
ah[0] = 1
08 = 8
010 = 8
0x1ffffffff = 1
4294967296 = 1
4294967295 > 0
1:2:3:4:5:6 > 0
net ::ffff:10.0.0.1
host ::ffff:10.0.0.1
host 1:2:3:4:5:6:7::
host 2001:db8::1/64
net 2001:db8::/129
vlan 4096
mpls 1048576
tcp src port 80
src tcp port 80
src 10.0.0.1 or 10.0.0.2
src or dst 10.0.0.1
src and src 10.0.0.1
src proto 6
tcp proto 6
arp proto 6
isis proto 16
ip proto tcp
ip proto \tcp
ip proto TCP
ether proto ip
ether proto \ip
ether proto 0x8100
proto 6
proto \sctp
udp and not port 53 or icmp
llc nonsense
llc RR
pppoed
tcp[tcpflags] == tcp-syn|tcp-ack
tcp[13] & 2 != 0 and tcp[13] & 16 = 0
tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 10.0.0.0/8
tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)
icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply
1+1+1+1+1+1 = 6
1+(2+(3+(4+(5+(6+(7+(8+(9+(10+(11+(12+(13+(14+(15+16)))))))))))))) > 0
1+(2+(3+(4+(5+(6+(7+(8+(9+(10+(11+(12+(13+(14+(15+(16+17))))))))))))))) > 0
1+(2+(3+(4+(5+(6+(7+(8+(9+(10+(11+(12+(13+(14+(15+ip[0])))))))))))))) > 0
gateway 10.0.0.1
`), "\n")
