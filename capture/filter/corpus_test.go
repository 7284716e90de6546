package filter

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// A captured frame is a frame as a file holds it: perhaps cut, and its length before that.
type captured struct {
	frame   []byte
	wireLen int
}

func be(size int, v uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return b[8-size:]
}

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

var (
	macs    = []uint64{0x02420a4d0001, 0x02420a4d0002, 0xffffffffffff, 0x01005e000001, 0x333300000001, 0x0180c2000000}
	v4s     = []string{"10.0.0.1", "10.0.0.2", "10.1.2.3", "192.168.1.1", "224.0.0.1", "255.255.255.255", "172.16.5.6"}
	v6s     = []string{"2001:db8::1", "2001:db8::2", "2001:db8:1::3", "fe80::1", "ff02::1", "::1"}
	portsIn = []uint64{80, 443, 53, 22, 4789, 1024, 8080, 65535, 0}
)

// A maker makes frames.
type maker struct{ *rand.Rand }

func pick[T any](m maker, of []T) T { return of[m.IntN(len(of))] }

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func (m maker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

func (m maker) macs() []byte { return join(be(6, pick(m, macs)), be(6, pick(m, macs[:2]))) }

// transport returns a protocol's number, and a header of it with some payload.
func (m maker) transport(v6 bool) (number byte, b []byte) {
	ports := join(be(2, pick(m, portsIn)), be(2, pick(m, portsIn)))
	switch m.IntN(10) {
	case 0, 1, 2:
		flags := pick(m, []byte{2, 0x12, 0x10, 0x11, 4, 0x18})
		return 6, join(ports, m.bytes(8), []byte{0x50, flags}, m.bytes(6+m.IntN(40)))
	case 3, 4:
		return 17, join(ports, m.bytes(4+m.IntN(30)))
	case 5:
		return 132, join(ports, m.bytes(8+m.IntN(30)))
	case 6:
		if v6 {
			return 58, join([]byte{pick(m, []byte{1, 128, 129, 135, 136, 143})}, m.bytes(7+m.IntN(20)))
		}
		return 1, join([]byte{pick(m, []byte{0, 3, 8, 11})}, m.bytes(7+m.IntN(20)))
	case 7:
		inner := join(m.macs(), be(2, 0x0800), m.v4())
		vxlan := []byte{8, 0, 0, 0, 0, 0x10, 1, 0}
		return 17, join(be(2, 50000), be(2, 4789), be(2, uint64(16+len(inner))), be(2, 0), vxlan, inner)
	}
	return pick(m, []byte{2, 9, 50, 51, 103, 112, 47, 89, 58, 1, 44, 0}), m.bytes(8 + m.IntN(20))
}

func (m maker) v4() []byte {
	number, b := byte(6), m.bytes(20)
	if m.IntN(8) > 0 {
		number, b = m.transport(false)
	}
	options := m.bytes(4 * pick(m, []int{0, 0, 0, 1, 5, 10}))
	frag := pick(m, []uint64{0, 0, 0, 0x4000, 0x2000, 0x2005, 0x0010})
	length := be(2, uint64(20+len(options)+len(b)))
	head := join([]byte{0x45 + byte(len(options)/4), byte(m.IntN(2))}, length, m.bytes(2), be(2, frag), []byte{64, number},
		m.bytes(2), addr(pick(m, v4s)), addr(pick(m, v4s)), options)
	return join(head, b)
}

func (m maker) v6() []byte {
	number, b := m.transport(true)
	switch m.IntN(5) {
	case 0:
		number, b = 44, join([]byte{number, 0}, be(2, pick(m, []uint64{0, 1, 0x100})), m.bytes(4), b)
	case 1:
		number, b = pick(m, []byte{0, 43, 60}), join([]byte{number, 0}, m.bytes(6), b)
	}
	head := join([]byte{0x60, 0, 0, 0}, be(2, uint64(len(b))), []byte{number, 64})
	return join(head, addr(pick(m, v6s)), addr(pick(m, v6s)), b)
}

func (m maker) arp() []byte {
	return join(be(2, 1), be(2, 0x0800), []byte{6, 4}, be(2, uint64(1+m.IntN(4))), be(6, macs[0]), addr(pick(m, v4s)),
		be(6, macs[1]), addr(pick(m, v4s)))
}

// llc returns an 802.3 length field and what follows it.
func (m maker) llc() []byte {
	var b []byte
	switch m.IntN(9) {
	case 0:
		b = join([]byte{0x42, 0x42, 3}, m.bytes(35))
	case 1:
		b = join([]byte{0xaa, 0xaa, 3, 0, 0, 0}, be(2, pick(m, []uint64{0x0800, 0x8137, 0x80f3})), m.bytes(20))
	case 2:
		b = join([]byte{0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b}, m.bytes(20))
	case 3, 4:
		nlpid := pick(m, []byte{0x81, 0x82, 0x83, 0x83, 0x83})
		b = join([]byte{0xfe, 0xfe, 3, nlpid, 1, 1, 0, byte(15 + m.IntN(13))}, m.bytes(20))
	case 5:
		b = join([]byte{pick(m, []byte{0xe0, 0xf0, 6, 0xff}), 0}, m.bytes(20))
		b[1] = b[0]
	default:
		b = join([]byte{4, 4, byte(m.Uint32())}, m.bytes(20))
	}
	return join(be(2, uint64(len(b))), b)
}

// payload returns an EtherType and what follows it.
func (m maker) payload() []byte {
	switch m.IntN(16) {
	case 0:
		return join(be(2, 0x0806), m.arp())
	case 1:
		return join(be(2, 0x8035), m.arp())
	case 2, 3:
		return m.llc()
	case 4:
		odd := []uint64{0x6001, 0x6002, 0x6003, 0x6004, 0x6007, 0x9000, 0x8863, 0x8864, 0x88cc, 0x8137,
			0x809b, 0x80f3, 1500, 1501}
		return join(be(2, pick(m, odd)), m.bytes(30))
	case 5, 6, 7, 8, 9:
		return join(be(2, 0x86dd), m.v6())
	}
	return join(be(2, 0x0800), m.v4())
}

func (m maker) whole() []byte {
	b := m.payload()
	if m.IntN(6) == 0 { // MPLS takes the place of the type
		if b = m.v4(); m.IntN(3) == 0 {
			b = m.v6()
		}
		label := func(bottom uint64) []byte { return be(4, pick(m, []uint64{16, 100, 1000})<<12|bottom<<8|64) }
		b = join(label(1), b)
		for range m.IntN(3) {
			b = join(label(0), b)
		}
		b = join(be(2, 0x8847), b)
	}
	for range max(0, m.IntN(5)-2) {
		b = join(be(2, pick(m, []uint64{0x8100, 0x8100, 0x88a8, 0x9100})), be(2, pick(m, []uint64{5, 7, 0x2005, 4095})), b)
	}
	return join(m.macs(), b)
}

// corpus makes n frames, of which about half are cut short or changed.
func corpus(seed uint64, n int) []captured {
	m := maker{rand.New(rand.NewPCG(seed, 1))}
	all := make([]captured, n)
	for i := range all {
		b := m.whole()
		c := captured{b, len(b)}
		switch m.IntN(4) {
		case 0:
			c.frame = b[:m.IntN(len(b)+1)]
			if m.IntN(2) == 0 {
				c.frame = b[:m.IntN(min(70, len(b)+1))]
			}
		case 1:
			for range 1 + m.IntN(3) {
				b[m.IntN(min(80, len(b)))] = byte(m.Uint32())
			}
		}
		if len(c.frame) == 0 { // a file cannot hold that
			c.frame = b[:1]
		}
		all[i] = c
	}
	return all
}

// pcap writes the frames as a file; their times are 0, 1, 2 … seconds.
func pcap(link int, frames []captured) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = le.AppendUint32(le.AppendUint64(b, 0), 262144)
	b = le.AppendUint32(b, uint32(link))
	for i, c := range frames {
		b = le.AppendUint32(le.AppendUint32(b, uint32(i)), 0)
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(c.frame))), uint32(c.wireLen))
		b = append(b, c.frame...)
	}
	return b
}
