package fault

import (
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

const (
	// maxWaiting bounds the bytes that wait in a gate: 50 ms of 5 Gb/s.
	maxWaiting = 32 << 20
	// overhead is what a frame that waits costs beside its bytes.
	overhead = 256

	bucketTime   = 2 * time.Millisecond   // of tokens: what may come at once after a pause
	rateWait     = 100 * time.Millisecond // that the rate's queue holds
	rateBytes    = 32 << 10               // or this, where it is more
	reorderAfter = 3                      // frames that pass one that is held back: TCP takes so many for a loss (RFC 5681 §3.2)
	maxHeld      = 50 * time.Millisecond  // that it is held back if fewer come
)

// A ramp is the way of the delay's jitter between two draws.
type jitterRamp struct {
	from, to time.Duration // jitter
	end      time.Duration // since born
}

// A wireFrame is a frame as on a wire.
type wireFrame struct {
	frame      ether.Frame
	buf        []byte // of its own; if not, it is lent
	due        time.Duration
	size       int // in the queue's books; 0: it is not there
	toOvertake int // frames that are still to overtake it
}

var wireFrames = sync.Pool{New: func() any { return new(wireFrame) }}

// schedule finds out when a frame is due, and tells whether there is room for it until then.
func (g *Injector) schedule(now time.Duration, p *wireFrame) bool {
	due := now
	if g.spec.Rate > 0 {
		wait, cost := g.rateFree-now, g.cost(p.frame.Len())
		if wait > 0 && wait+cost > g.rateLimit {
			g.drop(p, ether.FaultRate, &g.stats.OverRate)
			return false
		}
		if g.rateFree = max(g.rateFree, now-bucketTime) + cost; g.rateFree > now {
			due = g.rateFree
			p.frame.Fault |= ether.FaultRate
		}
	}
	if d := g.spec.Delay + g.jitter(due); d > 0 {
		due += d
		p.frame.Fault |= ether.FaultDelayed
	}
	due = max(due, g.lastDue)
	hold := g.chance(forReorder, g.spec.Reorder)
	size := p.frame.Len() + overhead
	if (hold || due > now || len(g.queue) > 0) && g.stats.WaitingBytes+size > maxWaiting {
		g.drop(p, 0, &g.stats.Overflow)
		return false
	}
	if p.frame.Fault&ether.FaultDelayed != 0 {
		g.stats.Delayed++
	}
	if hold {
		g.stats.Reordered++
		p.frame.Fault |= ether.FaultReordered
		p.due, p.toOvertake = due+maxHeld, reorderAfter
		g.retain(p, size)
		g.held = append(g.held, p)
		return true
	}
	g.lastDue = due
	g.enqueueOrEmit(now, due, p, size)
	for _, h := range g.held {
		h.toOvertake--
	}
	for len(g.held) > 0 && g.held[0].toOvertake == 0 {
		h := g.held[0]
		g.held = g.held[1:]
		g.enqueueOrEmit(now, due, h, h.size)
	}
	return true
}

// enqueueOrEmit lets a frame out that is due, and has all others stand in line.
func (g *Injector) enqueueOrEmit(now, due time.Duration, p *wireFrame, size int) {
	if due <= now && len(g.queue) == 0 {
		g.emit(p)
		return
	}
	p.due = due
	g.retain(p, size)
	g.queue = append(g.queue, p)
}

// retain has a frame stay behind the call.
func (g *Injector) retain(p *wireFrame, size int) {
	if p.size == 0 {
		p.copyBytes()
		p.size = size
		g.stats.WaitingBytes += size
	}
}

// cost is the time that n bytes take at the rate.
func (g *Injector) cost(n int) time.Duration {
	return time.Duration((int64(n)*8*int64(time.Second) + g.spec.Rate/2) / g.spec.Rate)
}

// jitter is what a frame that begins its way at a time has beside Delay. The times it is asked for never decrease.
func (g *Injector) jitter(at time.Duration) time.Duration {
	j := g.spec.Jitter
	if j == 0 {
		return 0
	}
	draw := func() time.Duration { return time.Duration(g.random[forJitter].Int64N(2*int64(j)+1)) - j }
	if l := &g.ramp; at >= l.end {
		l.from = l.to
		if l.end == 0 || at >= l.end+2*j { // the first leg, or after a pause in which all before has passed
			l.from, l.end = draw(), at
		}
		l.to, l.end = draw(), l.end+2*j
	}
	left := float64(g.ramp.end-at) / float64(2*j)
	return g.ramp.to + time.Duration(left*float64(g.ramp.from-g.ramp.to))
}

// releaseDue lets out what is due.
func (g *Injector) releaseDue(now time.Duration) {
	for _, line := range []*[]*wireFrame{&g.queue, &g.held} {
		n := 0
		for n < len(*line) && (*line)[n].due <= now {
			n++
		}
		g.releaseFirst(line, n)
	}
}

// releaseFirst lets out the first n of a line.
func (g *Injector) releaseFirst(line *[]*wireFrame, n int) {
	for i, p := range (*line)[:n] {
		(*line)[i] = nil
		g.emit(p)
	}
	*line = (*line)[n:]
}

// emit puts a frame on its way out.
func (g *Injector) emit(p *wireFrame) {
	g.stats.WaitingBytes -= p.size
	if p.frame.Fault&ether.FaultLost == 0 {
		g.stats.Passed++
	}
	g.batch, g.batchFrames = append(g.batch, p.frame), append(g.batchFrames, p)
	if len(g.batch) == batchSize {
		g.flush()
	}
}

func (g *Injector) flush() {
	if len(g.batch) == 0 {
		return
	}
	g.out(g.batch)
	for i, p := range g.batchFrames {
		p.recycle()
		g.batchFrames[i] = nil
	}
	clear(g.batch)
	g.batch, g.batchFrames = g.batch[:0], g.batchFrames[:0]
}

// setTimer sets the timer for what is due next.
func (g *Injector) setTimer() {
	next := time.Duration(0)
	for _, line := range [][]*wireFrame{g.queue, g.held} {
		if len(line) > 0 && (next == 0 || line[0].due < next) {
			next = line[0].due
		}
	}
	if next == 0 || g.timerAt != 0 && g.timerAt <= next {
		return
	}
	g.timerAt = next
	wait := next - time.Since(g.start)
	if g.timer == nil {
		g.timer = time.AfterFunc(wait, g.onTimer)
	} else {
		g.timer.Reset(wait)
	}
}

// onTimer is the timer's.
func (g *Injector) onTimer() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.timerAt = 0
	g.releaseDue(time.Since(g.start))
	g.flush()
	g.setTimer()
}

// copyBytes gives a parcel bytes of its own.
func (p *wireFrame) copyBytes() {
	if len(p.buf) > 0 {
		return
	}
	f := p.frame
	p.buf = append(p.buf, f.WithHeadroom()...)
	p.frame = ether.Lend(p.buf, f.Off)
	p.frame.Fault, p.frame.ID = f.Fault, f.ID
}

func (p *wireFrame) recycle() {
	*p = wireFrame{buf: p.buf[:0]}
	wireFrames.Put(p)
}
