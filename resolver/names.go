package resolver

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/docker"
)

const (
	gap        = 100 * time.Millisecond // from one request to the next of its kind: many changes are one
	askAgain   = 500 * time.Millisecond // what did not answer
	tellAtMost = 20 * time.Second       // the daemon is told again: what it was told ends after a while (member.NamesLast)
)

// notify puts a token into a channel that holds one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// followDaemon keeps the names of other hosts' containers as the daemon knows them, until ctx ends. Each request waits in the
// daemon until there is something new. While the daemon is away, what it said last stays.
func (s *server) followDaemon(ctx context.Context) {
	after, run, said := "", "", ""
	for ctx.Err() == nil {
		var n api.Names
		err := s.cfg.Client.Call(ctx, http.MethodGet, api.NamesPath+"?after="+url.QueryEscape(after), nil, &n)
		if ctx.Err() != nil {
			return
		}
		said = s.warnOnce(said, "the names of other hosts' containers stay as they were", err)
		if err != nil {
			pause(ctx, askAgain)
			continue
		}
		if n.Run != run {
			s.cfg.Log.Info("the daemon answers", "networks", n.Keys)
			notify(s.tell)
		}
		s.change(func(t *table) *table { return t.with(&n) })
		after, run = n.Version, n.Run
		pause(ctx, gap)
	}
}

// change replaces the table.
func (s *server) change(f func(*table) *table) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.table.Store(f(s.table.Load()))
}

// watchDocker notes when Docker's names may have changed.
func (s *server) watchDocker(ctx context.Context) {
	docker.NewSharedNames(s.cfg.Docker).Changed(ctx, func() { notify(s.look) })
}

// tellDaemon asks Docker for the names of this host's containers when they may have changed, and tells the daemon, until ctx ends.
func (s *server) tellDaemon(ctx context.Context) {
	from := docker.NewSharedNames(s.cfg.Docker)
	var names, told []api.Name
	var last time.Time // when the daemon was told
	away, untold := "", ""
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.tell:
			last = time.Time{}
		case <-s.look:
		case <-again.C:
		}
		now, whole, err := from.Read(ctx)
		if ctx.Err() != nil {
			return
		}
		away = s.warnOnce(away, "the names of this host's containers stay as they were for a while", err)
		if err == nil {
			names = now
			s.change(func(t *table) *table { return &table{others: t.others, own: sorted(names)} })
		}
		wait := tellAtMost
		if err == nil && (time.Since(last) >= tellAtMost || !reflect.DeepEqual(names, told)) {
			refused := s.cfg.Client.Call(ctx, http.MethodPut, api.NamesPath, api.OwnNames{Names: names}, nil)
			if untold = s.warnOnce(untold, "the other hosts are not told the names of this host's containers", refused); refused == nil {
				told, last = names, time.Now()
			}
			if refused != nil {
				wait = askAgain
			}
		}
		if err != nil || !whole {
			wait = askAgain
		}
		again.Reset(wait)
		pause(ctx, gap)
	}
}
