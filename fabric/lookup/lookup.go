// Package lookup finds the addresses of peers that are named by DNS names, again and again.
//
// What was found last stays for as long as DNS has no addresses to offer: it may be away, and a network whose hosts forgot each
// other would be the worse mistake. No caller waits for DNS, but in Await.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Intervals of look-ups of one name.
const (
	every  = 30 * time.Second
	retry  = 5 * time.Second // after one that failed
	limit  = 5 * time.Second // of one look-up
	atOnce = 16              // look-ups
)

// A Table is the names that are looked up. Its methods may be called by several goroutines.
type Table struct {
	// Find asks DNS and /etc/hosts, see net.Resolver.LookupNetIP. It may be set before Run.
	Find func(ctx context.Context, network, name string) ([]netip.Addr, error)

	log  *slog.Logger
	wake chan struct{} // something is to be looked up at once

	mu      sync.Mutex // guards what follows
	names   map[string]*name
	last    map[string][]netip.Addr // what was found last, also of names that are not wanted at the moment
	network string                  // ip4 or ip6
	either  bool                    // a name without an address of network may have one of the other
}

type name struct {
	Answer
	network string    // that Answer is of; "": not asked yet
	due     time.Time // when it is looked up next
	busy    bool      // a look-up is under way
	asked   chan struct{}
}

// An Answer is what is known of a name.
type Answer struct {
	Addrs []netip.Addr // in order; none: nothing was ever found
	Err   error        // why the last look-up failed: Addrs are those of an earlier one; nil: it did not, or there was none yet
}

// New is a Table without names. last is what an earlier process found.
func New(last map[string][]netip.Addr, log *slog.Logger) *Table {
	if last == nil {
		last = make(map[string][]netip.Addr)
	}
	return &Table{Find: net.DefaultResolver.LookupNetIP, log: log, wake: make(chan struct{}, 1), names: make(map[string]*name), last: last}
}

// Want says which names are looked up from now on, and for addresses of which family: of IPv4 or with ipv6 of that, and with either of the
// other one for names that have none of that. It is never both: the host would be two peers, and get each flood twice. Other names are forgotten.
func (t *Table) Want(names []string, ipv6, either bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.either = either
	network := "ip4"
	if ipv6 {
		network = "ip6"
	}
	if t.network != network {
		t.network = network
		for _, n := range t.names {
			n.due = time.Time{}
		}
	}
	for host, n := range t.names {
		if !slices.Contains(names, host) {
			n.answered(network)
			delete(t.names, host)
			delete(t.last, host)
		}
	}
	for _, host := range names {
		if t.names[host] == nil {
			t.names[host] = &name{Answer: Answer{Addrs: t.last[host]}, asked: make(chan struct{})}
		}
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Answer is what is known of a name.
func (t *Table) Answer(host string) Answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.names[host]; n != nil {
		return n.Answer
	}
	return Answer{}
}

// Last is what was found last of all names, to be given to New.
func (t *Table) Last() map[string][]netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.last)
}

// Await waits until each of the names was looked up once, or ctx ends. Run must be running.
func (t *Table) Await(ctx context.Context, names []string) {
	for _, host := range names {
		t.mu.Lock()
		n := t.names[host]
		t.mu.Unlock()
		if n == nil {
			continue
		}
		select {
		case <-n.asked:
		case <-ctx.Done():
			return
		}
	}
}

// Run looks names up until ctx ends. changed is called, by one goroutine at a time, when the addresses of a name are others than before.
func (t *Table) Run(ctx context.Context, changed func()) {
	news := make(chan struct{}, 1)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-news:
				changed()
			}
		}
	})
	free := make(chan struct{}, atOnce)
	for ctx.Err() == nil {
		wait := every
		for host, network := range t.due(&wait) {
			free <- struct{}{} // each look-up has a limit
			running.Go(func() {
				if t.lookUp(ctx, host, network) {
					select {
					case news <- struct{}{}:
					default: // one that is pending covers this one too
					}
				}
				<-free
			})
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due are the names to look up now, with the network to ask for. It shortens wait to when the next one is due.
func (t *Table) due(wait *time.Duration) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := make(map[string]string)
	for host, n := range t.names {
		if n.busy {
			continue
		}
		if left := time.Until(n.due); left > 0 {
			*wait = min(*wait, left)
			continue
		}
		n.busy, due[host] = true, t.network
	}
	return due
}

// lookUp looks up one name, and tells whether its addresses have changed.
func (t *Table) lookUp(ctx context.Context, host, network string) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t.mu.Lock()
	either := t.either
	t.mu.Unlock()
	addrs, err := t.find(ctx, host, network)
	if either && hasNone(err) {
		other := map[string]string{"ip4": "ip6", "ip6": "ip4"}[network]
		if found, otherErr := t.find(ctx, host, other); !hasNone(otherErr) {
			addrs, err = found, otherErr
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.names[host]
	if n == nil { // not wanted any more
		return false
	}
	defer t.nudge() // Run may sleep for longer than until n.due
	n.busy, n.due = false, time.Now().Add(every)
	if network != t.network {
		n.due = time.Time{}
		return false
	}
	if err != nil {
		if n.due = time.Now().Add(retry); n.Err == nil {
			t.log.Warn("a peer's name is not found in DNS: it is looked up every 5 s, and its last known addresses stay peers", "name", host, "addrs", n.Addrs, "err", explain(err))
		}
		n.Err = explain(err)
		n.answered(network)
		return false
	}
	changed := !slices.Equal(addrs, n.Addrs)
	if changed || n.Err != nil {
		t.log.Info("a peer's name in DNS", "name", host, "addrs", addrs)
	}
	n.Answer, t.last[host] = Answer{Addrs: addrs}, addrs
	n.answered(network)
	return changed
}

// find asks for the addresses of one family.
func (t *Table) find(ctx context.Context, host, network string) (addrs []netip.Addr, err error) {
	found, err := t.Find(ctx, network, host)
	for _, a := range found {
		if a = a.Unmap().WithZone(""); a.Is4() == (network == "ip4") {
			addrs = append(addrs, a)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	if err == nil && len(addrs) == 0 {
		err = errNoAddress
	}
	return slices.Compact(addrs), err
}

var errNoAddress = errors.New("it has no address of the VTEP's IP version")

// hasNone tells whether a name is known to have no address of the family that was asked for: an error of another kind leaves that open.
func hasNone(err error) bool {
	var dns *net.DNSError
	var addr *net.AddrError // /etc/hosts has another
	return errors.Is(err, errNoAddress) || errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &addr)
}

// answered notes that the name was looked up. Table.mu is held.
func (n *name) answered(network string) {
	if n.network == "" {
		close(n.asked)
	}
	n.network = network
}

func (t *Table) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// explain says in words what net.DNSError says in parts.
func explain(err error) error {
	var dns *net.DNSError
	switch {
	case !errors.As(err, &dns):
		return err
	case dns.IsNotFound:
		return errors.New("there is no such name, or it has no address of the VTEP's IP version")
	case dns.IsTimeout:
		return errors.New("the name server does not answer")
	}
	return fmt.Errorf("the name server cannot say: %s", dns.Err)
}

// CheckName returns why a name can be none in DNS (RFC 1123 section 2.1), or is rather a misspelt address: nil if it can.
func CheckName(name string) error {
	labels := strings.Split(name, ".")
	if len(name) > 253 {
		return errors.New("a name has 253 characters at most")
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return errors.New("want letters, digits and hyphens, with dots between them")
		}
	}
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" || len(labels) > 1 && '0' <= last[0] && last[0] <= '9' {
		return errors.New("its last part begins with a digit, as of an address")
	}
	return nil
}
