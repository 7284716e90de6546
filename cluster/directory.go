package cluster

import (
	"maps"
	"math"
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
	turn  uint64            // counts changes of places
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
	there := make(map[HostID]bool)
	for i := range u.Entries {
		e := u.Entries[i]
		if e.ID == d.self {
			continue
		}
		if u.Full {
			there[e.ID] = true
		}
		old := d.hosts[e.ID]
		if old != nil && !e.Newer(&old.Record) {
			e.Record = old.Record
		}
		if old != nil && reflect.DeepEqual(*old, e) {
			continue
		}
		d.replace(e.ID, &e, dirty)
	}
	for _, id := range u.Removed {
		d.replace(id, nil, dirty)
	}
	if u.Full {
		for id := range d.hosts {
			if !there[id] {
				d.replace(id, nil, dirty)
			}
		}
	}
	return slices.Sorted(maps.Keys(dirty))
}

// replace puts what a host says now in the place of what it has said; nil: it is removed. It adds its networks to dirty. mu is held.
func (d *Directory) replace(id HostID, now *Entry, dirty map[string]bool) {
	old := d.hosts[id]
	places := !samePlaces(old, now)
	if places {
		d.turn++
	}
	touch := func(key string, x *index) {
		dirty[key] = true
		if places {
			x.turn = d.turn
		}
	}
	if old != nil {
		for i := range old.Members {
			key := old.Members[i].Key
			x := d.keys[key]
			x.take(key, old)
			touch(key, x)
		}
	}
	delete(d.hosts, id)
	if now != nil {
		d.hosts[id] = now
		for i := range now.Members {
			key := now.Members[i].Key
			x := d.keys[key]
			if x == nil {
				x = newIndex()
				d.keys[key] = x
			}
			x.put(key, now)
			touch(key, x)
		}
	}
	for _, e := range []*Entry{old, now} {
		for i := 0; e != nil && i < len(e.Members); i++ {
			d.keys[e.Members[i].Key].settle(e.Members[i].Key, e)
		}
	}
	if old != nil {
		for i := range old.Members {
			if key := old.Members[i].Key; d.keys[key] != nil && len(d.keys[key].ids) == 0 {
				delete(d.keys, key)
			}
		}
	}
}

// samePlaces tells whether two entries of a host differ in its names at most.
func samePlaces(a, b *Entry) bool {
	return a != nil && b != nil && a.Host == b.Host && a.State == b.State && reflect.DeepEqual(a.Members, b.Members) && reflect.DeepEqual(a.Stations, b.Stations)
}

// Places is another number after each change of what frames follow on a network: hosts, their states, blocks and stations. Names, which
// change most often, do not change it.
func (d *Directory) Places(key string) uint64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		return x.turn
	}
	return 0
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
	for _, id := range x.ids {
		e := d.hosts[id]
		all = append(all, Seat{e.Host, e.State, *x.members[id]})
	}
	return all
}

// Where tells which other host has an address: by what it says of that station, or by its blocks, the longest one first. If two say
// alike that they have it, it is neither.
func (d *Directory) Where(key string, a netip.Addr) (Host, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := d.keys[key]
	if x == nil {
		return Host{}, false
	}
	if _, said := x.stations.best[a]; said {
		if x.stations.disputed(a) {
			return Host{}, false
		}
		return d.hosts[x.stations.best[a].host].Host, true
	}
	for _, n := range x.bits {
		if p, err := a.Prefix(n); err == nil {
			if c, ok := x.blocks.best[p]; ok {
				return d.hosts[c.host].Host, true
			}
		}
	}
	return Host{}, false
}

// Station tells which other host says that it has a station whose place does not follow from blocks, and with which Seq; "" if
// two say so with one Seq.
func (d *Directory) Station(key string, mac ether.MAC) (host HostID, seq uint64, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		p, ok := x.macs.best[mac]
		if x.macs.disputed(mac) {
			p.host = ""
		}
		return p.host, p.v, ok
	}
	return "", 0, false
}

// NextSeq is the Seq of a station that comes to this host now: higher than that of any other with its MAC or one of its addresses,
// 0 if there is none.
func (d *Directory) NextSeq(key string, mac ether.MAC, addrs []netip.Addr) (next uint64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	x := d.keys[key]
	if x == nil {
		return 0
	}
	after := func(seq uint64) {
		if seq < math.MaxUint64 {
			seq++
		}
		next = max(next, seq)
	}
	if p, ok := x.macs.best[mac]; ok {
		after(p.v)
	}
	for _, a := range addrs {
		if p, ok := x.stations.best[a]; ok {
			after(p.v)
		}
	}
	return next
}

// Stations are the stations of a network that other hosts have and whose place does not follow from blocks, by their host; "" if
// two say with one Seq that they have it.
func (d *Directory) Stations(key string) map[ether.MAC]HostID {
	d.mu.RLock()
	defer d.mu.RUnlock()
	all := make(map[ether.MAC]HostID)
	if x := d.keys[key]; x != nil {
		for m, p := range x.macs.best {
			all[m] = p.host
		}
		for m := range x.macs.rest {
			if x.macs.disputed(m) {
				all[m] = ""
			}
		}
	}
	return all
}

// Resolve gives the addresses of a container on another host by its name, whatever its letters' case.
func (d *Directory) Resolve(key, name string) (all []netip.Addr) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		for _, r := range x.names[strings.ToLower(name)] {
			all = append(all, r.addrs...)
		}
	}
	return all
}

// NameOf gives the name of the container on another host that has the address; "": none has told.
func (d *Directory) NameOf(key string, a netip.Addr) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if x := d.keys[key]; x != nil {
		if c, ok := x.reverse.best[a]; ok {
			return c.v
		}
	}
	return ""
}

// Problems are contradictions between the records of two hosts, this one's included, in words. own may have all stations of this
// host, also those that it says nothing of.
func (d *Directory) Problems(own *Record) []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p := problems{names: make(map[string]Host), addrs: make(map[netip.Addr]Host), keys: make(map[string]claim), vnis: make(map[uint32]claim), places: make(map[at]Host)}
	p.add(own)
	p.addStations(own)
	for _, id := range slices.Sorted(maps.Keys(d.hosts)) {
		e := d.hosts[id]
		p.add(&e.Record)
		if e.State != Gone { // its containers may have moved
			p.addStations(&e.Record)
		}
	}
	p.compareBlocks()
	return p.found
}
