package tap

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A packet is one TCP segment or datagram of one flow.
type packet packets.Packet

func tcp(n int) packet { return packet{Payload: packets.Data(n)} }

// whole is the packet with what all of a connection's have in common.
func (p packet) whole() packets.Packet {
	p.DF, p.TCP.Ack, p.TCP.ACK, p.TCP.Window = true, 77, true, 501
	return packets.Packet(p)
}

func lend(b []byte) ether.Frame {
	return ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
}

// frame is the frame with its checksum complete.
func (p packet) frame(testing.TB) ether.Frame { return lend(p.whole().Bytes()) }

// super is the super-frame of segments of the given size, as a container's kernel leaves it.
func (p packet) super(_ testing.TB, segment int) ether.Frame {
	whole := p.whole()
	f := lend(whole.Partial())
	l4, checksum := whole.Layout()
	f.Off = ether.Offload{Kind: kindOf(p), PartialChecksum: true, Head: uint16(whole.HeadLen()), Segment: uint16(segment), ChecksumStart: uint16(l4), ChecksumOffset: uint16(checksum - l4)}
	return f
}

// train is the frames that a super-frame of p would be cut into.
func (p packet) train(_ testing.TB, segment int) (frames []*ether.Frame) {
	for _, q := range p.whole().Segments(segment) {
		f := lend(q.Bytes())
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
