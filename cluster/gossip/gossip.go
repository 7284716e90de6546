// Package gossip is a cluster.Engine without a server: hosts that tell each other, by hashicorp/memberlist.
//
// memberlist tells who is there. Each host has up to 512 bytes of metadata, which travel with that: its name, epoch and VTEP, and
// the number and digest of its latest record (meta.go). Who sees a number that it does not have asks that host for the record,
// with a nonce, until it is there: broadcasts may be lost (ask.go), and so may the news of the number, which answers to probes
// carry, too. So a record is only ever taken from its own host, when it was asked for, and one that is sent again later is nothing new. A host is Alive when it has answered, and not before: packets
// of a host that died may come again. Records of hosts that are Gone are kept. Who is Gone is tried again for ever (join.go);
// memberlist alone would forget it after 30 seconds, and a partition would stay. All that comes in is opened with the keys before
// memberlist sees it, counted if it is not ours, and bounded (transport.go, seal.go). The strong calls look at the records of all
// known hosts, and never wait for the network (strong.go). memberlist calls back under its lock: what it calls here takes only
// Engine.mu, and nothing here calls memberlist while it holds that.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/tapestry-net/tapestry/cluster"
)

// DefaultPort is the UDP and TCP port of the gossip. Docker's Swarm has memberlist's usual one, 7946.
const DefaultPort = 7948

// Config is what a host must know to find the others.
type Config struct {
	Cluster string         // its name, 1 to 63 bytes; hosts with another one are never met
	Bind    netip.AddrPort // where to listen; no address: the VTEP's, port 0: DefaultPort
	Join    []string       // other hosts' names or addresses, with or without a port; names are resolved at each try
	Keys    [][]byte       // of 16, 24 or 32 bytes (AES-GCM): the first one encrypts, all decrypt. None: on a loopback address only
	Log     *slog.Logger   // nil: none

	timing  timing // the zero one: defaults
	wire    wire   // nil: the machine's
	resolve func(ctx context.Context, name string) ([]netip.Addr, error)
}

// timing is what takes its time.
type timing struct {
	probe, probeTimeout time.Duration // one host is asked whether it is there, each probe
	gossip              time.Duration // news are sent on; also the pause between two records that this host publishes
	pushPull            time.Duration // two hosts compare all that they know: what finds lost news. memberlist makes it longer above 32 hosts
	dead                time.Duration // how long memberlist remembers a host that is not there
	stream              time.Duration // a TCP exchange may take
	dial                time.Duration // a TCP connection may take; less than 3 s find a host again in 3 s
	ask, askMost        time.Duration // until a record is asked for again, at first and at most
	lost                time.Duration // hosts that are not there are tried again
	join, joinMost      time.Duration // a name to join is tried again, at first and while it has never answered
	joinLater           time.Duration // at most, when it has answered once
	leave               time.Duration // Close waits for the others to hear of it
	grace               time.Duration // a host that left or died may say that it did not, before it counts as Gone
}

const (
	suspicion = 4 // memberlist's SuspicionMult
	doubt     = 2 // memberlist's SuspicionMaxTimeoutMult: 6 would be 24 s until a host that was cut off believes it
)

func defaults() timing {
	return timing{
		probe: time.Second, probeTimeout: 500 * time.Millisecond, gossip: 200 * time.Millisecond, pushPull: 3 * time.Second,
		dead: 30 * time.Second, stream: 10 * time.Second, dial: 3 * time.Second, ask: 300 * time.Millisecond, askMost: 5 * time.Second,
		lost: 1500 * time.Millisecond, join: time.Second, joinMost: 6 * time.Second, joinLater: 30 * time.Second, leave: 2 * time.Second,
		grace: time.Second,
	}
}

// detects is the longest time until a host that died is Gone, of n: until somebody has tried it in vain, and the longest suspicion.
func (t timing) detects(n int) time.Duration {
	scale := max(1, math.Log10(float64(max(n, 1))))
	return 5*t.probe + t.grace + time.Duration(scale*float64(suspicion*doubt)*float64(t.probe))
}

// An Engine is this host in the cluster.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	seal *seal
	counters

	// Set by Start, before anything runs.
	self cluster.Host
	sink func(cluster.Update)
	wire *transport
	list *memberlist.Memberlist

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	wakeTell, wakePublish, wakeAsk, wakeAnswer chan struct{}       // each of one
	hails                                      chan netip.AddrPort // hosts that seem to know this one, and that this one does not; of one

	mu      sync.Mutex // guards what follows
	started bool
	closed  bool
	peers   map[cluster.HostID]*peer
	dirty   map[cluster.HostID]bool // what sink does not know yet
	alive   int                     // peers that are
	since   time.Time               // of Status
	failed  error                   // why the last record could not be published
	next    *cluster.Record         // to be published
	mine    []byte                  // this host's record as others get it; nil: none yet
	meta    []byte                  // this host's metadata
	heard   string                  // what memberlist has of that
	own     meta                    // the same, read
	owing   []cluster.HostID        // who waits for an answer
}

// New is a host's engine. Start tells what is wrong with the configuration.
func New(cfg Config) *Engine {
	if cfg.timing == (timing{}) {
		cfg.timing = defaults()
	}
	if cfg.wire == nil {
		cfg.wire = machine{}
	}
	if cfg.resolve == nil {
		cfg.resolve = resolve
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	wake := func() chan struct{} { return make(chan struct{}, 1) }
	return &Engine{
		cfg: cfg, log: cfg.Log, wakeTell: wake(), wakePublish: wake(), wakeAsk: wake(), wakeAnswer: wake(), hails: make(chan netip.AddrPort, 1),
		peers: make(map[cluster.HostID]*peer), dirty: make(map[cluster.HostID]bool), since: time.Now(),
	}
}

// Info is for as many hosts as there are now.
func (e *Engine) Info() cluster.Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return cluster.Info{Name: "gossip", Consistency: cluster.Eventual, Membership: true, Detects: e.cfg.timing.detects(1 + e.alive)}
}

// check refuses a bad configuration, and fills in the address to bind.
func (e *Engine) check(self *cluster.Host) error {
	if err := self.Check(); err != nil {
		return err
	}
	c := &e.cfg
	if n := len(c.Cluster); n == 0 || n > 63 || strings.ContainsFunc(c.Cluster, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("the cluster's name %q: want 1 to 63 ASCII characters without spaces", c.Cluster)
	}
	addr, port := c.Bind.Addr().Unmap(), c.Bind.Port()
	if !addr.IsValid() {
		addr = self.VTEP.Addr()
	}
	if port == 0 {
		port = DefaultPort
	}
	c.Bind = netip.AddrPortFrom(addr, port)
	if len(c.Keys) == 0 && !addr.IsLoopback() {
		return fmt.Errorf("gossip on %s needs a key, or everybody who reaches this port could join: give all hosts of the cluster the same one, of 16, 24 or 32 random bytes", c.Bind)
	}
	for i, key := range c.Keys {
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return fmt.Errorf("key %d of the cluster has %d bytes: want 16, 24 or 32", i+1, n)
		}
	}
	for _, name := range c.Join {
		if _, _, err := splitPort(name, port); err != nil {
			return err
		}
	}
	return nil
}

// Start starts to gossip, and goes on in the background.
func (e *Engine) Start(self cluster.Host, sink func(cluster.Update)) error {
	if err := e.check(&self); err != nil {
		return err
	}
	e.mu.Lock()
	if e.started || e.closed {
		e.mu.Unlock()
		return errors.New("gossip is started twice")
	}
	e.started = true
	e.self, e.sink = self, sink
	e.own = meta{host: self}
	e.meta = e.own.append(nil)
	e.mu.Unlock()

	e.write() // what was published before: the others must not see this host without its networks for a moment
	var err error
	e.seal = newSeal(e.cfg.Cluster, e.cfg.Keys)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	advertise := e.cfg.Bind
	if advertise.Addr().IsUnspecified() {
		advertise = netip.AddrPortFrom(self.VTEP.Addr(), advertise.Port())
	}
	if e.wire, err = newTransport(e, advertise); err != nil {
		e.cancel()
		return fmt.Errorf("gossip cannot listen on %s: %w", e.cfg.Bind, err)
	}
	if e.list, err = memberlist.Create(e.config()); err != nil {
		e.cancel()
		e.wire.Shutdown()
		return fmt.Errorf("gossip on %s: %w", e.cfg.Bind, err)
	}
	for _, f := range []func(){e.teller, e.publisher, e.asker, e.answerer, e.seeker} {
		e.wg.Go(f)
	}
	for _, name := range e.cfg.Join {
		e.wg.Go(func() { e.join(name) })
	}
	return nil
}

// config is memberlist's.
func (e *Engine) config() *memberlist.Config {
	t := e.cfg.timing
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Transport = string(e.self.ID), e.cfg.Cluster, e.wire
	if len(e.cfg.Keys) > 0 {
		c.Keyring, _ = memberlist.NewKeyring(e.cfg.Keys, e.cfg.Keys[0]) // an error is a key's length, which check has seen
	}
	c.BindPort = int(e.cfg.Bind.Port())
	c.ProbeInterval, c.ProbeTimeout, c.GossipInterval, c.PushPullInterval = t.probe, t.probeTimeout, t.gossip, t.pushPull
	c.GossipToTheDeadTime, c.TCPTimeout = t.dead, t.stream
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicion, doubt
	c.AwarenessMaxMultiplier = 3            // 8 would be 8 s for a probe, and a host that was cut off tries each of the others
	c.EnableCompression = false             // LZW, with 64 KB for each packet; what is sent is small
	c.DeadNodeReclaimTime = time.Nanosecond // a host that died may come back with another address
	c.Delegate, c.Events = messages{e}, events{e}
	c.Alive, c.Conflict, c.Ping = events{e}, events{e}, pings{e}
	c.Logger = debugLog(e)
	return c
}

// Status has an error while this host knows of others, and sees none.
func (e *Engine) Status() cluster.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := cluster.Status{Since: e.since, Err: e.failed}
	if s.Err == nil && e.started && e.alive == 0 && len(e.peers)+len(e.cfg.Join) > 0 {
		s.Err = errors.New("no other host answers")
	}
	return s
}

// Close tells the others, for no longer than 2 s, and ends all that Start has started.
func (e *Engine) Close(ctx context.Context) error { return e.close(ctx, true) }

func (e *Engine) close(ctx context.Context, leave bool) error {
	e.mu.Lock()
	running := e.list != nil && !e.closed
	e.closed = true
	e.mu.Unlock()
	if !running {
		return nil
	}
	var err error
	if leave {
		limit := e.cfg.timing.leave
		if end, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(end))
		}
		if limit > 0 {
			if err = e.list.Leave(limit); err != nil {
				err = fmt.Errorf("the other hosts may think that this one died: %w", err)
			}
		}
	}
	e.cancel()
	e.list.Shutdown()
	e.wg.Wait()
	return err
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sleep waits, and tells whether to go on.
func (e *Engine) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.ctx.Done():
		return false
	}
}
