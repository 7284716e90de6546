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

// blockTable is an immutable table of blocks.
type blockTable struct {
	lengths []int // of prefixes, the longest first
	ports   map[blockKey]*Port
}

type blockKey struct {
	addr uint32 // masked
	bits int
}

// SetBlocks replaces the blocks. Prefixes of IPv6 are left out: a MAC does not follow from them. What the forwarding database
// knows is newer, so it counts more; a block whose port is down or detached counts for nothing.
func (s *Switch) SetBlocks(all []Block) {
	t := &blockTable{ports: make(map[blockKey]*Port)}
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
	if len(t.ports) == 0 {
		t = nil
	}
	s.blocks.Store(t)
}

// blockPort is the port of the longest block that m's IPv4 address is in; nil: there is none that frames reach.
func (s *Switch) blockPort(m ether.MAC) *Port {
	t := s.blocks.Load()
	if t == nil || m[0] != 0x02 || m[1] != 0x42 {
		return nil
	}
	addr := binary.BigEndian.Uint32(m[2:])
	for _, bits := range t.lengths {
		if q, ok := t.ports[blockKey{addr & (^uint32(0) << (32 - bits)), bits}]; ok {
			if q.detached.Load() || q.IsDown() {
				return nil
			}
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
		to = p.sw.blockPort(m)
	}
	return to
}
