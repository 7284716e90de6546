package cluster

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/tapestry-net/tapestry/ether"
)

// A Directory is what the other hosts have said last. Nothing is removed from it because an engine is away.
// Its methods may be called by several goroutines.
type Directory struct {
	self HostID

	mu    sync.RWMutex // guards what follows
	hosts map[HostID]*Entry
	keys  map[string]*index // by network
}

// An index is one network in a Directory.
type index struct {
	members  map[HostID]*Member
	blocks   map[netip.Prefix]HostID // of two hosts that claim a block, the one with the lower id; Problems tells of it
	bits     []int                   // the lengths of blocks, longest first
	stations map[netip.Addr]place
	macs     map[ether.MAC]place
	names    map[string][]netip.Addr // in small letters
	reverse  map[netip.Addr]string
}

// A place is where a station is.
type place struct {
	host HostID
	seq  uint64
}

// NewDirectory is an empty one. Records of the host itself are left out.
func NewDirectory(self HostID) *Directory {
	return &Directory{self: self, hosts: make(map[HostID]*Entry), keys: make(map[string]*index)}
}

// Apply applies an update, and returns the networks that it has changed. Records that are older than what is known are ignored,
// but for their state.
func (d *Directory) Apply(u Update) (changed []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dirty := make(map[string]bool)
	touch := func(e *Entry) {
		for i := range e.Members {
			dirty[e.Members[i].Key] = true
		}
	}
	there := make(map[HostID]bool)
	for i := range u.Entries {
		e := u.Entries[i]
		if e.ID == d.self {
			continue
		}
		there[e.ID] = true
		old := d.hosts[e.ID]
		if old != nil && !e.Newer(&old.Record) {
			e.Record = old.Record
		}
		if old != nil && reflect.DeepEqual(*old, e) {
			continue
		}
		if old != nil {
			touch(old)
		}
		touch(&e)
		d.hosts[e.ID] = &e
	}
	remove := func(id HostID) {
		if old := d.hosts[id]; old != nil {
			touch(old)
			delete(d.hosts, id)
		}
	}
	for _, id := range u.Removed {
		remove(id)
	}
	if u.Full {
		for id := range d.hosts {
			if !there[id] {
				remove(id)
			}
		}
	}
	for key := range dirty {
		d.rebuild(key)
	}
	return slices.Sorted(maps.Keys(dirty))
}

// rebuild makes a network's index anew. mu is held.
func (d *Directory) rebuild(key string) {
	x := &index{
		members: make(map[HostID]*Member), blocks: make(map[netip.Prefix]HostID), stations: make(map[netip.Addr]place), macs: make(map[ether.MAC]place),
		names: make(map[string][]netip.Addr), reverse: make(map[netip.Addr]string),
	}
	bits := make(map[int]bool)
	for _, id := range slices.Sorted(maps.Keys(d.hosts)) {
		e := d.hosts[id]
		i := slices.IndexFunc(e.Members, func(m Member) bool { return m.Key == key })
		if i < 0 {
			continue
		}
		m := &e.Members[i]
		x.members[id] = m
		for _, b := range m.Blocks {
			if _, taken := x.blocks[b]; !taken {
				x.blocks[b], bits[b.Bits()] = id, true
			}
		}
		for _, s := range e.Stations {
			if s.Key != key {
				continue
			}
			note(x.macs, s.MAC, place{id, s.Seq})
			for _, a := range s.Addrs {
				note(x.stations, a, place{id, s.Seq})
			}
		}
		if e.State == Gone { // nobody answers there
			continue
		}
		for _, n := range e.Names {
			if n.Key != key {
				continue
			}
			name := strings.ToLower(n.Name)
			x.names[name] = append(x.names[name], n.Addrs...)
			for _, a := range n.Addrs {
				if x.reverse[a] == "" { // of a container's names the first is its own, the others are aliases
					x.reverse[a] = n.Name
				}
			}
		}
	}
	if len(x.members) == 0 {
		delete(d.keys, key)
		return
	}
	for n := range bits {
		x.bits = append(x.bits, n)
	}
	slices.SortFunc(x.bits, func(a, b int) int { return b - a })
	d.keys[key] = x
}

// note notes a place, unless a newer one is known.
func note[K comparable](m map[K]place, k K, p place) {
	if was, ok := m[k]; !ok || p.seq > was.seq {
		m[k] = p
	}
}

// Hosts are the other hosts, by name.
func (d *Directory) Hosts() []Entry {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var all []Entry
	for _, e := range d.hosts {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b Entry) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return all
}

// A Seat is one host's part of a network.
type Seat struct {
	Host
	State State
	Member
}

// On are the other hosts that are on a network, by id.
func (d *Directory) On(key string) []Seat {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := d.keys[key]
	if x == nil {
		return nil
	}
	var all []Seat
	for _, id := range slices.Sorted(maps.Keys(x.members)) {
		e := d.hosts[id]
		all = append(all, Seat{e.Host, e.State, *x.members[id]})
	}
	return all
}

// Where tells which other host has an address: by what it says of that station, or by its blocks, the longest one first.
func (d *Directory) Where(key string, a netip.Addr) (Host, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := d.keys[key]
	if x == nil {
		return Host{}, false
	}
	if p, ok := x.stations[a]; ok {
		return d.hosts[p.host].Host, true
	}
	for _, n := range x.bits {
		if p, err := a.Prefix(n); err == nil {
			if id, ok := x.blocks[p]; ok {
				return d.hosts[id].Host, true
			}
		}
	}
	return Host{}, false
}

// Station tells which other host says that it has a station whose place does not follow from blocks, and with which Seq.
func (d *Directory) Station(key string, mac ether.MAC) (host HostID, seq uint64, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		p, ok := x.macs[mac]
		return p.host, p.seq, ok
	}
	return "", 0, false
}

// Stations are the stations of a network that other hosts have and whose place does not follow from blocks, by their host.
func (d *Directory) Stations(key string) map[ether.MAC]HostID {
	d.mu.RLock()
	defer d.mu.RUnlock()
	all := make(map[ether.MAC]HostID)
	if x := d.keys[key]; x != nil {
		for m, p := range x.macs {
			all[m] = p.host
		}
	}
	return all
}

// Resolve gives the addresses of a container on another host by its name, whatever its letters' case.
func (d *Directory) Resolve(key, name string) []netip.Addr {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		return slices.Clone(x.names[strings.ToLower(name)])
	}
	return nil
}

// A Named is a name that another host has told.
type Named struct {
	Name
	Host string
}

// Names are those of the containers that other hosts have on a network, host by host, in the order in which they were told.
func (d *Directory) Names(key string) (all []Named) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := d.keys[key]
	if x == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(x.members)) {
		e := d.hosts[id]
		if e.State == Gone { // nobody answers there
			continue
		}
		for _, n := range e.Names {
			if n.Key == key {
				all = append(all, Named{n, e.Host.Name})
			}
		}
	}
	return all
}

// NameOf gives the name of the container on another host that has the address; "": none has told.
func (d *Directory) NameOf(key string, a netip.Addr) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		return x.reverse[a]
	}
	return ""
}

// Problems are contradictions between the records of two hosts, this one's included, in words.
func (d *Directory) Problems(own *Record) []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p := problems{names: make(map[string]Host), addrs: make(map[netip.Addr]Host), keys: make(map[string]claim), vnis: make(map[uint32]claim)}
	p.add(own)
	for _, id := range slices.Sorted(maps.Keys(d.hosts)) {
		p.add(&d.hosts[id].Record)
	}
	p.compareBlocks()
	return p.found
}
