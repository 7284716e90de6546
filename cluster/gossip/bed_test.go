package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// quick is for tests in real time: what waits waits for less.
func quick() timing {
	return timing{
		probe: 300 * time.Millisecond, probeTimeout: 150 * time.Millisecond, gossip: 30 * time.Millisecond, pushPull: time.Second,
		dead: 3 * time.Second, stream: 5 * time.Second, dial: 500 * time.Millisecond, ask: 100 * time.Millisecond, askMost: time.Second,
		lost: 200 * time.Millisecond, join: 100 * time.Millisecond, joinMost: 500 * time.Millisecond, joinLater: time.Second, leave: time.Second, grace: 100 * time.Millisecond,
	}
}

var testKey = []byte("0123456789abcdef")

// links are which hosts of a test reach each other.
type links struct {
	mu    sync.Mutex // guards what follows
	cut   map[[2]netip.Addr]bool
	conns map[net.Conn][2]netip.Addr
	taps  []func(from, to netip.Addr, packet []byte) // see each packet that is sent
}

func newLinks() *links {
	return &links{cut: make(map[[2]netip.Addr]bool), conns: make(map[net.Conn][2]netip.Addr)}
}

func pair(a, b netip.Addr) [2]netip.Addr {
	if b.Less(a) {
		a, b = b, a
	}
	return [2]netip.Addr{a, b}
}

// set cuts two hosts from each other, or connects them again. What is open between them ends.
func (l *links) set(a, b netip.Addr, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[pair(a, b)] = cut
	for c, between := range l.conns {
		if cut && between == pair(a, b) {
			c.Close()
			delete(l.conns, c)
		}
	}
}

func (l *links) away(a, b netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut[pair(a, b)]
}

func (l *links) sees(from, to netip.Addr, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, tap := range l.taps {
		tap(from, to, b)
	}
}

func (l *links) opened(c net.Conn, a, b netip.Addr) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = pair(a, b)
	return linked{c, l}
}

type linked struct {
	net.Conn
	l *links
}

func (c linked) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c.Conn)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// A patch is one host's real sockets with links between.
type patch struct {
	machine
	*links
	at netip.Addr
}

func (p patch) listen(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	u, t, err := p.machine.listen(at)
	if err != nil {
		return nil, nil, err
	}
	return patchUDP{u, p}, patchTCP{t, p}, nil
}

func (p patch) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if p.away(p.at, to.Addr()) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c, err := p.machine.dial(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return p.opened(c, p.at, to.Addr()), nil
}

type patchUDP struct {
	net.PacketConn
	p patch
}

func (u patchUDP) WriteTo(b []byte, to net.Addr) (int, error) {
	u.p.sees(u.p.at, hostOf(to), b)
	if u.p.away(u.p.at, hostOf(to)) {
		return len(b), nil
	}
	return u.PacketConn.WriteTo(b, to)
}

func (u patchUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := u.PacketConn.ReadFrom(b)
		if err != nil || !u.p.away(u.p.at, hostOf(from)) {
			return n, from, err
		}
	}
}

type patchTCP struct {
	net.Listener
	p patch
}

func (t patchTCP) Accept() (net.Conn, error) {
	for {
		c, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := hostOf(c.RemoteAddr())
		if !t.p.away(t.p.at, from) {
			return t.p.opened(c, t.p.at, from), nil
		}
		c.Close()
	}
}

// A bed has hosts on addresses of 127.0.0.0/8, each of its own.
type bed struct {
	t      testing.TB
	links  *links
	timing timing
	log    *testhost.Log
	mu     sync.Mutex // guards what follows
	used   []netip.AddrPort
}

func newBed(t testing.TB) *bed {
	return &bed{t: t, links: newLinks(), timing: quick(), log: &testhost.Log{}}
}

var loopback atomic.Uint32

// address is a loopback address that no other host of this process has. Two processes' tests may run beside each other.
func address() netip.Addr {
	n := loopback.Add(1)
	return netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()%128), byte(1 + n/250), byte(1 + n%250)})
}

func (b *bed) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// config is a new host's, which joins those that were there before.
func (b *bed) config() Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := netip.AddrPortFrom(address(), DefaultPort)
	var join []string
	for _, a := range b.used {
		join = append(join, a.Addr().String())
	}
	b.used = append(b.used, at)
	return Config{Cluster: "test", Bind: at, Join: join, Keys: [][]byte{testKey}, Log: b.logger(), timing: b.timing, wire: patch{links: b.links, at: at.Addr()}}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, func(t *testing.T) conformance.Bed {
		b := newBed(t)
		return conformance.Bed{
			New:  func() cluster.Engine { return New(b.config()) },
			Kill: func(e cluster.Engine) { e.(*Engine).close(context.Background(), false) },
			Cut: func(e cluster.Engine, away bool) {
				me := e.(*Engine).cfg.Bind.Addr()
				for _, other := range b.used {
					if other.Addr() != me {
						b.links.set(me, other.Addr(), away)
					}
				}
			},
		}
	})
}

// A host is an engine with what it has told.
type host struct {
	*Engine
	t       testing.TB
	dir     *cluster.Directory
	mu      sync.Mutex // guards what follows
	updates int
	records map[cluster.HostID]int // updates that have named a host
}

func start(t testing.TB, cfg Config, self cluster.Host) *host {
	t.Helper()
	h := &host{Engine: New(cfg), t: t, dir: cluster.NewDirectory(self.ID), records: make(map[cluster.HostID]int)}
	testhost.Must(t, h.Start(self, h.tellTest))
	t.Cleanup(func() { h.Close(context.Background()) })
	return h
}

func (h *host) tellTest(u cluster.Update) {
	h.dir.Apply(u)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.updates++
	for _, e := range u.Entries {
		h.records[e.ID]++
	}
}

func (h *host) count(id cluster.HostID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.records[id]
}

// entry is what a host knows of another one.
func (h *host) entry(of cluster.HostID) (cluster.Entry, bool) {
	for _, e := range h.dir.Hosts() {
		if e.ID == of {
			return e, true
		}
	}
	return cluster.Entry{}, false
}

func (h *host) sees(of *host) bool {
	e, ok := h.entry(of.self.ID)
	return ok && e.State == cluster.Alive
}

// start starts n hosts and waits until they see each other.
func (b *bed) start(n int) []*host {
	b.t.Helper()
	var all []*host
	for i := range n {
		all = append(all, start(b.t, b.config(), conformance.Self(1+i)))
	}
	meet(b.t, all...)
	return all
}

func meet(t testing.TB, all ...*host) {
	t.Helper()
	for _, h := range all {
		for _, other := range all {
			if other != h {
				testhost.Until(t, fmt.Sprintf("%s sees %s", h.self.Name, other.self.Name), func() bool { return h.sees(other) })
			}
		}
	}
}

// member is a network with a block for the i-th time.
func member(i int) []cluster.Member {
	return []cluster.Member{{
		Spec:   cluster.Spec{Key: "blue", VNI: cluster.FirstChosen, Subnets: []netip.Prefix{netip.MustParsePrefix("10.50.0.0/16")}},
		Blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i / 4), byte(i % 4 * 64)}), 26)},
	}}
}

// has tells whether h knows what the other one has published for the i-th time.
func (h *host) has(of *host, i int) bool {
	e, ok := h.entry(of.self.ID)
	return ok && len(e.Members) == 1 && e.Members[0].Blocks[0] == member(i)[0].Blocks[0]
}

func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
