package fault

import (
	"math/rand/v2"
	"slices"
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
	overtakers = 3                      // frames that pass one that is held back: as many as TCP takes for a loss (RFC 5681 §3.2)
	maxHeld    = 50 * time.Millisecond  // that it is held back if fewer come

	batchSize = 64
)

// Each kind of choice has random numbers of its own, so that one does not change what another does.
const (
	forLoss = iota
	forCorrupt
	forDuplicate
	forReorder
	forJitter
	choices
)

// A Gate lies in the way of frames and does to them what its Spec says.
//
// Frames come out in order, but for those that Reorder holds back, by the call that brings them or, if they have to
// wait, by a timer's goroutine. One call of out runs at a time.
type Gate struct {
	spec  Spec
	out   func([]ether.Frame)
	limit time.Duration // that the rate's queue holds

	mu     sync.Mutex
	closed bool
	random [choices]*rand.Rand
	bad    bool // a burst of loss goes on
	stats  Stats

	born  time.Time
	free  time.Duration // since born: when the rate has let all pass that came; less than now: tokens are left
	leg   leg
	last  time.Duration // when the last one is due that waits or has waited
	queue []*parcel     // that wait, in order
	held  []*parcel     // that are held back, in order
	timer *time.Timer
	alarm time.Duration // when timer fires; 0: it does not

	batch []ether.Frame // to go out
	spent []*parcel     // theirs
	cut   ether.Cutter
}

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

// Stats are a Gate's counters, of frames as on a wire:
// Frames + Duplicated = Passed + Lost + OverRate + Overflow + Waiting.
type Stats struct {
	Frames       uint64 // that came
	Passed       uint64 // that went on, duplicates and corrupted ones too
	Lost         uint64 // by chance
	OverRate     uint64 // lost, since the rate's queue was full
	Overflow     uint64 // lost, since too much was waiting
	Duplicated   uint64 // second ones
	Delayed      uint64 // by Delay and Jitter
	Reordered    uint64 // held back
	Corrupted    uint64
	Waiting      int // frames
	WaitingBytes int // of these, and of what it takes to keep them
}

// New makes a gate. out takes what comes out of it: frames that are lost too, with ether.FaultLost, so that they can be
// counted; each has the marks of what was done to it, beside those it came with. They are lent to it for the call. The spec must
// have passed Check.
func New(spec Spec, out func([]ether.Frame)) *Gate {
	g := &Gate{spec: spec, out: out, born: time.Now()}
	for i := range g.random {
		g.random[i] = rand.New(rand.NewPCG(spec.Seed, uint64(i)))
	}
	if spec.Rate > 0 {
		g.limit = max(rateWait, g.cost(rateBytes))
	}
	return g
}

// Pass takes frames, which are lent for the call. kept is the number of those of which anything goes on, now or later,
// and bytes their length: of the others all is lost. Several goroutines may call it.
func (g *Gate) Pass(frames []ether.Frame) (kept, bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		for i := range frames {
			bytes += frames[i].Len()
		}
		g.out(frames)
		return len(frames), bytes
	}
	now := time.Since(g.born)
	g.release(now)
	for _, f := range frames {
		if g.meet(now, f) {
			kept++
			bytes += f.Len()
		}
	}
	g.flush()
	g.wake()
	return kept, bytes
}

// Close lets out at once what waits, in order. What comes later goes straight on.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.letOut(&g.queue, len(g.queue))
	g.letOut(&g.held, len(g.held))
	g.flush()
}

// Sync returns when nothing is on its way out that was so when it was called.
func (g *Gate) Sync() {
	g.mu.Lock()
	defer g.mu.Unlock()
}

// Stats reads the counters.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Waiting = len(g.queue) + len(g.held)
	return s
}

// meet takes one frame in, cut as on a wire, and tells whether anything of it goes on.
func (g *Gate) meet(now time.Duration, f ether.Frame) (kept bool) {
	bad := f.Check() != nil // the switch drops it and says why
	if bad || f.Off.Kind == ether.None {
		p := parcels.Get().(*parcel)
		p.frame = f
		if bad {
			g.stats.Frames++
			g.emit(p)
			return true
		}
		return g.treat(now, p)
	}
	g.cut.Reset(&f)
	for {
		p := parcels.Get().(*parcel)
		p.room = slices.Grow(p.room[:0], ether.Headroom+ether.MaxHead+int(f.Off.Segment))
		n, payload, ok := g.cut.Next(p.room[ether.Headroom : ether.Headroom+ether.MaxHead])
		if !ok {
			p.recycle()
			return kept
		}
		p.room = append(p.room[:ether.Headroom+n], payload...)
		p.frame = ether.Lend(p.room, ether.Offload{})
		p.frame.Fault = f.Fault
		kept = g.treat(now, p) || kept
	}
}

// treat decides about one frame, and tells whether it or its duplicate goes on.
func (g *Gate) treat(now time.Duration, p *parcel) bool {
	g.stats.Frames++
	if g.loses() {
		g.lose(p, 0, &g.stats.Lost)
		return false
	}
	if g.chance(forCorrupt, g.spec.Corrupt) && p.frame.Len() > ether.HeaderLen {
		g.corrupt(p)
	}
	var second *parcel
	if g.chance(forDuplicate, g.spec.Duplicate) {
		g.stats.Duplicated++
		second = parcels.Get().(*parcel)
		second.frame = p.frame
		second.frame.Fault |= ether.FaultDuplicate
		second.own() // whoever takes the first may finish its checksum in place
	}
	kept := g.place(now, p)
	return second != nil && g.place(now, second) || kept
}

// chance draws for one kind of choice.
func (g *Gate) chance(kind int, p float64) bool { return p > 0 && g.random[kind].Float64() < p }

// loses draws for the next frame. In bursts it is a chain of two states, with as many steps from good to bad as back.
func (g *Gate) loses() bool {
	loss, burst := g.spec.Loss, g.spec.Burst
	switch {
	case burst == 0 || loss == 1:
		return g.chance(forLoss, loss)
	case g.bad:
		g.bad = !g.chance(forLoss, 1/burst)
	default:
		g.bad = g.chance(forLoss, loss/(burst*(1-loss)))
	}
	return g.bad
}

// lose lets a frame out as one that is lost, for a cause beside chance if it has one.
func (g *Gate) lose(p *parcel, cause ether.Fault, count *uint64) {
	*count++
	p.frame.Fault |= cause | ether.FaultLost
	g.emit(p)
}

func (g *Gate) corrupt(p *parcel) {
	g.stats.Corrupted++
	p.own()
	p.frame.Finish() // else somebody would add up a checksum that is right again
	bit := g.random[forCorrupt].IntN((p.frame.Len() - ether.HeaderLen) * 8)
	p.frame.Bytes()[ether.HeaderLen+bit/8] ^= 1 << (bit % 8)
	p.frame.Off = ether.Offload{}
	p.frame.Fault |= ether.FaultCorrupt
}

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
	fault := p.frame.Fault
	p.room = append(p.room, p.frame.Room()...)
	p.frame = ether.Lend(p.room, p.frame.Off)
	p.frame.Fault = fault
}

func (p *parcel) recycle() {
	*p = parcel{room: p.room[:0]}
	parcels.Put(p)
}
