package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/ether"
)

// problems finds contradictions between records that are added one by one.
type problems struct {
	names  map[string]Host
	addrs  map[netip.Addr]Host
	keys   map[string]claim
	vnis   map[uint32]claim
	blocks []claim
	places map[at]Host // of stations
	found  []string
}

// at is an address or a MAC on a network.
type at struct {
	key  string
	addr netip.Addr
	mac  ether.MAC
}

// A claim is what one host says of a network, or of one block of it.
type claim struct {
	host  Host
	spec  Spec
	block netip.Prefix
}

func (p *problems) say(format string, args ...any) {
	p.found = append(p.found, fmt.Sprintf(format, args...))
}

func (p *problems) add(r *Record) {
	if q, ok := p.names[r.Name]; ok {
		p.say("hosts %s and %s have one name", q, r.Host)
	}
	if q, ok := p.addrs[r.VTEP.Addr()]; ok {
		p.say("hosts %s and %s have one address", q, r.Host)
	}
	p.names[r.Name], p.addrs[r.VTEP.Addr()] = r.Host, r.Host
	for _, m := range r.Members {
		c := claim{host: r.Host, spec: m.Spec}
		if first, ok := p.keys[m.Key]; !ok {
			p.keys[m.Key] = c
		} else if have := first.spec.Differs(m.Spec); have != "" {
			p.say("network %s has %s at host %s, and %s at host %s", m.Key, have, first.host, m.Spec.Differs(first.spec), r.Host)
		}
		if first, ok := p.vnis[m.VNI]; !ok && m.VNI != 0 {
			p.vnis[m.VNI] = c
		} else if ok && first.spec.Key != m.Key {
			p.say("VNI %d is that of network %s at host %s, and of network %s at host %s", m.VNI, first.spec.Key, first.host, m.Key, r.Host)
		}
		for _, b := range m.Blocks {
			c.block = b
			p.blocks = append(p.blocks, c)
		}
	}
}

// compareBlocks finds blocks of one network that overlap. In their order, what overlaps a block begins behind it, within it.
func (p *problems) compareBlocks() {
	slices.SortStableFunc(p.blocks, func(a, b claim) int {
		if c := strings.Compare(a.spec.Key, b.spec.Key); c != 0 {
			return c
		}
		return ComparePrefix(a.block, b.block)
	})
	var outer claim
	for _, c := range p.blocks {
		if outer.spec.Key != c.spec.Key || !outer.block.Overlaps(c.block) {
			outer = c
		} else if outer.host != c.host {
			p.say("network %s: host %s gives out %s, and host %s %s", c.spec.Key, outer.host, outer.block, c.host, c.block)
		}
	}
}

// addStations finds stations that another host has too, by address or else by MAC.
func (p *problems) addStations(r *Record) {
	elsewhere := func(a at, what any) bool {
		first, ok := p.places[a]
		if !ok {
			p.places[a] = r.Host
		} else if first != r.Host {
			p.say("network %s: %s is at host %s, and at host %s", a.key, what, first, r.Host)
			return true
		}
		return false
	}
	for _, s := range r.Stations {
		told := false
		for _, a := range s.Addrs {
			told = elsewhere(at{key: s.Key, addr: a}, a) || told
		}
		if !told {
			elsewhere(at{key: s.Key, mac: s.MAC}, s.MAC)
		}
	}
	for _, n := range r.Names {
		for _, a := range n.Addrs {
			if p.places[at{key: n.Key, addr: a}] != r.Host { // its station may have told it
				elsewhere(at{key: n.Key, addr: a}, a)
			}
		}
	}
}
