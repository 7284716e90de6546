package fault

import (
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

const (
	// maxWaiting is the maximum of bytes that wait in an Injector: 50 ms at 5 Gb/s.
	maxWaiting = 32 << 20
	// overhead is the memory for the management of a waiting frame, in bytes.
	overhead = 256

	bucketTime   = 2 * time.Millisecond   // depth of the token bucket: what may pass at once after a pause
	rateWait     = 100 * time.Millisecond // length of the rate's queue
	rateBytes    = 32 << 10               // or this, where it is more
	reorderAfter = 3                      // frames that overtake one that is held back: TCP takes that for a loss (RFC 5681 §3.2)
	maxHeld      = 50 * time.Millisecond  // the longest time that it is held back, if fewer frames come
)

// A jitterRamp is the course of the jitter between two random values.
type jitterRamp struct {
	from, to time.Duration // jitter at its begin and at its end
	end      time.Duration // since Injector.start
}

// A wireFrame is a frame as on a wire: no super-frame.
type wireFrame struct {
	frame      ether.Frame
	buf        []byte // a copy of the bytes; empty: they are lent
	due        time.Duration
	size       int // counted in WaitingBytes; 0: it does not wait
	toOvertake int // frames that still have to overtake it
}

var wireFrames = sync.Pool{New: func() any { return new(wireFrame) }}

// schedule sends a frame on, or queues it until it is due. It returns false if the frame is lost: there is no room for it.
func (inj *Injector) schedule(now time.Duration, p *wireFrame) bool {
	due := now
	if inj.spec.Rate > 0 {
		wait, cost := inj.rateFree-now, inj.cost(p.frame.Len())
		if wait > 0 && wait+cost > inj.rateLimit {
			inj.drop(p, ether.FaultRate, &inj.stats.OverRate)
			return false
		}
		if inj.rateFree = max(inj.rateFree, now-bucketTime) + cost; inj.rateFree > now {
			due = inj.rateFree
			p.frame.Fault |= ether.FaultRate
		}
	}
	if d := inj.spec.Delay + inj.jitter(due); d > 0 {
		due += d
		p.frame.Fault |= ether.FaultDelayed
	}
	due = max(due, inj.lastDue)
	hold := inj.chance(forReorder, inj.spec.Reorder)
	size := p.frame.Len() + overhead
	if (hold || due > now || len(inj.queue) > 0) && inj.stats.WaitingBytes+size > maxWaiting {
		inj.drop(p, 0, &inj.stats.Overflow)
		return false
	}
	if p.frame.Fault&ether.FaultDelayed != 0 {
		inj.stats.Delayed++
	}
	if hold {
		inj.stats.Reordered++
		p.frame.Fault |= ether.FaultReordered
		p.due, p.toOvertake = due+maxHeld, reorderAfter
		inj.retain(p, size)
		inj.held = append(inj.held, p)
		return true
	}
	inj.lastDue = due
	inj.enqueueOrEmit(now, due, p, size)
	for _, h := range inj.held {
		h.toOvertake--
	}
	for len(inj.held) > 0 && inj.held[0].toOvertake == 0 {
		h := inj.held[0]
		inj.held = inj.held[1:]
		inj.enqueueOrEmit(now, due, h, h.size)
	}
	return true
}

// enqueueOrEmit sends a frame on if it is due and nothing waits before it, and queues it otherwise.
func (inj *Injector) enqueueOrEmit(now, due time.Duration, p *wireFrame, size int) {
	if due <= now && len(inj.queue) == 0 {
		inj.emit(p)
		return
	}
	p.due = due
	inj.retain(p, size)
	inj.queue = append(inj.queue, p)
}

// retain copies a frame that has to wait for longer than the call, and counts it as waiting.
func (inj *Injector) retain(p *wireFrame, size int) {
	if p.size == 0 {
		p.copyBytes()
		p.size = size
		inj.stats.WaitingBytes += size
	}
}

// cost is the time that n bytes need at the rate.
func (inj *Injector) cost(n int) time.Duration {
	return time.Duration((int64(n)*8*int64(time.Second) + inj.spec.Rate/2) / inj.spec.Rate)
}

// jitter is added to the Delay of a frame whose delay begins at at. at must never decrease.
func (inj *Injector) jitter(at time.Duration) time.Duration {
	j := inj.spec.Jitter
	if j == 0 {
		return 0
	}
	draw := func() time.Duration { return time.Duration(inj.random[forJitter].Int64N(2*int64(j)+1)) - j }
	if l := &inj.ramp; at >= l.end {
		l.from = l.to
		if l.end == 0 || at >= l.end+2*j { // the first ramp, or a pause after which no frame waits that could be overtaken
			l.from, l.end = draw(), at
		}
		l.to, l.end = draw(), l.end+2*j
	}
	left := float64(inj.ramp.end-at) / float64(2*j)
	return inj.ramp.to + time.Duration(left*float64(inj.ramp.from-inj.ramp.to))
}

// releaseDue sends on what is due.
func (inj *Injector) releaseDue(now time.Duration) {
	for _, line := range []*[]*wireFrame{&inj.queue, &inj.held} {
		n := 0
		for n < len(*line) && (*line)[n].due <= now {
			n++
		}
		inj.releaseFirst(line, n)
	}
}

// releaseFirst sends on the first n of a line.
func (inj *Injector) releaseFirst(line *[]*wireFrame, n int) {
	for i, p := range (*line)[:n] {
		(*line)[i] = nil
		inj.emit(p)
	}
	*line = (*line)[n:]
}

// emit adds a frame to the batch for out.
func (inj *Injector) emit(p *wireFrame) {
	inj.stats.WaitingBytes -= p.size
	if p.frame.Fault&ether.FaultLost == 0 {
		inj.stats.Passed++
	}
	inj.batch, inj.batchFrames = append(inj.batch, p.frame), append(inj.batchFrames, p)
	if len(inj.batch) == batchSize {
		inj.flush()
	}
}

func (inj *Injector) flush() {
	if len(inj.batch) == 0 {
		return
	}
	inj.out(inj.batch)
	for i, p := range inj.batchFrames {
		p.recycle()
		inj.batchFrames[i] = nil
	}
	clear(inj.batch)
	inj.batch, inj.batchFrames = inj.batch[:0], inj.batchFrames[:0]
}

// setTimer sets the timer to when the next frame is due.
func (inj *Injector) setTimer() {
	next := time.Duration(0)
	for _, line := range [][]*wireFrame{inj.queue, inj.held} {
		if len(line) > 0 && (next == 0 || line[0].due < next) {
			next = line[0].due
		}
	}
	if next == 0 || inj.timerAt != 0 && inj.timerAt <= next {
		return
	}
	inj.timerAt = next
	wait := next - time.Since(inj.start)
	if inj.timer == nil {
		inj.timer = time.AfterFunc(wait, inj.onTimer)
	} else {
		inj.timer.Reset(wait)
	}
}

// onTimer sends on what is due. It runs on the timer's goroutine.
func (inj *Injector) onTimer() {
	inj.mu.Lock()
	defer inj.mu.Unlock()
	if inj.closed {
		return
	}
	inj.timerAt = 0
	inj.releaseDue(time.Since(inj.start))
	inj.flush()
	inj.setTimer()
}

// copyBytes replaces lent bytes by a copy.
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
