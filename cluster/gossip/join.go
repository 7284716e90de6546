package gossip

import (
	"context"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// splitPort splits a name or an address to join from its port.
func splitPort(name string, port uint16) (string, uint16, error) {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil { // IPv6 has colons of its own
		return a.String(), port, nil
	}
	host := name
	if strings.Contains(name, ":") {
		h, p, err := net.SplitHostPort(name)
		n, err2 := strconv.ParseUint(p, 10, 16)
		if err != nil || err2 != nil || n == 0 {
			return "", 0, fmt.Errorf("the host to join %q: want NAME, ADDRESS, NAME:PORT or ADDRESS:PORT", name)
		}
		host, port = h, uint16(n)
	}
	if host == "" || strings.ContainsAny(host, "/ ") {
		return "", 0, fmt.Errorf("the host to join %q: want NAME, ADDRESS, NAME:PORT or ADDRESS:PORT", name)
	}
	return host, port, nil
}

func resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// lookup returns where a name to join is now, without this host itself.
func (e *Engine) lookup(name string) ([]netip.AddrPort, error) {
	host, port, err := splitPort(name, e.cfg.Bind.Port())
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 1)
	if addrs[0], err = netip.ParseAddr(host); err != nil {
		ctx, cancel := context.WithTimeout(e.ctx, e.cfg.timing.stream)
		defer cancel()
		if addrs, err = e.cfg.resolve(ctx, host); err != nil {
			return nil, err
		}
	}
	var all []netip.AddrPort
	for _, a := range addrs {
		if to := netip.AddrPortFrom(a.Unmap(), port); to != e.wire.self {
			all = append(all, to)
		}
	}
	return all, nil
}

// join tries to join at a name for as long as that may help: until it has answered once, and later while hosts are missing, for a host
// that comes back may have another address.
func (e *Engine) join(name string) {
	t := e.cfg.timing
	answered := false
	for wait := t.join; ; {
		if answered && !e.missing() {
			wait = t.join
		} else {
			to, err := e.lookup(name)
			to = slices.DeleteFunc(to, e.member)
			for _, a := range to {
				if err = e.knock(a); err == nil {
					break
				}
			}
			if err == nil {
				answered = true
			} else {
				e.tell("join "+name, "a host to join does not answer yet; it is tried again, for ever", "host", name, "why", err)
			}
			most := t.joinMost
			if answered {
				most = t.joinLater
			}
			wait = min(wait*3/2, most)
		}
		if !e.sleep(jitter(wait)) {
			return
		}
	}
}

// knock exchanges all that memberlist knows with the host at an address, which makes both members of one cluster.
func (e *Engine) knock(a netip.AddrPort) error {
	_, err := e.list.Join([]string{a.String()})
	if err != nil && strings.Contains(err.Error(), io.EOF.Error()) {
		return fmt.Errorf("%w (it closes the connection: it may have another key, or another cluster's name)", err)
	}
	return err
}

// missing tells whether a host that was there once is not there, or nobody is.
func (e *Engine) missing() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.alive == 0 || e.alive < len(e.peers)
}

// member tells whether a host that is Alive gossips at an address.
func (e *Engine) member(a netip.AddrPort) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if p.alive && addrOf(&p.node) == a {
			return true
		}
	}
	return false
}

// known tells whether a host that was seen once has an IP address.
func (e *Engine) known(a netip.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if p.known && addrOf(&p.node).Addr() == a {
			return true
		}
	}
	return false
}

// Of hosts that are not there, so many are tried in a round, and so many hosts of a cluster try in each round.
const (
	triedAtOnce = 8
	seekers     = 8
)

// seeker tries hosts that are not there, for ever. All hosts of a cluster together try about equally often, however many there are.
func (e *Engine) seeker() {
	trying := make(map[netip.AddrPort]bool)
	done := make(chan netip.AddrPort, triedAtOnce)
	timer := time.NewTimer(jitter(e.cfg.timing.lost))
	defer timer.Stop()
	for {
		var try []netip.AddrPort
		select {
		case <-e.ctx.Done():
			return
		case a := <-done:
			delete(trying, a)
		case a := <-e.hails:
			try = append(try, a)
		case <-timer.C:
			timer.Reset(jitter(e.cfg.timing.lost))
			try = e.lost()
		}
		for _, a := range try {
			if trying[a] || len(trying) >= triedAtOnce {
				continue
			}
			trying[a] = true
			e.wg.Go(func() {
				_ = e.knock(a) // memberlist logs it
				done <- a
			})
		}
	}
}

// hailed is told of each packet of this cluster. One of a host that this one does not know is of a host that knows this one from before: it has
// started again, before the others found it missing, and may have nobody to join.
func (e *Engine) hailed(from netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if addrOf(&p.node) == from {
			return
		}
	}
	select {
	case e.hails <- from:
	default:
	}
}

// lost are the addresses of hosts that are to be tried now: of those that are not there half the ones that were seen last, half any.
func (e *Engine) lost() (all []netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var gone []*peer
	for _, p := range e.peers {
		if !p.up || !p.sure && time.Since(p.since) > e.cfg.timing.join {
			gone = append(gone, p)
		}
	}
	if len(gone) == 0 || mrand.N(1+e.alive) >= seekers {
		return nil
	}
	slices.SortFunc(gone, func(a, b *peer) int { return b.since.Compare(a.since) })
	first := min(len(gone), triedAtOnce/2)
	rest := gone[first:]
	mrand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for _, p := range gone[:min(len(gone), triedAtOnce)] {
		all = append(all, addrOf(&p.node))
	}
	return all
}
