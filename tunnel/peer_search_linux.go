package tunnel

import (
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// A path may drop long datagrams and not say so (RFC 2923 section 2.1): then the kernel's path MTU is wrong. Each minute a host is asked a
// question of full length as well. If that finds no answer, or a test has found the path narrow, datagrams of many sizes tell what arrives:
// as RFC 8899 wants it, but many sizes at once.

const (
	searchSizes = maxTrain / 2 // in one step; each is sent twice
	searchFloor = 1000         // bytes of frame: what trainShapes has seen arrive
	searchNear  = 8            // bytes: near enough
)

// A search for the longest frame that arrives.
type search struct {
	low, high int // bytes of frame: arrives, does not
}

// size is the i-th size of a step.
func (s search) size(i int) int { return s.low + (s.high-s.low)*(i+1)/(searchSizes+1) }

// next is what is left of the search after a step, by the bits of report.intact.
func (s search) next(intact uint64) search {
	n := search{s.low, s.high}
	for i := range searchSizes {
		if intact>>(2*i)&3 != 0 {
			n.low = max(n.low, s.size(i))
		}
	}
	for i := range searchSizes {
		if size := s.size(i); size > n.low {
			n.high = min(n.high, size)
		}
	}
	return n
}

// found tells whether the search has ended.
func (s search) found() bool { return s.high-s.low <= searchNear }

// sendSizes sends a step of the search.
func (p *Peer) sendSizes() {
	before := p.unsent()
	for i := range searchSizes {
		for twice := range 2 {
			m := message{kind: kindSegment, mode: singly, index: uint8(2*i + twice), nonce: p.nonce}
			room := make([]byte, ether.Headroom+p.search.size(i))
			m.encode(room[ether.Headroom:])
			f := ether.Lend(room, ether.Offload{})
			p.singly.Send([]*ether.Frame{&f})
		}
	}
	p.sendFailed = p.unsent() != before
	p.phase, p.attempts = trying, 0
	p.sendQuestion(kindAsk)
}

// evaluateSizes evaluates the answer to a step of the search.
func (p *Peer) evaluateSizes(now time.Duration, r report) {
	s := p.search.next(r.intact[0][singly])
	switch {
	case !r.known || p.sendFailed || s == *p.search && !s.found(): // the next test begins it anew
		p.search = nil
		p.endTest(now, retestEvery)
	case s.found():
		p.search = nil
		p.setFits(s.low)
		p.endTest(now, retryEvery)
	default:
		p.search, p.phase, p.due = &s, idle, now
	}
}

// setFits notes the longest frame that arrives where the kernel's path MTU is wrong; 0: it is right, or nothing is known.
func (p *Peer) setFits(frame int) {
	fits := 0
	if frame > 0 {
		fits = p.outerLen(frame)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Fits = fits
}

// outerLen is the length of the outer IP packet of a frame, in bytes.
func (p *Peer) outerLen(frame int) int {
	return frame + Overhead(p.Host.Addr().Is6()) - ether.HeaderLen
}

// fullFrame is the length of the longest frame that the path takes, as the kernel knows it.
func (p *Peer) fullFrame() (int, error) {
	mtu, err := p.v.PathMTU(p.Host.Addr())
	return mtu - p.outerLen(0), err
}

// askLong asks a question of full length, after a short one was answered.
func (p *Peer) askLong(now time.Duration) {
	full, err := p.fullFrame()
	full = min(full, trainBytes/2-headerLen) // as trainShapes
	if err != nil || full <= searchFloor {
		p.endTest(now, keepaliveEvery)
		return
	}
	p.phase, p.attempts, p.maxFrame = padding, 0, full
	p.sendQuestion(kindAsk)
}
