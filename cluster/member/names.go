package member

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
)

// NamesLast is how long the names of this host's containers are told to the others after TellNames was called last. Who calls it
// may be restarted, or its Docker may be, for which a minute is enough; names of containers that have ended meanwhile must not
// stay for longer than that.
const NamesLast = 2 * time.Minute

// said is what this host has said last, and what has changed of others' names.
type said struct {
	mu       sync.Mutex // guards what follows; held while the engine is told, so that it is told in order
	members  []cluster.Member
	stations []cluster.Station
	all      []cluster.Station // with those of which nothing is said
	told     []cluster.Name    // by TellNames, also on networks that this host is not on; see Member.toldNow
	names    []cluster.Name    // those of told that were published
	until    time.Time         // when told ends

	version uint64            // counts changes
	at      uint64            // version of the last change of members
	changed map[string]uint64 // by network: the version of the last change of names
	news    chan struct{}     // closed with the next version
}

// publish says anew what this host has. mu is held.
func (m *Member) publish() {
	keys := make(map[string]bool)
	for i := range m.said.members {
		keys[m.said.members[i].Key] = true
	}
	m.said.names = slices.DeleteFunc(slices.Clone(m.said.told), func(n cluster.Name) bool { return !keys[n.Key] })
	m.cfg.Engine.Publish(m.said.members, m.said.stations, m.said.names)
}

// publishFabric says what Fabric has, if that is not what was said last.
func (m *Member) publishFabric(members []cluster.Member, stations, all []cluster.Station) {
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	m.said.all = all
	m.moved.Store(true)
	same := reflect.DeepEqual(m.said.members, members)
	if m.said.at > 0 && same && reflect.DeepEqual(m.said.stations, stations) {
		return
	}
	m.said.members, m.said.stations = members, stations
	if !same || m.said.at == 0 {
		m.said.next()
		m.said.at = m.said.version
	}
	m.publish()
}

// TellNames tells the others the names of this host's containers, in place of those told before, for NamesLast. Names on networks
// that this host is not on are told as soon as it is. now is the present time.
func (m *Member) TellNames(names []cluster.Name, now time.Time) {
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	m.said.until = now.Add(NamesLast)
	if !reflect.DeepEqual(m.said.told, names) {
		m.said.told = names
		m.toldNow.Store(&names)
		m.publish()
	}
}

// OwnNames are the names of this host's containers, as TellNames has them. They must not be changed.
func (m *Member) OwnNames() []cluster.Name {
	if told := m.toldNow.Load(); told != nil {
		return *told
	}
	return nil
}

// endNames ends the names that were told too long ago.
func (m *Member) endNames(now time.Time) {
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	if len(m.said.told) > 0 && now.After(m.said.until) {
		m.log.Warn("the names of this host's containers are not told any more: no tapestry resolver has for a while", "names", len(m.said.told))
		m.said.told = nil
		m.toldNow.Store(nil)
		m.publish()
	}
}

// next begins a version. mu is held.
func (s *said) next() {
	s.version++
	close(s.news)
	s.news = make(chan struct{})
}

// namesChanged notes that names may have changed on networks.
func (m *Member) namesChanged(keys []string) {
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	m.said.next()
	for _, key := range keys {
		m.said.changed[key] = m.said.version
	}
}

// NamesAfter waits until names may have changed on this host's networks after a version, or ctx ends. It returns the version that
// is now, the keys of all these networks, and of those on which names may have changed, both in order. Of a version that it does
// not know, such as "", these are all, at once.
func (m *Member) NamesAfter(ctx context.Context, after string) (version string, keys, changed []string) {
	for {
		m.said.mu.Lock()
		now, at, news := m.said.version, m.said.at, m.said.news
		times := maps.Clone(m.said.changed)
		keys = nil
		for i := range m.said.members {
			keys = append(keys, m.said.members[i].Key)
		}
		m.said.mu.Unlock()
		slices.Sort(keys)

		var epoch, n uint64
		_, err := fmt.Sscanf(after, "%d.%d", &epoch, &n)
		known := err == nil && epoch == m.Self.Epoch && n <= now
		if known && at <= n {
			changed = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return times[key] <= n })
		} else {
			changed = keys // a network that has come may have had names before
		}
		if !known || at > n || len(changed) > 0 || ctx.Err() != nil {
			return fmt.Sprintf("%d.%d", m.Self.Epoch, now), keys, changed
		}
		select {
		case <-ctx.Done():
		case <-news:
		}
	}
}
