// Package resolver is tapestry resolver: a DNS server for this host's containers that knows the names of containers on other hosts.
//
// Docker's embedded resolver asks it what it does not know itself. What this one does not know either, it hands on to the
// host's own servers. It tells the daemon the names of this host's containers, and asks it for those of other hosts; no question
// ever waits for that. It is a process of its own beside the daemon, which never asks Docker.
//
// Not done: recursion, caches, zones, DNSSEC. What comes from outside can be anything; it never ends the process.
package resolver

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/docker"
)

const (
	maxUnderWay = 1024 // questions that are handed on at a time
	countEvery  = time.Minute
)

// Config is read once by Run.
type Config struct {
	Client     *client.Client // of the daemon
	Docker     *docker.Engine
	Listen     []netip.AddrPort // none: port 53 of Docker's bridges
	Upstream   []netip.AddrPort // none: those in ResolvConf
	ResolvConf string           // path of resolv.conf(5)
	Log        *slog.Logger
}

// ErrNoBridge: no address is given to listen at, and Docker's bridges are not there.
var ErrNoBridge = errors.New("this host has neither docker0 nor docker_gwbridge: start it after Docker, or name the address by --listen ADDR:PORT")

// A server is one run.
type server struct {
	cfg  Config
	ctx  context.Context         // of the run: questions that are handed on end with it
	find func() []netip.AddrPort // gives addresses to listen at

	table   atomic.Pointer[table]
	servers atomic.Pointer[[]netip.AddrPort] // that questions are handed on to
	read    atomic.Pointer[os.FileInfo]      // resolv.conf as it was when it was read last; nil: never
	places  chan struct{}                    // holds a token for each question that is handed on
	tell    chan struct{}                    // holds a token when the daemon must be told anew, even if nothing has changed
	look    chan struct{}                    // holds a token when Docker must be asked
	count   counts

	changing sync.Mutex // held while the table is replaced

	mu        sync.Mutex // guards listeners
	listeners []*listener
}

// counts are of questions, but for mismatched.
type counts struct {
	answered, handedOn, unanswered, limited, malformed, failed atomic.Uint64
	mismatched                                                 atomic.Uint64 // answers that were to no question of ours
}

func newServer(ctx context.Context, cfg Config) *server {
	s := &server{cfg: cfg, ctx: ctx, find: bridges, places: make(chan struct{}, maxUnderWay), tell: make(chan struct{}, 1), look: make(chan struct{}, 1)}
	if len(cfg.Listen) > 0 {
		s.find = func() []netip.AddrPort { return cfg.Listen }
	}
	s.table.Store(&table{others: sorted(nil)})
	s.servers.Store(new([]netip.AddrPort))
	return s
}

// Run serves until ctx ends, and then returns nil. An error is of the addresses to listen at.
func Run(ctx context.Context, cfg Config) error {
	return newServer(ctx, cfg).run(ctx)
}

func (s *server) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wanted := s.find()
	if len(wanted) == 0 {
		return ErrNoBridge
	}
	err := s.open(ctx, wanted)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		defer cancel()
		_ = s.open(ctx, nil) // closes all
		s.cfg.Log.Info("stopped", s.count.list()...)
	}()
	if err != nil {
		return err
	}
	s.loadServers()
	work := []func(context.Context){s.followDaemon, s.tellDaemon, s.watchDocker, s.watchCounts, s.followAddresses}
	if len(s.cfg.Upstream) == 0 {
		work = append(work, s.watchServers)
	}
	var running sync.WaitGroup
	for _, f := range work {
		running.Go(func() { f(ctx) })
	}
	running.Wait()
	return nil
}

func (c *counts) list() []any {
	return []any{"answered", c.answered.Load(), "handed_on", c.handedOn.Load(), "unanswered", c.unanswered.Load(), "limited", c.limited.Load(),
		"malformed", c.malformed.Load(), "mismatched", c.mismatched.Load(), "failed", c.failed.Load()}
}

// watchCounts says now and then what goes wrong.
func (s *server) watchCounts(ctx context.Context) {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	wrong := func() uint64 {
		c := &s.count
		return c.unanswered.Load() + c.limited.Load() + c.malformed.Load() + c.mismatched.Load() + c.failed.Load()
	}
	for was := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := wrong(); now != was {
			was = now
			s.cfg.Log.Warn("not all was as it should be", s.count.list()...)
		}
	}
}

// warnOnce says what goes wrong, unless that was said last. It returns what to give it the next time.
func (s *server) warnOnce(said, what string, err error) string {
	if err == nil {
		return ""
	}
	if now := err.Error(); now != said {
		s.cfg.Log.Warn(what, "err", err)
		return now
	}
	return said
}
