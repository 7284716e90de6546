package filter

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// TestErrors: one line for programs, and two with a caret for people.
func TestErrors(t *testing.T) {
	for _, tc := range []struct{ expr, caret string }{
		{"tcp prot 80", `tcp prot 80
    ^ want port, portrange, host, net, src, dst, proto, [, and, or or the end; did you mean port?`},
		{"host 10.0.0.1 and", `host 10.0.0.1 and
                 ^ want host, net, port, src, dst, a protocol, a comparison, not or (`},
		{"web", `web
^ want host, net, port, src, dst, a protocol, a comparison, not or (; did you mean host web?`},
		{"10.0.0.1", `10.0.0.1
^ want host, net, port, src, dst, a protocol, a comparison, not or (; did you mean host 10.0.0.1?`},
		{"02:42:0a:4d:00:01", `02:42:0a:4d:00:01
^ want host, net, port, src, dst, a protocol, a comparison, not or (; did you mean ether host 02:42:0a:4d:00:01?`},
		{"host web", `host web
     ^ no address is known for the name web, and the DNS is not asked`},
		{"tcp port 80 an udp", `tcp port 80 an udp
            ^ want and, or or the end; did you mean and?`},
		{"(tcp port 80", `(tcp port 80
            ^ want and, or or )`},
		{"dst prot 80", `dst prot 80
    ^ no address is known for the name prot, and the DNS is not asked; did you mean port?`},
		{"tcp[tcpflag] = 2", `tcp[tcpflag] = 2
    ^ want a number, len, a protocol with [ or (; did you mean tcpflags?`},
		{"port 65536", `port 65536
     ^ port 65536: want 0 to 65535`},
		{"port", `port
    ^ want a port's number or name`},
		{"icmp port 80", `icmp port 80
          ^ icmp has no ports: want tcp, udp or sctp before port`},
		{"net 10.1.2.3/8", `net 10.1.2.3/8
    ^ 10.1.2.3 has bits set behind its mask: want 10.0.0.0`},
		{"tcp[0:3] = 1", `tcp[0:3] = 1
      ^ want 1, 2 or 4 bytes, not 3`},
		{"len / 0 = 1", `len / 0 = 1
    ^ division by zero (the divisor begins with 0)`},
		{"len +\t5", "len + 5\n       ^ want a comparison or an operator"},
		{"ip proto tcp", `ip proto tcp
         ^ want a protocol's number or name (keywords as \tcp)`},
		{"inbound", `inbound
^ inbound is not supported: a frame does not say which way it went`},
		{"tcp and gateway x", `tcp and gateway x
        ^ gateway is not supported: write ether host and not host`},
		{"ip protochain 6", `ip protochain 6
   ^ protochain is not supported: write ip proto or ip6 proto`},
		{"über", `über
^ 'ü' has no meaning here`},
		{"tcp and é", `tcp and é
        ^ 'é' has no meaning here`},
	} {
		f, err := Compile(tc.expr, nil)
		var e *SyntaxError
		if f != nil || !errors.As(err, &e) {
			t.Errorf("%q: %v, %v, want a *SyntaxError", tc.expr, f, err)
			continue
		}
		if got := e.Caret(); got != tc.caret {
			t.Errorf("%q:\n%s\nwant\n%s", tc.expr, got, tc.caret)
		}
		_, say, _ := strings.Cut(tc.caret, "^ ")
		if s := e.Error(); strings.Contains(s, "\n") || !strings.HasSuffix(s, say) {
			t.Errorf("%q: Error() = %q", tc.expr, s)
		}
	}
}

// The error for each word that is refused says why, and contains the word.
func TestRefused(t *testing.T) {
	for word := range unsupported {
		_, err := Compile(word+" 1", nil)
		if err == nil || !strings.Contains(err.Error(), word+" is ") {
			t.Errorf("%s: %v, want a sentence about it", word, err)
		}
	}
}

func TestBounds(t *testing.T) {
	deep := func(n int, a, b string) string { return strings.Repeat(a, n) + b }
	for expr, want := range map[string]string{
		deep(maxDepth+1, "(", "tcp"):                                   "more than 200",
		deep(maxDepth+1, "!", "tcp"):                                   "more than 200",
		deep(maxDepth+1, "-", "len > 1"):                               "more than 200",
		deep(maxDepth+1, "ip[", "0"):                                   "more than 200",
		deep(100, "ip[ether[", "0"):                                    "more than 200",
		"vlan " + deep(maxDepth+1, "(", "5"):                           "more than 200",
		deep(17, "len ^ ", "1 > 1"):                                    "more than 16 numbers",
		strings.Repeat(" ", maxExpr+1):                                 "16384 are allowed",
		deep(17, "1+(", "1") + strings.Repeat(")", 17) + " > 1":        "more than 16 numbers",
		"host web and " + strings.Repeat("tcp or ", maxExpr/7) + "tcp": "are allowed",
	} {
		if _, err := Compile(expr, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q…: %v, want an error with %q", expr, err, want)
		}
	}
	if _, err := Compile(strings.Repeat("tcp or ", 2000)+"tcp", nil); err != nil {
		t.Error("a long expression: ", err)
	}
}

// A name means every address of the host, as if they were joined with "or".
func TestNames(t *testing.T) {
	names := func(name string) []netip.Addr {
		if name != "web-1" && name != "web.blue@host-1" {
			return nil
		}
		addr := netip.MustParseAddr
		return []netip.Addr{addr("10.0.0.1"), addr("::ffff:10.0.0.2"), addr("2001:db8::1")}
	}
	for by, written := range map[string]string{
		"host web-1":               "host 10.0.0.1 or host 10.0.0.2 or host 2001:db8::1",
		"host (web.blue@host-1)":   "host 10.0.0.1 or host 10.0.0.2 or host 2001:db8::1",
		"src web-1":                "src 10.0.0.1 or src 10.0.0.2 or src 2001:db8::1",
		"ip host web-1":            "ip host 10.0.0.1 or 10.0.0.2",
		"ip6 dst host web-1":       "ip6 dst host 2001:db8::1",
		"udp and not host web-1":   "udp and not (host 10.0.0.1 or host 10.0.0.2 or host 2001:db8::1)",
		"host 10.1.2.3 or web-1":   "host 10.1.2.3 or 10.0.0.1 or 10.0.0.2 or host 2001:db8::1",
		"src and dst host (web-1)": "src and dst host 10.0.0.1 or 10.0.0.2 or src and dst host 2001:db8::1",
	} {
		f, err := Compile(by, names)
		if err != nil {
			t.Error(err)
			continue
		}
		g := compile(t, written)
		matches := 0
		for _, c := range corpus(3, 400) {
			got, want := f.Match(c.frame, c.wireLen), g.Match(c.frame, c.wireLen)
			if got != want {
				t.Errorf("%s: %v, but %s: %v on %x", by, got, written, want, c.frame)
			}
			if got {
				matches++
			}
		}
		if matches == 0 {
			t.Errorf("%s: no frame matches", by)
		}
		if f.String() != by {
			t.Errorf("String() = %q, want %q", f, by)
		}
	}
	for _, expr := range []string{
		"host web-1@", "host @web-1", "host db", "ip6 host db", "arp host db", "tcp host web-1", "net web-1", "ether src web-1",
	} {
		if _, err := Compile(expr, names); err == nil {
			t.Errorf("%s: no error", expr)
		}
	}
}

func compile(t testing.TB, expr string) *Filter {
	t.Helper()
	f, err := Compile(expr, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEmpty(t *testing.T) {
	for _, expr := range []string{"", " \t\n"} {
		f := compile(t, expr)
		if !f.Match(nil, 0) || !f.Match(make([]byte, 60), 60) {
			t.Errorf("%q does not match everything", expr)
		}
	}
}

// The tables replace /etc/services and /etc/protocols: what is in both is the same.
func TestTables(t *testing.T) {
	for _, tc := range []struct{ path, text string }{
		{"/etc/services", commonServices}, {"/etc/protocols", commonProtocols},
	} {
		system := make(map[string]string)
		for f := range table(tc.path, "") {
			_, transport, _ := strings.Cut(f[1], "/")
			system[f[0]+"/"+transport] = f[1]
		}
		n := 0
		for f := range table("/nonexistent", tc.text) {
			_, transport, _ := strings.Cut(f[1], "/")
			if s, ok := system[f[0]+"/"+transport]; ok && s != f[1] {
				t.Errorf("%s: %s is %s, the table says %s", tc.path, f[0], s, f[1])
			}
			n++
		}
		if n < 20 {
			t.Errorf("%d lines in the table for %s", n, tc.path)
		}
	}
}

// FuzzFilter: no expression and no frame panics.
func FuzzFilter(f *testing.F) {
	frames := corpus(5, len(known))
	for i, expr := range known {
		f.Add(expr, frames[i].frame, frames[i].wireLen)
	}
	for i, tc := range hinted {
		f.Add(tc.expr, frames[i%len(frames)].frame, 60)
	}
	m := maker{rand.New(rand.NewPCG(5, 5))}
	inside := m.encapsulate(m.encapsulate(frames[0].frame, 4789, 8, 1), 4789, 8, 2)
	for _, expr := range []string{"vxlan", "vlan and vxlan 2 and not (tcp or vxlan 1)", "ip6 and vxlan 2 and vxlan and len > 5 and ether[len - 1] = 3", "mpls or vxlan and vlan 5 or port 80"} {
		f.Add(expr, inside, len(inside))
	}
	f.Fuzz(func(t *testing.T, expr string, frame []byte, wireLen int) {
		names := func(name string) []netip.Addr {
			if len(name)%2 == 0 {
				return nil
			}
			return []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{10})}
		}
		c, err := Compile(expr, names)
		var e *SyntaxError
		if err != nil {
			if !errors.As(err, &e) || e.Pos < 0 || e.Pos > len(expr) || e.Caret() == "" || e.Error() == "" {
				t.Fatalf("%v: not a whole *SyntaxError", err)
			}
			return
		}
		// "not" inverts every result, except where the expression reads beyond the frame: that never matches.
		if strings.TrimSpace(expr) == "" {
			return
		}
		turned, err := Compile("not ("+expr+")", names)
		if err != nil {
			return // now too deep or too long, or the parentheses closed something else
		}
		if n := strings.Count(expr, ")"); n == 0 && c.Match(frame, wireLen) && turned.Match(frame, wireLen) {
			t.Fatal("a frame matches both an expression and its opposite")
		}
	})
}
