package gossip

import (
	"slices"

	"github.com/tapestry-net/tapestry/cluster"
)

// Publish says what this host has. A few records that follow each other quickly become one.
func (e *Engine) Publish(members []cluster.Member, stations []cluster.Station, names []cluster.Name) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = &cluster.Record{Members: slices.Clone(members), Stations: slices.Clone(stations), Names: slices.Clone(names)}
	wake(e.wakePublish)
}

// publisher numbers records, and has the metadata say so.
func (e *Engine) publisher() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.wakePublish:
		}
		for e.write(); !e.announced(); {
			// With a limit of one round of gossip it returns while the news are still being sent: what it waits for is of no interest. An
			// accusation at the same time makes it lose the metadata without an error; then announced is false, and it is done again.
			_ = e.list.UpdateNode(e.cfg.timing.gossip)
			if !e.announced() && !e.sleep(e.cfg.timing.gossip) {
				return
			}
		}
		if !e.sleep(e.cfg.timing.gossip) {
			return
		}
	}
}

// write makes the record that was published last this host's own.
func (e *Engine) write() {
	e.mu.Lock()
	r, own := e.next, e.own
	e.next = nil
	e.mu.Unlock()
	if r == nil {
		return
	}
	r.Host, r.Seq = e.self, own.seq+1
	b, err := r.Encode()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed = err; err != nil {
		e.tell("publish", "what this host has cannot be published: the others know what it had before", "why", err)
		return
	}
	e.mine = b
	e.own.seq, e.own.digest = r.Seq, sum(b)
	e.meta = e.own.append(nil)
}

// announced tells whether memberlist has this host's metadata.
func (e *Engine) announced() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard == string(e.meta)
}
