package gossip

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/tapestry-net/tapestry/cluster"
)

// A peer is another host. Engine.mu guards it.
type peer struct {
	id    cluster.HostID
	node  memberlist.Node // where it gossips; a copy
	meta  meta            // the latest that could be read
	up    bool            // memberlist sees it
	sure  bool            // it has answered since then
	newer bool            // it speaks a version that this host does not
	known bool            // it has answered once: sink is told of it
	alive bool            // counted in Engine.alive
	said  view            // what sink is told, or will be
	since time.Time       // since when it is up or not
	grace time.Time       // until when it still counts as Alive, though memberlist says that it is not there

	record *cluster.Record // the latest that was accepted; nil: none

	nonce uint64    // of the ask that it has not answered; 0: none
	next  time.Time // when it is asked again
	tries int
	given meta // the one whose record is refused: there is no use in asking again; zero: none

	owed *message // the ask of it that is to be answered
}

// A view is what makes an update different from the one before.
type view struct {
	host   cluster.Host
	state  cluster.State
	record *cluster.Record
}

// addrOf is where a host gossips.
func addrOf(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}

// entry is what sink is told of a peer. A host that has started again keeps the networks and names of its last record until the
// first one of its new epoch is there.
func (p *peer) entry() cluster.Entry {
	e := cluster.Entry{State: cluster.Gone}
	if p.record != nil {
		e.Record = *p.record
	}
	if p.record == nil || p.record.Epoch < p.meta.host.Epoch {
		e.Host, e.Seq = p.meta.host, 0
	}
	if p.up && p.sure && !p.newer || time.Now().Before(p.grace) {
		e.State = cluster.Alive
	}
	return e
}

// wants tells whether there is something to ask of a peer.
func (p *peer) wants() bool {
	if !p.up || p.newer {
		return false
	}
	return !p.sure || p.meta != p.given && p.meta.seq > 0 && (p.record == nil || p.meta.newer(&meta{host: p.record.Host, seq: p.record.Seq}))
}

// changed has sink told of a peer, if what it is told changes. mu is held.
func (e *Engine) changed(p *peer) {
	entry := p.entry()
	if alive := entry.State == cluster.Alive; alive != p.alive {
		p.alive = alive
		if alive {
			e.alive++
		} else {
			e.alive--
		}
		if e.alive == 0 || alive && e.alive == 1 {
			e.since = time.Now()
		}
	}
	if now := (view{entry.Host, entry.State, p.record}); p.known && now != p.said {
		p.said = now
		e.dirty[p.id] = true
		wake(e.wakeTell)
	}
}

// teller gives sink what is new: at first everything, and that is nothing.
func (e *Engine) teller() {
	e.sink(cluster.Update{Full: true})
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.wakeTell:
		}
		var u cluster.Update
		e.mu.Lock()
		for id := range e.dirty {
			if p := e.peers[id]; p != nil {
				u.Entries = append(u.Entries, p.entry())
			} else {
				u.Removed = append(u.Removed, id)
			}
		}
		clear(e.dirty)
		e.mu.Unlock()
		if len(u.Entries)+len(u.Removed) > 0 {
			e.sink(u)
		}
	}
}

// events is what memberlist tells of hosts. It does so under its own lock, one at a time.
type events struct{ e *Engine }

// NotifyAlive refuses what is not a host of tapestry. A newer version's may stay in memberlist: it passes news on.
func (v events) NotifyAlive(n *memberlist.Node) error {
	e := v.e
	m, err := parseMeta(cluster.HostID(n.Name), n.Meta)
	if err == nil && n.Name == string(e.self.ID) && m.host.Epoch > e.self.Epoch {
		e.tell("epoch", "other hosts know a later start of this host than this one, and heed nothing that it says: its state directory is an old copy, or another host has one",
			"epoch", e.self.Epoch, "known", m.host.Epoch)
	}
	if err == nil || errors.Is(err, errNewer) {
		return nil
	}
	e.tell("meta "+n.Name, "a host of the cluster is ignored", "address", addrOf(n), "why", err)
	e.refusedMeta.Add(1)
	return err
}

// NotifyJoin is called for this host, too.
func (v events) NotifyJoin(n *memberlist.Node) { v.e.see(n, true) }

// NotifyUpdate is called for this host, too.
func (v events) NotifyUpdate(n *memberlist.Node) { v.e.see(n, false) }

// see notes what memberlist knows of a host now.
func (e *Engine) see(n *memberlist.Node, joined bool) {
	id := cluster.HostID(n.Name)
	e.mu.Lock()
	defer e.mu.Unlock()
	if id == e.self.ID {
		e.heard = string(n.Meta)
		return
	}
	m, err := parseMeta(id, n.Meta)
	p := e.peers[id]
	if p == nil {
		p = &peer{id: id, meta: meta{host: cluster.Host{ID: id}}}
		e.peers[id] = p
	}
	p.node = *n
	p.node.Meta = nil
	if joined {
		p.up, p.sure, p.since, p.nonce = true, false, time.Now(), 0
	}
	p.newer = errors.Is(err, errNewer)
	switch {
	case p.newer:
		p.grace = time.Time{}
		e.tell("newer "+n.Name, "a host speaks a newer version of tapestry's gossip, and is ignored: upgrade this one", "id", n.Name, "address", addrOf(n))
		e.newer.Add(1)
	case err != nil: // NotifyAlive has refused it
		return
	case m.host.Epoch < p.meta.host.Epoch:
		e.tell("epoch "+n.Name, "a host has started fewer times than it had, and is not heeded until it has again: its state directory is an old copy; "+
			"`tapestry cluster forget` on this host ends that", "host", m.host, "epoch", m.host.Epoch, "known", p.meta.host.Epoch)
	case m.newer(&p.meta) || p.meta.host.Name == "":
		p.meta = m
	}
	p.tries, p.next = 0, time.Now().Add(jitter(e.cfg.timing.ask)/8)
	e.changed(p)
	wake(e.wakeAsk)
}

// pings are memberlist's probes: each host is asked once in a while whether it is there. Its answer carries its metadata, since the
// news of them may be lost: those who exchange all that they know choose each other by chance, and may be held up by hosts that are cut off.
type pings struct{ e *Engine }

// AckPayload is this host's metadata.
func (p pings) AckPayload() []byte { return messages(p).NodeMeta(0) }

// NotifyPingComplete gets those of another one.
func (p pings) NotifyPingComplete(n *memberlist.Node, _ time.Duration, payload []byte) {
	e, id := p.e, cluster.HostID(n.Name)
	m, err := parseMeta(id, payload)
	if err != nil {
		return // an older version's is empty; a newer one's is told of by see
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.peers[id]; p != nil && p.up && m.newer(&p.meta) {
		p.meta = m
		p.tries, p.next = 0, time.Now()
		e.changed(p)
		wake(e.wakeAsk)
	}
}

// NotifyLeave is called for hosts that have left and that have died.
func (v events) NotifyLeave(n *memberlist.Node) {
	e := v.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.peers[cluster.HostID(n.Name)]; p != nil {
		p.up, p.sure, p.nonce, p.since = false, false, 0, time.Now()
		if p.alive {
			p.grace = p.since.Add(e.cfg.timing.grace)
		}
		wake(e.wakeAsk) // for the end of that
		e.changed(p)
	}
}

// NotifyConflict is called when a host has the id of another one that is there. memberlist ignores it.
func (v events) NotifyConflict(has, other *memberlist.Node) {
	e := v.e
	b, err := parseMeta(cluster.HostID(has.Name), other.Meta)
	if has.Name == string(e.self.ID) {
		if err == nil && b.host.Epoch < e.self.Epoch {
			return // this host before its last start, when it had another address: the others have not noticed yet
		}
		e.tell("same "+addrOf(other).String(), "another host has this one's id, and is ignored: its state directory is a copy; empty it there", "id", has.Name, "address", addrOf(other))
		e.sameID.Add(1)
		return
	}
	a, _ := parseMeta(cluster.HostID(has.Name), has.Meta)
	if err != nil || b.host.Epoch > a.host.Epoch {
		return // it has started again elsewhere; when its old place is known to be empty, the new one counts
	}
	e.tell("same "+has.Name+addrOf(other).String(), "two hosts have one id, and the second one is ignored: its state directory is a copy; empty it there",
		"id", has.Name, "first", addrOf(has), "second", addrOf(other))
	e.sameID.Add(1)
}

// debugLog is memberlist's log. What users must know of it is told otherwise.
func debugLog(e *Engine) *logger { return newLogger(lines{e}) }

// String names a peer for the log.
func (p *peer) String() string {
	if p.meta.host.Name == "" {
		return fmt.Sprintf("%s (%s)", p.id, addrOf(&p.node))
	}
	return p.meta.host.String()
}
