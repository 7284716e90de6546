package etcd

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// resume follows hosts/ from the last change that the view has, if etcd still has the same history up to there. It returns nil if it has
// not, or may have not: then all is to be listed. When etcd starts again, all hosts come back at once: that each lists all hosts would be
// work that grows with their square, and would take so long that their leases end.
func (s *session) resume() (<-chan []*mvccpb.Event, error) {
	was := s.last
	if was == nil {
		return nil, nil
	}
	same := false
	err := s.setup(func(ctx context.Context) error {
		r, err := s.client.Get(ctx, string(was.Key), clientv3.WithRev(was.ModRevision))
		if err != nil {
			return err
		}
		same = len(r.Kvs) == 1 && sameChange(r.Kvs[0], was)
		if same {
			s.compare(r.Header)
		}
		return nil
	})
	if errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev) || err == nil && !same {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.follow(was.ModRevision) // that one again: a transaction may have put more, and not all of it may have come
}

// sameChange tells whether two are one change. In another history another one has the revision: of two that write in turn not even the
// values are equal, for records are numbered and each lease has an id of its own.
func sameChange(a, b *mvccpb.KeyValue) bool {
	return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision && a.Version == b.Version && a.Lease == b.Lease &&
		string(a.Key) == string(b.Key) && string(a.Value) == string(b.Value)
}

// note keeps the last of changes, for resume.
func (e *Engine) note(kvs []*mvccpb.KeyValue) {
	e.last = nil
	if len(kvs) > 0 {
		e.last = slices.MaxFunc(kvs, func(a, b *mvccpb.KeyValue) int { return int(a.ModRevision - b.ModRevision) })
	}
}

// noteEvents is note for what a watch tells, which is in order.
func (e *Engine) noteEvents(all []*mvccpb.Event) {
	for _, ev := range all {
		if ev.Type == mvccpb.Event_PUT { // a key that was removed cannot be compared later
			e.last = ev.Kv
		}
	}
}
