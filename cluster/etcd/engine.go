// Package etcd is the cluster on an etcd that is there already (3.4 or later): for two hosts to thousands.
//
// # Keys
//
// All are below PREFIX/CLUSTER/. A role that may read all of them, and write all but other hosts' keys below hosts/, is enough, but
// for Forget.
//
//	hosts/ID/record    what host ID says of itself: a cluster.Record. It stays when the host dies
//	hosts/ID/alive     the epoch and the run of its daemon, under a lease: it is there while the host lives
//	networks/KEY       a network's spec, and the host that made it
//	users/KEY/ID       host ID uses the network
//	vnis/N             the key of the network that has VNI N
//	blocks/KEY/F/A/B   the id of the host that has a block: F is 4 or 6, A its address as hex digits of fixed length, B its length
//
// # Writing
//
// Each write is one transaction that also compares hosts/ID/alive with what this run of the daemon has put there. So a host
// writes only while the others can see that it lives, and of two daemons with one id (a state directory that was copied) only one
// writes: the one with the higher epoch, or, of equal ones, the first. The other one tells so, and goes on reading.
//
// Blocks of different lengths may overlap, and two hosts may claim such at once. A block's key makes that exact in one
// transaction, without a lock: since keys are in the order of addresses, all blocks inside a block are one range of keys, and the
// transaction demands that the range is empty. The blocks around it that begin at another address are at most 31 keys (112 for
// IPv6), one for each shorter length, and it demands that none of them is there. Claims that do not overlap never disturb each other.
// Who wants any block reads which ones are taken, and picks one of the first free ones at random, of the more the more hosts there are.
//
// A transaction whose answer was lost is recognised when it is repeated: what it would write is there already. A block that may be this
// host's, since an answer was lost, it could not be freed or an earlier run has left it, is given out first when any is wanted.
//
// A network that no host uses any more, and of which nobody has a block, may get another spec; it is looked for when somebody wants one.
//
// # Reading
//
// A session lists hosts/ and then watches it from that revision. Whatever ends the watch (the connection, compaction, a member
// of etcd without a leader) ends the session. The next one goes on from the last change that it has seen, if etcd still has that very
// change; or else it lists again, and tells a full update. A host that is missing in a
// list, without that its removal was seen, is kept for a while: etcd's data may have been lost, and the host is about to write them
// again. Between sessions nothing changes. A host whose alive is gone is Suspect first: a living one that has only lost its lease
// (etcd-io/etcd#15247, for one) is back by then.
//
// The watch and the lease use etcd's own streams, not the client's wrappers: those resume a watch by themselves, and from a revision
// that etcd before 3.4.25 gives too high (etcd-io/etcd#15220), and they queue without a bound.
//
// # Time
//
// No clocks of hosts are compared. Strong calls take cluster.StrongLimit at most, whatever the server does. A server that is
// silent is found out by what it does not answer on the streams; the status tells then what is wrong with each endpoint.
package etcd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/tapestry-net/tapestry/cluster"
)

// A Config says which etcd, and which part of it.
type Config struct {
	Cluster   string        // its name: as a network's key, see cluster.CheckKey
	Prefix    string        // of all keys; "" is /tapestry
	Endpoints []string      // HOST:PORT, http://HOST:PORT or https://HOST:PORT, of one or more members of one etcd
	TLS       TLS           // not for http
	User      string        // "": none
	Password  string        // of User
	Keep      time.Duration // how long a host that is Gone keeps what it owns; 0 is a day
	Log       *slog.Logger

	// Decode reads other hosts' records; nil is cluster.Decode. Many engines in one process may share what it returns: nobody changes it.
	Decode func([]byte) (*cluster.Record, error)
}

// Times.
const (
	leaseTTL     = 8 * time.Second // with suspectTime 11 s at most until a dead host is Gone, and 15 s until nothing is sent to it
	suspectTime  = 2500 * time.Millisecond
	keepGone     = 24 * time.Hour
	connectLimit = 1500 * time.Millisecond // of a TCP connection
	setupLimit   = 5 * time.Second         // of each request when a session begins
	retryFirst   = 100 * time.Millisecond
	retryMost    = 2 * time.Second
	publishGap   = 100 * time.Millisecond // between two records
)

// An Engine is this host's connection to etcd. It implements cluster.Engine.
type Engine struct {
	config Config
	at     layout
	log    *slog.Logger
	ttl    time.Duration // of the lease

	self    cluster.Host
	sink    func(cluster.Update)
	mine    string        // the value of hosts/ID/alive
	keepFor time.Duration // Config.Keep, and up to a tenth more, so that not all hosts act at once
	view    *view
	lease   atomic.Int64     // 0: none
	last    *mvccpb.KeyValue // the last change that view has, see resume; nil: none. Only sessions uses it

	ignored atomic.Uint64

	running sync.WaitGroup
	wake    chan struct{} // something is to be published
	calling chan struct{} // holds one token: one Claim or Free at a time

	mu       sync.Mutex // guards what follows
	started  bool
	closed   bool
	end      context.CancelFunc
	status   cluster.Status
	session  *session      // nil: none that may write
	changed  chan struct{} // closed when session or closed has changed
	record   cluster.Record
	unsent   bool                 // record is to be written
	specs    map[string]agreement // networks that were agreed on, by key
	turns    uint64               // counts agreements
	claims   map[claim]bool       // blocks that are this host's, and in use
	spare    map[claim]bool       // blocks that may be this host's, and are not in use
	searched map[wanted]bool      // whether those that an earlier run has left were looked for
	told     map[string]bool      // what was said once; at most maxTold
	lastRev  int64                // the highest revision that was seen
	dataOf   uint64               // the cluster id of etcd
	written  uint64               // Seq of the last record that etcd has confirmed

	farewell context.Context // of Close: the last session gives the lease back
	left     error           // how that went
}

// An agreement is a network that this host has agreed on.
type agreement struct {
	cluster.Spec
	turn  uint64
	shown bool // published since: when it is not published any more the host has left it
}

type claim struct {
	key   string
	block netip.Prefix
}

// New checks a configuration. Files are read when it connects, and each time again.
func New(c Config) (*Engine, error) {
	if c.Prefix == "" {
		c.Prefix = "/tapestry"
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Keep == 0 {
		c.Keep = keepGone
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Decode == nil {
		c.Decode = cluster.Decode
	}
	e := &Engine{
		config: c, at: newLayout(c.Prefix, c.Cluster), log: c.Log, ttl: leaseTTL,
		wake: make(chan struct{}, 1), calling: make(chan struct{}, 1), changed: make(chan struct{}),
		specs: make(map[string]agreement), claims: make(map[claim]bool),
		spare: make(map[claim]bool), searched: make(map[wanted]bool), told: make(map[string]bool),
	}
	e.keepFor = c.Keep + mathrand.N(c.Keep/10+1)
	e.status = cluster.Status{Since: time.Now(), Err: fmt.Errorf("%w: not started", cluster.ErrUnavailable)}
	return e, nil
}

// Info implements cluster.Engine.
func (e *Engine) Info() cluster.Info {
	return cluster.Info{Name: "etcd", Consistency: cluster.Strong, Membership: true, Allocates: true, Detects: e.ttl + suspectTime + time.Second/2}
}

// Start implements cluster.Engine.
func (e *Engine) Start(self cluster.Host, sink func(cluster.Update)) error {
	if err := self.Check(); err != nil {
		return err
	}
	if _, err := e.config.TLS.load(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return errors.New("the cluster's engine was started before")
	}
	run := make([]byte, 8)
	rand.Read(run)
	e.self, e.sink, e.mine = self, sink, aliveValue(self.Epoch, hex.EncodeToString(run))
	e.started, e.unsent = true, true
	e.record.Host = self
	for i := range e.record.Members { // what it has from before
		for _, b := range e.record.Members[i].Blocks {
			e.claims[claim{e.record.Members[i].Key, b}] = true
		}
	}
	e.view = newView(self.ID, e.ttl, e.config.Decode)
	e.status = cluster.Status{Since: time.Now(), Err: errNotYet}
	ctx, cancel := context.WithCancel(context.Background())
	e.end = cancel
	e.running.Go(func() { e.sessions(ctx) })
	return nil
}

// Publish implements cluster.Engine. The slices belong to the engine from now on.
func (e *Engine) Publish(members []cluster.Member, stations []cluster.Station, names []cluster.Name) {
	e.mu.Lock()
	e.record.Members, e.record.Stations, e.record.Names = members, stations, names
	e.unsent = true
	e.show()
	e.mu.Unlock()
	poke(e.wake)
}

// show notes which networks are in the record. mu is held.
func (e *Engine) show() {
	for i := range e.record.Members {
		if a, ok := e.specs[e.record.Members[i].Key]; ok {
			a.shown = true
			e.specs[a.Key] = a
		}
	}
}

// Status implements cluster.Engine.
func (e *Engine) Status() cluster.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

// Ignored counts what was found in etcd and could not be used: records that do not parse, of a newer version, under a wrong key.
func (e *Engine) Ignored() uint64 { return e.ignored.Load() }

// Close implements cluster.Engine.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	if e.started && !e.closed {
		e.farewell = ctx
	}
	e.closed = true
	e.set(nil, fmt.Errorf("%w: closed", cluster.ErrUnavailable))
	e.mu.Unlock()
	e.kill()
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.left
	e.left = nil
	return err
}

// kill ends all; without Close's farewell it does so without a word to etcd.
func (e *Engine) kill() {
	e.mu.Lock()
	end := e.end
	e.mu.Unlock()
	if end != nil {
		end()
	}
	e.running.Wait()
}

// set makes s the session that strong calls use, and tells why there is none. mu is held.
func (e *Engine) set(s *session, err error) {
	if e.closed {
		s = nil
	}
	if e.session != s {
		e.session = s
		close(e.changed)
		e.changed = make(chan struct{})
	}
	if e.status.Err == nil && err == nil || e.status.Err != nil && err != nil && e.status.Err.Error() == err.Error() {
		return
	}
	e.status = cluster.Status{Since: time.Now(), Err: err}
}

// maxTold bounds what is said once: beyond it all is said again.
const maxTold = 10000

// once says something to the log, unless it has been said.
func (e *Engine) once(what string, args ...any) {
	key := fmt.Sprint(append([]any{what}, args...)...)
	e.mu.Lock()
	if len(e.told) >= maxTold {
		clear(e.told)
	}
	was := e.told[key]
	e.told[key] = true
	e.mu.Unlock()
	if !was {
		e.log.Warn(what, args...)
	}
}

// endpoints lists them as sentences name them.
func (e *Engine) endpoints() string {
	all := slices.Clone(e.config.Endpoints)
	if len(all) > 3 {
		all = append(all[:3], fmt.Sprintf("%d more", len(e.config.Endpoints)-3))
	}
	return fmt.Sprintf("etcd at %s", listed(all))
}
