package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// What becomes of datagrams on the way to a host and back. Each 10 s it is sent a burst of numbered probes, and answers each with an
// echo; a second later it is asked how many have arrived. So the sender knows what was lost on the way there, and of the echoes what was
// lost on the way back. Each burst has a random nonce of its own, and only what has that counts: an answer can be forged by nobody who
// does not see the question.

const (
	burstEvery   = 10 * time.Second
	burstMost    = 32    // probes, each of about 100 bytes on the wire: a loss of 1 % is seen within a minute or two
	burstLeast   = 8     // probes, however many hosts there are
	burstsTotal  = 10000 // probes to all hosts in burstEvery, if that leaves burstLeast to each
	healthBursts = 6     // a minute
)

// burstOf is how many probes each of so many hosts gets.
func burstOf(hosts int) int {
	return min(max(burstsTotal/max(hosts, 1), burstLeast), burstMost)
}

// Ways are numbers of datagrams: of probes on the way to a host, and of its echoes on the way back.
type Ways struct{ There, Back int }

func (w Ways) plus(o Ways) Ways { return Ways{w.There + o.There, w.Back + o.Back} }

// Health is what the bursts of the last minute have shown of the way to a host and back.
type Health struct {
	Sent       Ways // probes, and echoes
	Lost       Ways // of these; all probes of a burst of which no echo came
	Reordered  Ways // those that arrived after a later one
	Duplicated Ways // arrivals that were not the first one
	MinRTT     time.Duration
	MaxRTT     time.Duration
}

// A tally is what has arrived of a burst, as the host that got it tells: in its echoes, and when it is asked.
type tally struct{ seen, reordered, duplicated uint8 }

const tallyLen = 3

func (t tally) encode() []byte { return []byte{t.seen, t.reordered, t.duplicated} }

func (t *tally) decode(b []byte) bool {
	if len(b) < tallyLen {
		return false
	}
	*t = tally{b[0], b[1], b[2]}
	return true
}

// arrivals are numbered datagrams as they arrive, of which each should come once and in order.
type arrivals struct {
	came uint64 // a bit for each number
	tally
}

// add notes the arrival of a number below 64, and tells whether it is the first one.
func (a *arrivals) add(number uint8) bool {
	bit := uint64(1) << number
	if a.came&bit != 0 {
		a.duplicated = max(a.duplicated, a.duplicated+1) // 255 are enough
		return false
	}
	if a.came > bit {
		a.reordered++
	}
	a.came |= bit
	a.seen++
	return true
}

// A burst is what has arrived of the probes of one nonce, or of the echoes.
type burst struct {
	nonce uint64
	arrivals
}

// answer takes a probe or the question for the tally, and gives the echo. A probe is answered once.
func (b *burst) answer(m message) (echo message, ok bool) {
	if b.nonce != m.nonce {
		*b = burst{nonce: m.nonce}
	}
	echo = message{kind: kindEcho, mode: m.mode, ask: m.ask, nonce: m.nonce}
	if m.mode == numbered {
		if m.index >= burstMost || !b.add(m.index) {
			return message{}, false
		}
		echo.index = b.seen - 1
	}
	echo.body = b.encode()
	return echo, true
}

// A prober sends bursts to one host, and evaluates the echoes.
type prober struct {
	due       time.Duration // of the next burst
	echoes    burst         // of the burst that is under way
	sent      int           // probes of it; 0: none is under way
	questions int           // for its tally
	asked     time.Time     // when the last of them was sent
	answered  bool          // it was answered
	there     tally         // what has arrived there, as far as was told
	rtt       time.Duration

	ended  int // bursts
	window [healthBursts]Health
}

// step gives the messages to send now: a burst of so many probes, or the question for its tally.
func (h *prober) step(now time.Duration, size int) (messages []message) {
	if h.sent > 0 && (h.answered || h.questions == maxAttempts) {
		h.end()
	}
	switch {
	case h.sent > 0:
		h.questions++
		h.asked = time.Now()
		return []message{{kind: kindProbe, mode: total, ask: uint8(h.questions), nonce: h.echoes.nonce, body: make([]byte, tallyLen)}}
	case now < h.due:
		return nil
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	*h = prober{due: now + burstEvery, sent: size, echoes: burst{nonce: binary.BigEndian.Uint64(nonce[:])}, ended: h.ended, window: h.window}
	for i := range size {
		messages = append(messages, message{kind: kindProbe, mode: numbered, index: uint8(i), nonce: h.echoes.nonce, body: make([]byte, tallyLen)})
	}
	return messages
}

// hear takes an echo, and gives the round trip time if that is of a question for the tally; else 0.
func (h *prober) hear(m message) (rtt time.Duration) {
	var t tally
	if h.sent == 0 || m.nonce != h.echoes.nonce || !t.decode(m.body) {
		return 0
	}
	switch {
	case m.mode == numbered && int(m.index) < h.sent:
		h.echoes.add(m.index)
	case m.mode == total && int(m.ask) == h.questions && !h.answered:
		h.answered, h.rtt = true, time.Since(h.asked)
		rtt = h.rtt
	default:
		return 0
	}
	if t.seen >= h.there.seen {
		h.there = t
	}
	return rtt
}

// end notes what a burst has shown. A tally that cannot be shows nothing: the host has begun anew meanwhile, or was told of another burst.
func (h *prober) end() {
	var shown Health
	back := h.echoes.tally
	if int(h.there.seen) <= h.sent && back.seen <= h.there.seen && h.there.reordered <= h.there.seen {
		shown = Health{
			Sent:       Ways{h.sent, int(h.there.seen)},
			Lost:       Ways{h.sent - int(h.there.seen), int(h.there.seen - back.seen)},
			Reordered:  Ways{int(h.there.reordered), int(back.reordered)},
			Duplicated: Ways{int(h.there.duplicated), int(back.duplicated)},
			MinRTT:     h.rtt, MaxRTT: h.rtt,
		}
	}
	h.window[h.ended%healthBursts] = shown
	h.ended++
	h.sent = 0
}

// health is what the window shows; nil: nothing.
func (h *prober) health() *Health {
	var all Health
	for _, b := range h.window {
		all.Sent, all.Lost = all.Sent.plus(b.Sent), all.Lost.plus(b.Lost)
		all.Reordered, all.Duplicated = all.Reordered.plus(b.Reordered), all.Duplicated.plus(b.Duplicated)
		if b.MinRTT > 0 && (all.MinRTT == 0 || b.MinRTT < all.MinRTT) {
			all.MinRTT = b.MinRTT
		}
		all.MaxRTT = max(all.MaxRTT, b.MaxRTT)
	}
	if all.Sent.There == 0 {
		return nil
	}
	return &all
}
