package etcd

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tapestry-net/tapestry/cluster"
)

// maxVNIs is how many VNIs are tried for a network, if the ones before are taken.
const maxVNIs = 100

// Network implements cluster.Engine. A network that no host uses any more, and of which nobody has a block, may get another spec.
func (e *Engine) Network(ctx context.Context, spec cluster.Spec) (got cluster.Spec, err error) {
	if err := spec.Check(); err != nil {
		return got, err
	}
	err = e.strong(ctx, "agree on network "+spec.Key, func(ctx context.Context, s *session) (err error) {
		got, err = s.agree(ctx, spec)
		return err
	})
	if err != nil {
		return cluster.Spec{}, err
	}
	e.mu.Lock()
	e.turns++
	e.specs[spec.Key] = agreement{Spec: got, turn: e.turns}
	e.show()
	e.mu.Unlock()
	return got, nil
}

// agree returns the spec that is valid, after this host is one of the network's users.
func (s *session) agree(ctx context.Context, spec cluster.Spec) (cluster.Spec, error) {
	network, user := s.at.network(spec.Key), s.at.user(spec.Key, s.self.ID)
	for try := 0; try < maxVNIs; {
		want := spec
		if want.VNI == 0 {
			want.VNI = choose(s.config.Cluster, spec.Key, try)
		}
		vni := s.at.vni(want.VNI)
		r, err := s.client.Txn(ctx).Then(clientv3.OpGet(network), clientv3.OpGet(vni)).Commit()
		if err != nil {
			return want, err
		}
		have, taken := first(r, 0), first(r, 1)
		if have.Key != nil {
			a, err := parseAgreed(spec.Key, have.Value)
			if err != nil {
				return want, err
			}
			diff := a.Spec.Differs(spec)
			if diff == "" {
				if ok, err := s.write(ctx, clientv3.Compare(clientv3.ModRevision(network), "=", have.ModRevision))(clientv3.OpPut(user, "")); ok || err != nil {
					return a.Spec, err
				}
				continue // it has changed just now
			}
			if ok, err := s.abolish(ctx, spec.Key, have.ModRevision, a.Spec.VNI); err != nil || !ok {
				if err == nil {
					err = &cluster.Conflict{What: "network " + spec.Key, Host: s.userOf(ctx, spec.Key, a.By), Have: diff}
				}
				return want, err
			}
			continue
		}
		if taken.Key != nil && string(taken.Value) != spec.Key {
			if spec.VNI != 0 {
				return want, s.vniTaken(ctx, want.VNI, string(taken.Value))
			}
			try++
			continue
		}
		ok, err := s.write(ctx, clientv3.Compare(clientv3.ModRevision(network), "=", 0), clientv3.Compare(clientv3.ModRevision(vni), "=", taken.ModRevision))(
			clientv3.OpPut(network, agreedValue(want, s.self)), clientv3.OpPut(vni, spec.Key), clientv3.OpPut(user, ""))
		if ok || err != nil {
			return want, err
		}
	}
	return spec, fmt.Errorf("network %s: %d VNIs were tried, and all belong to other networks: give it one", spec.Key, maxVNIs)
}

// choose is the VNI of a network if so many before are taken. The first one is what all kinds of cluster choose.
func choose(name, key string, try int) uint32 {
	if try > 0 {
		name += "/" + strconv.Itoa(try)
	}
	return cluster.ChooseVNI(name, key)
}

// write is a transaction of this host: on these conditions. It tells whether they were true.
func (s *session) write(ctx context.Context, on ...clientv3.Cmp) func(...clientv3.Op) (bool, error) {
	return func(ops ...clientv3.Op) (bool, error) {
		r, err := s.client.Txn(ctx).If(append(on, s.fence())...).Then(ops...).Else(clientv3.OpGet(s.at.alive(s.self.ID))).Commit()
		if err != nil {
			return false, err
		}
		if !r.Succeeded && string(first(r, 0).Value) != s.mine {
			return false, errFence
		}
		return r.Succeeded, nil
	}
}

// abolish removes a network that no host uses, and of which nobody has a block. It tells whether it has.
func (s *session) abolish(ctx context.Context, key string, rev int64, vni uint32) (bool, error) {
	s.mu.Lock()
	on := slices.ContainsFunc(s.record.Members, func(m cluster.Member) bool { return m.Key == key })
	s.mu.Unlock()
	if on || s.view.uses(key) {
		return false, nil
	}
	user := s.at.user(key, s.self.ID)
	none := func(from, to string) clientv3.Cmp {
		return clientv3.Compare(clientv3.CreateRevision(from), "=", 0).WithRange(to)
	}
	blocks := s.at.blocks(key)
	return s.write(ctx, clientv3.Compare(clientv3.Value(s.at.vni(vni)), "=", key), clientv3.Compare(clientv3.ModRevision(s.at.network(key)), "=", rev),
		none(s.at.users(key), user), none(user+"\x00", clientv3.GetPrefixRangeEnd(s.at.users(key))),
		none(blocks, clientv3.GetPrefixRangeEnd(blocks)))(
		clientv3.OpDelete(s.at.network(key)), clientv3.OpDelete(s.at.vni(vni)), clientv3.OpDelete(user))
}

// userOf is a host that uses a network: the one that has made it, if it still does.
func (s *session) userOf(ctx context.Context, key string, by cluster.Host) cluster.Host {
	r, err := s.client.Get(ctx, s.at.users(key), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(page))
	if err == nil && len(r.Kvs) > 0 && !slices.ContainsFunc(r.Kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == s.at.user(key, by.ID) }) {
		return s.who(ctx, cluster.HostID(strings.TrimPrefix(string(r.Kvs[0].Key), s.at.users(key))))
	}
	return s.now(by)
}

// vniTaken is the conflict with the network that has a VNI.
func (s *session) vniTaken(ctx context.Context, vni uint32, key string) error {
	c := &cluster.Conflict{What: fmt.Sprintf("VNI %d", vni), Have: "network " + key}
	r, err := s.client.Get(ctx, s.at.network(key))
	if err != nil {
		return err
	}
	if len(r.Kvs) == 1 {
		if a, err := parseAgreed(key, r.Kvs[0].Value); err == nil {
			c.Host = s.now(a.By)
			return c
		}
	}
	return fmt.Errorf("VNI %d belongs to network %q, of which etcd has no more", vni, key)
}

// now is a host as it is known now.
func (s *session) now(h cluster.Host) cluster.Host {
	if h.ID == s.self.ID {
		return s.self
	}
	if now, _, known := s.view.host(h.ID); known {
		return now
	}
	return h
}

// Forget implements cluster.Engine.
func (e *Engine) Forget(ctx context.Context, id cluster.HostID) error {
	if err := checkID(string(id)); err != nil {
		return err
	}
	return e.strong(ctx, "forget host "+string(id), func(ctx context.Context, s *session) error { return s.forget(ctx, id) })
}

func (s *session) forget(ctx context.Context, id cluster.HostID) error {
	alive, record := s.at.alive(id), s.at.record(id)
	r, err := s.client.Txn(ctx).Then(clientv3.OpGet(alive), clientv3.OpGet(record)).Commit()
	if err != nil {
		return err
	}
	h, state, known := s.view.host(id)
	switch {
	case first(r, 0).Key != nil || known && state == cluster.Suspect:
		return fmt.Errorf("host %s: %w: it is alive", h, cluster.ErrNotGone)
	case first(r, 1).Key == nil:
		return fmt.Errorf("%w: %s", cluster.ErrNoHost, id)
	}
	keys, err := s.owned(ctx, id)
	if err != nil {
		return err
	}
	dead := clientv3.Compare(clientv3.CreateRevision(alive), "=", 0)
	for last := false; !last; { // the record goes at the end, so that what was begun can be ended
		some := keys[:min(len(keys), page/10)]
		keys = keys[len(some):]
		last = len(keys) == 0
		on := []clientv3.Cmp{dead}
		var ops []clientv3.Op
		for _, k := range some {
			on = append(on, clientv3.Compare(clientv3.ModRevision(k.key), "=", k.rev))
			ops = append(ops, clientv3.OpDelete(k.key))
		}
		if last {
			ops = append(ops, clientv3.OpDelete(record))
		}
		if ok, err := s.write(ctx, on...)(ops...); err != nil || !ok {
			if err == nil {
				err = fmt.Errorf("host %s: %w: it has come back", h, cluster.ErrNotGone)
			}
			return err
		}
	}
	return nil
}

// ownedKey is a key that belongs to a host, and its revision.
type ownedKey struct {
	key string
	rev int64
}

// owned lists what a host owns: its blocks, and that it uses networks.
func (s *session) owned(ctx context.Context, id cluster.HostID) (all []ownedKey, err error) {
	for _, from := range []string{s.at.allBlocks(), s.at.allUsers()} {
		to := clientv3.GetPrefixRangeEnd(from)
		for more := true; more; {
			r, err := s.client.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(2*page))
			if err != nil {
				return nil, err
			}
			for _, kv := range r.Kvs {
				if string(kv.Value) == string(id) || bytes.HasPrefix(kv.Key, []byte(s.at.allUsers())) && bytes.HasSuffix(kv.Key, []byte("/"+id)) {
					all = append(all, ownedKey{string(kv.Key), kv.ModRevision})
				}
				from = string(kv.Key) + "\x00"
			}
			more = r.More
		}
	}
	return all, nil
}

// outlived forgets hosts that have been gone for long.
func (s *session) outlived(all []cluster.HostID) {
	for _, id := range all {
		h, _, _ := s.view.host(id)
		if err := s.setup(func(ctx context.Context) error { return s.forget(ctx, id) }); err != nil {
			s.log.Debug("a host has been gone for long, but is not forgotten", "host", h.String(), "error", err)
			continue
		}
		s.log.Info("a host has been gone for long: it is forgotten, with what it owned", "host", h.String(), "after", s.config.Keep)
	}
}
