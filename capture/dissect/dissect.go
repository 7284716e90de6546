package dissect

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// An EtherType is the number of what is in a frame (IEEE 802.3 §3.2.6). Its text is as in "0x0800".
type EtherType uint16

const (
	typeIPv4  EtherType = ether.TypeIPv4
	typeARP   EtherType = ether.TypeARP
	typeVLAN  EtherType = ether.TypeVLAN
	typeIPv6  EtherType = ether.TypeIPv6
	typeQinQ  EtherType = ether.TypeQinQ
	minType   EtherType = 0x0600 // what is smaller is a length
	maxVLANs            = 2
	macsLen             = 12
	arpLen              = 28
	arpIPv4on           = 0x00010800 // hardware Ethernet, protocol IPv4
)

func (t EtherType) String() string { return fmt.Sprintf("0x%04x", uint16(t)) }

// MarshalText is String.
func (t EtherType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// TCPFlags are the eight flags of a TCP header (RFC 9293 §3.1), FIN lowest. Their text is as in "SYN,ACK".
type TCPFlags uint8

var flagNames = [8]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

func (f TCPFlags) String() string {
	b, _ := f.MarshalText()
	return string(b)
}

// MarshalText is String.
func (f TCPFlags) MarshalText() ([]byte, error) {
	b := make([]byte, 0, 32)
	for i, name := range flagNames {
		if f>>i&1 == 0 {
			continue
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, name...)
	}
	return b, nil
}

// Dissect tells what frame says, from its Ethernet header on. wireLen is its length on the wire; frame is shorter if
// it was captured in part. It may be called by many at once.
func Dissect(frame []byte, wireLen int) (s *Summary) {
	s = &Summary{Len: max(wireLen, len(frame))}
	if len(frame) < s.Len {
		s.Captured = len(frame)
	}
	defer func() {
		if r := recover(); r != nil { // a bug of ours to fix, but no reason to end a long watch
			s.Error = fmt.Sprintf("dissector failed: %v", r)
		}
	}()
	s.ethernet(part{frame, s.Len})
	s.Info = string(s.describe(make([]byte, 0, 128), nil))
	return s
}

// A part of a frame: the bytes that are here, and how many there were on the wire.
type part struct {
	b    []byte
	wire int
}

// skip is what follows the first n bytes.
func (p part) skip(n int) part { return part{p.b[min(n, len(p.b)):], p.wire - n} }

// limit is the first n bytes.
func (p part) limit(n int) part { return part{p.b[:min(n, len(p.b))], min(n, p.wire)} }

// has tells whether the n bytes of what are here, and notes it as an error if not.
func (s *Summary) has(p part, n int, what string) bool {
	if len(p.b) < n {
		s.fail("%s cut short: %d of %d bytes", what, len(p.b), n)
		return false
	}
	return true
}

// fail notes what is wrong. The first thing wrong is the one that people want to know.
func (s *Summary) fail(format string, args ...any) {
	if s.Error == "" {
		s.Error = fmt.Sprintf(format, args...)
	}
}

func (s *Summary) ethernet(p part) {
	if !s.has(p, ether.HeaderLen, "Ethernet header") {
		return
	}
	e := &Eth{Dst: ether.MAC(p.b[:6]), Src: ether.MAC(p.b[6:]), Type: etherType(p.b[macsLen:])}
	s.Eth = e
	p = p.skip(ether.HeaderLen)
	for (e.Type == typeVLAN || e.Type == typeQinQ) && len(e.VLAN) < maxVLANs {
		if !s.has(p, 4, "VLAN tag") {
			return
		}
		e.VLAN = append(e.VLAN, be16(p.b)&0xfff)
		e.Type = etherType(p.b[2:])
		p = p.skip(4)
	}
	s.network(e.Type, p)
}

// network reads what is behind a link's header.
func (s *Summary) network(typ EtherType, p part) {
	switch typ {
	case typeARP:
		s.arp(p)
	case typeIPv4:
		s.ipv4(p)
	case typeIPv6:
		s.ipv6(p)
	}
}

func (s *Summary) arp(p part) {
	if !s.has(p, arpLen, "ARP") {
		return
	}
	b := p.b
	if binary.BigEndian.Uint32(b) != arpIPv4on || b[4] != 6 || b[5] != 4 {
		s.fail("ARP is not for IPv4 on Ethernet: hardware %d, protocol 0x%04x", be16(b), be16(b[2:]))
		return
	}
	s.ARP = &ARP{
		Op:        be16(b[6:]),
		SenderMAC: ether.MAC(b[8:]), SenderIP: addr4(b[14:]),
		TargetMAC: ether.MAC(b[18:]), TargetIP: addr4(b[24:]),
	}
}

func be16(b []byte) uint16         { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32         { return binary.BigEndian.Uint32(b) }
func etherType(b []byte) EtherType { return EtherType(be16(b)) }
func addr4(b []byte) netip.Addr    { return netip.AddrFrom4([4]byte(b)) }
func addr6(b []byte) netip.Addr    { return netip.AddrFrom16([16]byte(b)) }
