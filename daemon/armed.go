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
// reader: the capture is armed. When the container ends it takes no more frames, and those that it has are kept for a reader for
// a while. Once a reader has attached, it is a capture like any other.

const (
	maxArmed   = 16        // captures without a reader at once, armed or kept
	keepArmed  = time.Hour // how long one is kept after the container's end
	everyFrame = "all"     // instead of a filter: every frame
)

// Arm starts the capture of an endpoint that is about to be created. The error says what is wrong with the filter, or what limit
// is reached.
func (l Observer) Arm(network, endpoint, filter string) error {
	return l.Captures.arm(network, endpoint, filter)
}

// Disarm ends the capture of an endpoint that is gone, if it has one.
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
		return cmp.Or(errors.Unwrap(err), err) // without the filter, which the caller's error repeats
	}
	if a.targets, err = parseTargets(&a.Targets); err != nil {
		return err
	}
	c.disarm(endpoint)
	c.dropKept()
	_, err = c.open(a, api.Credentials{UID: -1, PID: -1})
	return err
}

// armed returns the captures without a reader, oldest first. The caller holds c.mu.
func (c *Captures) armed() (all []*activeCapture) {
	for _, s := range c.all {
		if s.awaitsReader() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *activeCapture) int { return a.began.Compare(b.began) })
	return all
}

// awaitsReader tells whether a capture has no reader yet.
func (s *activeCapture) awaitsReader() bool {
	state := *s.state.Load()
	return s.lasted.Load() == 0 && (state == "armed" || state == "kept")
}

// dropKept ends kept captures: those that were kept for keepArmed, and the oldest ones while there is no room for another.
func (c *Captures) dropKept() {
	c.mu.Lock()
	var gone []*activeCapture
	left := c.armed()
	for _, s := range left {
		old := time.Since(time.Unix(0, s.detachedAt.Load())) > keepArmed
		if *s.state.Load() == "kept" && (old || len(left)-len(gone) >= maxArmed) {
			gone = append(gone, s)
			s.stop("stopped") // so that no reader attaches any more
		}
	}
	c.mu.Unlock()
	for _, s := range gone {
		c.Close(s, nil)
	}
}

// cancel ends a capture because a user asked for it.
func (c *Captures) cancel(s *activeCapture) {
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
	var empty []*activeCapture
	for _, s := range c.all {
		switch {
		case s.endpoint != endpoint || s.lasted.Load() != 0 || *s.state.Load() == "kept":
		case !s.awaitsReader():
			s.stop("container")
		default:
			s.sub.Close()
			if s.sub.Stats().Accepted == 0 {
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

// attach makes the capture of the first reader of an armed or kept capture. The reader gets all frames from the first one on.
func (c *Captures) attach(ask *captureSpec, who api.Credentials) (*activeCapture, error) {
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
	s := newActiveCapture(ask, who)
	s.id, s.sub, s.began, s.network, s.endpoint = old.id, old.sub, old.began, old.network, old.endpoint
	if *old.state.Load() == "kept" {
		s.stop("container")
	}
	c.all[s.id] = s
	return s, nil
}
