package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tapestry-net/tapestry/cluster"
)

// maxValue is how much of a record etcd takes: its requests have 1.5 MiB at most, unless its --max-request-bytes says otherwise.
const maxValue = 3<<19 - 64<<10

// A double is another daemon with this host's id.
type double struct{ what string }

func (d *double) Error() string { return d.what }

// keep keeps what is this host's own in etcd, until the session ends. What etcd refuses is tried again: reading goes on meanwhile, and
// a list of all hosts would not help an etcd that is in trouble.
func (s *session) keep() {
	for pause := retryFirst; s.ctx.Err() == nil; {
		err := s.join()
		if err == nil {
			pause = retryFirst
			if err = s.serve(); err == nil { // it has to join again
				continue
			}
		}
		if s.ctx.Err() != nil {
			return
		}
		var d *double
		again := time.NewTimer(pause/2 + rand.N(pause))
		if errors.As(err, &d) { // until the other one is gone
			again.Stop()
			err = fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
		} else {
			err = s.explain(s.ctx, err)
		}
		s.mu.Lock()
		s.set(nil, err)
		s.mu.Unlock()
		s.once("this host is not told to the others", "error", err)
		select {
		case <-s.own:
		case <-again.C:
		case <-s.ctx.Done():
		}
		again.Stop()
		pause = min(2*pause, 2*retryMost)
	}
}

// join puts hosts/ID/alive and the record, if they are not somebody else's.
func (s *session) join() error {
	alive, record := s.at.alive(s.self.ID), s.at.record(s.self.ID)
	for {
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		var was *clientv3.TxnResponse
		err := s.setup(func(ctx context.Context) (err error) {
			was, err = s.client.Txn(ctx).Then(clientv3.OpGet(alive), clientv3.OpGet(record)).Commit()
			return err
		})
		if err != nil {
			return err
		}
		a, r := first(was, 0), first(was, 1)
		if err := s.double(a, r); err != nil {
			return err
		}
		if s.stands(a, r) {
			return s.live()
		}
		if err := s.grant(); err != nil {
			return err
		}
		value, seq, err := s.encode()
		if err != nil {
			return err
		}
		var now *clientv3.TxnResponse
		err = s.setup(func(ctx context.Context) (err error) {
			now, err = s.client.Txn(ctx).If(
				clientv3.Compare(clientv3.ModRevision(alive), "=", a.ModRevision), clientv3.Compare(clientv3.ModRevision(record), "=", r.ModRevision),
			).Then(
				clientv3.OpPut(alive, s.mine, clientv3.WithLease(clientv3.LeaseID(s.lease.Load()))), clientv3.OpPut(record, value),
			).Commit()
			return err
		})
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			s.lease.Store(0)
		case err != nil:
			return err
		case now.Succeeded:
			s.confirmed(seq)
			return s.live()
		}
	}
}

// stands tells whether etcd has just what this run of the daemon has put there: then a new session has nothing to write, which all other hosts
// would have to be told.
func (s *session) stands(alive, record *mvccpb.KeyValue) bool {
	lease := s.lease.Load()
	if lease == 0 || alive.Lease != lease || string(alive.Value) != s.mine {
		return false
	}
	r, err := cluster.Decode(record.Value)
	s.mu.Lock()
	defer s.mu.Unlock()
	return err == nil && !s.unsent && r.Epoch == s.self.Epoch && r.Seq == s.written && s.record.Seq == s.written
}

// first is the first key of a transaction's i-th answer; without one it is empty.
func first(r *clientv3.TxnResponse, i int) *mvccpb.KeyValue {
	if kvs := r.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0]
	}
	return new(mvccpb.KeyValue)
}

// double tells whether another daemon has this host's id, by what stands below its keys.
func (s *session) double(alive, record *mvccpb.KeyValue) error {
	r, err := cluster.Decode(record.Value)
	known := err == nil && r.ID == s.self.ID
	where := ""
	if known && (r.Name != s.self.Name || r.VTEP != s.self.VTEP) {
		where = " at host " + r.Host.String()
	}
	a, err := parseAlive(alive.Value)
	lives := err == nil && string(alive.Value) != s.mine
	const what = "another daemon has this host's id %s%s, with epoch %d (here it is %d): was the state directory copied? Remove one of the two, then start the daemon again"
	switch {
	case lives && a.Epoch >= s.self.Epoch:
		return &double{fmt.Sprintf(what, s.self.ID, where, a.Epoch, s.self.Epoch)}
	case known && r.Epoch > s.self.Epoch:
		return &double{fmt.Sprintf(what, s.self.ID, where, r.Epoch, s.self.Epoch)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have := uint64(0)
	if known && r.Epoch == s.self.Epoch {
		have = r.Seq
	}
	if have < s.written { // what etcd had confirmed
		s.log.Warn("etcd has an older record of this host than it had before: it has lost data, or was restored from a backup; the host writes it again")
	}
	s.record.Seq = max(s.record.Seq, have)
	return nil
}

// grant takes a lease, unless there is one.
func (s *session) grant() error {
	if s.lease.Load() != 0 {
		return nil
	}
	return s.setup(func(ctx context.Context) error {
		r, err := s.client.Grant(ctx, int64((s.ttl+time.Second-1)/time.Second))
		if err == nil {
			s.lease.Store(int64(r.ID))
		}
		return err
	})
}

// encode is the next record. What etcd cannot take is left out: names first.
func (s *session) encode() (value string, seq uint64, err error) {
	s.mu.Lock()
	s.record.Seq++
	s.unsent = false
	r := s.record
	s.mu.Unlock()
	for _, without := range []struct {
		what string
		drop func()
	}{{"names", func() { r.Names = nil }}, {"stations", func() { r.Stations = nil }}, {"networks", func() { r.Members = nil }}, {}} {
		b, err := r.Encode()
		if err == nil && len(b) <= maxValue || without.drop == nil {
			return string(b), r.Seq, err
		}
		s.once("this host's record is too large for etcd: a part of it is not told to the others", "without", without.what, "bytes at most", maxValue)
		without.drop()
	}
	panic("unreachable")
}

func (s *session) confirmed(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = max(s.written, seq)
}

// serve writes what this host publishes, while it is joined. It returns nil when it has to join again.
func (s *session) serve() error {
	s.mu.Lock()
	if s.status.Err != nil {
		s.log.Info("connected to the cluster", "etcd", s.config.Endpoints)
	}
	s.set(s, nil)
	s.mu.Unlock()
	if err := s.again(); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		unsent := s.unsent
		s.mu.Unlock()
		if unsent {
			if joined, err := s.publish(); err != nil || !joined {
				return err
			}
			select {
			case <-time.After(publishGap):
			case <-s.ctx.Done():
			}
		}
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-s.own:
			return nil
		case <-s.wake:
		}
	}
}

// publish writes the record, and takes the host off the networks that it has left. It tells false if it has to join again.
func (s *session) publish() (joined bool, err error) {
	left := s.abandoned()
	value, seq, err := s.encode()
	if err != nil {
		return false, err
	}
	ops := []clientv3.Op{clientv3.OpPut(s.at.record(s.self.ID), value)}
	for key := range left {
		ops = append(ops, clientv3.OpDelete(s.at.user(key, s.self.ID)))
	}
	err = s.setup(func(ctx context.Context) error {
		r, err := s.client.Txn(ctx).If(s.fence()).Then(ops...).Commit()
		if err == nil {
			joined = r.Succeeded
		}
		return err
	})
	s.mu.Lock()
	again := false
	if joined {
		s.written = max(s.written, seq)
		for key, turn := range left {
			if s.specs[key].turn == turn {
				delete(s.specs, key)
			} else { // agreed on again since
				again = true
			}
		}
	} else {
		s.unsent = true
	}
	s.mu.Unlock()
	if again {
		err = s.again()
	}
	return joined, err
}

// abandoned are networks that this host has agreed on and published, and that are not in the record any more, with the turn of the
// agreement: some of them.
func (s *session) abandoned() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, left := make(map[string]bool), make(map[string]uint64)
	for i := range s.record.Members {
		now[s.record.Members[i].Key] = true
	}
	for key, a := range s.specs {
		if a.shown && !now[key] && len(left) < page/5 {
			left[key] = a.turn
		}
	}
	return left
}

// again looks whether etcd has what this host has agreed on and claimed, and writes what is missing, unless somebody else has it now:
// etcd may have lost data.
func (s *session) again() error {
	s.mu.Lock()
	claims := slices.Collect(maps.Keys(s.claims))
	var specs []cluster.Spec
	for _, a := range s.specs {
		specs = append(specs, a.Spec)
	}
	s.mu.Unlock()
	var keys []string
	for i := range specs {
		keys = append(keys, s.at.network(specs[i].Key), s.at.user(specs[i].Key, s.self.ID))
	}
	for _, c := range claims {
		keys = append(keys, s.at.block(c.key, c.block))
	}
	have := make(map[string]string)
	for some := range slices.Chunk(keys, page/5) {
		var ops []clientv3.Op
		for _, key := range some {
			ops = append(ops, clientv3.OpGet(key))
		}
		err := s.setup(func(ctx context.Context) error {
			r, err := s.client.Txn(ctx).Then(ops...).Commit()
			for i := range ops {
				if err == nil && len(r.Responses[i].GetResponseRange().Kvs) > 0 {
					have[some[i]] = string(first(r, i).Value)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	var err error
	write := func(what string, f func(context.Context) error) {
		if err != nil {
			return
		}
		err = s.setup(f)
		var c *cluster.Conflict
		switch {
		case errors.As(err, &c):
			s.once("another host has what this host uses, since etcd has lost it; nothing is changed here", "what", what, "other", c.Error(), "host", s.self.String())
			err = nil
		case errors.Is(err, errFence): // it joins again
			poke(s.own)
			err = nil
		case err == nil:
			s.log.Warn("etcd had lost what belongs to this host; it is written again", "what", what)
		}
	}
	for _, spec := range specs {
		_, user := have[s.at.user(spec.Key, s.self.ID)]
		if a, bad := parseAgreed(spec.Key, []byte(have[s.at.network(spec.Key)])); bad != nil || !user || a.Spec.Differs(spec) != "" {
			write("network "+spec.Key, func(ctx context.Context) error { _, err := s.agree(ctx, spec); return err })
		}
	}
	for _, c := range claims {
		if have[s.at.block(c.key, c.block)] != string(s.self.ID) {
			write(fmt.Sprintf("%s of network %s", c.block, c.key), func(ctx context.Context) error { return s.take(ctx, c.key, c.block) })
		}
	}
	return err
}

// fence is the comparison that only this run of the daemon passes.
func (e *Engine) fence() clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(e.at.alive(e.self.ID)), "=", e.mine)
}
