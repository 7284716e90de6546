package ether

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

func maxSegment(mss uint16) layers.TCPOption {
	return layers.TCPOption{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{byte(mss >> 8), byte(mss)}}
}

var nop = layers.TCPOption{OptionType: layers.TCPOptionKindNop}

// opening is a SYN with these options.
func opening(options ...layers.TCPOption) packets.Packet {
	p := packets.Packet{DF: true, TCP: packets.Flags(0x02)}
	p.TCP.Seq, p.TCP.Options = 0xfedcba98, options
	return p
}

// rawOpening is a SYN whose options are these bytes.
func rawOpening(options ...byte) []byte {
	b := opening(timestamps...).Bytes() // 12 bytes of options
	return append(b[:54], append(options, make([]byte, 12-len(options))...)...)
}

// openings are SYNs with an option that can be changed. what makes them with an MSS.
func openings() map[string]func(mss uint16) packets.Packet {
	all := make(map[string]func(uint16) packets.Packet)
	for name, how := range map[string]func(*packets.Packet){
		"IPv4": func(*packets.Packet) {}, "IPv6": func(p *packets.Packet) { p.V6 = true },
		"IPv4, tag": func(p *packets.Packet) { p.Tags = vlans[:1] }, "IPv6, two tags": func(p *packets.Packet) { p.V6, p.Tags = true, vlans },
		"SYN+ACK": func(p *packets.Packet) { p.TCP.ACK = true }, "ECN": func(p *packets.Packet) { p.TCP.ECE, p.TCP.CWR = true, true },
		"behind a hop-by-hop header": func(p *packets.Packet) { p.V6, p.Hop = true, []byte{5, 2, 0, 0, 1, 0} },
		"with data":                  func(p *packets.Packet) { p.Payload = packets.Data(101) },
	} {
		for place, options := range map[string]func(o layers.TCPOption) []layers.TCPOption{
			"": func(o layers.TCPOption) []layers.TCPOption { return []layers.TCPOption{o} },
			", as Linux": func(o layers.TCPOption) []layers.TCPOption {
				return append([]layers.TCPOption{o}, timestamps...)
			},
			", at an odd place": func(o layers.TCPOption) []layers.TCPOption { return []layers.TCPOption{nop, o} },
			", last":            func(o layers.TCPOption) []layers.TCPOption { return append(slices.Clone(timestamps), o) },
		} {
			all[name+place] = func(mss uint16) packets.Packet {
				p := opening(options(maxSegment(mss))...)
				how(&p)
				return p
			}
		}
	}
	return all
}

// A changed option leaves a frame as if it had been sent so, with a complete checksum or a partial one, and the lent frame as it was.
func TestAppendMSS(t *testing.T) {
	for name, of := range openings() {
		p := of(1460)
		l4, _ := p.Layout()
		headers := 40
		if p.V6 {
			headers = 60
		}
		partial := Offload{PartialChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: tcpSum}
		for _, mss := range []uint16{1, 536, 1360, 1459, 0xffff} {
			other := of(mss)
			for _, c := range []struct {
				f    Frame
				want []byte
			}{{lend(p.Bytes(), Offload{}), other.Bytes()}, {lend(p.Partial(), partial), other.Partial()}} {
				f := c.f
				if err := f.Check(); err != nil || !f.IsSYN() {
					t.Fatalf("%s: %v, SYN %t", name, err, f.IsSYN())
				}
				if got, n := f.MSS(); got != 1460 || n != headers {
					t.Fatalf("%s: MSS %d with headers of %d bytes", name, got, n)
				}
				before := bytes.Clone(f.WithHeadroom())
				g, rest := f.AppendMSS([]byte("before"), mss)
				if !bytes.Equal(g.Bytes(), c.want) || g.Off != f.Off || len(rest) != 6+len(before) || string(rest[:6]) != "before" {
					t.Errorf("%s, %d, %+v:\n%x, want\n%x", name, mss, f.Off, g.Bytes(), c.want)
				}
				if !bytes.Equal(before, f.WithHeadroom()) {
					t.Errorf("%s: the lent frame was changed", name)
				}
			}
		}
	}
}

// The checksum is right whatever it was, and is that of who adds all up: never 0xffff, which is 0 as well.
func TestMSSChecksum(t *testing.T) {
	for _, p := range []packets.Packet{opening(maxSegment(0xffff)), opening(nop, maxSegment(0x1234))} {
		f := lend(p.Bytes(), Offload{})
		b := f.Bytes()
		field, window := b[34+tcpSum:], b[34+14:]
		var room []byte
		seen := make(map[uint16]bool)
		for w := range 1 << 16 {
			binary.BigEndian.PutUint16(window, uint16(w))
			binary.BigEndian.PutUint16(field, 0)
			sum := ^packets.Sum(b[34:], uint32(packets.Sum(b[26:34], uint32(6+len(b)-34))))
			binary.BigEndian.PutUint16(field, sum)
			g, _ := f.AppendMSS(room[:0], uint16(w*7+1))
			room = g.WithHeadroom()
			c := g.Bytes()
			got := binary.BigEndian.Uint16(c[34+tcpSum:])
			binary.BigEndian.PutUint16(c[34+tcpSum:], 0)
			if want := ^packets.Sum(c[34:], uint32(packets.Sum(c[26:34], uint32(6+len(c)-34)))); got != want {
				t.Fatalf("window %#x: checksum %#x, want %#x; it was %#x", w, got, want, sum)
			}
			seen[got] = true
		}
		if len(seen) < 1<<14 {
			t.Errorf("%d checksums only", len(seen))
		}
	}
}

// What is no SYN with an option that can be changed has no MSS.
func TestNoMSS(t *testing.T) {
	flags := func(f byte) []byte {
		p := opening(maxSegment(1460))
		p.TCP = packets.Flags(f)
		p.TCP.Options = []layers.TCPOption{maxSegment(1460)}
		return p.Bytes()
	}
	at := func(b []byte, i int, v byte) []byte { b[i] = v; return b }
	syn := opening(maxSegment(1460)).Bytes
	six := opening(maxSegment(1460))
	six.V6 = true
	for name, b := range map[string][]byte{
		"an ACK": flags(0x10), "a FIN": flags(0x11), "RST": flags(0x04), "SYN and RST": flags(0x06),
		"UDP":             packets.Packet{UDP: true, Payload: packets.Data(40)}.Bytes(),
		"no option":       opening().Bytes(),
		"others":          opening(timestamps...).Bytes(),
		"behind the end":  rawOpening(0, 2, 4, 5, 0xb4),
		"length 0":        rawOpening(3, 0, 2, 4, 5, 0xb4),
		"length 1":        rawOpening(3, 1, 2, 4, 5, 0xb4),
		"over the end":    rawOpening(3, 13, 2, 4, 5, 0xb4),
		"too long an MSS": rawOpening(2, 5, 5, 0xb4, 0),
		"short MSS":       rawOpening(2, 3, 5, 2, 4, 5, 0xb4),
		"MSS at the end":  rawOpening(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4),
		"kind at the end": rawOpening(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2),
		"a first part":    at(syn(), 20, 0x20), "a later part": at(syn(), 21, 1),
		"cut in the option":      syn()[:56],
		"a header of 16 bytes":   at(syn(), 46, 4<<4),
		"a header over the end":  at(syn(), 46, 15<<4),
		"IP ends before":         at(syn(), 17, 40),
		"IPv6 ends before":       at(six.Bytes(), 19, 20),
		"a fragment of IPv6":     packets.Extended(six.Bytes(), protoFragment, []byte{0, 0, 0, 1, 0, 0, 0, 1}),
		"an unfinished route":    packets.Extended(six.Bytes(), protoRouting, []byte{0, 0, 0, 1, 0, 0, 0, 0}),
		"an unknown header":      packets.Extended(six.Bytes(), 200, make([]byte, 8)),
		"a header and no more":   syn()[:14],
		"of another EtherType":   at(syn(), 13, 6),
		"version 6 in IPv4":      at(syn(), 14, 0x65),
		"IPv4 options over that": at(syn(), 14, 0x4f),
	} {
		f := lend(b, Offload{})
		if mss, _ := f.MSS(); mss != 0 {
			t.Errorf("%s: MSS %d", name, mss)
		}
	}
	for name, off := range map[string]Offload{
		"a checksum elsewhere": {PartialChecksum: true, ChecksumStart: 38, ChecksumOffset: 12},
		"as of UDP":            {PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6},
		"a super-frame":        {Kind: TCP4, Segment: 20},
	} {
		p := opening(maxSegment(1460))
		p.Payload = packets.Data(40)
		f := lend(p.Bytes(), off)
		if err := f.Check(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if mss, _ := f.MSS(); mss != 0 {
			t.Errorf("%s: MSS %d", name, mss)
		}
	}
}

// Whatever bytes: who has an MSS is a SYN, and a changed one differs in its value and its checksum only, with a sum that is as right as before.
func FuzzMSS(f *testing.F) {
	for _, of := range openings() {
		f.Add(of(1460).Bytes(), false, uint16(0), uint16(1300))
		f.Add(of(1460).Partial(), true, uint16(34), uint16(1300))
	}
	for _, b := range [][]byte{rawOpening(3, 0), rawOpening(2, 5), rawOpening(1, 1, 1, 2, 4, 1, 1), rawOpening(0xff, 0xff)} {
		f.Add(b, false, uint16(0), uint16(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, partial bool, start, mss uint16) {
		off := Offload{PartialChecksum: partial, ChecksumStart: start, ChecksumOffset: tcpSum}
		fr := lend(b, off)
		syn := fr.IsSYN()
		if fr.Check() != nil {
			return
		}
		was, headers := fr.MSS()
		if was == 0 {
			return
		}
		l, _ := dissect(b)
		if !syn || headers != l.ipLen()+tcpLen {
			t.Errorf("MSS %d, headers %d, SYN %t", was, headers, syn)
		}
		g, _ := fr.AppendMSS(nil, mss)
		if !bytes.Equal(b, fr.Bytes()) {
			t.Fatal("the lent frame was changed")
		}
		if got, _ := g.MSS(); got != int(mss) || g.Off != fr.Off {
			t.Errorf("MSS %d, want %d; %+v, was %+v", got, mss, g.Off, fr.Off)
		}
		sum := func(b []byte) uint16 { return packets.Sum(b[l.l4:], 0) % 0xffff } // 0 and 0xffff are both zero
		if !partial && sum(b) != sum(g.Bytes()) {
			t.Errorf("sum %#x, was %#x", sum(g.Bytes()), sum(b))
		}
		for i, x := range g.Bytes() {
			if option := i >= l.l4+tcpLen && i < l.head; x != b[i] && !option && (partial || i != l.l4+tcpSum && i != l.l4+tcpSum+1) {
				t.Errorf("byte %d was changed", i)
			}
		}
	})
}
