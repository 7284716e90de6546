package gossip

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/tapestry-net/tapestry/cluster"
)

// atOnce bounds the asks without an answer, and the answers that are being sent.
const atOnce = 16

// messages is what memberlist asks of this host, and what it brings.
type messages struct{ e *Engine }

// NodeMeta is this host's metadata.
func (m messages) NodeMeta(int) []byte {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	return m.e.meta
}

// GetBroadcasts is nothing: metadata say all that is new.
func (m messages) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is nothing: 200 hosts' records of 100 names would be 3 MB each time that two hosts compare what they know.
func (m messages) LocalState(bool) []byte { return nil }

// MergeRemoteState gets nothing of ours.
func (m messages) MergeRemoteState([]byte, bool) { m.e.messages.Add(1) }

// NotifyMsg gets asks and answers.
func (m messages) NotifyMsg(b []byte) {
	e := m.e
	msg, err := parseMessage(b)
	switch {
	case errors.Is(err, errNewer):
		e.newer.Add(1)
	case err != nil:
		e.tell("message", "a host with this cluster's key sends messages that cannot be read", "why", err)
		e.messages.Add(1)
	case msg.kind == ask:
		e.asked(&msg)
	default:
		e.answered(&msg)
	}
}

// jitter is d, give or take a third.
func jitter(d time.Duration) time.Duration { return d*2/3 + mrand.N(d*2/3+1) }

// asker asks hosts for what they have and this one has not.
func (e *Engine) asker() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.wakeAsk:
		case <-timer.C:
		}
		timer.Reset(e.askDue(time.Now()))
		if !e.sleep(e.cfg.timing.ask / 30) { // each look goes through all hosts: one after each answer would be work with the square of their number
			return
		}
	}
}

// askDue asks those who are due, and returns when to come again.
func (e *Engine) askDue(now time.Time) time.Duration {
	t := e.cfg.timing
	wait, waiting := t.askMost, 0
	var due []*peer
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if left := p.grace.Sub(now); left > 0 {
			wait = min(wait, left)
		} else if p.alive && !(p.up && p.sure) {
			e.changed(p)
		}
		switch left := p.next.Sub(now); {
		case !p.wants():
			p.nonce = 0
		case left > 0:
			wait = min(wait, left)
			if p.nonce != 0 && p.tries == 1 {
				waiting++
			}
		default:
			due = append(due, p)
		}
	}
	for i, p := range due {
		if i+waiting >= atOnce {
			return min(wait, t.ask/4)
		}
		if p.nonce == 0 { // else what answers the ask before counts too, however late it comes
			p.nonce = nonce()
		}
		p.tries++
		pause := jitter(min(t.ask<<min(p.tries-1, 10), t.askMost))
		p.next = now.Add(pause)
		wait = min(wait, pause)
		msg := message{kind: ask, from: e.self.ID, nonce: p.nonce}
		if p.record != nil {
			msg.epoch, msg.seq = p.record.Epoch, p.record.Seq
		}
		node, b, reliable := p.node, msg.append(nil), p.tries%2 == 0
		e.wg.Go(func() { e.send(&node, b, reliable) })
	}
	return wait
}

// send sends a message. That it may be lost is no error: it is asked again.
func (e *Engine) send(to *memberlist.Node, b []byte, reliable bool) {
	send := e.list.SendBestEffort
	if reliable {
		send = e.list.SendReliable
	}
	if err := send(to, b); err != nil {
		e.log.Debug("cluster: a message is lost", "to", addrOf(to), "why", err)
	}
}

// nonce is a random number, and not 0.
func nonce() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1
}

// asked notes who wants an answer. Only a host that is there gets one, at the address at which it is there.
func (e *Engine) asked(m *message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[m.from]
	if p == nil || !p.up {
		return // this host has not heard of it yet: it will ask again
	}
	if p.owed == nil {
		e.owing = append(e.owing, p.id)
		wake(e.wakeAnswer)
	}
	p.owed = m
}

// answerer answers, a few at a time.
func (e *Engine) answerer() {
	slots := make(chan struct{}, atOnce)
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.wakeAnswer:
		}
		for {
			select {
			case <-e.ctx.Done():
				return
			case slots <- struct{}{}:
			}
			node, b := e.owe()
			if b == nil {
				<-slots
				break
			}
			e.wg.Go(func() {
				e.send(&node, b, true)
				<-slots
			})
		}
	}
}

// owe returns the next answer, nil if nobody waits.
func (e *Engine) owe() (to memberlist.Node, b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.owing) > 0 {
		p := e.peers[e.owing[0]]
		e.owing = e.owing[1:]
		if p == nil || p.owed == nil {
			continue
		}
		m := message{kind: answer, from: e.self.ID, nonce: p.owed.nonce}
		if e.own.newer(&meta{host: cluster.Host{Epoch: p.owed.epoch}, seq: p.owed.seq}) {
			m.record = e.mine
		}
		p.owed = nil
		return p.node, m.append(make([]byte, 0, 32+len(m.record)))
	}
	return to, nil
}

// answered takes an answer. The nonce went to that host only, and counts once.
func (e *Engine) answered(m *message) {
	e.mu.Lock()
	p := e.peers[m.from]
	if p == nil || p.nonce == 0 || p.nonce != m.nonce {
		e.mu.Unlock()
		e.unasked.Add(1)
		return
	}
	p.nonce = 0
	e.mu.Unlock()

	var r *cluster.Record
	var err error
	if len(m.record) > 0 {
		r, err = cluster.Decode(m.record)
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.peers[m.from] != p || !p.up { // forgotten, or gone, in the meantime
		return
	}
	if r != nil {
		err = p.fits(r, m.record)
	}
	if err != nil {
		e.refuse(p, r, err)
		r = nil
	}
	if r != nil && (p.record == nil || r.Newer(p.record)) {
		p.record = r
	}
	p.sure, p.known = true, true
	if !p.wants() {
		p.tries = 0
	}
	e.changed(p)
	wake(e.wakeAsk)
}

var errForged = errors.New("it has the id of another host")

// fits checks a record against what its host has told of it.
func (p *peer) fits(r *cluster.Record, encoded []byte) error {
	m := &p.meta
	switch {
	case r.ID != p.id:
		return fmt.Errorf("%w, %s", errForged, r.ID)
	case r.Epoch != m.host.Epoch:
		return nil // a later one: its metadata are on their way; an earlier one is older than what is known
	case r.Host != m.host:
		return fmt.Errorf("it is of %s at %s, and the host is %s at %s", r.Name, r.VTEP, m.host.Name, m.host.VTEP)
	case r.Seq == m.seq && sum(encoded) != m.digest:
		return fmt.Errorf("record %d is not the one that the host has told of", r.Seq)
	}
	return nil
}

// refuse counts and tells that a host's record is refused. What it said before stays. mu is held.
func (e *Engine) refuse(p *peer, r *cluster.Record, err error) {
	e.tell("record "+string(p.id), "a host's record is refused, and what it said before stays", "host", p, "why", err)
	switch {
	case errors.Is(err, cluster.ErrVersion):
		e.newer.Add(1)
	case errors.Is(err, errForged):
		e.forged.Add(1)
	default:
		e.records.Add(1)
	}
	if r == nil {
		p.given = p.meta // it would be the same again
	}
}
