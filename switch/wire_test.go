package vswitch

import (
	"encoding/binary"
	"net/netip"

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

// numberOf is the number that a frame carries; 0 if it is too short for one.
func numberOf(f *ether.Frame) int {
	if f.Len() < 18 {
		return 0
	}
	return int(binary.BigEndian.Uint32(f.Bytes()[14:]))
}

// ip is the i-th station's IP address.
func ip(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }

// question is station src's ARP request for the MAC of station dst.
func question(src, dst int) ether.Frame {
	b := packets.ARP(broadcast, mac(src), 1, ip(src), ether.MAC{}, ip(dst))
	return ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})
}

// questionNumber is what stands where other frames have their number in questions by ARP, and in their answers.
const questionNumber = 0x00010800

// book are Answers.
type book map[netip.Addr]told

type told struct {
	mac  ether.MAC
	port *Port
}

func (b book) Station(a netip.Addr) (ether.MAC, *Port) { return b[a].mac, b[a].port }

// wire is a Sender that remembers the numbers of the frames it was given.
type wire struct {
	numbers []int
	calls   int
	refuse  int // this many of every call, from its end
}

func (w *wire) Send(frames []*ether.Frame) (sent, bytes int) {
	w.calls++
	for i, f := range frames {
		w.numbers = append(w.numbers, numberOf(f))
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
