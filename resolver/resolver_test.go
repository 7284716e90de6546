package resolver

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// What is known is answered, over UDP and TCP, whatever the letters' case; all else is the upstream's.
func TestAnswers(t *testing.T) {
	u := newUpstream(t, says("TXT upstream"))
	r := start(t, upstreamOf(u), nil)
	r.set("web.blue=10.77.0.2,fd00::2", "www.blue=10.77.0.2,fd00::2", "db.blue=10.77.0.3", "db.blue=10.77.0.4", "db.green=10.78.0.3",
		"both.blue=10.77.0.5", "both.green=10.77.0.5", "my.app.blue=10.77.0.6", "same.green=10.77.0.2", "no t.blue=10.77.0.9", "x..blue=10.77.0.9")
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web.blue.", dns.TypeA, "10.77.0.2"},
		{"web.blue.", dns.TypeAAAA, "fd00::2"},
		{"wEb.BLUE.", dns.TypeA, "10.77.0.2"},
		{"web.", dns.TypeA, "10.77.0.2"},
		{"WWW.", dns.TypeAAAA, "fd00::2"},
		{"my.app.blue.", dns.TypeA, "10.77.0.6"},
		{"db.green.", dns.TypeA, "10.78.0.3"},
		{"both.", dns.TypeA, "10.77.0.5"},
		{"db.blue.", dns.TypeAAAA, ""},
		{"db.blue.", dns.TypeMX, ""},
		{"db.green.", dns.TypeANY, "10.78.0.3"},
		{"3.0.77.10.in-addr.arpa.", dns.TypePTR, "db.blue."},
		{"2.0.77.10.IN-ADDR.arpa.", dns.TypePTR, "same.green. web.blue."},
		{"2.0.77.10.in-addr.arpa.", dns.TypeA, ""},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "web.blue."},
		// ambiguous, with a dot and no network, of no network here, not known, no words
		{"db.", dns.TypeA, "upstream"},
		{"my.app.", dns.TypeA, "upstream"},
		{"web.red.", dns.TypeA, "upstream"},
		{"other.blue.", dns.TypeA, "upstream"},
		{"web.blue.example.com.", dns.TypeA, "upstream"},
		{"blue.", dns.TypeA, "upstream"},
		{".", dns.TypeNS, "upstream"},
		{"no\\ t.blue.", dns.TypeA, "upstream"},
		{"web\\.blue.", dns.TypeA, "upstream"},
		{"9.0.77.10.in-addr.arpa.", dns.TypePTR, "upstream"},
		{"10.in-addr.arpa.", dns.TypePTR, "upstream"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := ask(t, network, r.at, question(c.name, c.kind))
			got := strings.Trim(values(m), `"`)
			if m.Rcode != dns.RcodeSuccess || m.Question[0].Name != c.name || !m.RecursionAvailable && c.want != "upstream" {
				t.Errorf("%s %s: %v", network, c.name, m)
			}
			if got != c.want {
				t.Errorf("%s %s %s: %q, want %q", network, c.name, dns.TypeToString[c.kind], got, c.want)
			}
			for _, rr := range m.Answer {
				if h := rr.Header(); h.Name != c.name || c.want != "upstream" && h.Ttl > 5 {
					t.Errorf("%s: %v", c.name, rr)
				}
			}
		}
	}
	seen := make(map[string]bool) // of several containers each comes first now and then
	for range 1000 {
		m := ask(t, "udp", r.at, question("db.blue.", dns.TypeA))
		seen[values(m)] = true
		if len(seen) == 2 {
			break
		}
	}
	if !seen["10.77.0.3 10.77.0.4"] || !seen["10.77.0.4 10.77.0.3"] {
		t.Errorf("orders: %v", seen)
	}
	chaos := question("web.blue.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	if m := ask(t, "udp", r.at, chaos); len(m.Answer) != 1 || u.asked.Load() == 0 {
		t.Errorf("another class: %v", m)
	}
}

// Names come and go; while the daemon is away those that were known stay.
func TestComeAndGo(t *testing.T) {
	u := newUpstream(t, says("TXT upstream"))
	r := start(t, upstreamOf(u), nil)
	is := func(want string) {
		t.Helper()
		if got := strings.Trim(values(ask(t, "udp", r.at, question("web.blue.", dns.TypeA))), `"`); got != want {
			t.Errorf("web.blue is %q, want %q", got, want)
		}
	}
	is("upstream")
	r.set("web.blue=10.77.0.2")
	is("10.77.0.2")
	r.set("web.blue=10.77.0.9")
	is("10.77.0.9")
	r.set()
	is("upstream")
	r.set("web.blue=10.77.0.2")
	testhost.Must(t, os.Rename(r.daemon.Socket, r.daemon.Socket+".away"))
	r.daemon.Set(parse(t, "web.blue=10.77.0.2", "db.blue=10.77.0.3")...) // ends a request that waits
	testhost.Until(t, "it misses the daemon", func() bool {
		return r.log.Count("the names of other hosts' containers stay as they were") > 0
	})
	is("10.77.0.2")
	r.daemon.Set(parse(t, "web.blue=10.77.0.4")...)
	testhost.Must(t, os.Rename(r.daemon.Socket+".away", r.daemon.Socket))
	testhost.Until(t, "it knows the daemon again", func() bool {
		return values(ask(t, "udp", r.at, question("web.blue.", dns.TypeA))) == "10.77.0.4"
	})
}

// This host's names are told when they change, and again to a daemon that was restarted. They are answered by NAME.KEY too.
func TestTells(t *testing.T) {
	u := newUpstream(t, says("TXT upstream"))
	r := start(t, upstreamOf(u), nil)
	await := func(what string, want ...string) {
		t.Helper()
		testhost.Until(t, what, func() bool {
			var got []string
			for _, n := range <-r.daemon.Told {
				got = append(got, n.Name+"."+n.Key+"="+n.Addrs[0].String())
			}
			return slices.Equal(got, want)
		})
	}
	await("at first")
	<-r.docker.Came
	r.docker.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.77.0.2/24")
	r.docker.Tell("network", "connect", fake.WideID)
	await("a container", "web.blue=10.77.0.2", "c1c100000000.blue=10.77.0.2")
	if m := ask(t, "udp", r.at, question("web.blue.", dns.TypeA)); values(m) != "10.77.0.2" {
		t.Errorf("web.blue: %v", m)
	}
	if m := ask(t, "udp", r.at, question("web.", dns.TypeA)); values(m) != `"upstream"` {
		t.Errorf("web: Docker itself would have answered who is on its network: %v", m)
	}
	r.daemon.Restart()
	await("again", "web.blue=10.77.0.2", "c1c100000000.blue=10.77.0.2")
	// Docker is away: nothing is told, until it is back.
	r.docker.Mu.Lock()
	r.docker.Down = true
	r.docker.Mu.Unlock()
	r.docker.HangUp()
	testhost.Until(t, "it misses Docker", func() bool {
		return r.log.Count("the names of this host's containers stay as they were for a while") > 0
	})
	if m := ask(t, "udp", r.at, question("web.blue.", dns.TypeA)); values(m) != "10.77.0.2" {
		t.Errorf("Docker is away: %v", m)
	}
	r.docker.Leave(fake.WideID, fake.WebContainer)
	r.docker.Mu.Lock()
	r.docker.Down = false
	r.docker.Mu.Unlock()
	await("Docker is back")
}

// Addresses that come and go are answered at, and not those of others.
func TestAddresses(t *testing.T) {
	one, two := netip.MustParseAddr("127.0.0.31"), netip.MustParseAddr("127.0.0.32")
	port := testhost.UDPPort(t)
	wanted := make(chan []netip.AddrPort, 1)
	now := []netip.AddrPort{netip.AddrPortFrom(one, port)}
	r := start(t, nil, func() []netip.AddrPort {
		select {
		case now = <-wanted:
		default:
		}
		return now
	})
	if r.at != now[0].String() {
		t.Errorf("it answers at %s", r.at)
	}
	wanted <- []netip.AddrPort{netip.AddrPortFrom(two, port)}
	testhost.Until(t, "it has moved", func() bool {
		at := r.listening()
		return len(at) == 1 && at[0].Addr() == two
	})
	ask(t, "tcp", r.listening()[0].String(), question("x.", dns.TypeA))
	wanted <- nil
	testhost.Until(t, "it answers nowhere", func() bool { return len(r.listening()) == 0 })
	wanted <- []netip.AddrPort{netip.AddrPortFrom(one, port)}
	testhost.Until(t, "it answers again", func() bool { return len(r.listening()) == 1 })
	ask(t, "udp", r.at, question("x.", dns.TypeA))

	none := newServer(t.Context(), Config{Log: slog.New(slog.DiscardHandler)})
	none.find = func() []netip.AddrPort { return nil }
	if err := none.run(t.Context()); err == nil || !strings.Contains(err.Error(), "--listen ADDR:PORT") {
		t.Errorf("no bridge: %v", err)
	}
	for text, at := range map[string]string{"another DNS server has it": r.at, "no address of this host": "192.0.2.1:53"} {
		taken := newServer(t.Context(), Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(at)}, Log: slog.New(slog.DiscardHandler)})
		if err := taken.run(t.Context()); err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), at) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// One that is started again where another was knows the same.
func TestRestart(t *testing.T) {
	r := start(t, nil, nil)
	r.set("web.blue=10.77.0.2")
	at := r.listening()
	r.end()
	if !strings.Contains(r.log.String(), "stopped") {
		t.Errorf("log: %s", r.log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cfg := r.cfg
	cfg.Listen = at
	ended := make(chan error, 1)
	again := newServer(ctx, cfg)
	go func() { ended <- again.run(ctx) }()
	testhost.Until(t, "it knows the names", func() bool { return len(again.table.Load().others) > 0 })
	if m := ask(t, "udp", r.at, question("web.", dns.TypeA)); values(m) != "10.77.0.2" {
		t.Errorf("web: %v", m)
	}
	cancel()
	testhost.Must(t, <-ended)
}
