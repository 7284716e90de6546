package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A container that was started with tapestry.capture has a capture from its first frame on, in memory and without a
// reader: it is armed. It ends with the container, and what it has is kept for a reader for a while. Who reads it takes it
// over: from then on it is a capture like any other.

const (
	maxArmed = 16        // at once, armed or kept
	keepFor  = time.Hour // after the container's end
	allWord  = "all"     // instead of a filter: every frame
)

// Arm begins the capture of an endpoint that is about to come.
func (l looker) Arm(network, endpoint, filter string) error {
	return l.captures.arm(network, endpoint, filter)
}

// Disarm ends it with the endpoint; there may be none.
func (l looker) Disarm(endpoint string) { l.captures.disarm(endpoint) }

func (c *captures) arm(network, endpoint, expr string) error {
	a := &asked{network: network, endpoint: endpoint}
	a.Name, a.Targets.Endpoints = "tapestry.capture="+expr, []string{endpoint}
	if strings.TrimSpace(expr) == "" {
		return errors.New("want a filter as of tcpdump, or all for every frame")
	}
	if expr != allWord {
		a.Filter.Expr = expr
	}
	var err error
	if a.match, err = a.Filter.compile(); err != nil {
		return cmp.Or(errors.Unwrap(err), err) // the filter has been said
	}
	a.targets = a.Targets.read()
	c.disarm(endpoint)
	c.room()
	_, err = c.open(a, credentials{-1, -1})
	return err
}

// armed gives the captures without a reader that there are, oldest first. It needs the lock.
func (c *captures) armed() (all []*session) {
	for _, s := range c.all {
		if s.waits() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *session) int { return a.began.Compare(b.began) })
	return all
}

// waits tells whether a capture has no reader yet.
func (s *session) waits() bool {
	state := *s.state.Load()
	return s.length.Load() == 0 && (state == "armed" || state == "kept")
}

// room drops what was kept long enough, and the oldest of it if the next one would be too many.
func (c *captures) room() {
	c.mu.Lock()
	var gone []*session
	left := c.armed()
	for _, s := range left {
		old := time.Since(time.Unix(0, s.left.Load())) > keepFor
		if *s.state.Load() == "kept" && (old || len(left)-len(gone) >= maxArmed) {
			gone = append(gone, s)
			s.stop("stopped") // so nobody takes it any more
		}
	}
	c.mu.Unlock()
	for _, s := range gone {
		c.close(s, nil)
	}
}

// cancel ends a capture by hand.
func (c *captures) cancel(s *session) {
	c.mu.Lock()
	waits := c.all[s.id] == s && s.waits()
	s.stop("stopped")
	c.mu.Unlock()
	if waits {
		c.close(s, nil)
	}
}

func (c *captures) disarm(endpoint string) {
	c.mu.Lock()
	var empty []*session
	for _, s := range c.all {
		switch {
		case s.endpoint != endpoint || s.length.Load() != 0 || *s.state.Load() == "kept":
		case !s.waits():
			s.stop("container")
		default:
			s.sink.Close()
			if s.sink.Stats().Accepted == 0 {
				empty = append(empty, s)
				s.stop("container")
				continue
			}
			kept := "kept"
			s.left.Store(time.Now().UnixNano())
			s.state.Store(&kept)
		}
	}
	c.mu.Unlock()
	for _, s := range empty {
		c.close(s, nil)
	}
}

// take gives a capture without a reader to one: from its first frame on.
func (c *captures) take(ask *asked, who credentials) (*session, error) {
	c.room()
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.all[ask.Attach]
	switch {
	case old == nil:
		return nil, fmt.Errorf("no capture %q", ask.Attach)
	case !old.waits():
		return nil, fmt.Errorf("capture %s does not wait for a reader: it has one, or had", old.id)
	}
	ask.Targets, ask.Filter, ask.targets, ask.show.Filter = old.ask.Targets, old.ask.Filter, old.ask.targets, old.ask.Filter.Expr
	s := newSession(ask, who)
	s.id, s.sink, s.began, s.network, s.endpoint = old.id, old.sink, old.began, old.network, old.endpoint
	if *old.state.Load() == "kept" {
		s.stop("container")
	}
	c.all[s.id] = s
	return s, nil
}

// armed finds the capture that waits for a reader and is called word: by its id, its container's name, or its endpoint's.
func (j *job) armed(ctx context.Context, n *names, want *captureRequest) (*targets, error) {
	status, err := j.c.status(ctx)
	if err != nil {
		return nil, err
	}
	word, t := j.o.attach, newTargets(n)
	for _, b := range status.Captures {
		if b.Endpoint == "" || b.ID != word && n.Container(b.Endpoint) != word && (len(word) < 4 || !strings.HasPrefix(b.Endpoint, word)) {
			continue
		}
		if want.Attach != "" {
			return nil, failf(exitUsage, "%q can be capture %s or %s: name one by that number", word, want.Attach, b.ID)
		}
		want.Attach, t.endpoints[b.Endpoint] = b.ID, true
	}
	if want.Attach == "" {
		return nil, failf(exitNoTarget, "no capture %q waits for a reader: tapestry status shows those that do, and a container has one that was "+
			"started with --network name=NET,driver-opt=tapestry.capture=FILTER", word)
	}
	return t, nil
}

// armedText says of a capture without a reader what there is to read.
func (b captureBooks) armedText(d *docker) string {
	state := "from its start on"
	if b.State == "kept" {
		state = "which has ended"
	}
	return fmt.Sprintf("capture %s of %s, %s, %q: %s to read, %s lost (tapestry capture --attach %s)", b.ID, d.portLabel(b.Endpoint), state,
		printable(strings.TrimPrefix(b.Name, "tapestry.capture=")), count(b.Waiting, "frame"), thousands(b.Dropped), b.ID)
}
