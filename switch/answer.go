package vswitch

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"github.com/tapestry-net/tapestry/ether"
)

// Answers know stations behind other ports by their IP addresses, on the word of somebody who must know.
type Answers interface {
	// Station gives the MAC of the station that has the address, and the port that leads to it; nil: nobody says. It is called on
	// the data path, by several goroutines at once, so it must neither block nor allocate.
	Station(a netip.Addr) (ether.MAC, *Port)
}

// SetAnswers has questions for MACs (ether.ReadQuestion) of local stations answered on the spot from a, instead of flooded; nil:
// they are flooded. A question is flooded all the same if the port in a's answer is down, or frames to the MAC would leave by
// another one. And so is one that the port has asked in the last askAgain seconds: the answer did not help it, so that somebody else
// may know better.
func (s *Switch) SetAnswers(a Answers) {
	if a == nil {
		s.answers.Store(nil)
		return
	}
	t := &answering{from: a, given: new([1024]atomic.Uint64)}
	if old := s.answers.Load(); old != nil {
		t.given = old.given
	}
	s.answers.Store(t)
}

// askAgain is for how many seconds a question that was answered is not answered again. Linux asks the whole network again when an
// answer has proved wrong for 20 to 55 s: base_reachable_time_ms, delay_first_probe_time and ucast_solicit in arp(7).
const askAgain = 60

// answering is what a switch answers from.
type answering struct {
	from  Answers
	given *[1024]atomic.Uint64 // answers of the last askAgain seconds, by hash: its high 32 bits, and the second of the coarse clock. What another one overwrites is forgotten
}

// key gives the place of a question in given, and how it is noted there.
func (t *answering) key(p *Port, a netip.Addr) (at *atomic.Uint64, note uint64) {
	const odd1, odd2 = 0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9 // of splitmix64
	b := a.As16()
	h := (binary.LittleEndian.Uint64(b[:]) + uint64(p.Number)) * odd1
	h = (h ^ h>>31 ^ binary.LittleEndian.Uint64(b[8:])) * odd2
	h ^= h >> 29
	return &t.given[h%uint64(len(t.given))], h >> 32 << 32
}

// An answer is what a question that a port has received is answered with.
type answer struct {
	question ether.Question
	mac      ether.MAC
	port     *Port
	found    string         // of CheckAnswer; "": the frame is no question, or nobody answers here
	at       *atomic.Uint64 // where it is to be noted, if found is "told"
	note     uint64
}

// answer gives what a frame that p has received and that would be flooded is answered with. find is that of the forwarding database,
// after the frame's source was learned.
func (p *Port) answer(f *ether.Frame, find func(ether.MAC) *Port) (r answer) {
	t := p.sw.answers.Load()
	if t == nil || p.Uplink || !f.Dst().Group() {
		return r
	}
	var ok bool
	if r.question, ok = ether.ReadQuestion(f); !ok {
		return r
	}
	r.mac, r.port = t.from.Station(r.question.Target)
	if r.port == nil || r.port == p || r.port.detached.Load() || r.question.AnswerLen() > int(p.limit.Load()) {
		r.found = "unknown"
		return r
	}
	now := p.sw.now.Load() & 0xffffffff
	r.at, r.note = t.key(p, r.question.Target)
	given := r.at.Load()
	seen := find(r.mac)
	if seen == nil {
		seen = p.sw.place(r.mac)
	}
	switch {
	case r.port.IsDown():
		r.found = "down"
	case seen != nil && seen != r.port:
		r.found, r.port = "elsewhere", seen
	case given>>32<<32 == r.note && given != 0 && now-int64(given&0xffffffff) < askAgain:
		r.found = "again"
	default:
		r.found, r.note = "told", r.note|uint64(now)
	}
	return r
}

// The maximum of answers that a batch collects before it sends them, and of those among them that a frame is too long.
const (
	maxAnswers = 16
	maxTooBig  = 4
)

// answerBatch is what the switch itself says to a port about the frames of one batch, in order. It is sent behind all of them.
type answerBatch struct {
	n, tooBig int
	rooms     [maxAnswers][ether.Headroom + ether.NeighbourLen]byte
	longRooms [maxTooBig][ether.Headroom + ether.TooBigLen]byte
	frames    [maxAnswers]ether.Frame
	list      [maxAnswers]*ether.Frame
}

// add adds an answer; there is room for it.
func (b *answerBatch) add(r *answer) {
	r.at.Store(r.note)
	b.append(r.question.AppendAnswer(b.rooms[b.n][:ether.Headroom], r.mac))
}

func (b *answerBatch) append(room []byte) {
	b.frames[b.n] = ether.Lend(room, ether.Offload{})
	b.list[b.n] = &b.frames[b.n]
	b.n++
}

// addTooBig tells the sender of a frame that p has received, and that is too long for the port to, that it is, unless p was told often enough.
func (b *answerBatch) addTooBig(p, to *Port, f *ether.Frame) {
	if b.tooBig == maxTooBig || !p.tellable() {
		return
	}
	if room := f.AppendTooBig(b.longRooms[b.tooBig][:ether.Headroom], to.packetLimit(f)); room != nil && len(room)-ether.Headroom <= p.limitOf(f) {
		b.append(room)
		b.tooBig++
		p.sw.tooBig.Add(1)
	}
}

// send sends the answers to the port that has asked, and to no other.
func (b *answerBatch) send(p *Port, w Watcher) {
	if b.n == 0 {
		return
	}
	all := b.list[:b.n]
	b.n, b.tooBig = 0, 0
	if p.IsDown() {
		p.refuse(len(all))
		return
	}
	if w != nil {
		for _, f := range all {
			w.Watch(nil, p, Answered, f)
		}
	}
	p.send(all)
}
