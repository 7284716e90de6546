package dissect

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// safe fails the test if text could control a terminal.
func safe(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is no UTF-8: %q", what, text)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			t.Fatalf("%s has %q in it: %q", what, r, text)
		}
	}
}

func FuzzDissect(f *testing.F) {
	for _, s := range append(samples(f), rare(f)...) {
		f.Add(s.frame, 0)
		f.Add(s.frame[:len(s.frame)*2/3], len(s.frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte, wire int) {
		s := Dissect(frame, wire)
		if strings.HasPrefix(s.Error, "dissector failed") {
			t.Fatal(s.Error)
		}
		line := s.Line(names)
		if len(line) > maxLine {
			t.Errorf("the line has %d bytes", len(line))
		}
		safe(t, "the line", line)
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
		full := Full(frame)
		if len(full) > maxFull {
			t.Errorf("the tree has %d bytes", len(full))
		}
		safe(t, "the tree", strings.ReplaceAll(full, "\n", ""))
	})
}

func FuzzDNS(f *testing.F) {
	f.Add(query(f, "api.mynet"))
	f.Add(response(f))
	f.Add(nxdomain(f))
	f.Add(unhex(f, "0007 8180 0001 0000 0000 0000 c00c 0001 0001")) // a name that points at itself
	f.Fuzz(func(t *testing.T, b []byte) {
		d := parseDNS(b)
		if d == nil {
			return
		}
		safe(t, "the hint", d.describe())
		if d.Name == "" || d.Type == "" || len(d.Answers) > maxAnswers || len(d.Name) > maxText {
			t.Errorf("%+v", d)
		}
	})
}

func FuzzDHCP(f *testing.F) {
	f.Add(dhcp(f, 1, "0.0.0.0"))
	f.Add(dhcp(f, 5, "10.77.0.5"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d := parseDHCP(b); d != nil {
			safe(t, "the hint", (&App{DHCP: d}).describe())
			if len(d.Host) > maxText || len(d.Type) > 9 {
				t.Errorf("%+v", d)
			}
		}
	})
}

func FuzzTLS(f *testing.F) {
	f.Add(hello(clientHello, sni("example.com"), alpn, versions))
	f.Add(hello(serverHello, chosen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h := parseTLS(b); h != nil {
			safe(t, "the hint", (&App{TLS: h}).describe())
			if len(h.SNI) > maxText || len(h.ALPN) > maxProtos {
				t.Errorf("%+v", h)
			}
		}
	})
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: api.mynet\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200 OK\r\n"))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h := parseHTTP(b); h != nil {
			safe(t, "the hint", (&App{HTTP: h}).describe())
			if len(h.Path) > maxText || len(h.Host) > maxText || (h.Method == "") == (h.Status == 0) {
				t.Errorf("%+v", h)
			}
		}
	})
}

func FuzzLink(f *testing.F) {
	ip := unhex(f, "4500 001c 0000 0000 4011 0000 0a00 0001 0a00 0002 0001 0002 0008 0000")
	for link, head := range map[uint16]string{113: "0000 0001 0006 0242 0a4d 0002 0000 0800", 276: "0800 0000 0000 0002 0001 0406 0242 0a4d 0002 0000",
		0: "0200 0000", 108: "0000 0002", 101: "", 147: "00"} {
		f.Add(link, append(unhex(f, head), ip...), 0)
	}
	f.Fuzz(func(t *testing.T, link uint16, frame []byte, wire int) {
		s := DissectLink(int(link), frame, wire)
		if strings.HasPrefix(s.Error, "dissector failed") {
			t.Fatal(s.Error)
		}
		safe(t, "the line", s.Line(names))
		safe(t, "the tree", strings.ReplaceAll(FullLink(int(link), frame), "\n", ""))
		if b := AsEthernet(nil, int(link), frame, 128); b != nil && (len(b) < 14 || len(b) > 142) {
			t.Errorf("an Ethernet frame of %d bytes", len(b))
		}
	})
}
