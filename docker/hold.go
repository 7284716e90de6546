package docker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// The frames of a new port are held until Docker has said whose it is. One that is wanted anyway waits for its name: in a
// file that stands before the first frame, for good. What comes behind them is held as well, so that all leaves in the
// order of time. That is for orderWait at most, and for queueBytes: when Docker takes longer, the other frames go ahead.
// Those of a port that is wanted anyway go then, too, without a name; others, if they turn out to be wanted, come late and
// out of order, since an order can be restored and a frame that was thrown away cannot. newPortWait and heldBytes are the
// end: then they are discarded.
const (
	orderWait  = 2 * time.Second
	queueBytes = 64 << 20 // of all that is held
	heldBytes  = 16 << 20 // of frames that may be wanted
)

// holdQueue is what Next has not returned yet. All but the first four are only Next's.
type holdQueue struct {
	news      chan struct{} // holds a token when judgements have changed
	judged    atomic.Bool   // judgements have changed since Next last looked
	held      atomic.Uint64
	discarded atomic.Uint64

	queue   []heldBlock  // in order, from the first packet on that is not judged
	late    []heldBlock  // packets that are not judged and no longer in the way
	bytes   int          // of both
	unsure  int          // bytes of these, of packets that were not judged when they came
	later   pcapng.Block // whose Interface was returned before it
	told    int          // Interfaces that were returned
	fresh   bool         // there may be one that is to be
	reading chan arrival // the next of the stream, if somebody reads it
	ended   error
	verdict []byte
}

type heldBlock struct {
	block  pcapng.Block
	size   int
	unsure bool
}

type arrival struct {
	block pcapng.Block
	err   error
}

// Held is how many packets wait to be judged, or behind one that does. All packets that the daemon has written are
// returned, held or discarded.
func (f *Follower) Held() uint64 { return f.held.Load() }

// Discarded is how many packets were not wanted, or came from a port of which Docker said too late whose it is.
func (f *Follower) Discarded() uint64 { return f.discarded.Load() }

// Next gives the next block, lent until the next call, as the stream's Next does. It gives only what is of the targets:
// an Interface is returned if it is a target, or when a packet came or left by it, and an Interface in Packet, Stats and
// capture.Detail counts those that were returned.
func (f *Follower) Next() (pcapng.Block, error) {
	b, err := f.next()
	if err != nil {
		f.stop()
	}
	return b, err
}

func (f *Follower) next() (pcapng.Block, error) {
	if !f.holds {
		b, err := f.s.Next()
		if i, ok := b.(*pcapng.Interface); ok {
			f.addPort(i)
		}
		return b, err
	}
	if b := f.later; b != nil {
		f.later = nil
		return f.renumber(b), nil
	}
	for {
		if f.judged.Swap(false) {
			f.fresh = true
			f.releaseLate()
		}
		if b := f.unannounced(); b != nil {
			return b, nil
		}
		if b := f.take(); b != nil {
			return f.renumber(b), nil
		}
		if f.ended != nil && len(f.queue) == 0 {
			return nil, f.ended
		}
		b, err := f.await()
		if err != nil {
			f.ended = err
		}
		if i, ok := b.(*pcapng.Interface); ok {
			f.addPort(i)
			continue
		}
		if b != nil && f.passes(b) {
			return f.renumber(b), nil
		}
	}
}

// await gives the next block of the stream, or nil when something that is held may go on.
func (f *Follower) await() (pcapng.Block, error) {
	holds := len(f.queue)+len(f.late) > 0
	if !holds && f.reading == nil {
		return f.s.Next()
	}
	if f.reading == nil && f.ended == nil {
		read := make(chan arrival, 1)
		go func() {
			b, err := f.s.Next()
			read <- arrival{b, err}
		}()
		f.reading = read
	}
	var overdue <-chan time.Time
	if len(f.queue) > 0 {
		_, by := f.verdictOn(f.queue[0].block)
		overdue = time.After(time.Until(by.came.Add(orderWait)))
	}
	done := f.ctx.Done()
	if !holds {
		done = nil
	}
	select {
	case a := <-f.reading:
		f.reading = nil
		return a.block, a.err
	case <-f.news:
	case <-overdue:
	case <-done:
	}
	return nil, nil
}

// passes tells whether a block that has just come is to be shown now. If not it was discarded, or is held.
func (f *Follower) passes(b pcapng.Block) bool {
	verdict, _ := f.verdictOn(b)
	if verdict == unwanted {
		f.discard(b)
		return false
	}
	if verdict == wanted && len(f.queue) == 0 {
		return true
	}
	h := heldBlock{block: b, unsure: verdict == unknown}
	if p, ok := b.(*pcapng.Packet); ok {
		h.size = len(p.Data) + 256
		if h.unsure && f.unsure+h.size > heldBytes {
			f.discard(b)
			return false
		}
		kept := *p
		kept.Data, kept.Verdict = slices.Clone(p.Data), slices.Clone(p.Verdict)
		h.block = &kept
		f.held.Add(1)
	}
	f.count(h, 1)
	f.queue = append(f.queue, h)
	return false
}

// count adds to the bytes that are held, or with -1 takes away.
func (f *Follower) count(h heldBlock, sign int) {
	f.bytes += sign * h.size
	if h.unsure {
		f.unsure += sign * h.size
	}
}

// take gives the next held block that is to be shown now, or nil.
func (f *Follower) take() pcapng.Block {
	for len(f.queue) > 0 {
		h := f.queue[0]
		verdict, by := f.verdictOn(h.block)
		over := f.ctx.Err() != nil // nobody will judge any more
		if (verdict == unknown || verdict == nameless) && !over && f.bytes <= queueBytes && time.Since(by.came) < orderWait {
			return nil
		}
		f.queue[0] = heldBlock{}
		f.queue = f.queue[1:]
		if verdict == unknown && !over && f.ended == nil {
			f.late = append(f.late, h)
			continue
		}
		f.release(h)
		if verdict >= nameless {
			return h.block
		}
		f.discard(h.block)
	}
	f.queue = nil
	if len(f.late) > 0 && (f.ended != nil || f.ctx.Err() != nil) {
		for _, h := range f.late {
			f.release(h)
			f.discard(h.block)
		}
		f.late = nil
	}
	return nil
}

func (f *Follower) release(h heldBlock) {
	f.count(h, -1)
	if _, ok := h.block.(*pcapng.Packet); ok {
		f.held.Add(^uint64(0))
	}
}

func (f *Follower) discard(b pcapng.Block) {
	if _, ok := b.(*pcapng.Packet); ok {
		f.discarded.Add(1)
	}
}

// releaseLate puts late packets that are judged now before all others.
func (f *Follower) releaseLate() {
	var decided, still []heldBlock
	for _, h := range f.late {
		if verdict, _ := f.verdictOn(h.block); verdict == unknown {
			still = append(still, h)
		} else {
			decided = append(decided, h)
		}
	}
	if decided != nil {
		f.late, f.queue = still, append(decided, f.queue...)
	}
}

// verdictOn judges a block by the ports that it concerns. If the verdict is unknown, by is the port that it depends on.
func (f *Follower) verdictOn(b pcapng.Block) (verdict judgement, by *seenPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch b := b.(type) {
	case *pcapng.Packet:
		by = f.ports[b.Interface]
		if by.judgement >= nameless {
			return by.judgement, by
		}
		d, _ := capture.ReadDetail(b)
		for _, at := range [...]int{d.In, d.Out} { // a rebuilt datagram is at another port than it came in by
			if at >= 0 && at < len(f.ports) && f.ports[at].judgement > by.judgement {
				by = f.ports[at]
			}
		}
		if d.Verdict == vswitch.Flooded {
			if best := f.flooded[by.port.Network]; best != nil && best.judgement > by.judgement {
				by = best
			}
		}
		return by.judgement, by
	case *pcapng.Stats:
		if p := f.ports[b.Interface]; p.index < 0 {
			return unwanted, p
		}
	}
	return wanted, nil
}

// unannounced gives the Interface of a target that was not returned yet, or nil.
func (f *Follower) unannounced() pcapng.Block {
	if !f.fresh {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.ports {
		if p.index < 0 && p.judgement == wanted {
			return f.announce(p)
		}
	}
	f.fresh = false
	return nil
}

func (f *Follower) announce(p *seenPort) pcapng.Block {
	p.index = f.told
	f.told++
	return p.about
}

// renumber gives a block with the Interfaces counted as Next counts them, or first the Interface that it has.
func (f *Follower) renumber(b pcapng.Block) pcapng.Block {
	switch x := b.(type) {
	case *pcapng.Packet:
		p := f.ports[x.Interface]
		if p.index < 0 {
			f.later = b
			return f.announce(p)
		}
		d, ok := capture.ReadDetail(x)
		out, in := f.renumbered(d.Out), f.renumbered(d.In)
		if out < 0 && uint(d.Out) < uint(len(f.ports)) {
			f.later = b
			return f.announce(f.ports[d.Out])
		}
		x.Interface = p.index
		if ok && (out != d.Out || in != d.In) {
			d.Out, d.In = out, in
			f.verdict = d.AppendTo(f.verdict[:0])
			x.Verdict = f.verdict
		}
	case *pcapng.Stats:
		x.Interface = f.ports[x.Interface].index
	}
	return b
}

// renumbered gives an Interface of the daemon's as Next counts them, -1 if it was not returned.
func (f *Follower) renumbered(i int) int {
	if i < 0 || i >= len(f.ports) {
		return -1
	}
	return f.ports[i].index
}
