package ether

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/test/packets"
)

// A packet is what a test wants to see on the wire.
type packet packets.Packet

var vlans = []uint16{100, 101}

var (
	macA = MAC{2, 0x42, 10, 77, 0, 2}
	macB = MAC{2, 0x42, 10, 77, 0, 3}
)

// frame is the frame with its checksum complete.
func (p packet) frame(testing.TB) Frame {
	p.Label = 0xabcde
	return lend(packets.Packet(p).Bytes(), Offload{})
}

// super is the super-frame with segments of the given size, as a container's kernel leaves it.
func (p packet) super(t testing.TB, segment int) Frame {
	t.Helper()
	f := p.frame(t)
	b := f.Bytes()
	l, ok := dissect(b)
	if !ok {
		t.Fatal("not a TCP or UDP packet")
	}
	field := b[l.l4+l.checksumOffset():]
	binary.BigEndian.PutUint16(field, slowPseudo(b, l, len(b)-l.l4))
	f.Off = Offload{Kind: l.kind, PartialChecksum: true, Head: uint16(l.head), Segment: uint16(segment),
		ChecksumStart: uint16(l.l4), ChecksumOffset: uint16(l.checksumOffset())}
	return f
}

// lend copies b behind fresh headroom.
func lend(b []byte, off Offload) Frame {
	return Lend(append(make([]byte, Headroom), b...), off)
}

var timestamps = []layers.TCPOption{
	{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
	{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0, 0, 1, 2, 0, 0, 3, 4}},
}

// stream is a segment in the middle of a TCP connection.
func stream(payload int) packet {
	return packet{ID: 0xfffe, DF: true, Payload: packets.Data(payload),
		TCP: layers.TCP{Seq: 0xfffffff0, Ack: 77, ACK: true, Window: 501, Options: timestamps}}
}

// zeroSum is a datagram whose checksum comes out as zero, which UDP must send as 0xffff.
func zeroSum(t testing.TB) packet {
	p := packet{UDP: true, Payload: packets.Data(100)}
	f := p.frame(t)
	b := f.Bytes() // what is missing is added to the first word of the payload
	word := packets.Sum(b[40:42], uint32(binary.BigEndian.Uint16(b[42:])))
	binary.BigEndian.PutUint16(p.Payload, word)
	return p
}

// cutAll is every segment of f as a frame of its own.
func cutAll(t testing.TB, f *Frame) []Frame {
	t.Helper()
	before := bytes.Clone(f.Bytes())
	var (
		c      Cutter
		head   [MaxHead]byte
		frames []Frame
	)
	for c.Reset(f); ; {
		n, payload, ok := c.Next(head[:])
		if !ok {
			break
		}
		frames = append(frames, lend(append(bytes.Clone(head[:n]), payload...), Offload{}))
	}
	if !bytes.Equal(before, f.Bytes()) {
		t.Error("the super-frame was changed by cutting it")
	}
	return frames
}

// joined is the joiner's run as a frame.
func joined(j *Joiner) Frame {
	return lend(append(bytes.Clone(j.Head()), bytes.Join(j.Payloads(), nil)...), j.Off())
}

func slowPseudo(b []byte, l headers, length int) uint16 {
	addresses := b[l.ip+12 : l.ip+20]
	if l.v6 {
		addresses = b[l.ip+8 : l.ip+40]
	}
	sum := uint32(6)
	if l.kind == UDP {
		sum = 17
	}
	return packets.Sum(addresses, sum+uint32(length))
}
