package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// problems finds contradictions between records that are added one by one.
type problems struct {
	names  map[string]Host
	addrs  map[netip.Addr]Host
	keys   map[string]claim
	vnis   map[uint32]claim
	blocks []claim
	found  []string
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
