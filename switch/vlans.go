package vswitch

import "github.com/tapestry-net/tapestry/ether"

// VLANs is a set of VLANs by their ids; 0 is frames without a tag.
type VLANs [64]uint64

// Add adds one of 0 to ether.MaxVLAN.
func (s *VLANs) Add(id uint16) { s[id>>6] |= 1 << (id & 63) }

// Has tells whether id is in the set.
func (s *VLANs) Has(id uint16) bool { return id>>6 < uint16(len(s)) && s[id>>6]>>(id&63)&1 != 0 }

// SetVLANs lets only frames of these VLANs pass by the port, in and out; nil is all frames. s must not be changed any more.
func (p *Port) SetVLANs(s *VLANs) { p.vlans.Store(s) }

// inVLAN tells whether f may pass by the port: its first tag names one of the port's VLANs.
func (p *Port) inVLAN(f *ether.Frame) bool {
	s := p.vlans.Load()
	return s == nil || s.Has(f.VLAN())
}
