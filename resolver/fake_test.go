package resolver

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

// a run is a resolver that runs, with what it talks to.
type run struct {
	*server
	t      testing.TB
	daemon *fake.NamesDaemon
	docker *fake.LiveDocker
	log    *testhost.Log
	at     string // its address
	end    func()
}

// start starts one at a port of the loopback, or at what find gives, until the test ends.
func start(t testing.TB, change func(*Config), find func() []netip.AddrPort) *run {
	t.Helper()
	r := &run{t: t, daemon: fake.NewNamesDaemon(t), docker: fake.NewLiveDocker(t), log: new(testhost.Log)}
	r.docker.Networks[fake.WideID] = fake.DockerNetwork{ID: fake.WideID, Name: "wide", Driver: "tapestry", Containers: map[string]fake.DockerEndpoint{},
		Options: map[string]string{"tapestry.network": "blue"}}
	c := &client.Client{Socket: r.daemon.Socket, DockerHost: r.docker.At}
	engine, err := docker.New(c)
	testhost.Must(t, err)
	cfg := Config{Client: c, Docker: engine, Listen: []netip.AddrPort{netip.AddrPortFrom(loopback, testhost.UDPPort(t))}, ResolvConf: filepath.Join(t.TempDir(), "resolv.conf"),
		Log: slog.New(slog.NewTextHandler(r.log, nil))}
	testhost.Must(t, os.WriteFile(cfg.ResolvConf, nil, 0o600))
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.server = newServer(ctx, cfg)
	if find != nil {
		r.find = find
	}
	ended := make(chan error, 1)
	go func() { ended <- r.server.run(ctx) }()
	r.end = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		r.end = func() {}
	}
	t.Cleanup(func() { r.end() })
	testhost.Until(t, "it listens", func() bool { return len(r.listening()) > 0 })
	r.at = r.listening()[0].String()
	testhost.Until(t, "it knows the daemon", func() bool { return r.log.Count("the daemon answers") > 0 })
	return r
}

// set has the daemon know names ("web.blue=10.77.0.2,fd00::2@b"), and waits until the resolver does.
func (r *run) set(names ...string) {
	r.t.Helper()
	all := parse(r.t, names...)
	r.daemon.Set(all...)
	testhost.Until(r.t, "it knows the names", func() bool { return reflect.DeepEqual(r.table.Load().others, sorted(all)) })
}

func parse(t testing.TB, names ...string) (all []api.Name) {
	t.Helper()
	for _, text := range names {
		full, rest, _ := strings.Cut(text, "=")
		at := strings.LastIndexByte(full, '.')
		n := api.Name{Name: full[:at], Key: full[at+1:], Host: "b"}
		for a := range strings.SplitSeq(rest, ",") {
			n.Addrs = append(n.Addrs, netip.MustParseAddr(a))
		}
		all = append(all, n)
	}
	return all
}

func question(name string, kind uint16) *dns.Msg {
	q := new(dns.Msg).SetQuestion(name, kind)
	return q
}

// ask asks over network (udp or tcp) and returns the answer.
func ask(t testing.TB, network, at string, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: testhost.Patience, UDPSize: dns.MaxMsgSize}
	m, _, err := c.Exchange(q, at)
	testhost.Must(t, err)
	return m
}

// values are the values of an answer's records, without the rest.
func values(m *dns.Msg) string {
	var all []string
	for _, rr := range m.Answer {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(all, " ")
}

// An upstream is a DNS server of the test's own.
type upstream struct {
	at      netip.AddrPort
	asked   atomic.Int64
	overTCP atomic.Int64
}

// newUpstream serves with h, for UDP and TCP, until the test ends.
func newUpstream(t testing.TB, h func(u *upstream, w dns.ResponseWriter, q *dns.Msg)) *upstream {
	t.Helper()
	at := netip.AddrPortFrom(loopback, testhost.UDPPort(t)) // one that nobody has for TCP either
	pc, err := net.ListenPacket("udp", at.String())
	testhost.Must(t, err)
	l, err := net.Listen("tcp", at.String())
	testhost.Must(t, err)
	u := &upstream{at: at}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		u.asked.Add(1)
		if isTCP(w) {
			u.overTCP.Add(1)
		}
		h(u, w, q)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(ended); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	}
	return u
}

func isTCP(w dns.ResponseWriter) bool { _, tcp := w.RemoteAddr().(*net.TCPAddr); return tcp }

// says is an upstream's handler that answers each question with records (without the name and the class).
func says(records ...string) func(*upstream, dns.ResponseWriter, *dns.Msg) {
	return func(_ *upstream, w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(said(q, records...))
	}
}

func said(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	for _, text := range records {
		rr, err := dns.NewRR(q.Question[0].Name + " 60 IN " + text)
		if err != nil {
			panic(err) // of the test
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func upstreamOf(all ...*upstream) func(*Config) {
	return func(c *Config) {
		for _, u := range all {
			c.Upstream = append(c.Upstream, u.at)
		}
	}
}

// silent is an address at which nobody answers, and nobody refuses.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	testhost.Must(t, err)
	t.Cleanup(func() { _ = pc.Close() })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// namesOf are the names of one container on blue.
func namesOf(name string, addrs ...string) []api.Name {
	n := api.Name{Key: "blue", Name: name, Host: "b"}
	for _, a := range addrs {
		n.Addrs = append(n.Addrs, netip.MustParseAddr(a))
	}
	return []api.Name{n}
}
