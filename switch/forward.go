package vswitch

import (
	"sync"

	"github.com/tapestry-net/tapestry/ether"
)

// maxLots is how many leaving ports one batch is sorted into before it is sent.
const maxLots = 8

// A lot is the frames of one batch that leave by one port, in order.
type lot struct {
	port   *Port
	frames []*ether.Frame
}

// batch is Ingress's scratch.
type batch struct {
	lots  [maxLots]lot
	used  int
	flood []*ether.Frame
	some  []*ether.Frame // flood, less what is too long for one port
	tally Tally
	bytes uint64
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// Ingress is the way of a frame: frames have come in by p; each is judged, its source learned, and
// sent on. They are lent for the length of the call.
func (p *Port) Ingress(frames []ether.Frame) {
	b := batches.Get().(*batch)
	p.pass(b, frames)
	p.count(b)
	batches.Put(b)
}

// Inject is Ingress for one frame, and tells its verdict.
func (p *Port) Inject(f ether.Frame) (v Verdict) {
	b := batches.Get().(*batch)
	p.pass(b, []ether.Frame{f})
	for b.tally[v] == 0 {
		v++
	}
	p.count(b)
	batches.Put(b)
	return v
}

// pass judges frames and sends them on.
func (p *Port) pass(b *batch, frames []ether.Frame) {
	var src, dst ether.MAC // of the frame before: a run of one flow costs no look-up
	var to *Port           // dst's owner; nil: to be looked up
	var down *Port         // asked in this call, and down: to ask takes system calls
	var watch Watcher
	if w := p.sw.watch.Load(); w != nil {
		watch = *w
	}
	for i := 0; i < len(frames); i++ {
		f := &frames[i]
		b.bytes += uint64(f.Len())
		v := p.vet(f)
		if v == Forwarded {
			if from := f.Src(); from != src {
				switch src = from; p.sw.learn(from, p) {
				case here:
				case taken:
					v, src = Spoofed, ether.MAC{}
				default: // the destination may have moved, or gone to make room
					to = nil
				}
			}
		}
		if v == Forwarded {
			if d := f.Dst(); to == nil || d != dst {
				dst, to = d, p.sw.find(d)
			}
			if to == nil || to != down {
				v = p.decide(f, to)
			} else {
				v = Down
			}
			if v == Down {
				down = to
			}
		}
		b.tally[v]++
		if v == Forwarded {
			l := b.forward(p, to, f)
			n := b.follow(l, f, frames[i+1:])
			if watch != nil {
				showRun(watch, p, to, frames[i:][:1+n])
			}
			i += n
			continue
		}
		if watch != nil {
			watch.Watch(p, nil, v, f)
		}
		if v == Flooded {
			b.sendLots()
			b.flood = append(b.flood, f)
		}
	}
	b.sendLots()
	b.sendFlood(p)
}

// showRun shows frames that are forwarded one way.
func showRun(w Watcher, in, out *Port, frames []ether.Frame) {
	if r, ok := w.(RunWatcher); ok {
		r.WatchRun(in, out, frames)
		return
	}
	for i := range frames {
		w.Watch(in, out, Forwarded, &frames[i])
	}
}

// ShowFaulted shows a frame that something was done to on its way out by p, after the switch had judged it, to whoever
// watches.
func (p *Port) ShowFaulted(f *ether.Frame) {
	v := Forwarded
	if f.Fault&ether.FaultLost != 0 {
		v = Fault
	}
	if w := p.sw.watch.Load(); w != nil {
		(*w).Watch(nil, p, v, f)
	}
}

// vet judges what can be told of a frame without the table.
func (p *Port) vet(f *ether.Frame) Verdict {
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
	return Forwarded
}

// decide judges a frame by where it goes: to is the port that owns its destination, nil if none.
func (p *Port) decide(f *ether.Frame, to *Port) Verdict {
	if to == nil {
		return p.flood(f)
	}
	return p.way(f, to)
}

// way judges the way from p to q for a frame.
func (p *Port) way(f *ether.Frame, q *Port) Verdict {
	switch {
	case q == p:
		return Hairpin
	case p.Uplink && q.Uplink:
		return Horizon
	case q.IsDown():
		return Down
	case !q.fits(f):
		return MTU
	}
	return Forwarded
}

// fits tells whether f is not too long for the way to p.
func (p *Port) fits(f *ether.Frame) bool {
	n := f.WireLen()
	return n <= int(p.limit.Load()) || n <= p.limitOf(f)
}

// limitOf is the longest frame with f's outermost tag that the way to p takes.
func (p *Port) limitOf(f *ether.Frame) int {
	limit := int(p.limit.Load())
	if !p.Uplink {
		limit += f.OuterTag()
	}
	return limit
}

// flood judges a frame for every port that may have its destination: MTU if there are such ports, none takes it, and it is
// too long for one of them; Down if they all are down.
func (p *Port) flood(f *ether.Frame) Verdict {
	v := Flooded
	for _, q := range *p.sw.ports.Load() {
		switch p.way(f, q) {
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

// forward puts f into its port's lot, and gives that.
func (b *batch) forward(in, to *Port, f *ether.Frame) *lot {
	b.sendFlood(in)
	for i := range b.lots[:b.used] {
		if l := &b.lots[i]; l.port == to {
			l.frames = append(l.frames, f)
			return l
		}
	}
	if b.used == maxLots {
		b.sendLots()
	}
	l := &b.lots[b.used]
	b.used++
	l.port, l.frames = to, append(l.frames, f)
	return l
}

// follow puts what has the same addresses as f, and would be judged the same, into f's lot, up to the
// first frame that differs: most of a busy port's frames are a run of one flow. It gives their number.
func (b *batch) follow(l *lot, f *ether.Frame, frames []ether.Frame) (n int) {
	limit := int(l.port.limit.Load())
	for i := range frames {
		g := &frames[i]
		if !g.SameWay(f) || g.Fault != f.Fault || g.Check() != nil || g.WireLen() > limit {
			break
		}
		l.frames = append(l.frames, g)
		b.bytes += uint64(g.Len())
		n++
	}
	b.tally[Forwarded] += uint64(n)
	return n
}

func (b *batch) sendLots() {
	for i := range b.lots[:b.used] {
		l := &b.lots[i]
		l.port.send(l.frames)
		clear(l.frames)
		l.port, l.frames = nil, l.frames[:0]
	}
	b.used = 0
}

// sendFlood sends the gathered run to every port but the one it came by, and to no uplink if it came
// by one: in a full mesh that is loop-free. A port that is down has refused it, a sparse one most of it.
func (b *batch) sendFlood(in *Port) {
	if len(b.flood) == 0 {
		return
	}
	longest := 0
	for _, f := range b.flood {
		longest = max(longest, f.WireLen())
	}
	for _, q := range *in.sw.ports.Load() {
		if q == in || in.Uplink && q.Uplink {
			continue
		}
		if q.IsDown() || !q.floodable() {
			q.refuse(len(b.flood))
			continue
		}
		if limit := int(q.limit.Load()); longest > limit {
			b.floodFitting(q)
			continue
		}
		q.send(b.flood)
	}
	clear(b.flood)
	b.flood = b.flood[:0]
}

// floodFitting sends q what fits its way; the rest q has refused.
func (b *batch) floodFitting(q *Port) {
	for _, f := range b.flood {
		if q.fits(f) {
			b.some = append(b.some, f)
		}
	}
	q.refuse(len(b.flood) - len(b.some))
	q.send(b.some)
	clear(b.some)
	b.some = b.some[:0]
}

// refuse writes into the books that n frames were for the port and are not sent to it.
func (p *Port) refuse(n int) {
	p.offered.Add(uint64(n))
	p.refused.Add(uint64(n))
}

// send hands frames to the port's way out and writes it into the books.
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

// count adds a batch to the books, once.
func (p *Port) count(b *batch) {
	for v, n := range b.tally {
		if n > 0 {
			p.tally[v].Add(n)
			p.sw.tally[v].Add(n)
		}
	}
	p.rxBytes.Add(b.bytes)
	b.tally, b.bytes = Tally{}, 0
}
