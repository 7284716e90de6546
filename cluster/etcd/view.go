package etcd

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/tapestry-net/tapestry/cluster"
)

// Bounds of what is kept of other hosts.
const (
	maxHosts = 1 << 16
	maxBytes = 512 << 20 // of all records, as they are in etcd
)

// A view is what etcd has told of the other hosts. Only a session's goroutine changes it, and hosts outlives sessions.
type view struct {
	self   cluster.HostID
	lost   time.Duration // how long a host is kept that is missing without a word
	decode func([]byte) (*cluster.Record, error)

	mu    sync.Mutex // guards what follows, against other goroutines that read
	hosts map[cluster.HostID]*seen
	bytes int
}

// seen is one other host.
type seen struct {
	record *cluster.Record // the last one that could be read; nil: none yet
	size   int             // bytes of it
	alive  bool            // hosts/ID/alive is there
	lost   bool            // hosts/ID/record was not in the last list, and nobody has seen its removal
	state  cluster.State
	since  time.Time // of state, or of lost
}

func newView(self cluster.HostID, lost time.Duration, decode func([]byte) (*cluster.Record, error)) *view {
	return &view{self: self, lost: lost, decode: decode, hosts: make(map[cluster.HostID]*seen)}
}

// entry is what others are told of a host.
func (s *seen) entry() cluster.Entry { return cluster.Entry{Record: *s.record, State: s.state} }

// of is a host, or a new one; nil: there are too many.
func (v *view) of(id cluster.HostID) *seen {
	s := v.hosts[id]
	if s == nil && len(v.hosts) < maxHosts {
		s = &seen{state: cluster.Alive}
		v.hosts[id] = s
	}
	return s
}

// put takes a value over. It tells whether something has changed.
func (v *view) put(id cluster.HostID, what string, value []byte) (changed bool, err error) {
	s := v.of(id)
	switch {
	case s == nil:
		return false, fmt.Errorf("etcd has more than %d hosts", maxHosts)
	case what == "alive":
		changed, s.alive = !s.alive, true
		return changed, nil
	case v.bytes-s.size+len(value) > maxBytes:
		return false, fmt.Errorf("the records of all hosts have more than %d bytes", maxBytes)
	}
	s.lost = false
	r, err := v.decode(value)
	if err == nil && r.ID != id {
		err = fmt.Errorf("it is of host %s", r.ID)
	}
	if err != nil {
		return false, fmt.Errorf("the record of host %s cannot be used: %w", id, err)
	}
	v.bytes += len(value) - s.size
	s.record, s.size = r, len(value)
	return true, nil
}

// list takes a whole list over. Hosts that it does not have are kept for a while.
func (v *view) list(kvs []*mvccpb.KeyValue, at layout, now time.Time, bad func(error)) cluster.Update {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.hosts {
		s.alive, s.lost = false, true
	}
	for _, kv := range kvs {
		id, what, err := at.parseHost(string(kv.Key))
		if err == nil && id != v.self {
			_, err = v.put(id, what, kv.Value)
		}
		if err != nil {
			bad(err)
		}
	}
	u := cluster.Update{Full: true}
	for id, s := range v.hosts {
		if s.record == nil && !s.alive {
			delete(v.hosts, id)
			continue
		}
		if v.settle(s, now); !s.alive { // nobody knows since when
			s.since = now
		}
		if s.record != nil {
			u.Entries = append(u.Entries, s.entry())
		}
	}
	return u
}

// resume goes on after a time in which nothing was heard.
func (v *view) resume(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.hosts {
		if s.state == cluster.Suspect { // it may have come back meanwhile
			s.since = now
		}
	}
}

// settle sets a host's state by what is known. It tells whether it has changed. mu is held.
func (v *view) settle(s *seen, now time.Time) bool {
	was := s.state
	switch {
	case s.alive:
		s.state = cluster.Alive
	case s.state == cluster.Alive:
		s.state = cluster.Suspect
	case s.state == cluster.Suspect && !s.lost && now.Sub(s.since) >= suspectTime:
		s.state = cluster.Gone
	}
	if s.state != was {
		s.since = now
	}
	return s.state != was
}

// events takes changes over.
func (v *view) events(all []*mvccpb.Event, at layout, now time.Time, bad func(error)) cluster.Update {
	v.mu.Lock()
	defer v.mu.Unlock()
	var u cluster.Update
	dirty := make(map[cluster.HostID]bool)
	for _, ev := range all {
		id, what, err := at.parseHost(string(ev.Kv.Key))
		switch {
		case err == nil && id == v.self:
		case err == nil && ev.Type == mvccpb.Event_DELETE:
			if s := v.hosts[id]; s != nil && what == "alive" {
				s.alive, dirty[id] = false, true
			} else if s != nil {
				u.Removed = v.remove(id, u.Removed)
				delete(dirty, id)
			}
		case err == nil:
			var changed bool
			if changed, err = v.put(id, what, ev.Kv.Value); changed {
				dirty[id] = true
			}
		}
		if err != nil {
			bad(err)
		}
	}
	for id := range dirty {
		s := v.hosts[id]
		v.settle(s, now)
		if s.record != nil {
			u.Entries = append(u.Entries, s.entry())
		}
	}
	u.Removed = without(u.Removed, u.Entries)
	return u
}

// without leaves out who has come back.
func without(removed []cluster.HostID, back []cluster.Entry) (rest []cluster.HostID) {
	for _, id := range removed {
		again := false
		for i := range back {
			again = again || back[i].ID == id
		}
		if !again {
			rest = append(rest, id)
		}
	}
	return rest
}

// remove removes a host's record. mu is held.
func (v *view) remove(id cluster.HostID, removed []cluster.HostID) []cluster.HostID {
	s := v.hosts[id]
	v.bytes -= s.size
	if s.record != nil {
		removed = append(removed, id)
	}
	s.record, s.size, s.lost = nil, 0, false
	if !s.alive {
		delete(v.hosts, id)
	}
	return removed
}

// tick changes what only time changes. old are hosts that have been gone for keep.
func (v *view) tick(now time.Time, keep time.Duration) (u cluster.Update, old []cluster.HostID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, s := range v.hosts {
		switch {
		case s.lost && now.Sub(s.since) >= v.lost:
			s.alive = false
			u.Removed = v.remove(id, u.Removed)
		case v.settle(s, now) && s.record != nil:
			u.Entries = append(u.Entries, s.entry())
		case s.state == cluster.Gone && s.record != nil && now.Sub(s.since) >= keep:
			old = append(old, id)
			s.since = now.Add(keep/10 - keep) // to be tried again
		}
	}
	return u, old
}

// host is who has an id, as it says itself; or only the id.
func (v *view) host(id cluster.HostID) (h cluster.Host, state cluster.State, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.hosts[id]; s != nil && s.record != nil {
		return s.record.Host, s.state, true
	}
	return cluster.Host{ID: id, Name: "with id " + string(id)}, cluster.Gone, false
}

// uses tells whether a host says that it is on a network.
func (v *view) uses(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.hosts {
		if s.record != nil && slices.ContainsFunc(s.record.Members, func(m cluster.Member) bool { return m.Key == key }) {
			return true
		}
	}
	return false
}

// count is how many hosts there are, without this one.
func (v *view) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.hosts)
}
