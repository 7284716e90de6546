package dissect

const (
	tcpLen = 20
	udpLen = 8

	portDNS        = 53
	portDHCPServer = 67
	portDHCPClient = 68
	portMDNS       = 5353
	portLLMNR      = 5355

	optEnd = 0
	optNop = 1
	optMSS = 2
)

func (s *Summary) tcp(p part) {
	if !s.ports(p, "tcp", tcpLen, "TCP header") {
		return
	}
	b := p.b
	s.L4.TCP = &TCP{
		Flags: TCPFlags(b[13]), Seq: be32(b[4:]), Ack: be32(b[8:]), Window: be16(b[14:]),
	}
	head := int(b[12]>>4) * 4
	if head < tcpLen || head > p.wire {
		s.fail("TCP header length is %d, want %d to %d", head, tcpLen, min(60, p.wire))
		return
	}
	s.L4.Len = p.wire - head
	s.L4.MSS = mss(p.limit(head).b[tcpLen:])
	if s.has(p, head, "TCP options") {
		s.App = tcpHint(p.b[head:], s.L4)
	}
}

// mss finds the maximum segment size among TCP options, 0 if it is not there.
func mss(opts []byte) uint16 {
	for len(opts) > 0 && opts[0] != optEnd {
		if opts[0] == optNop {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return 0
		}
		if opts[0] == optMSS && opts[1] == 4 {
			return be16(opts[2:])
		}
		opts = opts[opts[1]:]
	}
	return 0
}

func (s *Summary) udp(p part) {
	if !s.ports(p, "udp", udpLen, "UDP header") {
		return
	}
	s.L4.Len = p.wire - udpLen
	length := int(be16(p.b[4:]))
	switch {
	case length == 0: // a super-frame, or a jumbogram (RFC 2675)
	case length < udpLen:
		s.fail("UDP length is %d, want at least %d", length, udpLen)
		return
	case length <= p.wire:
		s.L4.Len = length - udpLen
	case s.IP.Frag == nil:
		s.fail("UDP datagram cut short: %d of %d bytes", p.wire, length)
	}
	s.App = udpHint(p.skip(udpLen).limit(s.L4.Len).b, s.L4)
}

// ports reads what TCP and UDP have in common, and tells whether the whole header is here.
func (s *Summary) ports(p part, proto string, head int, what string) bool {
	if len(p.b) >= 4 {
		s.L4 = &L4{Proto: proto, SrcPort: be16(p.b), DstPort: be16(p.b[2:])}
	}
	return s.has(p, head, what)
}

func (l *L4) port(n uint16) bool { return l.SrcPort == n || l.DstPort == n }

func udpHint(b []byte, l *L4) *App {
	switch {
	case l.port(portDNS), l.port(portMDNS), l.port(portLLMNR):
		if d := parseDNS(b); d != nil {
			return &App{DNS: d}
		}
	case l.port(portDHCPServer), l.port(portDHCPClient):
		if d := parseDHCP(b); d != nil {
			return &App{DHCP: d}
		}
	}
	return nil
}

func tcpHint(b []byte, l *L4) *App {
	if l.port(portDNS) && len(b) > 2 { // a length goes before (RFC 1035 §4.2.2)
		if d := parseDNS(b[2:]); d != nil {
			return &App{DNS: d}
		}
	}
	if t := parseTLS(b); t != nil {
		return &App{TLS: t}
	}
	if h := parseHTTP(b); h != nil {
		return &App{HTTP: h}
	}
	return nil
}
