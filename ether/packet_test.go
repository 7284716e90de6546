package ether

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// A packet is what a test wants to see on the wire; gopacket writes it.
type packet struct {
	v6, udp bool
	tags    int
	id      uint16
	df      bool
	tcp     layers.TCP // Seq, Ack, flags, Window, Options; ports are always the same
	hop     []byte     // an IPv6 hop-by-hop header's options, padded to 6 + n*8 bytes
	payload []byte
}

var (
	macA = MAC{2, 0x42, 10, 77, 0, 2}
	macB = MAC{2, 0x42, 10, 77, 0, 3}
)

// frame is the finished frame.
func (p packet) frame(t testing.TB) Frame {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: macA[:], DstMAC: macB[:], EthernetType: layers.EthernetTypeIPv4}
	stack := []gopacket.SerializableLayer{eth}
	proto := layers.IPProtocolTCP
	if p.udp {
		proto = layers.IPProtocolUDP
	}
	typ := layers.EthernetTypeIPv4
	if p.v6 {
		typ = layers.EthernetTypeIPv6
	}
	eth.EthernetType = typ
	for i := range p.tags {
		eth.EthernetType = layers.EthernetTypeDot1Q
		tag := &layers.Dot1Q{VLANIdentifier: uint16(100 + i), Type: layers.EthernetTypeDot1Q}
		if i == p.tags-1 {
			tag.Type = typ
		}
		stack = append(stack, tag)
	}
	var network gopacket.NetworkLayer
	if p.v6 {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, FlowLabel: 0xabcde, NextHeader: proto,
			SrcIP: net.ParseIP("fd00::2"), DstIP: net.ParseIP("fd00::3")}
		network = ip
		stack = append(stack, ip)
		if p.hop != nil {
			ip.NextHeader = layers.IPProtocolIPv6HopByHop
			ext := append([]byte{byte(proto), byte((len(p.hop)+2)/8 - 1)}, p.hop...)
			stack = append(stack, gopacket.Payload(ext))
		}
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: p.id, Protocol: proto,
			SrcIP: net.IP{10, 77, 0, 2}, DstIP: net.IP{10, 77, 0, 3}}
		if p.df {
			ip.Flags = layers.IPv4DontFragment
		}
		network = ip
		stack = append(stack, ip)
	}
	if p.udp {
		udp := &layers.UDP{SrcPort: 4433, DstPort: 51820}
		udp.SetNetworkLayerForChecksum(network)
		stack = append(stack, udp)
	} else {
		tcp := p.tcp
		tcp.SrcPort, tcp.DstPort = 4433, 51820
		tcp.SetNetworkLayerForChecksum(network)
		stack = append(stack, &tcp)
	}
	stack = append(stack, gopacket.Payload(p.payload))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return lend(buf.Bytes(), Offload{})
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

// data is n bytes of payload, no two neighbours alike.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

var timestamps = []layers.TCPOption{
	{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
	{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0, 0, 1, 2, 0, 0, 3, 4}},
}

// stream is a segment in the middle of a TCP connection.
func stream(payload int) packet {
	return packet{id: 0xfffe, df: true, payload: data(payload),
		tcp: layers.TCP{Seq: 0xfffffff0, Ack: 77, ACK: true, Window: 501, Options: timestamps}}
}

// zeroSum is a datagram whose checksum comes out as zero, which UDP must send as 0xffff.
func zeroSum(t testing.TB) packet {
	p := packet{udp: true, payload: data(100)}
	f := p.frame(t)
	b := f.Bytes() // what is missing is added to the first word of the payload
	word := slowSum(b[40:42], uint32(binary.BigEndian.Uint16(b[42:])))
	binary.BigEndian.PutUint16(p.payload, word)
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

// slowSum is RFC 1071 to the letter.
func slowSum(b []byte, sum uint32) uint16 {
	for i := range b {
		word := uint32(b[i])
		if i%2 == 0 {
			word <<= 8
		}
		sum += word
		if sum > 0xffff {
			sum = sum&0xffff + sum>>16
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
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
	return slowSum(addresses, sum+uint32(length))
}
