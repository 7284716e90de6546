package packets

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var timestamps = []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}

// The payload is where HeadLen says, the checksum is where Layout says, and with the partial checksum completed the frame equals Bytes.
func TestPacket(t *testing.T) {
	for name, p := range map[string]Packet{
		"TCP": {TCP: Flags(0x10)}, "UDP": {UDP: true, Tags: []uint16{5}}, "TCP options": {V6: true, TCP: layers.TCP{Options: timestamps}},
		"UDP behind options": {V6: true, UDP: true, Hop: []byte{1, 4, 0, 0, 0, 0}, Tags: []uint16{5, 6}},
	} {
		for _, n := range []int{0, 1, 1000} {
			p.Payload = Data(n)
			b, open := p.Bytes(), p.Partial()
			l4, checksum := p.Layout()
			if !bytes.Equal(b[p.HeadLen():], p.Payload) || len(open) != len(b) {
				t.Errorf("%s: %d bytes, of which %d are headers and %d payload", name, len(b), p.HeadLen(), n)
			}
			sum := ^Sum(open[l4:], 0)
			open[checksum], open[checksum+1] = byte(sum>>8), byte(sum)
			if !bytes.Equal(open, b) {
				t.Errorf("%s: completed\n%x, want\n%x", name, open, b)
			}
			got := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
			if got.ErrorLayer() != nil || got.TransportLayer() == nil {
				t.Errorf("%s: gopacket reads %s", name, got)
			}
		}
	}
}

// Segments have all of the payload, in order.
func TestSegments(t *testing.T) {
	p := Packet{ID: 7, TCP: layers.TCP{Seq: 100}, Payload: Data(2500)}
	var payload []byte
	for i, q := range p.Segments(1000) {
		if q.ID != uint16(7+i) || q.TCP.Seq != uint32(100+len(payload)) {
			t.Errorf("segment %d: id %d, seq %d", i, q.ID, q.TCP.Seq)
		}
		payload = append(payload, q.Payload...)
	}
	if !bytes.Equal(payload, p.Payload) {
		t.Errorf("%d bytes, want %d", len(payload), len(p.Payload))
	}
}
