package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/cluster"
)

// A Use says what an address is for.
type Use struct {
	Gateway bool // of the network, not of a container
	Swarm   bool // the leading manager asks, for a container on any node
}

// RequestAddress gives out an address of a pool, with the subnet's length: the one that is wanted, or with the zero address any. A
// gateway's may be asked for again.
func (m *Manager) RequestAddress(ctx context.Context, id string, want netip.Addr, use Use) (netip.Prefix, error) {
	if err := m.acquire(ctx); err != nil {
		return netip.Prefix{}, err
	}
	defer m.release()
	p, err := m.pool(id)
	if err != nil {
		return netip.Prefix{}, err
	}
	if use.Swarm {
		if p.Key != "" {
			return netip.Prefix{}, fmt.Errorf("network %s: in a Swarm the manager gives out the addresses for all nodes: leave --ipam-opt tapestry.network away", p.Key)
		}
		p.Swarm, p.asked = true, m.began // written with the address
	}
	switch {
	case use.Gateway:
		err = m.takeGateway(p, &want)
	case want.IsValid():
		err = m.takeThis(ctx, p, want)
	default:
		want, err = m.takeAny(ctx, p)
	}
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(want, p.Subnet.Bits()), nil
}

func (m *Manager) pool(id string) (*pool, error) {
	p := m.pools[id]
	if p == nil {
		return nil, fmt.Errorf("pool %q is not known: Docker has it, and tapestry's state directory does not: bring that back, or docker network rm it and create it again", id)
	}
	return p, nil
}

// save writes a pool after change, which is undone if that fails.
func (m *Manager) save(p *pool, undo func()) error {
	err := m.dir.SavePool(p.record())
	if err != nil {
		undo()
	}
	return err
}

// takeGateway reserves the gateway's address: on each host of the network, since no container ever gets it.
func (m *Manager) takeGateway(p *pool, a *netip.Addr) error {
	old := p.Gateway
	switch {
	case !a.IsValid() && old.IsValid():
		*a = old
		return nil
	case !a.IsValid():
		if !p.usable(p.Subnet.Addr().Next()) {
			return fmt.Errorf("%s has no address for a gateway: give a larger --subnet", p.Subnet)
		}
		*a = p.Subnet.Addr().Next()
		if blocks := p.blocks(); len(blocks) > 0 && !blocks[0].Contains(*a) && p.Key == "" { // a range of its own
			var ok bool
			if *a, ok = p.choose(); !ok {
				return m.full(p, nil)
			}
		}
	case !p.Subnet.Contains(*a):
		return fmt.Errorf("gateway %s is not in %s", *a, p.Subnet)
	}
	if m.inUse(p, *a) {
		return fmt.Errorf("gateway %s belongs to a container of this host: take another --gateway", *a)
	}
	if *a == old {
		return nil
	}
	p.Gateway = *a
	return m.save(p, func() { p.Gateway = old })
}

// inUse tells whether a container of this host has an address. One that Docker has never given back, and that no endpoint
// has, is not in use: dockerd was killed.
func (m *Manager) inUse(p *pool, a netip.Addr) bool {
	since, taken := p.used[a]
	if !taken {
		return false
	}
	return p.Swarm || m.now().Sub(since) < startGrace || m.cfg.Evidence.HasAddr(p.Key, p.Subnet, a)
}

// takeThis gives out the address that somebody wants.
func (m *Manager) takeThis(ctx context.Context, p *pool, a netip.Addr) error {
	switch {
	case !p.Subnet.Contains(a):
		return fmt.Errorf("%s is not in %s", a, p.Subnet)
	case a == p.Gateway:
		return fmt.Errorf("%s is the network's gateway address: take another", a)
	case !p.usable(a):
		return fmt.Errorf("%s is no address for a container of %s", a, p.Subnet)
	case m.inUse(p, a) && p.Swarm:
		return fmt.Errorf("%s belongs to another container of the Swarm: take another --ip, or none to be given one", a)
	case m.inUse(p, a):
		return fmt.Errorf("%s belongs to another container of this host: take another --ip, or none to be given one", a)
	}
	claimed := false
	if !p.within(a) {
		single := netip.PrefixFrom(a, a.BitLen())
		if _, err := m.cfg.Engine.Claim(ctx, p.Key, cluster.Want{Block: single}); err != nil {
			return fmt.Errorf("%s is not in a block of this host: %w", a, err)
		}
		p.Blocks, claimed = append(slices.Clone(p.Blocks), single), true
	}
	since, was := p.used[a]
	p.take(a, m.now())
	err := m.save(p, func() {
		p.release(a)
		if was {
			p.take(a, since)
		}
		if claimed {
			m.giveBack(ctx, p, a)
		}
	})
	if err == nil && claimed {
		m.changed(p)
	}
	return err
}

// giveBack gives a single address back to the cluster.
func (m *Manager) giveBack(ctx context.Context, p *pool, a netip.Addr) {
	single := netip.PrefixFrom(a, a.BitLen())
	if !slices.Contains(p.Blocks, single) || p.Subnet.IsSingleIP() {
		return
	}
	if err := m.cfg.Engine.Free(ctx, p.Key, single); err != nil {
		m.log.Warn("an address stays this host's", "network", p.Key, "address", a, "err", err)
		return
	}
	p.Blocks = slices.DeleteFunc(slices.Clone(p.Blocks), func(b netip.Prefix) bool { return b == single })
	m.changed(p)
}

// takeAny gives out an address that was not used for the longest time.
func (m *Manager) takeAny(ctx context.Context, p *pool) (netip.Addr, error) {
	a, ok := p.choose()
	if !ok && m.sweep(p) {
		a, ok = p.choose()
	}
	if !ok {
		if err := m.claimNext(ctx, p); err != nil {
			return netip.Addr{}, m.full(p, err)
		}
		if a, ok = p.choose(); !ok {
			return netip.Addr{}, m.full(p, nil)
		}
	}
	p.take(a, m.now())
	if err := m.save(p, func() { p.release(a) }); err != nil {
		return netip.Addr{}, err
	}
	m.growSoon(p)
	return a, nil
}

// full is the error of a pool without a free address.
func (m *Manager) full(p *pool, why error) error {
	switch {
	case p.Key == "":
		return fmt.Errorf("every address of %s is in use: stop a container, or make a network with a larger --subnet", p.blocks()[0])
	case why == nil:
		return fmt.Errorf("network %s: every address of this host's blocks is in use", p.Key)
	}
	return fmt.Errorf("network %s: every address of this host's blocks is in use, and there is no other one: %w", p.Key, why)
}

// sweep frees the addresses that no endpoint has, and tells whether there were any.
func (m *Manager) sweep(p *pool) (found bool) {
	if p.Swarm {
		return false
	}
	for a := range p.used {
		if !m.inUse(p, a) {
			m.log.Info("address that no container has any more", "pool", p.ID, "address", a)
			p.release(a)
			found = true
		}
	}
	return found
}

// ReleaseAddress takes an address back. One that is not given out is no error: Docker 29 also gives back those of a network that it has
// removed before.
func (m *Manager) ReleaseAddress(ctx context.Context, id string, a netip.Addr) error {
	if err := m.acquire(ctx); err != nil {
		return err
	}
	defer m.release()
	p := m.pools[id]
	if p == nil {
		return nil
	}
	since, taken := p.used[a]
	if !taken {
		return nil // the gateway's is the network's until the pool is closed
	}
	p.release(a)
	m.giveBack(ctx, p, a)
	return m.save(p, func() { p.take(a, since) })
}

// claimFirst claims a pool's first block: the range that was asked for, or any.
func (m *Manager) claimFirst(ctx context.Context, p *pool) error {
	want := cluster.Want{Block: p.Range, Subnet: p.Subnet, Bits: blockBits(p.Subnet)}
	b, err := m.cfg.Engine.Claim(ctx, p.Key, want)
	switch {
	case errors.Is(err, cluster.ErrNoChoice):
		return fmt.Errorf("network %s: in a cluster of kind %s each host needs its own part of %s: give it with --ip-range", p.Key, m.cfg.Engine.Info().Name, p.Subnet)
	case err != nil:
		return fmt.Errorf("network %s: a part of %s for this host: %w", p.Key, p.Subnet, err)
	}
	p.Blocks = append(slices.Clone(p.Blocks), b)
	return nil
}

// claimNext claims one more block.
func (m *Manager) claimNext(ctx context.Context, p *pool) error {
	if p.Key == "" || p.Range.IsValid() {
		return cluster.ErrExhausted
	}
	b, err := m.cfg.Engine.Claim(ctx, p.Key, cluster.Want{Subnet: p.Subnet, Bits: blockBits(p.Subnet)})
	if err != nil {
		return err
	}
	return m.addBlock(p, b)
}

func (m *Manager) addBlock(p *pool, b netip.Prefix) error {
	old := p.Blocks
	p.Blocks = append(slices.Clone(old), b)
	if err := m.save(p, func() { p.Blocks = old }); err != nil {
		return err // the claim stays this host's, and is found when it claims again
	}
	m.changed(p)
	m.log.Info("block of addresses", "network", p.Key, "block", b)
	return nil
}

// growSoon claims one more block in the background when three quarters of the addresses are in use: a container should not have
// to wait for the cluster, which may be away by then.
func (m *Manager) growSoon(p *pool) {
	if p.Key == "" || p.Range.IsValid() || p.grows || !m.cfg.Engine.Info().Allocates {
		return
	}
	const most = 1 << 12 // in a pool with more addresses than that nothing is urgent
	if left, all := p.free(most); 4*left > all {
		return
	}
	p.grows = true
	id := p.ID
	m.work.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, cluster.StrongLimit)
		defer cancel()
		b, err := m.cfg.Engine.Claim(ctx, p.Key, cluster.Want{Subnet: p.Subnet, Bits: blockBits(p.Subnet)})
		_ = m.acquire(context.Background())
		defer m.release()
		p.grows = false
		switch {
		case err != nil:
			m.log.Debug("no further block of addresses yet", "network", p.Key, "err", err) // the next container tries again
		case m.pools[id] != p: // closed meanwhile
			if err := m.cfg.Engine.Free(m.ctx, p.Key, b); err != nil {
				m.log.Warn("a block of addresses stays this host's", "network", p.Key, "block", b, "err", err)
			}
		default:
			if err := m.addBlock(p, b); err != nil {
				m.log.Warn("a block of addresses is not written down", "network", p.Key, "block", b, "err", err)
			}
		}
	})
}

// blockBits is the length of blocks that are claimed of the cluster: of 64 addresses.
func blockBits(subnet netip.Prefix) int { return max(subnet.Addr().BitLen()-6, subnet.Bits()) }
