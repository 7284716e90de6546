package conformance

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/cluster"
)

// A Hub is a cluster in memory, for tests of what uses an Engine, and of the suite itself.
type Hub struct {
	mu      sync.Mutex // guards what follows
	hosts   map[cluster.HostID]*cluster.Entry
	specs   map[string]owned[cluster.Spec]
	blocks  map[string]map[netip.Prefix]cluster.Host // by key
	engines map[cluster.HostID]*engine
	cut     map[cluster.HostID]bool
}

type owned[T any] struct {
	by   cluster.Host
	what T
}

// NewHub is an empty cluster.
func NewHub() *Hub {
	return &Hub{
		hosts: make(map[cluster.HostID]*cluster.Entry), specs: make(map[string]owned[cluster.Spec]),
		blocks: make(map[string]map[netip.Prefix]cluster.Host), engines: make(map[cluster.HostID]*engine), cut: make(map[cluster.HostID]bool),
	}
}

// Engine is one host's connection to the hub.
func (h *Hub) Engine() cluster.Engine { return &engine{hub: h} }

// Cut takes a host's connection away, or with false gives it back.
func (h *Hub) Cut(id cluster.HostID, away bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut[id] = away
	if e := h.hosts[id]; e != nil {
		e.State = cluster.Alive
		if away {
			e.State = cluster.Gone
		}
		h.tell(cluster.Update{Entries: []cluster.Entry{*e}}, id)
	}
	if engine := h.engines[id]; engine != nil && !away {
		engine.since = time.Now()
		if engine.waiting != nil {
			h.publish(engine, *engine.waiting)
		}
		h.fill(engine)
	}
}

// Suspect tells the others that a host may be gone.
func (h *Hub) Suspect(id cluster.HostID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.hosts[id]
	e.State = cluster.Suspect
	h.tell(cluster.Update{Entries: []cluster.Entry{*e}}, id)
}

// Kill ends a host without a word.
func (h *Hub) Kill(id cluster.HostID) {
	h.Cut(id, true)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.engines[id].end()
	delete(h.engines, id)
	delete(h.cut, id)
}

// tell gives an update to all hosts but one. mu is held.
func (h *Hub) tell(u cluster.Update, but cluster.HostID) {
	for id, e := range h.engines {
		if id != but && !h.cut[id] {
			e.updates <- u
		}
	}
}

// fill gives a host all that there is. mu is held.
func (h *Hub) fill(e *engine) {
	u := cluster.Update{Full: true}
	for id, host := range h.hosts {
		if id != e.self.ID {
			u.Entries = append(u.Entries, *host)
		}
	}
	e.updates <- u
}

// publish is Publish with mu held.
func (h *Hub) publish(e *engine, r cluster.Record) {
	e.waiting = nil
	h.hosts[r.ID] = &cluster.Entry{Record: r}
	h.tell(cluster.Update{Entries: []cluster.Entry{{Record: r}}}, r.ID)
}

type engine struct {
	hub     *Hub
	self    cluster.Host
	updates chan cluster.Update
	ended   sync.Once
	done    chan struct{}

	// Guarded by hub.mu.
	seq     uint64
	waiting *cluster.Record // published before Start, or while cut
	since   time.Time
}

func (e *engine) Info() cluster.Info {
	return cluster.Info{Name: "hub", Consistency: cluster.Strong, Membership: true, Allocates: true, Detects: time.Second}
}

func (e *engine) Start(self cluster.Host, sink func(cluster.Update)) error {
	if err := self.Check(); err != nil {
		return err
	}
	h := e.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	e.self, e.updates, e.done, e.since = self, make(chan cluster.Update, 1<<16), make(chan struct{}), time.Now()
	go func() {
		defer close(e.done)
		for u := range e.updates {
			sink(u)
		}
	}()
	h.engines[self.ID] = e
	r := cluster.Record{Host: self}
	if e.waiting != nil {
		r = *e.waiting
		r.Host = self
	}
	if h.cut[self.ID] {
		e.waiting = &r
		return nil
	}
	h.fill(e)
	h.publish(e, r)
	return nil
}

// strong begins a strong call; its function ends it.
func (e *engine) strong() (func(), error) {
	e.hub.mu.Lock()
	if e.hub.cut[e.self.ID] {
		e.hub.mu.Unlock()
		return nil, cluster.ErrUnavailable
	}
	return e.hub.mu.Unlock, nil
}

func (e *engine) Network(_ context.Context, s cluster.Spec) (cluster.Spec, error) {
	if err := s.Check(); err != nil {
		return cluster.Spec{}, err
	}
	end, err := e.strong()
	if err != nil {
		return cluster.Spec{}, err
	}
	defer end()
	h := e.hub
	if have, ok := h.specs[s.Key]; ok {
		if diff := have.what.Differs(s); diff != "" {
			return cluster.Spec{}, &cluster.Conflict{What: "network " + s.Key, Host: have.by, Have: diff}
		}
		return have.what, nil
	}
	if by := h.vniTaken(s.VNI); s.VNI != 0 && by != nil {
		return cluster.Spec{}, &cluster.Conflict{What: fmt.Sprintf("VNI %d", s.VNI), Host: by.by, Have: "network " + by.what.Key}
	}
	for try := 0; s.VNI == 0 || h.vniTaken(s.VNI) != nil; try++ {
		s.VNI = cluster.ChooseVNI(fmt.Sprint("hub", try), s.Key)
	}
	h.specs[s.Key] = owned[cluster.Spec]{e.self, s}
	return s, nil
}

// vniTaken returns who has a VNI. mu is held.
func (h *Hub) vniTaken(vni uint32) *owned[cluster.Spec] {
	for _, s := range h.specs {
		if s.what.VNI == vni {
			return &s
		}
	}
	return nil
}

func (e *engine) Claim(_ context.Context, key string, want cluster.Want) (netip.Prefix, error) {
	end, err := e.strong()
	if err != nil {
		return netip.Prefix{}, err
	}
	defer end()
	all := e.hub.blocks[key]
	if all == nil {
		all = make(map[netip.Prefix]cluster.Host)
		e.hub.blocks[key] = all
	}
	taken := func(b netip.Prefix) *cluster.Host {
		for other, host := range all {
			if other.Overlaps(b) && (host.ID != e.self.ID || other != b) {
				return &host
			}
		}
		return nil
	}
	if b := want.Block; b.IsValid() {
		if by := taken(b); by != nil {
			return netip.Prefix{}, &cluster.Conflict{What: b.String(), Host: *by}
		}
		all[b] = e.self
		return b, nil
	}
	for b := range cluster.Blocks(want.Subnet, want.Bits) {
		if _, own := all[b]; !own && taken(b) == nil {
			all[b] = e.self
			return b, nil
		}
	}
	return netip.Prefix{}, cluster.ErrExhausted
}

func (e *engine) Free(_ context.Context, key string, b netip.Prefix) error {
	end, err := e.strong()
	if err != nil {
		return err
	}
	defer end()
	if e.hub.blocks[key][b].ID == e.self.ID {
		delete(e.hub.blocks[key], b)
	}
	return nil
}

func (e *engine) Publish(members []cluster.Member, stations []cluster.Station, names []cluster.Name) {
	h := e.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	e.seq++
	r := cluster.Record{Host: e.self, Seq: e.seq, Members: members, Stations: stations, Names: names}
	if e.updates == nil || h.cut[e.self.ID] {
		e.waiting = &r
		return
	}
	h.publish(e, r)
}

func (e *engine) Forget(_ context.Context, id cluster.HostID) error {
	end, err := e.strong()
	if err != nil {
		return err
	}
	defer end()
	h := e.hub
	host := h.hosts[id]
	switch {
	case host == nil:
		return cluster.ErrNoHost
	case host.State != cluster.Gone:
		return cluster.ErrNotGone
	}
	delete(h.hosts, id)
	for _, all := range h.blocks {
		maps.DeleteFunc(all, func(_ netip.Prefix, by cluster.Host) bool { return by.ID == id })
	}
	h.tell(cluster.Update{Removed: []cluster.HostID{id}}, id)
	return nil
}

func (e *engine) Status() cluster.Status {
	e.hub.mu.Lock()
	defer e.hub.mu.Unlock()
	s := cluster.Status{Since: e.since}
	if e.hub.cut[e.self.ID] {
		s.Err = cluster.ErrUnavailable
	}
	return s
}

func (e *engine) Close(context.Context) error {
	h := e.hub
	h.mu.Lock()
	if host := h.hosts[e.self.ID]; host != nil && !h.cut[e.self.ID] && h.engines[e.self.ID] == e {
		host.State = cluster.Gone
		h.tell(cluster.Update{Entries: []cluster.Entry{*host}}, e.self.ID)
	}
	if h.engines[e.self.ID] == e {
		delete(h.engines, e.self.ID)
	}
	h.mu.Unlock()
	e.end()
	<-e.done
	return nil
}

func (e *engine) end() { e.ended.Do(func() { close(e.updates) }) }
