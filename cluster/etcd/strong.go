package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
)

// errFence is of a transaction that found hosts/ID/alive not as this run has put it.
var errFence = errors.New("etcd does not know that this host lives")

// Times within a strong call.
const (
	afterthought = 300 * time.Millisecond // of StrongLimit, to find out what is wrong
	leastTry     = 500 * time.Millisecond // for one endpoint, before another one is tried
	retryPause   = 20 * time.Millisecond  // before something is tried again: up to twice as long
)

// strong asks the cluster: f in a session, and again until it succeeds or time is up. An error of f that is not etcd's ends it.
func (e *Engine) strong(ctx context.Context, what string, f func(context.Context, *session) error) error {
	all, cancel := context.WithTimeout(ctx, cluster.StrongLimit)
	defer cancel()
	asking, cancel := context.WithTimeout(ctx, cluster.StrongLimit-afterthought)
	defer cancel()
	one := cluster.StrongLimit - afterthought
	if n := len(e.config.Endpoints); n > 1 {
		one = max(one/time.Duration(n), leastTry)
	}
	var last error
	for {
		s, err := e.ready(asking)
		if err != nil {
			if errors.Is(err, errNotYet) {
				err = e.explain(all, errors.Join(last, err))
			}
			return fmt.Errorf("%s: %w", what, err)
		}
		try, cancel := context.WithTimeout(asking, one)
		err = f(try, s)
		cancel()
		switch kind(err) {
		case answer:
			return err
		case refusal:
			return fmt.Errorf("%s: %w", what, e.explain(all, err))
		}
		last = err
		if errors.Is(err, errFence) {
			poke(s.own)
		}
		select {
		case <-asking.Done():
			return fmt.Errorf("%s: %w", what, e.explain(all, last))
		case <-time.After(retryPause + rand.N(retryPause)):
		}
	}
}

// errNotYet is of a call that ends before there is a session, though nothing is known to be wrong.
var errNotYet = fmt.Errorf("%w: not connected to etcd yet", cluster.ErrUnavailable)

// ready waits for a session that may write.
func (e *Engine) ready(ctx context.Context) (*session, error) {
	for {
		e.mu.Lock()
		s, changed, err, closed := e.session, e.changed, e.status.Err, e.closed || !e.started
		e.mu.Unlock()
		if s != nil && ctx.Err() == nil {
			return s, nil
		}
		if err == nil {
			err = errNotYet
		}
		if closed {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-changed:
		}
	}
}

// turn waits until no other Claim or Free of this host is under way.
func (e *Engine) turn(ctx context.Context) (func(), error) {
	select {
	case e.calling <- struct{}{}:
		return func() { <-e.calling }, nil
	case <-ctx.Done():
		if err := e.Status().Err; err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s: other calls of this host still wait for its answer", cluster.ErrUnavailable, e.endpoints())
	}
}
