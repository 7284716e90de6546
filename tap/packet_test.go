package tap

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A packet is one TCP segment or datagram of one flow; gopacket writes it.
type packet struct {
	v6, udp bool
	id      uint16
	seq     uint32
	payload []byte
}

func tcp(n int) packet { return packet{payload: data(n)} }

// data is n bytes, no two neighbours alike.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// frame is the finished frame.
func (p packet) frame(t testing.TB) ether.Frame {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0x42, 10, 77, 0, 2}, DstMAC: net.HardwareAddr{2, 0x42, 10, 77, 0, 3}, EthernetType: layers.EthernetTypeIPv4}
	proto := layers.IPProtocolTCP
	if p.udp {
		proto = layers.IPProtocolUDP
	}
	stack := []gopacket.SerializableLayer{eth}
	var network gopacket.NetworkLayer
	if p.v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP("fd00::2"), DstIP: net.ParseIP("fd00::3")}
		network, stack = ip, append(stack, ip)
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: p.id, Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: net.IP{10, 77, 0, 2}, DstIP: net.IP{10, 77, 0, 3}}
		network, stack = ip, append(stack, ip)
	}
	if p.udp {
		udp := &layers.UDP{SrcPort: 4433, DstPort: 51820}
		testhost.Must(t, udp.SetNetworkLayerForChecksum(network))
		stack = append(stack, udp)
	} else {
		tcp := &layers.TCP{SrcPort: 4433, DstPort: 51820, Seq: p.seq, Ack: 77, ACK: true, Window: 501}
		testhost.Must(t, tcp.SetNetworkLayerForChecksum(network))
		stack = append(stack, tcp)
	}
	buf := gopacket.NewSerializeBuffer()
	testhost.Must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, gopacket.Payload(p.payload))...))
	return ether.Lend(append(make([]byte, ether.Headroom), buf.Bytes()...), ether.Offload{})
}

// layout is where the transport header begins, where the payload does, and where in the transport header the checksum is.
func (p packet) layout() (l4, head, sum int) {
	l4 = ether.HeaderLen + 20
	if p.v6 {
		l4 = ether.HeaderLen + 40
	}
	if p.udp {
		return l4, l4 + 8, 6
	}
	return l4, l4 + 20, 16
}

// super is the super-frame of segments of the given size, as a container's kernel leaves it.
func (p packet) super(t testing.TB, segment int) ether.Frame {
	t.Helper()
	f := p.frame(t)
	l4, head, sum := p.layout()
	b := f.Bytes()
	// What is left in the field is the pseudo-header's sum: the whole's less the transport part's.
	field := b[l4+sum:]
	binary.BigEndian.PutUint16(field, 0)
	addresses, proto := b[26:34], uint32(6)
	if p.v6 {
		addresses = b[22:54]
	}
	f.Off = ether.Offload{Kind: ether.TCP4, PartialChecksum: true, Head: uint16(head), Segment: uint16(segment), ChecksumStart: uint16(l4), ChecksumOffset: uint16(sum)}
	switch {
	case p.udp:
		f.Off.Kind, proto = ether.UDP, 17
	case p.v6:
		f.Off.Kind = ether.TCP6
	}
	binary.BigEndian.PutUint16(field, ether.Sum(addresses, proto+uint32(head-l4+len(p.payload))))
	return f
}

// train is the frames that a super-frame of p would be cut into.
func (p packet) train(t testing.TB, segment int) []*ether.Frame {
	t.Helper()
	var frames []*ether.Frame
	for at := 0; at < len(p.payload); at += segment {
		q := p
		q.payload = p.payload[at:min(at+segment, len(p.payload))]
		q.seq, q.id = p.seq+uint32(at), p.id+uint16(at/segment)
		f := q.frame(t)
		frames = append(frames, &f)
	}
	return frames
}

// cut is the frames of a super-frame, or the frame itself.
func cut(f *ether.Frame) (frames [][]byte) {
	if f.Off.Kind == ether.None {
		return [][]byte{f.Bytes()}
	}
	var c ether.Cutter
	var head [ether.MaxHead]byte
	for c.Reset(f); ; {
		n, payload, ok := c.Next(head[:])
		if !ok {
			return frames
		}
		frames = append(frames, append(bytes.Clone(head[:n]), payload...))
	}
}

// sumsRight is gopacket's opinion of a finished frame's checksum.
func sumsRight(t testing.TB, frame []byte) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	network := p.NetworkLayer()
	if network == nil || p.TransportLayer() == nil {
		t.Fatalf("gopacket reads %v", p)
	}
	var want, got uint16
	buf := gopacket.NewSerializeBuffer()
	payload := gopacket.Payload(p.TransportLayer().LayerPayload())
	opts := gopacket.SerializeOptions{ComputeChecksums: true}
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		got = l.Checksum
		testhost.Must(t, l.SetNetworkLayerForChecksum(network))
		testhost.Must(t, gopacket.SerializeLayers(buf, opts, l, payload))
		want = l.Checksum
	case *layers.UDP:
		got = l.Checksum
		testhost.Must(t, l.SetNetworkLayerForChecksum(network))
		testhost.Must(t, gopacket.SerializeLayers(buf, opts, l, payload))
		want = l.Checksum
	}
	if got != want {
		t.Fatalf("checksum %#x, gopacket makes it %#x", got, want)
	}
}
