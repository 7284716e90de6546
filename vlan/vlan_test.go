package vlan

import (
	"bytes"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// keeper keeps what it is sent.
type keeper struct{ all [][]byte }

func (k *keeper) Send(frames []*ether.Frame) (sent, n int) {
	for _, f := range frames {
		k.all = append(k.all, bytes.Clone(f.Bytes()))
		n += f.Len()
	}
	return len(frames), n
}

func (k *keeper) take(frames []ether.Frame) {
	for i := range frames {
		k.all = append(k.all, bytes.Clone(frames[i].Bytes()))
	}
}

func frame(n int, tags ...uint16) ether.Frame {
	b := packets.Packet{Tags: tags, Payload: packets.Data(n)}.Bytes()
	return ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
}

// Frames of the station have the tag behind it, in order; those of other VLANs do not come to it.
func TestAccess(t *testing.T) {
	var station, network keeper
	s := Spec{Access: 10}
	in, out := s.Tagging(network.take), s.Untagging(&station)
	var frames []ether.Frame
	var want [][]byte
	const many = 40 // of 30,000 bytes: more than there is room for at once
	for i := range many {
		frames = append(frames, frame(30_000+i))
		g := frame(30_000+i, 10)
		want = append(want, g.Bytes())
	}
	hop, runt := frame(7, 20), ether.Lend(make([]byte, ether.Headroom+5), ether.Offload{})
	frames, want = append(frames, hop, runt), append(want, hop.Bytes(), runt.Bytes())
	in(frames)
	if len(network.all) != len(want) {
		t.Fatalf("%d frames, want %d", len(network.all), len(want))
	}
	for i := range want {
		if !bytes.Equal(network.all[i], want[i]) {
			t.Fatalf("frame %d is not what it should be: %d bytes, want %d", i, len(network.all[i]), len(want[i]))
		}
	}

	var back []*ether.Frame
	for i := range many {
		f := frame(30_000+i, 10)
		back = append(back, &f)
	}
	other, none := frame(8, 20), frame(9)
	sent, n := out.Send(append(back, &other, &none))
	total := 0
	for i := range many {
		if total += frames[i].Len(); i >= len(station.all) || !bytes.Equal(station.all[i], frames[i].Bytes()) {
			t.Fatalf("frame %d is not what the station has sent", i)
		}
	}
	if one := s.Tag(frames[3]); !bytes.Equal(one.Bytes(), want[3]) {
		t.Errorf("one frame is %d bytes", one.Len())
	}
	if sent != many || n != total || len(station.all) != many {
		t.Errorf("%d frames of %d bytes, want %d of %d", sent, n, many, total)
	}
}
