package fault

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/ether"
)

// batchSize is the maximum of frames in one call of out.
const batchSize = 64

// Each kind of decision has its own random numbers, so that one setting does not change what another one does.
const (
	forLoss = iota
	forCorrupt
	forDuplicate
	forReorder
	forJitter
	choices
)

// An Injector does to frames what its Spec says: it loses, delays, duplicates, changes and reorders them.
//
// Frames come out in order, but for those that Reorder holds back: during the call of Process, or, if they have to wait,
// on a timer's goroutine. One call of out runs at a time.
type Injector struct {
	spec      Spec
	out       func([]ether.Frame)
	rateLimit time.Duration // length of the rate's queue
	start     time.Time     // all other times below are counted from it

	mu      sync.Mutex // guards all below; it is held while out is called
	closed  bool
	random  [choices]*rand.Rand
	inBurst bool // the last frame was lost, in a burst that goes on
	stats   Stats

	rateFree time.Duration // when the rate will have let pass all frames so far; before now: tokens are left
	ramp     jitterRamp
	lastDue  time.Duration // when the last frame is due, or was, that had to wait
	queue    []*wireFrame  // waiting, in order
	held     []*wireFrame  // held back by Reorder, in order
	timer    *time.Timer
	timerAt  time.Duration // when timer fires; 0: it does not

	batch       []ether.Frame // for the next call of out
	batchFrames []*wireFrame  // those of batch
	cut         ether.Cutter
}

// Stats are an Injector's counters, in frames as on a wire: super-frames are cut.
// Frames + Duplicated = Passed + Lost + OverRate + Overflow + Waiting.
type Stats struct {
	Frames       uint64 // received
	Passed       uint64 // sent on, with duplicates and corrupted ones
	Lost         uint64 // at random
	OverRate     uint64 // lost: the rate's queue was full
	Overflow     uint64 // lost: maxWaiting was reached
	Duplicated   uint64 // copies made
	Delayed      uint64 // by Delay and Jitter
	Reordered    uint64 // held back
	Corrupted    uint64
	Waiting      int // frames
	WaitingBytes int // of them, with the memory for their management
}

// New makes an Injector. The spec must have passed Check. out receives the frames, lent for the call, each with the marks
// of what was done to it. Lost frames come too, marked ether.FaultLost, so that they can be counted.
func New(spec Spec, out func([]ether.Frame)) *Injector {
	inj := &Injector{spec: spec, out: out, start: time.Now()}
	for kind := range inj.random {
		inj.random[kind] = rand.New(rand.NewPCG(spec.Seed, uint64(kind)))
	}
	if spec.Rate > 0 {
		inj.rateLimit = max(rateWait, inj.cost(rateBytes))
	}
	return inj
}

// Process takes frames, lent for the call. kept is the number of those of which anything is sent on, now or later, and
// bytes their length; of the others all is lost. Several goroutines may call it.
func (inj *Injector) Process(frames []ether.Frame) (kept, bytes int) {
	inj.mu.Lock()
	defer inj.mu.Unlock()
	if inj.closed {
		for i := range frames {
			bytes += frames[i].Len()
		}
		inj.out(frames)
		return len(frames), bytes
	}
	now := time.Since(inj.start)
	inj.releaseDue(now)
	for _, f := range frames {
		if inj.segment(now, f) {
			kept++
			bytes += f.Len()
		}
	}
	inj.flush()
	inj.setTimer()
	return kept, bytes
}

// Close sends on at once what waits, in order. Frames that come later are sent on unchanged.
func (inj *Injector) Close() {
	inj.mu.Lock()
	defer inj.mu.Unlock()
	if inj.closed {
		return
	}
	inj.closed = true
	if inj.timer != nil {
		inj.timer.Stop()
	}
	inj.releaseFirst(&inj.queue, len(inj.queue))
	inj.releaseFirst(&inj.held, len(inj.held))
	inj.flush()
}

// Sync waits until every call of out that was in progress when Sync was called has returned.
func (inj *Injector) Sync() {
	inj.mu.Lock()
	defer inj.mu.Unlock()
}

// Stats reads the counters.
func (inj *Injector) Stats() Stats {
	inj.mu.Lock()
	defer inj.mu.Unlock()
	s := inj.stats
	s.Waiting = len(inj.queue) + len(inj.held)
	return s
}

// segment impairs a frame, or each segment of a super-frame, and tells whether anything of it is sent on.
func (inj *Injector) segment(now time.Duration, f ether.Frame) (kept bool) {
	bad := f.Check() != nil // passed on unchanged: the switch drops and counts it
	if bad || f.Off.Kind == ether.None {
		p := wireFrames.Get().(*wireFrame)
		p.frame = f
		if bad {
			inj.stats.Frames++
			inj.emit(p)
			return true
		}
		return inj.impair(now, p)
	}
	inj.cut.Reset(&f)
	for {
		p := wireFrames.Get().(*wireFrame)
		p.buf = slices.Grow(p.buf[:0], ether.Headroom+ether.MaxHead+int(f.Off.Segment))
		n, payload, ok := inj.cut.Next(p.buf[ether.Headroom : ether.Headroom+ether.MaxHead])
		if !ok {
			p.recycle()
			return kept
		}
		p.buf = append(p.buf[:ether.Headroom+n], payload...)
		p.frame = ether.Lend(p.buf, ether.Offload{})
		p.frame.Fault, p.frame.ID = f.Fault, f.ID
		kept = inj.impair(now, p) || kept
	}
}

// impair decides what is done to one frame, and tells whether it or its duplicate is sent on.
func (inj *Injector) impair(now time.Duration, p *wireFrame) bool {
	inj.stats.Frames++
	if inj.drawLoss() {
		inj.drop(p, 0, &inj.stats.Lost)
		return false
	}
	if inj.chance(forCorrupt, inj.spec.Corrupt) && p.frame.Len() > ether.HeaderLen {
		inj.corrupt(p)
	}
	var second *wireFrame
	if inj.chance(forDuplicate, inj.spec.Duplicate) {
		inj.stats.Duplicated++
		second = wireFrames.Get().(*wireFrame)
		second.frame = p.frame
		second.frame.Fault |= ether.FaultDuplicate
		second.copyBytes() // the first frame's bytes are reused after it was sent
	}
	kept := inj.schedule(now, p)
	return second != nil && inj.schedule(now, second) || kept
}

// chance is true with probability p, by the random numbers of one kind of decision.
func (inj *Injector) chance(kind int, p float64) bool { return p > 0 && inj.random[kind].Float64() < p }

// drawLoss decides whether the next frame is lost. With bursts it is a Markov chain of two states (Gilbert model): the mean
// length of a burst is Burst, and the share of lost frames Loss.
func (inj *Injector) drawLoss() bool {
	loss, burst := inj.spec.Loss, inj.spec.Burst
	switch {
	case burst == 0 || loss == 1:
		return inj.chance(forLoss, loss)
	case inj.inBurst:
		inj.inBurst = !inj.chance(forLoss, 1/burst)
	default:
		inj.inBurst = inj.chance(forLoss, loss/(burst*(1-loss)))
	}
	return inj.inBurst
}

// drop hands a frame to out as lost. cause is 0 if it was lost at random or for want of room.
func (inj *Injector) drop(p *wireFrame, cause ether.Fault, count *uint64) {
	*count++
	p.frame.Fault |= cause | ether.FaultLost
	inj.emit(p)
}

func (inj *Injector) corrupt(p *wireFrame) {
	inj.stats.Corrupted++
	p.copyBytes()
	p.frame.CompleteChecksum() // else a checksum that is right for the corrupted bytes would be computed later
	bit := inj.random[forCorrupt].IntN((p.frame.Len() - ether.HeaderLen) * 8)
	p.frame.Bytes()[ether.HeaderLen+bit/8] ^= 1 << (bit % 8)
	p.frame.Off = ether.Offload{}
	p.frame.Fault |= ether.FaultCorrupt
}
