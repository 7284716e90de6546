package fault

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// batchSize is how many frames go out by one call at most.
const batchSize = 64

// Each kind of choice has random numbers of its own, so that one does not change what another does.
const (
	forLoss = iota
	forCorrupt
	forDuplicate
	forReorder
	forJitter
	choices
)

// An Injector lies in the way of frames and does to them what its Spec says.
//
// Frames come out in order, but for those that Reorder holds back, by the call that brings them or, if they have to
// wait, by a timer's goroutine. One call of out runs at a time.
type Injector struct {
	spec      Spec
	out       func([]ether.Frame)
	rateLimit time.Duration // that the rate's queue holds

	mu      sync.Mutex
	closed  bool
	random  [choices]*rand.Rand
	inBurst bool // a burst of loss goes on
	stats   Stats

	start    time.Time
	rateFree time.Duration // since born: when the rate has let all pass that came; less than now: tokens are left
	ramp     jitterRamp
	lastDue  time.Duration // when the last one is due that waits or has waited
	queue    []*wireFrame  // that wait, in order
	held     []*wireFrame  // that are held back, in order
	timer    *time.Timer
	timerAt  time.Duration // when timer fires; 0: it does not

	batch       []ether.Frame // to go out
	batchFrames []*wireFrame  // theirs
	cut         ether.Cutter
}

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

// New makes a gate. The spec must have passed Check. out takes what comes out, lent for the call: frames that are lost
// too, with ether.FaultLost, so that they can be counted. Each has the marks of what was done to it, beside those it
// came with.
func New(spec Spec, out func([]ether.Frame)) *Injector {
	g := &Injector{spec: spec, out: out, start: time.Now()}
	for i := range g.random {
		g.random[i] = rand.New(rand.NewPCG(spec.Seed, uint64(i)))
	}
	if spec.Rate > 0 {
		g.rateLimit = max(rateWait, g.cost(rateBytes))
	}
	return g
}

// Process takes frames, which are lent for the call. kept is the number of those of which anything goes on, now or later,
// and bytes their length: of the others all is lost. Several goroutines may call it.
func (g *Injector) Process(frames []ether.Frame) (kept, bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		for i := range frames {
			bytes += frames[i].Len()
		}
		g.out(frames)
		return len(frames), bytes
	}
	now := time.Since(g.start)
	g.releaseDue(now)
	for _, f := range frames {
		if g.segment(now, f) {
			kept++
			bytes += f.Len()
		}
	}
	g.flush()
	g.setTimer()
	return kept, bytes
}

// Close lets out at once what waits, in order. What comes later goes straight on.
func (g *Injector) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.releaseFirst(&g.queue, len(g.queue))
	g.releaseFirst(&g.held, len(g.held))
	g.flush()
}

// Sync returns when nothing is on its way out that was so when it was called.
func (g *Injector) Sync() {
	g.mu.Lock()
	defer g.mu.Unlock()
}

// Stats reads the counters.
func (g *Injector) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Waiting = len(g.queue) + len(g.held)
	return s
}

// segment takes one frame in, cut as on a wire, and tells whether anything of it goes on.
func (g *Injector) segment(now time.Duration, f ether.Frame) (kept bool) {
	bad := f.Check() != nil // the switch drops it and says why
	if bad || f.Off.Kind == ether.None {
		p := wireFrames.Get().(*wireFrame)
		p.frame = f
		if bad {
			g.stats.Frames++
			g.emit(p)
			return true
		}
		return g.impair(now, p)
	}
	g.cut.Reset(&f)
	for {
		p := wireFrames.Get().(*wireFrame)
		p.buf = slices.Grow(p.buf[:0], ether.Headroom+ether.MaxHead+int(f.Off.Segment))
		n, payload, ok := g.cut.Next(p.buf[ether.Headroom : ether.Headroom+ether.MaxHead])
		if !ok {
			p.recycle()
			return kept
		}
		p.buf = append(p.buf[:ether.Headroom+n], payload...)
		p.frame = ether.Lend(p.buf, ether.Offload{})
		p.frame.Fault, p.frame.ID = f.Fault, f.ID
		kept = g.impair(now, p) || kept
	}
}

// impair decides about one frame, and tells whether it or its duplicate goes on.
func (g *Injector) impair(now time.Duration, p *wireFrame) bool {
	g.stats.Frames++
	if g.drawLoss() {
		g.drop(p, 0, &g.stats.Lost)
		return false
	}
	if g.chance(forCorrupt, g.spec.Corrupt) && p.frame.Len() > ether.HeaderLen {
		g.corrupt(p)
	}
	var second *wireFrame
	if g.chance(forDuplicate, g.spec.Duplicate) {
		g.stats.Duplicated++
		second = wireFrames.Get().(*wireFrame)
		second.frame = p.frame
		second.frame.Fault |= ether.FaultDuplicate
		second.copyBytes() // the first's bytes go with the first
	}
	kept := g.schedule(now, p)
	return second != nil && g.schedule(now, second) || kept
}

// chance draws for one kind of choice.
func (g *Injector) chance(kind int, p float64) bool { return p > 0 && g.random[kind].Float64() < p }

// drawLoss draws for the next frame. In bursts it is a chain of two states, with as many steps from good to bad as back.
func (g *Injector) drawLoss() bool {
	loss, burst := g.spec.Loss, g.spec.Burst
	switch {
	case burst == 0 || loss == 1:
		return g.chance(forLoss, loss)
	case g.inBurst:
		g.inBurst = !g.chance(forLoss, 1/burst)
	default:
		g.inBurst = g.chance(forLoss, loss/(burst*(1-loss)))
	}
	return g.inBurst
}

// drop lets a frame out as one that is lost, for a cause beside chance if it has one.
func (g *Injector) drop(p *wireFrame, cause ether.Fault, count *uint64) {
	*count++
	p.frame.Fault |= cause | ether.FaultLost
	g.emit(p)
}

func (g *Injector) corrupt(p *wireFrame) {
	g.stats.Corrupted++
	p.copyBytes()
	p.frame.CompleteChecksum() // else somebody would add up a checksum that is right again
	bit := g.random[forCorrupt].IntN((p.frame.Len() - ether.HeaderLen) * 8)
	p.frame.Bytes()[ether.HeaderLen+bit/8] ^= 1 << (bit % 8)
	p.frame.Off = ether.Offload{}
	p.frame.Fault |= ether.FaultCorrupt
}
