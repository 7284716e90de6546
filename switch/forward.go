package vswitch

import (
	"sync"

	"github.com/tapestry-net/tapestry/ether"
)

// maxEgress is the maximum of egress ports that a batch is sorted by before it is sent.
const maxEgress = 8

// An egressBatch is the frames of one batch that leave by one port, in order.
type egressBatch struct {
	port   *Port
	frames []*ether.Frame
}

// batch is Ingress's scratch.
type batch struct {
	egress  [maxEgress]egressBatch
	used    int
	flood   []*ether.Frame
	heard   []*audience    // of the frames in flood, with snooping; else empty
	fitting []*ether.Frame // flood, less what one port does not get
	answers answerBatch
	syns    synBatch // of egress
	flooded synBatch // of flood, for one port at a time
	tally   Tally
	bytes   uint64
	now     int64 // see time
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// Ingress processes frames that p has received: each gets its verdict, its source is learned, and it is sent on.
// The frames are lent for the call. Several goroutines may call it at once.
func (p *Port) Ingress(frames []ether.Frame) {
	b := batches.Get().(*batch)
	p.process(b, frames)
	p.count(b)
	batches.Put(b)
}

// Inject is Ingress for one frame, and returns its verdict.
func (p *Port) Inject(f ether.Frame) (v Verdict) {
	b := batches.Get().(*batch)
	p.process(b, []ether.Frame{f})
	for b.tally[v] == 0 {
		v++
	}
	p.count(b)
	batches.Put(b)
	return v
}

// process gives each frame its verdict and sends it on.
func (p *Port) process(b *batch, frames []ether.Frame) {
	var src, dst ether.MAC // of the previous frame: a run of one flow needs one look-up
	var to *Port           // owns dst; nil: to be looked up
	var down *Port         // was found down in this call: to ask again would cost system calls
	var held bool          // src stays at another port
	snoop := p.sw.snoop.Load()
	var watch Watcher
	if w := p.sw.watch.Load(); w != nil {
		watch = *w
	}
	guard := guarding{guards: p.Policy().Guards}
	limited := p.limits.Load()
	var egress *limits // of to
	for i := 0; i < len(frames); i++ {
		f := &frames[i]
		if b.answers.n == maxAnswers || b.syns.n == maxSYNs {
			b.sendAll(p, watch)
		}
		b.bytes += uint64(f.Len())
		v := p.validate(f)
		if v == Forwarded {
			if from := f.Src(); from != src {
				src, held = from, false
				switch p.sw.learnSource(from, p) {
				case sourceKnown:
				case sourceHeld:
					src, held, to = ether.MAC{}, true, nil
				case sourceSpoofed:
					v, src = p.taken(), ether.MAC{}
				default: // dst may be the address that has moved, or that was evicted
					to = nil
				}
			}
		}
		if v == Forwarded && guard.guards != 0 {
			v = guard.check(p, f)
		}
		if v == Forwarded && limited != nil {
			v = limited.receive(b.time(p.sw), f)
		}
		if v == Forwarded {
			if d := f.Dst(); to == nil || d != dst {
				dst, to = d, p.locate(d)
			}
			if to == nil || to != down {
				v = p.decide(f, to)
			} else {
				v = Down
			}
			switch v {
			case Forwarded:
				if egress = to.limits.Load(); egress != nil {
					v = egress.send(b.time(p.sw), f)
				}
			case Down:
				down = to
			case MTU:
				if to != nil {
					b.answers.addTooBig(p, to, f)
				}
			case Flooded:
				if held {
					v = Flapping
				} else if p.storms(b) {
					v = Storm
				} else if r := p.answer(f, p.sw.find); r.found == "told" {
					v = Answered
					b.answers.add(&r)
				}
			}
		}
		b.tally[v]++
		if v == Forwarded {
			g, run := b.syns.lower(p, to, f), frames[i:i+1]
			e, n := b.enqueue(p, to, g), 0
			if g != f {
				run = b.syns.last()
			} else if limited == nil && egress == nil {
				n = b.enqueueRun(p, e, &guard, f, frames[i+1:])
				run = frames[i:][:1+n]
			}
			if watch != nil {
				watchRun(watch, p, to, run)
			}
			i += n
			continue
		}
		if watch != nil {
			watch.Watch(p, nil, v, f)
		}
		if v == Flooded {
			b.sendEgress()
			b.flood = append(b.flood, f)
			if snoop != nil {
				b.heard = append(b.heard, snoop.hear(p, f))
			}
		}
	}
	b.sendAll(p, watch)
}

// sendAll sends what is collected of frames that in has received.
func (b *batch) sendAll(in *Port, w Watcher) {
	b.sendEgress()
	b.sendFlood(in)
	b.answers.send(in, w)
	b.syns.clear()
}

// watchRun shows frames that are forwarded from in to out.
func watchRun(w Watcher, in, out *Port, frames []ether.Frame) {
	if r, ok := w.(RunWatcher); ok {
		r.WatchRun(in, out, frames)
		return
	}
	for i := range frames {
		w.Watch(in, out, Forwarded, &frames[i])
	}
}

// WatchFaulted shows the Watcher a frame that a fault on the way out by p has changed, delayed or lost, after its verdict.
func (p *Port) WatchFaulted(f *ether.Frame) {
	v := Forwarded
	if f.Fault&ether.FaultLost != 0 {
		v = Fault
	}
	if w := p.sw.watch.Load(); w != nil {
		(*w).Watch(nil, p, v, f)
	}
}

// validate gives the verdict as far as it needs no address table: a drop, or Forwarded.
func (p *Port) validate(f *ether.Frame) Verdict {
	if err := f.Check(); err != nil {
		if f.Len() < ether.HeaderLen {
			return Runt
		}
		return Offload
	}
	if p.detached.Load() {
		return Detached
	}
	if f.Fault&ether.FaultLost != 0 {
		return Fault
	}
	if src := f.Src(); src.Group() || src.IsZero() {
		return BadSource
	}
	if !p.inVLAN(f) {
		return VLAN
	}
	return Forwarded
}

// decide gives the verdict of a valid frame. to is the port that owns its destination; nil: none is known.
func (p *Port) decide(f *ether.Frame, to *Port) Verdict {
	if to == nil {
		return p.flood(f)
	}
	return p.egressVerdict(f, to)
}

// egressVerdict is the verdict of a frame that was received by p if it were to leave by q.
func (p *Port) egressVerdict(f *ether.Frame, q *Port) Verdict {
	switch {
	case q == p:
		return Hairpin
	case p.Uplink && q.Uplink:
		return Horizon
	case !q.inVLAN(f):
		return VLAN
	case q.IsDown():
		return Down
	case !q.fits(f):
		return MTU
	}
	return Forwarded
}

// fits tells whether p can send f: it is not too long.
func (p *Port) fits(f *ether.Frame) bool {
	n := f.WireLen()
	return n <= int(p.limit.Load()) || n <= p.limitOf(f)
}

// limitOf is the length of the longest frame, tagged as f is, that p can send.
func (p *Port) limitOf(f *ether.Frame) int {
	limit := int(p.limit.Load())
	if !p.Uplink {
		limit += f.OuterTag()
	}
	return limit
}

// packetLimit is the length of the longest IP packet, in a frame tagged as f is, that p can send.
func (p *Port) packetLimit(f *ether.Frame) int {
	tags := ether.LayersOf(f.Bytes()).Network
	return p.limitOf(f) - tags
}

// keeps tells whether frames to dst that p receives are for its link only. Linux's bridge without STP passes those to the bridge group (last
// byte 0), so that others find loops by them, and never pause frames (1): br_handle_frame in net/bridge/br_input.c. What comes from another host
// has passed there.
func (p *Port) keeps(dst ether.MAC) bool {
	return dst.LinkLocal() && dst[5] != 0 && (dst[5] == 1 || !p.Uplink && !p.passes.Load())
}

// flood is the verdict of a frame without a known destination port: LinkLocal, Flooded if a port can send it or if there is none.
// Otherwise MTU if it is too long for one of them, else Down.
func (p *Port) flood(f *ether.Frame) Verdict {
	if p.keeps(f.Dst()) {
		return LinkLocal
	}
	v := Flooded
	for _, q := range *p.sw.ports.Load() {
		if q.reached.Load() {
			continue
		}
		switch p.egressVerdict(f, q) {
		case Forwarded:
			return Flooded
		case MTU:
			v = MTU
		case Down:
			if v == Flooded {
				v = Down
			}
		}
	}
	return v
}

// enqueue adds f to its port's egress batch and returns that.
func (b *batch) enqueue(in, to *Port, f *ether.Frame) *egressBatch {
	b.sendFlood(in)
	for i := range b.egress[:b.used] {
		if e := &b.egress[i]; e.port == to {
			e.frames = append(e.frames, f)
			return e
		}
	}
	if b.used == maxEgress {
		b.sendEgress()
	}
	e := &b.egress[b.used]
	b.used++
	e.port, e.frames = to, append(e.frames, f)
	return e
}

// enqueueRun adds to f's egress batch the frames behind f that have its addresses and must get its verdict, up to the
// first one that differs, or that a guard or the MSS has to be looked into for, and returns their number. Most frames of a busy port are runs of one flow.
func (b *batch) enqueueRun(in *Port, e *egressBatch, guard *guarding, f *ether.Frame, frames []ether.Frame) (n int) {
	limit := int(e.port.limit.Load())
	sorted := in.vlans.Load() != nil || e.port.vlans.Load() != nil // by VLAN
	lowers := in.mss() != 0 || e.port.mss() != 0
	for i := range frames {
		g := &frames[i]
		if !g.SameAddresses(f) || g.Fault != f.Fault || g.Check() != nil || g.WireLen() > limit ||
			guard.guards != 0 && !guard.known(g.Bytes()) || sorted && g.VLAN() != f.VLAN() || lowers && g.IsSYN() {
			break
		}
		e.frames = append(e.frames, g)
		b.bytes += uint64(g.Len())
		n++
	}
	b.tally[Forwarded] += uint64(n)
	return n
}

func (b *batch) sendEgress() {
	for i := range b.egress[:b.used] {
		e := &b.egress[i]
		e.port.send(e.frames)
		clear(e.frames)
		e.port, e.frames = nil, e.frames[:0]
	}
	b.used = 0
}

// refuse counts n frames that should have left by the port and are not sent.
func (p *Port) refuse(n int) {
	p.offered.Add(uint64(n))
	p.refused.Add(uint64(n))
}

// send sends frames by the port and counts them.
func (p *Port) send(frames []*ether.Frame) {
	if len(frames) == 0 {
		return
	}
	n := uint64(len(frames))
	p.offered.Add(n)
	sent, bytes := p.to.Send(frames)
	if uint64(sent) < n {
		p.refused.Add(n - uint64(sent))
	}
	p.txBytes.Add(uint64(bytes))
}

// count adds a batch to the counters of the port and of the switch.
func (p *Port) count(b *batch) {
	for v, n := range b.tally {
		if n > 0 {
			p.tally[v].Add(n)
			p.sw.tally[v].Add(n)
		}
	}
	p.rxBytes.Add(b.bytes)
	b.tally, b.bytes, b.now = Tally{}, 0, 0
}
