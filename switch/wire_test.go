package vswitch

import (
	"encoding/binary"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
)

// mac is the i-th station's address, as Docker makes it of 10.…
func mac(i int) ether.MAC { return ether.MAC{2, 0x42, 10, byte(i >> 16), byte(i >> 8), byte(i)} }

// frame is an ordinary frame of 64 bytes that carries a number.
func frame(src, dst ether.MAC, number int) ether.Frame { return sized(src, dst, number, 64) }

func sized(src, dst ether.MAC, number, length int) ether.Frame {
	room := make([]byte, ether.Headroom+length)
	b := room[ether.Headroom:]
	copy(b, dst[:])
	copy(b[6:], src[:])
	b[12], b[13] = 0x88, 0xb5 // for experiments, IEEE 802
	binary.BigEndian.PutUint32(b[14:], uint32(number))
	return ether.Lend(room, ether.Offload{})
}

// super is a TCP super-frame of IPv4, with n bytes of payload in segments of size bytes.
func super(src, dst ether.MAC, n, size int) ether.Frame {
	p := packets.Packet{SrcMAC: src, DstMAC: dst, Payload: make([]byte, n)}
	return ether.Lend(append(make([]byte, ether.Headroom), p.Partial()...),
		ether.Offload{Kind: ether.TCP4, Segment: uint16(size), PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16})
}

// wire is a Sender that remembers the numbers of the frames it was given.
type wire struct {
	numbers []int
	calls   int
	refuse  int // this many of every call, from its end
}

func (w *wire) Send(frames []*ether.Frame) (sent, bytes int) {
	w.calls++
	for i, f := range frames {
		number := 0 // of a frame too short for one
		if f.Len() >= 18 {
			number = int(binary.BigEndian.Uint32(f.Bytes()[14:]))
		}
		w.numbers = append(w.numbers, number)
		if i < len(frames)-w.refuse {
			sent++
			bytes += f.Len()
		}
	}
	return sent, bytes
}

// taken gives what has been sent since it was last asked.
func (w *wire) taken() []int {
	n := w.numbers
	w.numbers = nil
	return n
}

func attach(s *Switch, name string, uplink bool) (*Port, *wire) {
	w := &wire{}
	return s.Attach(name, w, uplink, plenty), w
}
