package vswitch

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/ether"
)

// A Block is a range of IPv4 addresses whose containers are behind one port. Docker makes a container's MAC of its IPv4 address,
// 02:42 and the four bytes; so a block tells where to send to before a frame has come from there.
type Block struct {
	Prefix netip.Prefix
	Port   *Port
}

// placeTable is an immutable table of blocks and stations.
type placeTable struct {
	lengths  []int // of prefixes, the longest first
	ports    map[blockKey]*Port
	stations map[ether.MAC]*Port
}

type blockKey struct {
	addr uint32 // masked
	bits int
}

// SetPlaces replaces the blocks, and the stations whose place does not follow from one: with a nil port it is not known, whatever the
// blocks say. Prefixes of IPv6 are left out: a MAC does not follow from them. What the forwarding database has learned counts more, unless it was learned before a station's place
// has changed; a port that is down or detached counts for nothing.
func (s *Switch) SetPlaces(all []Block, stations map[ether.MAC]*Port) {
	t := &placeTable{ports: make(map[blockKey]*Port), stations: stations}
	for _, b := range all {
		if !b.Prefix.Addr().Is4() {
			continue
		}
		a := b.Prefix.Masked().Addr().As4()
		t.ports[blockKey{binary.BigEndian.Uint32(a[:]), b.Prefix.Bits()}] = b.Port
		if !slices.Contains(t.lengths, b.Prefix.Bits()) {
			t.lengths = append(t.lengths, b.Prefix.Bits())
		}
	}
	slices.SortFunc(t.lengths, func(a, b int) int { return b - a })
	if len(t.ports)+len(stations) == 0 {
		t = nil
	}
	before := s.places.Swap(t)
	s.tableMu.Lock()
	defer s.tableMu.Unlock()
	for m, q := range stations {
		if q == nil || before != nil && before.stations[m] == q {
			continue
		}
		if old := s.station(m); old != nil && !old.pinned && old.port.Load() != q {
			s.remove(old)
		}
	}
}

// place is the port of a station, or of the longest block that m's IPv4 address is in; nil: there is none that frames reach.
func (s *Switch) place(m ether.MAC) *Port {
	t := s.places.Load()
	if t == nil {
		return nil
	}
	q, exact := t.stations[m]
	if !exact {
		q = t.block(m)
	}
	if q == nil || q.detached.Load() || q.IsDown() {
		return nil
	}
	return q
}

// block is the port of the longest block that m's IPv4 address is in; nil: of none.
func (t *placeTable) block(m ether.MAC) *Port {
	a, ok := m.DockerIPv4()
	if !ok {
		return nil
	}
	addr := binary.BigEndian.Uint32(a[:])
	for _, bits := range t.lengths {
		if q, ok := t.ports[blockKey{addr & (^uint32(0) << (32 - bits)), bits}]; ok {
			return q
		}
	}
	return nil
}

// locate gives the port that leads to m for a frame that p has received; nil if none is known. A remote host has looked in the blocks
// itself, and what it sends here may be for a container that has come here since.
func (p *Port) locate(m ether.MAC) *Port {
	to := p.sw.find(m)
	if to == nil && !p.Uplink {
		to = p.sw.place(m)
	}
	return to
}
