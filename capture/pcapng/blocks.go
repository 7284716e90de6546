package pcapng

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

// tooShort is the error of a block that is shorter than its fixed part.
func tooShort(block string, have, want int) error {
	return fmt.Errorf("%s has %d bytes, want at least %d", block, have, want)
}

func (r *Reader) section(b []byte) (Block, error) {
	if len(b) < 16 {
		return nil, tooShort("section header", len(b), 16)
	}
	if major := r.order.Uint16(b[4:]); major != 1 {
		return nil, fmt.Errorf("section is of version %d, want 1", major)
	}
	r.firstInterface += len(r.clocks)
	r.clocks = r.clocks[:0]
	s := new(Section)
	o := r.options(b[16:])
	for o.next() {
		switch o.code {
		case optComment:
			o.addComment()
		case shbHardware:
			s.Hardware = text(o.value)
		case shbOS:
			s.OS = text(o.value)
		case shbApplication:
			s.Application = text(o.value)
		}
	}
	s.Comment = o.comment()
	return s, nil
}

func (r *Reader) iface(b []byte) (Block, error) {
	if len(b) < 8 {
		return nil, tooShort("interface description", len(b), 8)
	}
	if len(r.clocks) == maxInterfaces {
		return nil, fmt.Errorf("more interfaces in one section than %d", maxInterfaces)
	}
	i := &Interface{LinkType: int(r.order.Uint16(b)), SnapLen: clamp(r.order.Uint32(b[4:]))}
	c := clock{resolution: 6, snap: i.SnapLen, link: i.LinkType}
	o := r.options(b[8:])
	for o.next() {
		switch o.code {
		case optComment:
			o.addComment()
		case ifName:
			i.Name = text(o.value)
		case ifDescription:
			i.Description = text(o.value)
		case ifHardware:
			i.Hardware = text(o.value)
		case ifFilter:
			if len(o.value) > 0 && o.value[0] == 0 { // a text
				i.Filter = text(o.value[1:])
			}
		case ifMAC:
			if v := o.bytes(6); v != nil {
				i.MAC = ether.MAC(v)
			}
		case ifIPv4:
			if v := o.bytes(8); v != nil {
				bits, _ := net.IPMask(v[4:]).Size() // 0 of a mask with holes
				i.Addrs = append(i.Addrs, netip.PrefixFrom(netip.AddrFrom4([4]byte(v[:4])), bits))
			}
		case ifIPv6:
			if v := o.bytes(17); v != nil && v[16] <= 128 {
				i.Addrs = append(i.Addrs, netip.PrefixFrom(netip.AddrFrom16([16]byte(v[:16])), int(v[16])))
			}
		case ifResolution:
			if v := o.bytes(1); v != nil {
				c.resolution = v[0]
			}
		case ifOffset:
			c.offset = int64(o.uint64())
		}
	}
	r.clocks = append(r.clocks, c)
	i.Comment = o.comment()
	return i, nil
}

// interfaceOf returns the clock of a section's interface.
func (r *Reader) interfaceOf(index uint32) (*clock, error) {
	if uint64(index) >= uint64(len(r.clocks)) {
		return nil, fmt.Errorf("no interface %d, the section has %d so far", index, len(r.clocks))
	}
	return &r.clocks[index], nil
}

func (r *Reader) enhanced(b []byte) (Block, error) {
	if len(b) < 20 {
		return nil, tooShort("packet block", len(b), 20)
	}
	return r.packetOf(r.order.Uint32(b), b[4:], 0)
}

// obsolete reads a Packet Block. It differs from an enhanced one in its first word, and has fewer options.
func (r *Reader) obsolete(b []byte) (Block, error) {
	if len(b) < 20 {
		return nil, tooShort("packet block", len(b), 20)
	}
	drops := uint64(r.order.Uint16(b[2:]))
	if drops == 0xffff { // not known
		drops = 0
	}
	return r.packetOf(uint32(r.order.Uint16(b)), b[4:], drops)
}

// packetOf reads what enhanced and obsolete packet blocks have in common: time, lengths, data, options.
func (r *Reader) packetOf(index uint32, b []byte, drops uint64) (Block, error) {
	c, err := r.interfaceOf(index)
	if err != nil {
		return nil, err
	}
	n, room := clamp(r.order.Uint32(b[8:])), len(b)-16
	if n > room {
		return nil, fmt.Errorf("packet has %d bytes in a block with room for %d", n, room)
	}
	p := &r.packet
	*p = Packet{
		Interface: r.firstInterface + int(index),
		Time:      c.time(r.ticks(b)),
		Data:      b[16 : 16+n : 16+n],
		Len:       max(clamp(r.order.Uint32(b[12:])), n),
		Drops:     drops,
		Queue:     -1,
	}
	r.fixByteOrder(c.link, p.Data)
	o := r.options(b[16+(n+3)&^3:]) // there is room for the padding: block wants multiples of 4
	for o.next() {
		switch o.code {
		case optComment:
			o.addComment()
		case epbFlags:
			p.Flags = o.uint32()
		case epbDrops:
			p.Drops = o.uint64()
		case epbID:
			p.ID = o.uint64()
		case epbQueue:
			if v := o.bytes(4); v != nil {
				p.Queue = clamp(r.order.Uint32(v))
			}
		case epbVerdict:
			p.Verdict = o.value
		}
	}
	p.Comment = o.comment()
	return p, nil
}

// simple reads a Simple Packet Block. It belongs to the section's first interface, whose snap length says how long its data is.
func (r *Reader) simple(b []byte) (Block, error) {
	if len(b) < 4 {
		return nil, tooShort("simple packet block", len(b), 4)
	}
	c, err := r.interfaceOf(0)
	if err != nil {
		return nil, err
	}
	wire, data := clamp(r.order.Uint32(b)), b[4:]
	n := wire
	if c.snap != 0 {
		n = min(n, c.snap)
	}
	if n > len(data) {
		return nil, fmt.Errorf("packet has %d bytes in a block with room for %d", n, len(data))
	}
	r.packet = Packet{Interface: r.firstInterface, Data: data[:n:n], Len: wire, Queue: -1}
	r.fixByteOrder(c.link, r.packet.Data)
	return &r.packet, nil
}

// maxNamesRead bounds the names of one block: 16 MiB could hold eight million names of one letter, which need 40 bytes each.
const maxNamesRead = 1 << 18

// names reads all names of all records. A record that is too short is ignored.
func (r *Reader) names(b []byte) (Block, error) {
	var all Names
	o := r.options(b)
	for o.next() {
		size := 0
		switch o.code {
		case recordIPv4:
			size = 4
		case recordIPv6:
			size = 16
		default:
			continue
		}
		if len(o.value) < size {
			continue
		}
		addr, _ := netip.AddrFromSlice(o.value[:size])
		for name := range bytes.SplitSeq(o.value[size:], []byte{0}) {
			if len(name) > 0 && len(all) < maxNamesRead {
				all = append(all, Name{addr, text(name)})
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

func (r *Reader) statistics(b []byte) (Block, error) {
	if len(b) < 12 {
		return nil, nil // no error: the packets after it can still be read
	}
	index := r.order.Uint32(b)
	c, err := r.interfaceOf(index)
	if err != nil {
		return nil, nil
	}
	s := &Stats{Interface: r.firstInterface + int(index)}
	o := r.options(b[12:])
	for o.next() {
		switch o.code {
		case optComment:
			o.addComment()
		case isbStart:
			if v := o.bytes(8); v != nil {
				s.Start = c.time(r.ticks(v))
			}
		case isbEnd:
			if v := o.bytes(8); v != nil {
				s.End = c.time(r.ticks(v))
			}
		case isbReceived:
			s.Received = o.uint64()
		case isbAccepted:
			s.Accepted = o.uint64()
		case isbIfDrop, isbOSDrop: // some writers count only one of them
			s.Dropped = max(s.Dropped, o.uint64())
		case isbDelivered:
			s.Delivered = o.uint64()
		}
	}
	s.Comment = o.comment()
	return s, nil
}

// ticks reads a time, whose upper half is first in either byte order.
func (r *Reader) ticks(b []byte) uint64 {
	return uint64(r.order.Uint32(b))<<32 | uint64(r.order.Uint32(b[4:]))
}

// fixByteOrder converts the header of a BSD loopback packet from a big-endian file: it is in the byte order of the host that
// captured.
func (r *Reader) fixByteOrder(link int, data []byte) {
	if link == Null && r.order == binary.BigEndian && len(data) >= 4 {
		le.PutUint32(data, binary.BigEndian.Uint32(data))
	}
}
