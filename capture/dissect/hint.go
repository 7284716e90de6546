package dissect

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
)

const (
	bootpLen   = 236 // before the options
	dhcpCookie = 0x63825363

	optPad         = 0
	optHostName    = 12
	optRequestedIP = 50
	optMessageType = 53
	optDHCPEnd     = 255
)

var dhcpTypes = [...]string{
	"bootp", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform",
}

// parseDHCP reads a DHCPv4 message; nil if it is none.
func parseDHCP(b []byte) *DHCP {
	if len(b) < bootpLen+4 || be32(b[bootpLen:]) != dhcpCookie || b[1] != 1 || b[2] != 6 {
		return nil
	}
	d := &DHCP{MAC: ether.MAC(b[28:])}
	r := reader{b: b[bootpLen+4:]}
	var asked netip.Addr
	for len(r.b) > 0 {
		code := r.num(1)
		if code == optPad {
			continue
		}
		if code == optDHCPEnd {
			if d.Type == "" {
				d.Type = dhcpTypes[0]
			}
			break
		}
		value := r.list(1).b
		switch {
		case r.short: // half an option says nothing
		case code == optMessageType && len(value) == 1:
			d.Type = "type " + strconv.Itoa(int(value[0]))
			if int(value[0]) < len(dhcpTypes) {
				d.Type = dhcpTypes[value[0]]
			}
		case code == optRequestedIP && len(value) == 4:
			asked = addr4(value)
		case code == optHostName:
			d.Host = clean(string(value))
		}
	}
	for _, a := range []netip.Addr{addr4(b[16:]), asked, addr4(b[12:])} { // yiaddr, option 50, ciaddr
		if !d.Address.IsValid() {
			d.Address = known(a)
		}
	}
	return d
}

const (
	tlsHandshake = 22 // record type
	clientHello  = 1  // handshake types
	serverHello  = 2

	extServerName = 0 // RFC 6066 §3
	extALPN       = 16
	extVersions   = 43

	maxProtos = 4
)

// parseTLS reads a ClientHello or ServerHello, as far as it is there; nil if b begins with something else.
func parseTLS(b []byte) *TLS {
	if len(b) < 11 || b[0] != tlsHandshake || b[1] != 3 || b[9] != 3 || b[5] != clientHello && b[5] != serverHello {
		return nil
	}
	r := reader{b: b[9:]} // behind the headers of record and handshake
	t, best, sure := &TLS{Hello: "client"}, r.num(2), false
	r.bytes(32) // random
	r.list(1)   // session
	if b[5] == clientHello {
		r.list(2) // cipher suites
		r.list(1) // compression methods
	} else {
		t.Hello = "server"
		r.bytes(3)
	}
	exts := r.list(2)
	for len(exts.b) > 0 {
		kind := exts.num(2)
		ext := exts.list(2)
		switch kind {
		case extServerName:
			names := ext.list(2)
			kind, host := names.num(1), names.list(2)
			if kind == 0 && !names.short { // a host name, whole
				t.SNI = clean(string(host.b))
			}
		case extALPN:
			for protos := ext.list(2); len(protos.b) > 0 && len(t.ALPN) < maxProtos; {
				if proto := protos.list(1); !protos.short {
					t.ALPN = append(t.ALPN, clean(string(proto.b)))
				}
			}
		case extVersions:
			versions := ext
			if b[5] == clientHello {
				versions = ext.list(1)
			}
			for len(versions.b) > 0 {
				if v := versions.num(2); v>>8 == 3 { // not GREASE (RFC 8701)
					best = max(best, v)
				}
			}
			sure = !exts.short
		}
	}
	if sure || !r.short && !exts.short { // a 1.3 calls itself 1.2 until that extension comes
		t.Version = tlsVersion(best)
	}
	return t
}

// tlsVersion is the name of a version that begins with 3.
func tlsVersion(v int) string {
	switch minor := v & 0xff; minor {
	case 0:
		return "SSL 3.0"
	case 1, 2, 3, 4:
		return "1." + strconv.Itoa(minor-1)
	}
	return fmt.Sprintf("0x%04x", v)
}

// httpMethods are those of RFC 9110 §9.3 and RFC 5789, and HTTP/2's preface.
var httpMethods = []string{"GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI"}

// maxHTTP is how far into a request the Host field is looked for.
const maxHTTP = 2048

// parseHTTP reads the first line of a request or response; nil if b begins with something else.
func parseHTTP(b []byte) *HTTP {
	b = b[:min(len(b), maxHTTP)]
	word, _, ok := bytes.Cut(b[:min(len(b), len("HTTP/1.1 "))], []byte(" "))
	if !ok {
		return nil
	}
	first := string(word)
	response := strings.HasPrefix(first, "HTTP/1.")
	if !response && !slices.Contains(httpMethods, first) {
		return nil
	}
	line, rest, whole := bytes.Cut(b[len(first)+1:], []byte("\n"))
	next, last, spaced := strings.Cut(strings.TrimSuffix(string(line), "\r"), " ")
	if response {
		status, err := strconv.Atoi(next)
		if err != nil || status < 100 || status > 999 {
			return nil
		}
		if !whole {
			last += ellipsis
		}
		return &HTTP{Status: status, Reason: clean(last)}
	}
	if !whole && !spaced {
		next += ellipsis
	}
	if whole && !strings.HasPrefix(last, "HTTP/") || !whole && !strings.HasPrefix(next, "/") {
		return nil
	}
	return &HTTP{Method: first, Path: clean(next), Host: hostField(string(rest))}
}

// hostField finds the Host field among the header fields of a request, "" if it is not there.
func hostField(fields string) string {
	for line := range strings.Lines(fields) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !strings.HasSuffix(line, "\n") { // the fields end, or what is here of them
			break
		}
		if strings.EqualFold(name, "Host") {
			return clean(strings.TrimSpace(value))
		}
	}
	return ""
}
