package resolver

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// What upstreams do: silence, refusals, answers to other questions, truncated ones.
func TestUpstream(t *testing.T) {
	refuses := func(code int) func(*upstream, dns.ResponseWriter, *dns.Msg) {
		return func(_ *upstream, w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) }
	}
	strangers := func(u *upstream, w dns.ResponseWriter, q *dns.Msg) {
		wrong := said(q, "A 192.0.2.66")
		wrong.Id++
		_ = w.WriteMsg(wrong)
		other := said(q, "A 192.0.2.66")
		other.Question[0].Name = "evil."
		_ = w.WriteMsg(other)
		kind := said(q, "A 192.0.2.66")
		kind.Question[0].Qtype = dns.TypeAAAA
		_ = w.WriteMsg(kind)
		none := said(q)
		none.Question = nil
		_ = w.WriteMsg(none)
		back := q.Copy() // the question itself
		_ = w.WriteMsg(back)
		_, _ = w.Write([]byte{0})
		loop := make([]byte, 12, 64)
		binary.BigEndian.PutUint16(loop, q.Id)
		loop[2], loop[5] = 0x80, 1
		_, _ = w.Write(append(loop, 0xc0, 12, 0, 1, 0, 1)) // a name that is itself
		_ = w.WriteMsg(said(q, "A 192.0.2.1"))
	}
	truncated := func(u *upstream, w dns.ResponseWriter, q *dns.Msg) {
		m := said(q, "A 192.0.2.1")
		if !isTCP(w) {
			m = said(q)
			m.Truncated = true
		}
		_ = w.WriteMsg(m)
	}
	cut := func(u *upstream, w dns.ResponseWriter, q *dns.Msg) { // over UDP only
		if isTCP(w) {
			_ = w.Close()
			return
		}
		m := said(q, "A 192.0.2.7")
		m.Truncated = true
		_ = w.WriteMsg(m)
	}
	good, gone := newUpstream(t, says("A 192.0.2.1")), netip.MustParseAddrPort("127.0.0.1:1")
	for _, c := range []struct {
		name    string
		servers []netip.AddrPort
		code    int
		want    string
	}{
		{"the first answers", []netip.AddrPort{good.at, silent(t)}, 0, "192.0.2.1"},
		{"the first is silent", []netip.AddrPort{silent(t), good.at}, 0, "192.0.2.1"},
		{"the first is not there", []netip.AddrPort{gone, good.at}, 0, "192.0.2.1"},
		{"the first cannot", []netip.AddrPort{newUpstream(t, refuses(dns.RcodeServerFailure)).at, newUpstream(t, refuses(dns.RcodeRefused)).at, good.at}, 0, "192.0.2.1"},
		{"no such name", []netip.AddrPort{newUpstream(t, refuses(dns.RcodeNameError)).at, good.at}, dns.RcodeNameError, ""},
		{"all cannot", []netip.AddrPort{newUpstream(t, refuses(dns.RcodeRefused)).at}, dns.RcodeRefused, ""},
		{"none is there", []netip.AddrPort{gone, gone}, dns.RcodeServerFailure, ""},
		{"all are silent", []netip.AddrPort{silent(t)}, dns.RcodeServerFailure, ""},
		{"none at all", nil, dns.RcodeServerFailure, ""},
		{"answers of others", []netip.AddrPort{newUpstream(t, strangers).at}, 0, "192.0.2.1"},
		{"truncated", []netip.AddrPort{newUpstream(t, truncated).at}, 0, "192.0.2.1"},
		{"truncated for good", []netip.AddrPort{newUpstream(t, cut).at}, 0, "192.0.2.7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(f *Config) { f.Upstream = c.servers }, nil)
			m := ask(t, "udp", r.at, question("Example.COM.", dns.TypeA))
			if m.Rcode != c.code || values(m) != c.want || m.Question[0].Name != "Example.COM." {
				t.Errorf("got %v", m)
			}
			if wrong := r.count.mismatched.Load(); (wrong > 0) != (c.name == "answers of others") || wrong > 7 {
				t.Errorf("%d answers were no answers", wrong)
			}
			if m.Truncated != (c.name == "truncated for good") {
				t.Errorf("truncated: %v", m.Truncated)
			}
			if lost := r.count.unanswered.Load(); (lost > 0) != (c.code == dns.RcodeServerFailure) {
				t.Errorf("%d were not answered", lost)
			}
		})
	}
}

// A long answer fits the size that the asker takes, and is whole over TCP.
func TestSizes(t *testing.T) {
	var many, names []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("A 192.0.2.%d", i))
		names = append(names, fmt.Sprintf("many.blue=10.77.0.%d", i+1))
	}
	r := start(t, upstreamOf(newUpstream(t, says(many...))), nil)
	r.set(names...)
	for _, name := range []string{"many.blue.", "many.example."} {
		for _, c := range []struct {
			network   string
			size      uint16 // 0: no EDNS
			truncated bool
		}{{"udp", 0, true}, {"udp", 100, true}, {"udp", 1232, true}, {"tcp", 0, false}, {"tcp", 512, false}} {
			q := question(name, dns.TypeA)
			if c.size > 0 {
				q.SetEdns0(c.size, false)
			}
			m := ask(t, c.network, r.at, q)
			m.Compress = true
			if m.Truncated != c.truncated || c.network == "udp" && m.Len() > max(512, int(c.size)) || !c.truncated && len(m.Answer) != 100 {
				t.Errorf("%s %s %d: truncated %v, %d records, %d bytes", name, c.network, c.size, m.Truncated, len(m.Answer), m.Len())
			}
		}
	}
	q := question("many.blue.", dns.TypeTXT)
	q.SetEdns0(4096, true)
	if o := ask(t, "udp", r.at, q).IsEdns0(); o == nil || !o.Do() || o.UDPSize() != udpSize {
		t.Errorf("EDNS: %v", o)
	}
	q.IsEdns0().SetVersion(1)
	if m := ask(t, "udp", r.at, q); m.Rcode != dns.RcodeBadVers {
		t.Errorf("another version of EDNS: %v", m)
	}
}

// Whatever comes from outside, the next question is answered.
func TestGarbage(t *testing.T) {
	r := start(t, nil, nil)
	r.set("web.blue=10.77.0.2")
	c, err := net.Dial("udp", r.at)
	testhost.Must(t, err)
	defer c.Close()
	whole, err := question("web.blue.", dns.TypeA).Pack()
	testhost.Must(t, err)
	head := func(flags, questions byte) []byte { return []byte{0, 1, flags, 0, 0, questions, 0, 0, 0, 0, 0, 0} }
	noise := make([]byte, 60_000)
	_, _ = rand.Read(noise)
	junk := [][]byte{{}, {0}, whole[:11], whole[:len(whole)-3], append(head(0, 1), 0xc0, 12, 0, 1, 0, 1), append(head(0, 1), 0xc0, 14, 0xc0, 12, 0, 1, 0, 1),
		append(head(0, 1), bytes.Repeat([]byte{63}, 300)...), head(0, 1), head(0, 0), head(0, 200), append(head(0x80, 1), whole[12:]...),
		append(head(5<<3, 1), whole[12:]...), append(head(4<<3, 1), whole[12:]...), noise, noise[:4096], bytes.Repeat([]byte{0xc0, 0}, 2000)}
	for i := range whole {
		junk = append(junk, append(bytes.Clone(whole[:i]), noise[:len(whole)-i]...))
	}
	for _, b := range junk {
		_, err := c.Write(b)
		testhost.Must(t, err)
		if m := ask(t, "udp", r.at, question("web.blue.", dns.TypeA)); values(m) != "10.77.0.2" {
			t.Fatalf("after %x: %v", b[:min(len(b), 40)], m)
		}
	}
	for _, b := range append(junk, noise) {
		tc, err := net.Dial("tcp", r.at)
		testhost.Must(t, err)
		_, _ = tc.Write(append(binary.BigEndian.AppendUint16(nil, uint16(min(len(b), 65535))), b...)) // it may hang up meanwhile
		_ = tc.Close()
	}
	if m := ask(t, "tcp", r.at, question("web.blue.", dns.TypeA)); values(m) != "10.77.0.2" {
		t.Fatalf("after all: %v", m)
	}
	if n := r.count.malformed.Load(); n == 0 || r.count.failed.Load() > n {
		t.Errorf("%d malformed, %d failed", n, r.count.failed.Load())
	}
}

// Too many questions at a time: more fail at once, known names are answered, and places become free.
func TestLimit(t *testing.T) {
	go1 := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(go1) }) }
	defer free()
	u := newUpstream(t, func(_ *upstream, w dns.ResponseWriter, q *dns.Msg) {
		<-go1
		_ = w.WriteMsg(said(q, "A 192.0.2.1"))
	})
	r := start(t, func(c *Config) { c.Upstream = []netip.AddrPort{u.at} }, nil)
	r.set("web.blue=10.77.0.2")
	for range maxUnderWay {
		r.places <- struct{}{}
	}
	if m := ask(t, "udp", r.at, question("example.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure || r.count.limited.Load() != 1 {
		t.Errorf("over the limit: %v", m)
	}
	if m := ask(t, "udp", r.at, question("web.blue.", dns.TypeA)); values(m) != "10.77.0.2" {
		t.Errorf("a known name: %v", m)
	}
	free()
	for range maxUnderWay {
		<-r.places
	}
	if m := ask(t, "udp", r.at, question("example.", dns.TypeA)); values(m) != "192.0.2.1" {
		t.Errorf("below the limit: %v", m)
	}
	testhost.Until(t, "the place is free", func() bool { return len(r.places) == 0 })
}

// resolv.conf is read again when it changes; this server itself in it is left out.
func TestResolvConf(t *testing.T) {
	r := start(t, nil, nil)
	write := func(text string) {
		t.Helper()
		testhost.Must(t, os.WriteFile(r.cfg.ResolvConf+".new", []byte(text), 0o600))
		testhost.Must(t, os.Rename(r.cfg.ResolvConf+".new", r.cfg.ResolvConf))
	}
	if n := len(*r.servers.Load()); n != 0 || r.log.Count("there is no server to hand other questions on to") != 1 {
		t.Errorf("%d servers: %s", n, r.log)
	}
	write("search example.com\nnameserver 192.0.2.53\n#nameserver 192.0.2.54\nnameserver 2001:db8::53\nnameserver nonsense\noptions ndots:2\n")
	testhost.Until(t, "it has read the file", func() bool { return len(*r.servers.Load()) == 2 })
	if got := fmt.Sprint(*r.servers.Load()); got != "[192.0.2.53:53 [2001:db8::53]:53]" {
		t.Errorf("servers %s", got)
	}
	testhost.Must(t, os.Remove(r.cfg.ResolvConf))
	r.loadServers()
	if len(*r.servers.Load()) != 2 || !strings.Contains(r.log.String(), "the host's own servers stay as they were") {
		t.Errorf("without the file: %v", *r.servers.Load())
	}
	for _, c := range []struct {
		at, to string
		want   bool
	}{{"127.0.0.1:53", "127.0.0.1:53", true}, {"127.0.0.1:53", "127.0.0.1:54", false}, {"127.0.0.1:53", "127.0.0.53:53", false},
		{"0.0.0.0:53", "127.0.0.53:53", true}, {"[::]:53", "127.0.0.1:53", true}, {"0.0.0.0:53", "192.0.2.53:53", false}} {
		if got := same(netip.MustParseAddrPort(c.at), netip.MustParseAddrPort(c.to)); got != c.want {
			t.Errorf("what is sent to %s reaches %s: %v", c.to, c.at, got)
		}
	}
	// With --upstream: itself is no server either.
	own := newServer(t.Context(), r.cfg)
	r.mu.Lock()
	own.listeners = slices.Clone(r.listeners)
	r.mu.Unlock()
	own.cfg.Upstream = append(own.listening(), silent(t))
	own.loadServers()
	if got := *own.servers.Load(); len(got) != 1 || got[0] != own.cfg.Upstream[1] {
		t.Errorf("servers %v", got)
	}
}

// FuzzReply: no message ends the process, and what is answered can be read.
func FuzzReply(f *testing.F) {
	web, _ := question("web.blue.", dns.TypeA).Pack()
	ptr, _ := question("2.0.77.10.in-addr.arpa.", dns.TypePTR).Pack()
	six, _ := question("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypeANY).Pack()
	for _, seed := range [][]byte{web, ptr, six, web[:12], {}} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	s := newServer(f.Context(), Config{})
	s.table.Store(&table{others: sorted(nil), own: sorted(nil)})
	s.change(func(t *table) *table {
		return &table{others: sorted(namesOf("web", "10.77.0.2", "fd00::2")), own: t.own}
	})
	f.Fuzz(func(t *testing.T, b []byte, tcp bool) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return
		}
		m := s.reply(q, tcp)
		if m.Id != q.Id || !m.Response {
			t.Errorf("%v is answered by %v", q, m)
		}
		if out, err := m.Pack(); err == nil {
			if err := new(dns.Msg).Unpack(out); err != nil {
				t.Errorf("%v cannot be read: %v", m, err)
			}
		}
		if len(q.Question) == 1 {
			name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
			if a, ok := reverseAddr(name); ok {
				if want, err := dns.ReverseAddr(a.String()); err != nil || want != name+"." {
					t.Errorf("%s is taken for %s, which is %s", name, a, want)
				}
			}
		}
	})
}
