package filter

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// ports looks for ports low to high of one transport, or of SCTP, TCP and UDP. named is the transport that has the name
// the ports were given by, "" for all.
func (p *parser) ports(t token, q qualifier, low, high uint32, named string) *node {
	if q.proto != "" && q.proto != "tcp" && q.proto != "udp" && q.proto != "sctp" {
		p.fail(t, "%s has no ports: want tcp, udp or sctp before %s", q.proto, q.what)
	}
	if q.proto != "" && named != "" && named != q.proto {
		p.fail(t, "the port %s is one of %s, not of %s", t.text, named, q.proto)
	}
	if max(low, high) > 65535 {
		p.fail(t, "port %d: want 0 to 65535", max(low, high))
	}
	if named == "" {
		named = q.proto
	}
	low, high = min(low, high), max(low, high)
	// IPv6 without a look for extension headers, and IPv4 if it is no later fragment.
	v6 := and(p.transport(named, 6), portAtoms(q, low, high, func(off uint32) step {
		return step{load: load16, off: p.at.net(40 + off)}
	}))
	first := not(masked(load16, p.at.net(6), 0x1fff, greater, 0))
	v4 := and(p.transport(named, 9), first, portAtoms(q, low, high, func(off uint32) step {
		return step{load: load16AfterIPv4, off: p.at.net(off), header: p.at.net(0)}
	}))
	return choose(p.linkType(t, typeIP6), v6, and(p.linkType(t, typeIP), v4))
}

// transport tests for one, or for any that has ports, at an offset in the network header.
func (p *parser) transport(name string, off uint32) *node {
	is := func(name string) *node { return test(load8, p.at.net(off), equal, protos[name].numbers[0]) }
	if name != "" {
		return is(name)
	}
	return or(is("tcp"), is("udp"), is("sctp"))
}

func portAtoms(q qualifier, low, high uint32, load func(off uint32) step) *node {
	return either(q.dir, 0, 2, func(off uint32) *node {
		s := load(off)
		s.mask, s.k = allBits, low
		if q.what == "port" {
			return &node{test: s}
		}
		s.cmp = atLeast
		from, above := &node{test: s}, s
		above.cmp, above.k = greater, high
		return and(from, not(&node{test: above}))
	})
}

// service returns a port number by its name, and the protocol that has the name, "" if TCP and UDP both have it.
func (p *parser) service(t token, q qualifier, name string) (port uint32, transport string) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), ""
	}
	tcp, isTCP := services()[name+"/tcp"]
	udp, isUDP := services()[name+"/udp"]
	switch {
	case isTCP && isUDP && tcp == udp:
		return tcp, ""
	case isTCP:
		return tcp, "tcp"
	case isUDP:
		return udp, "udp"
	}
	p.rejectWiresharkTerm(t, q)
	hint := wiresharkProtos[name]
	switch lower := strings.ToLower(name); {
	case strings.Contains(name, "-"):
		hint = "portrange " + lower
	case lower != name:
		hint = "port " + lower
	}
	p.failWithHint(t, hint, "unknown port %s: want its number, or another name", name)
	return 0, ""
}

func (p *parser) portRange(t token, q qualifier) (low, high uint32, transport string) {
	from, to, ok := strings.Cut(t.text, "-")
	if !ok {
		p.fail(t, "%s is no range of ports: want two, as 80-90", t.text)
	}
	low, named := p.service(t, q, from)
	high, also := p.service(t, q, to)
	if named != also {
		named = ""
	}
	return low, high, named
}

// services are ports by name and transport, as "domain/udp".
var services = sync.OnceValue(func() map[string]uint32 {
	m := make(map[string]uint32)
	for f := range table("/etc/services", commonServices) {
		number, transport, _ := strings.Cut(f[1], "/")
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			for i, name := range f {
				if _, have := m[name+"/"+transport]; i != 1 && !have {
					m[name+"/"+transport] = uint32(n)
				}
			}
		}
	}
	return m
})

// protocolNumbers are IP protocols by name.
var protocolNumbers = sync.OnceValue(func() map[string]uint32 {
	m := make(map[string]uint32)
	for f := range table("/etc/protocols", commonProtocols) {
		if n, err := strconv.ParseUint(f[1], 10, 8); err == nil {
			for i, name := range f {
				if _, have := m[name]; i != 1 && !have {
					m[name] = uint32(n)
				}
			}
		}
	}
	return m
})

// table yields the lines of a file in the format of services(5) and protocols(5), or of text if there is no such file:
// the name, the number, and more names.
func table(path, text string) func(yield func([]string) bool) {
	if b, err := os.ReadFile(path); err == nil {
		text = string(b)
	}
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			if f := strings.Fields(line); len(f) > 1 && !yield(f) {
				return
			}
		}
	}
}

const commonServices = `ftp-data 20/tcp
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp mail
domain 53/tcp
domain 53/udp
bootps 67/udp
bootpc 68/udp
tftp 69/udp
http 80/tcp www
kerberos 88/tcp
kerberos 88/udp
pop3 110/tcp
sunrpc 111/tcp
sunrpc 111/udp
ntp 123/udp
imap2 143/tcp imap
snmp 161/tcp
snmp 161/udp
bgp 179/tcp
ldap 389/tcp
ldap 389/udp
https 443/tcp
https 443/udp
syslog 514/udp
ldaps 636/tcp
imaps 993/tcp
nfs 2049/tcp
nfs 2049/udp
mysql 3306/tcp
postgresql 5432/tcp
mdns 5353/udp
redis 6379/tcp
`

const commonProtocols = `ip 0 IP
icmp 1 ICMP
igmp 2 IGMP
ipencap 4 IP-ENCAP
tcp 6 TCP
igp 9 IGP
udp 17 UDP
ipv6 41 IPv6
ipv6-route 43 IPv6-Route
ipv6-frag 44 IPv6-Frag
gre 47 GRE
esp 50 IPSEC-ESP
ah 51 IPSEC-AH
ipv6-icmp 58 IPv6-ICMP
ipv6-nonxt 59 IPv6-NoNxt
ipv6-opts 60 IPv6-Opts
ospf 89 OSPFIGP
pim 103 PIM
vrrp 112 VRRP
sctp 132 SCTP
`
