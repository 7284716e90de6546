package vswitch

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// rateDepth is how long a port that was silent may be faster than its rate. Where the way is short, TCP cannot send as slowly as the rate: it sends until a
// burst is lost, and waits 200 ms at least (TCP_RTO_MIN). What it may not send meanwhile, it has to be able to send then.
const rateDepth = 500 * time.Millisecond

// limits are what a Policy says about how much a port receives and sends, and with whom, with what was spent of it.
type limits struct {
	in, out  bucket // what the port has received; what is sent by it
	isolated bool
	with     []netip.Prefix
	v6       bool // with has an IPv6 address
}

// newLimits gives the limits of a policy; nil: it has none.
func newLimits(policy *Policy) *limits {
	if policy == nil || policy.Rate == 0 && !policy.Isolated {
		return nil
	}
	l := &limits{isolated: policy.Isolated, with: policy.With}
	l.v6 = slices.ContainsFunc(l.with, func(p netip.Prefix) bool { return p.Addr().Is6() })
	l.in.rate, l.out.rate = policy.Rate, policy.Rate
	return l
}

// A bucket is what may pass at a rate: tokens for rateDepth, and a last frame of any length. What has passed is noted as the time at which the
// bucket is full again, so that one number holds all of it (GCRA, ITU-T I.371).
type bucket struct {
	rate int64        // bytes a second; 0: everything passes
	full atomic.Int64 // in nanoseconds
}

// has tells whether a frame may pass at the time now.
func (b *bucket) has(now int64) bool { return b.rate == 0 || b.full.Load()-now < int64(rateDepth) }

// take tells whether n bytes may pass at the time now, and spends them.
func (b *bucket) take(now int64, n int) bool {
	if b.rate == 0 {
		return true
	}
	return spend(&b.full, now, int64(n)*int64(time.Second)/b.rate, int64(rateDepth))
}

// spend takes cost from a bucket of that depth, both in nanoseconds, if there is anything in it.
func spend(full *atomic.Int64, now, cost, depth int64) bool {
	for {
		was := full.Load()
		if was-now >= depth {
			return false
		}
		if full.CompareAndSwap(was, max(was, now)+cost) {
			return true
		}
	}
}

// talks tells whether an isolated port may talk with an address, by the frame f. Who is asked whether he is still there hears a link-local address
// (RFC 4861 section 7.2.2), and answers that: it does not say who asks. So such questions and answers pass, if anybody by IPv6 may.
func (l *limits) talks(with netip.Addr, f *ether.Frame) bool {
	return !l.isolated || slices.ContainsFunc(l.with, func(p netip.Prefix) bool { return p.Contains(with) }) ||
		l.v6 && with.IsLinkLocalUnicast() && ether.IsNeighbour(f.Bytes())
}

// receive gives the verdict of a frame that a port with these limits has received, and send that of one that is to leave by it; mayReceive and maySend
// are the same, and spend nothing.
func (l *limits) receive(now int64, f *ether.Frame) Verdict    { return l.spend(now, &l.in, f) }
func (l *limits) send(now int64, f *ether.Frame) Verdict       { return l.spend(now, &l.out, f) }
func (l *limits) mayReceive(now int64, f *ether.Frame) Verdict { return l.may(now, &l.in, f) }
func (l *limits) maySend(now int64, f *ether.Frame) Verdict    { return l.may(now, &l.out, f) }

func (l *limits) spend(now int64, b *bucket, f *ether.Frame) Verdict {
	if v := l.may(now, b, f); v != Forwarded || b.take(now, f.Len()) {
		return v
	}
	return Rate
}

func (l *limits) may(now int64, b *bucket, f *ether.Frame) Verdict {
	if l.isolated {
		other, to := ether.ReadEnds(f.Bytes())
		if b == &l.in {
			other = to
		}
		if !l.talks(other, f) {
			return Isolated
		}
	}
	if !b.has(now) {
		return Rate
	}
	return Forwarded
}

// time is the time of the batch, which is read when the first limit asks for it: not at all where there is none.
func (b *batch) time(s *Switch) int64 {
	if b.now == 0 {
		b.now = s.nanoseconds()
	}
	return b.now
}

// nanoseconds is the clock of rates, which begins with the switch.
func (s *Switch) nanoseconds() int64 { return int64(time.Since(s.began)) + 1 }
