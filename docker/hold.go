package docker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// The frames of a new port are held until Docker has said which container has it. The frames of a port that is a target in any
// case wait for the container's name only, since in a file the name stands before the first frame and cannot be changed later.
// What comes after a held frame is held too, so that Next returns packets in the order of time. A frame is held for orderWait
// at most, and only as long as all of them take no more than queueBytes. After that the other frames go ahead: those of a port that
// is a target in any case without a name; those of an unknown port only when Docker has answered, late and out of order, since an
// order can be restored and a discarded frame cannot. After newPortWait, or beyond heldBytes, they are discarded.
const (
	orderWait  = 2 * time.Second
	queueBytes = 64 << 20 // of all that is held
	heldBytes  = 16 << 20 // of frames that may be wanted
)

// holdQueue is what Next has not returned yet.
type holdQueue struct {
	news      chan struct{} // holds a token when judgements have changed
	judged    atomic.Bool   // judgements have changed since Next last checked
	held      atomic.Uint64
	discarded atomic.Uint64

	// Only the goroutine that calls Next uses the fields below.
	queue    []heldBlock  // in order; the first one is a packet that is not judged yet
	late     []heldBlock  // packets that are not judged yet, and that others have overtaken
	bytes    int          // in queue and late
	unsure   int          // those of them in packets that were not judged when they came
	pending  pcapng.Block // to be returned next: its Interface had to be returned before it
	returned int          // Interfaces that Next has returned
	fresh    bool         // there may be an Interface to return
	reading  chan arrival // receives the stream's next block; nil: nobody reads the stream
	ended    error        // how the stream ended
	detail   []byte       // the encoded capture.Detail of the packet that was returned last
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

// Held is the number of packets that wait: for the name of their port's container, or for an earlier packet. Each packet that the
// daemon has written is returned, held or discarded.
func (f *Follower) Held() uint64 { return f.held.Load() }

// Discarded is how many packets were not wanted, or came from a port of which Docker said too late which container has it.
func (f *Follower) Discarded() uint64 { return f.discarded.Load() }

// Next returns the next block, lent until the next call, as the stream's Next does. It returns only what concerns the targets:
// an Interface if it is a target, or before the first packet that came or left by it. The numbers of Interfaces in Packet, Stats
// and capture.Detail count those that were returned.
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
	if b := f.pending; b != nil {
		f.pending = nil
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

// await returns the next block of the stream, or nil when something that is held may be returned.
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
		_, by := f.judgeBlock(f.queue[0].block)
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

// passes tells whether a block that has just come is to be returned now. If not, it was discarded or is held.
func (f *Follower) passes(b pcapng.Block) bool {
	j, _ := f.judgeBlock(b)
	if j == unwanted {
		f.discard(b)
		return false
	}
	if j == wanted && len(f.queue) == 0 {
		return true
	}
	h := heldBlock{block: b, unsure: j == unknown}
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

// count adds a block's bytes to those that are held, or with sign -1 subtracts them.
func (f *Follower) count(h heldBlock, sign int) {
	f.bytes += sign * h.size
	if h.unsure {
		f.unsure += sign * h.size
	}
}

// take removes and returns the next held block that is to be returned now; nil: none.
func (f *Follower) take() pcapng.Block {
	for len(f.queue) > 0 {
		h := f.queue[0]
		j, by := f.judgeBlock(h.block)
		over := f.ctx.Err() != nil // no judgement will change any more
		if (j == unknown || j == nameless) && !over && f.bytes <= queueBytes && time.Since(by.came) < orderWait {
			return nil
		}
		f.queue[0] = heldBlock{}
		f.queue = f.queue[1:]
		if j == unknown && !over && f.ended == nil {
			f.late = append(f.late, h)
			continue
		}
		f.release(h)
		if j >= nameless {
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

// releaseLate puts the late packets that have been judged since at the head of the queue.
func (f *Follower) releaseLate() {
	var judged, late []heldBlock
	for _, h := range f.late {
		if j, _ := f.judgeBlock(h.block); j == unknown {
			late = append(late, h)
		} else {
			judged = append(judged, h)
		}
	}
	if judged != nil {
		f.late, f.queue = late, append(judged, f.queue...)
	}
}

// judgeBlock judges a block by the ports that it concerns. If the judgement is unknown, by is the port that it depends on.
func (f *Follower) judgeBlock(b pcapng.Block) (j judgement, by *seenPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch b := b.(type) {
	case *pcapng.Packet:
		at := f.ports[b.Interface]
		by, j = at, at.judgeFrame(b, at.port.Outer)
		if j >= nameless {
			return j, by
		}
		d, _ := capture.ReadDetail(b)
		better := func(p *seenPort) {
			if k := p.judgeFrame(b, at.port.Outer); k > j {
				by, j = p, k
			}
		}
		for _, i := range [...]int{d.In, d.Out} { // a rebuilt datagram is at another port than it came in by
			if i >= 0 && i < len(f.ports) {
				better(f.ports[i])
			}
		}
		if d.Verdict == vswitch.Flooded {
			for _, p := range f.parts {
				if p.port.Network == at.port.Network {
					better(p)
				}
			}
			if best := f.flooded[at.port.Network]; best != nil {
				better(best)
			}
		}
		return j, by
	case *pcapng.Stats:
		if p := f.ports[b.Interface]; p.index < 0 {
			return unwanted, p
		}
	}
	return wanted, nil
}

// judgeFrame judges a frame by one of its ports. What is in a rebuilt datagram (outer) was judged by the daemon.
func (p *seenPort) judgeFrame(b *pcapng.Packet, outer bool) judgement {
	if p.part != nil && !outer && !slices.ContainsFunc(p.part, func(f *filter.Filter) bool { return f.Match(b.Data, b.Len) }) {
		return unwanted
	}
	return p.judgement
}

// unannounced returns the Interface of a target that was not returned yet; nil: none.
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
	p.index = f.returned
	f.returned++
	return p.about
}

// renumber returns a block with Interfaces numbered as Next counts them; or the Interface that must be returned before it.
func (f *Follower) renumber(b pcapng.Block) pcapng.Block {
	switch x := b.(type) {
	case *pcapng.Packet:
		p := f.ports[x.Interface]
		if p.index < 0 {
			f.pending = b
			return f.announce(p)
		}
		d, ok := capture.ReadDetail(x)
		out, in := f.renumbered(d.Out), f.renumbered(d.In)
		if out < 0 && uint(d.Out) < uint(len(f.ports)) {
			f.pending = b
			return f.announce(f.ports[d.Out])
		}
		x.Interface = p.index
		if ok && (out != d.Out || in != d.In) {
			d.Out, d.In = out, in
			f.detail = d.AppendTo(f.detail[:0])
			x.Verdict = f.detail
		}
	case *pcapng.Stats:
		x.Interface = f.ports[x.Interface].index
	}
	return b
}

// renumbered returns the number that Next gave the daemon's Interface i; -1: it was not returned.
func (f *Follower) renumbered(i int) int {
	if i < 0 || i >= len(f.ports) {
		return -1
	}
	return f.ports[i].index
}
