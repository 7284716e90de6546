package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
)

// A container that was started with tapestry.capture has a capture from its first frame on, in memory and without a
// reader: it is armed. It ends with the container, and what it has is kept for a reader for a while. Who reads it takes it
// over: from then on it is a capture like any other.

const (
	maxArmed   = 16        // at once, armed or kept
	keepArmed  = time.Hour // after the container's end
	everyFrame = "all"     // instead of a filter: every frame
)

// Arm begins the capture of an endpoint that is about to come.
func (l Observer) Arm(network, endpoint, filter string) error {
	return l.Captures.arm(network, endpoint, filter)
}

// Disarm ends it with the endpoint; there may be none.
func (l Observer) Disarm(endpoint string) { l.Captures.disarm(endpoint) }

func (c *Captures) arm(network, endpoint, expr string) error {
	a := &captureSpec{network: network, endpoint: endpoint}
	a.Name, a.Targets.Endpoints = "tapestry.capture="+expr, []string{endpoint}
	if strings.TrimSpace(expr) == "" {
		return errors.New("want a filter as of tcpdump, or all for every frame")
	}
	if expr != everyFrame {
		a.Filter.Expr = expr
	}
	var err error
	if a.match, err = compileFilter(&a.Filter); err != nil {
		return cmp.Or(errors.Unwrap(err), err) // the filter has been said
	}
	a.targets = parseTargets(&a.Targets)
	c.disarm(endpoint)
	c.dropKept()
	_, err = c.open(a, api.Credentials{UID: -1, PID: -1})
	return err
}

// armed gives the captures without a reader that there are, oldest first. It needs the lock.
func (c *Captures) armed() (all []*session) {
	for _, s := range c.all {
		if s.awaitsReader() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *session) int { return a.began.Compare(b.began) })
	return all
}

// awaitsReader tells whether a capture has no reader yet.
func (s *session) awaitsReader() bool {
	state := *s.state.Load()
	return s.lasted.Load() == 0 && (state == "armed" || state == "kept")
}

// dropKept drops what was kept long enough, and the oldest of it if the next one would be too many.
func (c *Captures) dropKept() {
	c.mu.Lock()
	var gone []*session
	left := c.armed()
	for _, s := range left {
		old := time.Since(time.Unix(0, s.detachedAt.Load())) > keepArmed
		if *s.state.Load() == "kept" && (old || len(left)-len(gone) >= maxArmed) {
			gone = append(gone, s)
			s.stop("stopped") // so nobody takes it any more
		}
	}
	c.mu.Unlock()
	for _, s := range gone {
		c.Close(s, nil)
	}
}

// cancel ends a capture by hand.
func (c *Captures) cancel(s *session) {
	c.mu.Lock()
	waits := c.all[s.id] == s && s.awaitsReader()
	s.stop("stopped")
	c.mu.Unlock()
	if waits {
		c.Close(s, nil)
	}
}

func (c *Captures) disarm(endpoint string) {
	c.mu.Lock()
	var empty []*session
	for _, s := range c.all {
		switch {
		case s.endpoint != endpoint || s.lasted.Load() != 0 || *s.state.Load() == "kept":
		case !s.awaitsReader():
			s.stop("container")
		default:
			s.sink.Close()
			if s.sink.Stats().Accepted == 0 {
				empty = append(empty, s)
				s.stop("container")
				continue
			}
			kept := "kept"
			s.detachedAt.Store(time.Now().UnixNano())
			s.state.Store(&kept)
		}
	}
	c.mu.Unlock()
	for _, s := range empty {
		c.Close(s, nil)
	}
}

// attach gives a capture without a reader to one: from its first frame on.
func (c *Captures) attach(ask *captureSpec, who api.Credentials) (*session, error) {
	c.dropKept()
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.all[ask.Attach]
	switch {
	case old == nil:
		return nil, fmt.Errorf("no capture %q", ask.Attach)
	case !old.awaitsReader():
		return nil, fmt.Errorf("capture %s does not wait for a reader: it has one, or had", old.id)
	}
	ask.Targets, ask.Filter, ask.targets, ask.encode.Filter = old.spec.Targets, old.spec.Filter, old.spec.targets, old.spec.Filter.Expr
	s := newSession(ask, who)
	s.id, s.sink, s.began, s.network, s.endpoint = old.id, old.sink, old.began, old.network, old.endpoint
	if *old.state.Load() == "kept" {
		s.stop("container")
	}
	c.all[s.id] = s
	return s, nil
}
