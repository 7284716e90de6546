// Package paths remembers the routes to other hosts, as the kernel told them last: path MTUs, and hosts that cannot be reached.
//
// A look-up takes the kernel some 100 µs, and longer when it is busy. So thousands of hosts are asked for with no lock held:
// neither the Table's, nor that of a caller who uses Learn and Update.
package paths

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"sync"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/tunnel"
)

// A Path is the route to another host as of the last look-up.
type Path struct {
	tunnel.Path
	Err error // why there is no route
}

// A Source is the address that datagrams to a host have, or why there is none.
type Source struct {
	Addr netip.Addr
	To   func(host netip.Addr) netip.Addr // nil: Addr, to each
	Err  error
}

func (s Source) to(host netip.Addr) netip.Addr {
	if s.To == nil {
		return s.Addr
	}
	return s.To(host)
}

// EtherMTU is Ethernet's usual one, for want of a better.
const EtherMTU = 1500

// LinkMTU is the MTU of the link that has the address: of the outer IP packet, in bytes.
func (s Source) LinkMTU() (int, error) {
	if s.Err != nil {
		return EtherMTU, s.Err
	}
	p, err := tunnel.Underlay(s.Addr)
	if p.MTU == 0 {
		p.MTU = EtherMTU
	}
	if !errors.Is(err, tunnel.ErrNoAddress) {
		err = nil
	}
	return min(p.MTU, ether.MaxIPLen), err
}

// A Table is what is known of the paths to other hosts. Its methods may be called by several goroutines.
type Table struct {
	// Ask asks the kernel, see tunnel.FindPath. It may be set before the first look-up.
	Ask func(local, host netip.Addr) (tunnel.Path, error)

	mu    sync.Mutex
	known map[netip.Addr]Path // guarded by mu
	held  map[netip.Addr]int  // guarded by mu; see Hold
}

// New is an empty Table that asks the kernel.
func New() *Table {
	return &Table{Ask: tunnel.FindPath, known: make(map[netip.Addr]Path), held: make(map[netip.Addr]int)}
}

// Known is the path to a host as it was found last. The kernel is not asked.
func (t *Table) Known(host netip.Addr) (p Path, known bool) { return t.find(host) }

func (t *Table) find(host netip.Addr) (p Path, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, known = t.known[host]
	if held := t.held[host]; held > 0 {
		p.MTU = min(p.MTU, held)
	}
	return p, known
}

// Hold has a path take no more than mtu bytes, whatever the kernel says of it; 0 ends that. It tells whether something has changed, and log is told.
func (t *Table) Hold(host netip.Addr, mtu int, log *slog.Logger) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[host] == mtu {
		return false
	}
	if mtu == 0 {
		delete(t.held, host)
		log.Info("the kernel's path MTU counts again", "peer", host, "mtu", t.known[host].MTU)
		return true
	}
	t.held[host] = mtu
	log.Info("the kernel's path MTU is wrong: longer datagrams do not arrive", "peer", host, "mtu", t.known[host].MTU, "arrives", mtu)
	return true
}

// MTU is the path MTU to a host: of the outer IP packet, in bytes. fallback is asked if it is not known.
func (t *Table) MTU(host netip.Addr, from func() Source, fallback func() int) int {
	if p := t.To(host, from); p.MTU > 0 {
		return min(p.MTU, ether.MaxIPLen)
	}
	return fallback()
}

// Set notes a path.
func (t *Table) Set(host netip.Addr, p Path) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known[host] = p
}

// To is the path to a host. The kernel is asked if nothing is known of it.
func (t *Table) To(host netip.Addr, from func() Source) Path {
	p, known := t.find(host)
	if !known {
		t.ask(host, from())
		p, _ = t.find(host)
	}
	return p
}

// Learn asks the kernel for the paths to those hosts of which nothing is known.
func (t *Table) Learn(hosts []netip.Addr, from Source) {
	for _, host := range hosts {
		if _, known := t.find(host); !known {
			t.ask(host, from)
		}
	}
}

// Update asks the kernel for the paths to hosts anew, and forgets all hosts that it knew before and that are not among them. changed
// are those that can be reached now and could not before, and the other way round.
func (t *Table) Update(hosts []netip.Addr, from Source) (changed map[netip.Addr]Path) {
	t.mu.Lock()
	before := maps.Clone(t.known)
	t.mu.Unlock()
	changed = make(map[netip.Addr]Path)
	for _, host := range hosts {
		p, was := t.ask(host, from), before[host]
		if (p.Err == nil) != (was.Err == nil) {
			changed[host] = p
		}
		delete(before, host)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for host := range before {
		delete(t.known, host)
		delete(t.held, host)
	}
	return changed
}

// ask asks the kernel, and notes its answer. While there is no route, the last known MTU stays.
func (t *Table) ask(host netip.Addr, from Source) Path {
	p := Path{Err: from.Err}
	if from.Err == nil {
		p.Path, p.Err = t.Ask(from.to(host), host)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.MTU == 0 {
		p.MTU = t.known[host].MTU
	}
	t.known[host] = p
	return p
}
