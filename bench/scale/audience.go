package scale

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
)

// An audience is hosts that are to see what one of them does.
type audience struct{ expected atomic.Pointer[news] }

// news is a change that all of them are to see.
type news struct {
	of    cluster.HostID
	is    func(*cluster.Entry) bool
	began time.Time
	took  []atomic.Int64 // by host; 0: has not seen it
	left  atomic.Int64
}

// hears is told what the me-th host hears.
func (a *audience) hears(me int, u cluster.Update) {
	n := a.expected.Load()
	if n == nil {
		return
	}
	for i := range u.Entries {
		e := &u.Entries[i]
		if e.ID == n.of && n.is(e) && me < len(n.took) && n.took[me].CompareAndSwap(0, int64(time.Since(n.began))) {
			n.left.Add(-1)
		}
	}
}

// change has one of n hosts, the one with number 0, do something, and waits until all others have seen it. It returns the time after which
// half of them have, and the last one.
func (a *audience) change(ctx context.Context, of cluster.HostID, hosts int, do func() error, is func(*cluster.Entry) bool) (half, all time.Duration, err error) {
	n := &news{of: of, is: is, began: time.Now(), took: make([]atomic.Int64, hosts)}
	n.left.Store(int64(hosts - 1))
	n.took[0].Store(1)
	a.expected.Store(n)
	defer a.expected.Store(nil)
	if err := do(); err != nil {
		return 0, 0, err
	}
	if err := until(ctx, func() bool { return n.left.Load() == 0 }); err != nil {
		return 0, 0, fmt.Errorf("%d of %d hosts have not seen a change: %w", n.left.Load(), hosts, err)
	}
	var took []time.Duration
	for i := range n.took[1:] {
		took = append(took, time.Duration(n.took[1+i].Load()))
	}
	return median(took), slices.Max(took), nil
}

// record is what the i-th host of a simulation says at first: a network with a block.
func record(i int) cluster.Record {
	return cluster.Record{
		Host: cluster.Host{ID: cluster.HostID(fmt.Sprintf("%016x", i)), Name: fmt.Sprintf("host-%d", i), Epoch: 1, VTEP: vtep(i)},
		Seq:  1, Members: []cluster.Member{{Spec: blue(), Blocks: []netip.Prefix{block(i)}}},
	}
}

// blue is the network that all hosts of a simulation have.
func blue() cluster.Spec {
	return cluster.Spec{Key: "blue", VNI: cluster.FirstChosen, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
}

// vtep is the i-th host's address.
func vtep(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)}), 4789)
}

// block is the i-th block of 64 addresses in blue's subnet.
func block(i int) netip.Prefix {
	n := uint32(i) << 6
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 26)
}

// number is which host an id is of.
func number(id cluster.HostID) int {
	n, err := strconv.ParseUint(string(id), 16, 32)
	if err != nil {
		return math.MaxInt32
	}
	return int(n)
}
