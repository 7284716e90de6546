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

	bucket     = 2 * time.Millisecond   // of tokens: what may come at once after a pause
	rateWait   = 100 * time.Millisecond // that the rate's queue holds
	rateBytes  = 32 << 10               // or this, where it is more
	overtakers = 3                      // frames that pass one that is held back: TCP takes so many for a loss (RFC 5681 §3.2)
	maxHeld    = 50 * time.Millisecond  // that it is held back if fewer come
)

// A leg is the way of the delay's jitter between two draws.
type leg struct {
	from, to time.Duration // jitter
	end      time.Duration // since born
}

// A parcel is a frame as on a wire.
type parcel struct {
	frame  ether.Frame
	room   []byte // of its own; if not, it is lent
	due    time.Duration
	size   int // in the queue's books; 0: it is not there
	behind int // frames that are still to overtake it
}

var parcels = sync.Pool{New: func() any { return new(parcel) }}

// place finds out when a frame is due, and tells whether there is room for it until then.
func (g *Gate) place(now time.Duration, p *parcel) bool {
	due := now
	if g.spec.Rate > 0 {
		wait, cost := g.free-now, g.cost(p.frame.Len())
		if wait > 0 && wait+cost > g.limit {
			g.lose(p, ether.FaultRate, &g.stats.OverRate)
			return false
		}
		if g.free = max(g.free, now-bucket) + cost; g.free > now {
			due = g.free
			p.frame.Fault |= ether.FaultRate
		}
	}
	if d := g.spec.Delay + g.jitter(due); d > 0 {
		due += d
		p.frame.Fault |= ether.FaultDelayed
	}
	due = max(due, g.last)
	hold := g.chance(forReorder, g.spec.Reorder)
	size := p.frame.Len() + overhead
	if (hold || due > now || len(g.queue) > 0) && g.stats.WaitingBytes+size > maxWaiting {
		g.lose(p, 0, &g.stats.Overflow)
		return false
	}
	if p.frame.Fault&ether.FaultDelayed != 0 {
		g.stats.Delayed++
	}
	if hold {
		g.stats.Reordered++
		p.frame.Fault |= ether.FaultReordered
		p.due, p.behind = due+maxHeld, overtakers
		g.keep(p, size)
		g.held = append(g.held, p)
		return true
	}
	g.last = due
	g.line(now, due, p, size)
	for _, h := range g.held {
		h.behind--
	}
	for len(g.held) > 0 && g.held[0].behind == 0 {
		h := g.held[0]
		g.held = g.held[1:]
		g.line(now, due, h, h.size)
	}
	return true
}

// line lets a frame out that is due, and has all others stand in line.
func (g *Gate) line(now, due time.Duration, p *parcel, size int) {
	if due <= now && len(g.queue) == 0 {
		g.emit(p)
		return
	}
	p.due = due
	g.keep(p, size)
	g.queue = append(g.queue, p)
}

// keep has a frame stay behind the call.
func (g *Gate) keep(p *parcel, size int) {
	if p.size == 0 {
		p.own()
		p.size = size
		g.stats.WaitingBytes += size
	}
}

// cost is the time that n bytes take at the rate.
func (g *Gate) cost(n int) time.Duration {
	return time.Duration((int64(n)*8*int64(time.Second) + g.spec.Rate/2) / g.spec.Rate)
}

// jitter is what a frame that begins its way at a time has beside Delay. The times it is asked for never decrease.
func (g *Gate) jitter(at time.Duration) time.Duration {
	j := g.spec.Jitter
	if j == 0 {
		return 0
	}
	draw := func() time.Duration { return time.Duration(g.random[forJitter].Int64N(2*int64(j)+1)) - j }
	if l := &g.leg; at >= l.end {
		l.from = l.to
		if l.end == 0 || at >= l.end+2*j { // the first leg, or after a pause in which all before has passed
			l.from, l.end = draw(), at
		}
		l.to, l.end = draw(), l.end+2*j
	}
	left := float64(g.leg.end-at) / float64(2*j)
	return g.leg.to + time.Duration(left*float64(g.leg.from-g.leg.to))
}

// release lets out what is due.
func (g *Gate) release(now time.Duration) {
	for _, line := range []*[]*parcel{&g.queue, &g.held} {
		n := 0
		for n < len(*line) && (*line)[n].due <= now {
			n++
		}
		g.letOut(line, n)
	}
}

// letOut lets out the first n of a line.
func (g *Gate) letOut(line *[]*parcel, n int) {
	for i, p := range (*line)[:n] {
		(*line)[i] = nil
		g.emit(p)
	}
	*line = (*line)[n:]
}

// emit puts a frame on its way out.
func (g *Gate) emit(p *parcel) {
	g.stats.WaitingBytes -= p.size
	if p.frame.Fault&ether.FaultLost == 0 {
		g.stats.Passed++
	}
	g.batch, g.spent = append(g.batch, p.frame), append(g.spent, p)
	if len(g.batch) == batchSize {
		g.flush()
	}
}

func (g *Gate) flush() {
	if len(g.batch) == 0 {
		return
	}
	g.out(g.batch)
	for i, p := range g.spent {
		p.recycle()
		g.spent[i] = nil
	}
	clear(g.batch)
	g.batch, g.spent = g.batch[:0], g.spent[:0]
}

// wake sets the timer for what is due next.
func (g *Gate) wake() {
	next := time.Duration(0)
	for _, line := range [][]*parcel{g.queue, g.held} {
		if len(line) > 0 && (next == 0 || line[0].due < next) {
			next = line[0].due
		}
	}
	if next == 0 || g.alarm != 0 && g.alarm <= next {
		return
	}
	g.alarm = next
	wait := next - time.Since(g.born)
	if g.timer == nil {
		g.timer = time.AfterFunc(wait, g.ring)
	} else {
		g.timer.Reset(wait)
	}
}

// ring is the timer's.
func (g *Gate) ring() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.alarm = 0
	g.release(time.Since(g.born))
	g.flush()
	g.wake()
}

// own gives a parcel bytes of its own.
func (p *parcel) own() {
	if len(p.room) > 0 {
		return
	}
	f := p.frame
	p.room = append(p.room, f.WithHeadroom()...)
	p.frame = ether.Lend(p.room, f.Off)
	p.frame.Fault, p.frame.ID = f.Fault, f.ID
}

func (p *parcel) recycle() {
	*p = parcel{room: p.room[:0]}
	parcels.Put(p)
}
