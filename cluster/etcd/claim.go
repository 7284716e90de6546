package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tapestry-net/tapestry/cluster"
)

// wanted is a Claim without a block.
type wanted struct {
	key    string
	subnet netip.Prefix
	bits   int
}

// Claim implements cluster.Engine. Who wants any block gets first what is this host's already, but not in use: what it has claimed
// without that it got an answer, what it could not free, and what an earlier run of the daemon has left. What is in use is what
// was claimed in this run, and what the host published before Start.
func (e *Engine) Claim(ctx context.Context, key string, want cluster.Want) (got netip.Prefix, err error) {
	if err := cluster.CheckKey(key); err != nil {
		return got, err
	}
	if err := checkWant(want); err != nil {
		return got, fmt.Errorf("network %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.StrongLimit)
	defer cancel()
	done, err := e.turn(ctx)
	if err != nil {
		return got, err
	}
	defer done()
	what := fmt.Sprintf("claim %s for network %s", want.Block, key)
	if !want.Block.IsValid() {
		what = fmt.Sprintf("claim /%d of %s for network %s", want.Bits, want.Subnet, key)
	}
	err = e.strong(ctx, what, func(ctx context.Context, s *session) (err error) {
		if got = want.Block; got.IsValid() {
			return s.try(ctx, claim{key, got})
		}
		got, err = s.takeAny(ctx, wanted{key, want.Subnet.Masked(), want.Bits})
		return err
	})
	if err != nil {
		return netip.Prefix{}, err
	}
	return got, nil
}

func checkWant(w cluster.Want) error {
	if b := w.Block; b.IsValid() {
		if b != b.Masked() || b.Addr().Is4In6() || b.Bits() < shortest(b.Addr()) {
			return fmt.Errorf("%s is no block: want it masked, and at least /%d", b, shortest(b.Addr()))
		}
		return nil
	}
	if s := w.Subnet; !s.IsValid() || s.Addr().Is4In6() || w.Bits < s.Bits() || w.Bits > s.Addr().BitLen() || w.Bits < shortest(s.Addr()) {
		return fmt.Errorf("no block of %d bits is in %s", w.Bits, s)
	}
	return nil
}

// Free implements cluster.Engine.
func (e *Engine) Free(ctx context.Context, key string, block netip.Prefix) error {
	if err := cluster.CheckKey(key); err != nil {
		return err
	}
	if err := checkWant(cluster.Want{Block: block}); err != nil || !block.IsValid() {
		return fmt.Errorf("network %s: %s is no block", key, block)
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.StrongLimit)
	defer cancel()
	done, err := e.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	c := claim{key, block}
	e.mu.Lock()
	delete(e.claims, c) // from now on it is not written again
	e.spare[c] = true   // unless the call succeeds
	e.mu.Unlock()
	return e.strong(ctx, fmt.Sprintf("free %s of network %s", block, key), func(ctx context.Context, s *session) error {
		k := s.at.block(key, block)
		r, err := s.client.Txn(ctx).If(s.fence(), clientv3.Compare(clientv3.Value(k), "=", string(s.self.ID))).
			Then(clientv3.OpDelete(k)).Else(clientv3.OpGet(s.at.alive(s.self.ID))).Commit()
		if err == nil && !r.Succeeded && string(first(r, 0).Value) != s.mine {
			return errFence
		}
		if err == nil {
			s.mu.Lock()
			delete(s.spare, c)
			s.mu.Unlock()
		}
		return err
	})
}

// take claims one block. It is a *cluster.Conflict if a part of it is taken.
func (s *session) take(ctx context.Context, key string, b netip.Prefix) error {
	own := s.at.block(key, b)
	from, to := s.at.within(key, b)
	free := []clientv3.Cmp{s.fence(), clientv3.Compare(clientv3.CreateRevision(from), "=", 0).WithRange(to)}
	look := []clientv3.Op{clientv3.OpGet(s.at.alive(s.self.ID)), clientv3.OpGet(own), clientv3.OpGet(from, clientv3.WithRange(to), clientv3.WithLimit(1))}
	for _, k := range s.at.around(key, b) {
		free = append(free, clientv3.Compare(clientv3.CreateRevision(k), "=", 0))
		look = append(look, clientv3.OpGet(k))
	}
	r, err := s.client.Txn(ctx).If(free...).Then(clientv3.OpPut(own, string(s.self.ID))).Else(look...).Commit()
	switch {
	case err != nil || r.Succeeded:
		return err
	case string(first(r, 0).Value) != s.mine:
		return errFence
	case string(first(r, 1).Value) == string(s.self.ID): // claimed before, perhaps without an answer
		return nil
	}
	for i := 1; i < len(look); i++ {
		kv := first(r, i)
		if kv.Key == nil {
			continue
		}
		_, taken, err := s.at.parseBlock(string(kv.Key))
		if err != nil {
			return fmt.Errorf("%s of network %s cannot be claimed: %w", b, key, err)
		}
		what := b.String()
		if taken.Bits() > b.Bits() {
			what = fmt.Sprintf("%s in %s", taken, b)
		}
		return &taking{cluster.Conflict{What: what, Host: s.who(ctx, cluster.HostID(kv.Value))}, taken}
	}
	return fmt.Errorf("%s of network %s: etcd refuses the claim, but nobody has it", b, key)
}

// taking is a Conflict that says which block is taken.
type taking struct {
	cluster.Conflict
	block netip.Prefix
}

func (t *taking) Unwrap() error { return &t.Conflict }

// who is the host with an id, as it says itself.
func (s *session) who(ctx context.Context, id cluster.HostID) cluster.Host {
	if id == s.self.ID {
		return s.self
	}
	h, _, known := s.view.host(id)
	if known {
		return h
	}
	if r, err := s.client.Get(ctx, s.at.record(id)); err == nil && len(r.Kvs) == 1 {
		if r, err := cluster.Decode(r.Kvs[0].Value); err == nil && r.ID == id {
			return r.Host
		}
	}
	return h
}

// Of how many free blocks one is picked, and how many are tried before they are looked for again.
const (
	leastFree = 64
	mostFree  = 4096
	tries     = 8
)

// takeAny claims any block.
func (s *session) takeAny(ctx context.Context, w wanted) (netip.Prefix, error) {
	for {
		if b, err := s.tryAll(ctx, w, s.unused(w)); b.IsValid() || err != nil {
			return b, err
		}
		free, err := s.free(ctx, w, min(max(leastFree, 2*s.view.count()), mostFree))
		if err != nil {
			return netip.Prefix{}, err
		}
		if len(s.unused(w)) > 0 { // some were found
			continue
		}
		if len(free) == 0 {
			return netip.Prefix{}, fmt.Errorf("network %s: %w: all of /%d in %s are taken", w.key, cluster.ErrExhausted, w.bits, w.subnet)
		}
		rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
		if b, err := s.tryAll(ctx, w, free[:min(len(free), tries)]); b.IsValid() || err != nil {
			return b, err
		}
	}
}

// unused are blocks that may be this host's, and that it does not use.
func (s *session) unused(w wanted) (all []netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.spare {
		if c.key == w.key && c.block.Bits() == w.bits && w.subnet.Contains(c.block.Addr()) {
			all = append(all, c.block)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return all
}

// tryAll claims the first of some blocks that nobody has; an invalid one if there is none.
func (s *session) tryAll(ctx context.Context, w wanted, some []netip.Prefix) (netip.Prefix, error) {
	for _, b := range some {
		switch err := s.try(ctx, claim{w.key, b}); {
		case err == nil:
			return b, nil
		case !isTaken(err):
			return netip.Prefix{}, err
		}
	}
	return netip.Prefix{}, nil
}

// try claims a block. As long as there is no answer it may be this host's.
func (s *session) try(ctx context.Context, c claim) error {
	s.mu.Lock()
	if !s.claims[c] {
		s.spare[c] = true
	}
	s.mu.Unlock()
	err := s.take(ctx, c.key, c.block)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.claims[c] = true
	}
	if err == nil || isTaken(err) {
		delete(s.spare, c)
	}
	return err
}

func isTaken(err error) bool { _, ok := err.(*taking); return ok }

// free reads which blocks are free: the first ones, so many at most. The first time it reads all of a network's, and finds those that
// are this host's and unused.
func (s *session) free(ctx context.Context, w wanted, most int) (free []netip.Prefix, err error) {
	var ops []clientv3.Op
	for _, k := range s.at.around(w.key, w.subnet) {
		ops = append(ops, clientv3.OpGet(k, clientv3.WithKeysOnly()))
	}
	if len(ops) > 0 {
		r, err := s.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return nil, err
		}
		for i := range ops {
			if first(r, i).Key != nil { // somebody has the whole subnet
				return nil, nil
			}
		}
	}
	from, to := s.at.within(w.key, w.subnet)
	s.mu.Lock()
	known := s.searched[w]
	s.mu.Unlock()
	g := newGaps(w.subnet, w.bits, most)
	for more := true; more && !(known && g.full()); {
		r, err := s.client.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(2*page))
		if err != nil {
			return nil, err
		}
		for _, kv := range r.Kvs {
			_, b, err := s.at.parseBlock(string(kv.Key))
			if err != nil {
				s.bad(err)
			} else {
				g.taken(b)
				s.found(claim{w.key, b}, string(kv.Value))
			}
			from = string(kv.Key) + "\x00"
		}
		more = r.More
	}
	s.mu.Lock()
	s.searched[w] = true
	s.mu.Unlock()
	return g.rest(), nil
}

// found is told of a block in etcd.
func (s *session) found(c claim, owner string) {
	if owner != string(s.self.ID) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.claims[c] {
		s.spare[c] = true
	}
}

// gaps finds the blocks of a subnet that are free, from the taken ones in the order of their addresses.
type gaps struct {
	subnet netip.Prefix
	bits   int
	b      netip.Prefix // the next one that is not known to be taken; invalid: there is none
	free   []netip.Prefix
	most   int
}

func newGaps(subnet netip.Prefix, bits, most int) *gaps {
	return &gaps{subnet: subnet, bits: bits, b: netip.PrefixFrom(subnet.Addr(), bits), most: most}
}

func (g *gaps) full() bool { return !g.b.IsValid() || len(g.free) >= g.most }

// after goes on behind an address.
func (g *gaps) after(last netip.Addr) {
	g.b = netip.Prefix{}
	if a := last.Next(); a.IsValid() && g.subnet.Contains(a) {
		g.b = netip.PrefixFrom(a, g.bits).Masked()
	}
}

func (g *gaps) add() {
	g.free = append(g.free, g.b)
	g.after(cluster.LastAddr(g.b))
}

// taken tells of the next block that is taken.
func (g *gaps) taken(t netip.Prefix) {
	for !g.full() && cluster.LastAddr(g.b).Less(t.Addr()) {
		g.add()
	}
	if g.b.IsValid() && g.b.Overlaps(t) {
		last := cluster.LastAddr(g.b)
		if l := cluster.LastAddr(t); last.Less(l) {
			last = l
		}
		g.after(last)
	}
}

// rest ends the list: all behind the last one that is taken is free.
func (g *gaps) rest() []netip.Prefix {
	for !g.full() {
		g.add()
	}
	return g.free
}
