package fault

import (
	"encoding/binary"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

// numbered is an ordinary frame of length bytes that carries a number.
func numbered(n, length int) ether.Frame {
	room := make([]byte, ether.Headroom+length)
	b := room[ether.Headroom:]
	b[5], b[11], b[12], b[13] = 2, 1, 0x88, 0xb5
	binary.BigEndian.PutUint32(b[ether.HeaderLen:], uint32(n))
	return ether.Lend(room, ether.Offload{})
}

func number(f *ether.Frame) int {
	return int(binary.BigEndian.Uint32(f.Bytes()[ether.HeaderLen:]))
}

const tcpHead = ether.HeaderLen + 20 + 20

// tcp is an IPv4 TCP frame with payload bytes and a partial checksum; more than segment bytes make it a
// super-frame.
func tcp(payload, segment int) ether.Frame {
	b := packets.Packet{TCP: packets.Flags(0x10), Payload: packets.Data(payload)}.Partial()
	off := ether.Offload{PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}
	if payload > segment {
		off.Kind, off.Segment = ether.TCP4, uint16(segment)
	}
	return ether.Lend(append(make([]byte, ether.Headroom), b...), off)
}

// pseudo is the sum of the pseudo-header (RFC 9293 §3.1).
func pseudo(b []byte) uint16 { return ether.Sum(b[26:34], uint32(6+len(b)-34)) }

// right tells whether a TCP frame's checksums are right.
func right(f *ether.Frame) bool {
	b := f.Bytes()
	return ether.Sum(b[14:34], 0) == 0xffff && ether.Sum(b[34:], uint32(pseudo(b))) == 0xffff
}

// output collects what an injector sends on.
type output struct {
	frames []ether.Frame // copies
}

func (s *output) take(frames []ether.Frame) {
	for i := range frames {
		f := ether.Lend(append([]byte(nil), frames[i].WithHeadroom()...), frames[i].Off)
		f.Fault = frames[i].Fault
		s.frames = append(s.frames, f)
	}
}

// with returns how many frames have all of these marks.
func (s *output) with(mark ether.Fault) (n int) {
	for i := range s.frames {
		if s.frames[i].Fault&mark == mark {
			n++
		}
	}
	return n
}

// passed are the numbers of the frames that were not lost, in the order in which they came out.
func (s *output) passed() (all []int) {
	for i := range s.frames {
		if s.frames[i].Fault&ether.FaultLost == 0 {
			all = append(all, number(&s.frames[i]))
		}
	}
	return all
}

func lost(s *output) []int {
	var all []int
	for i := range s.frames {
		if s.frames[i].Fault&ether.FaultLost != 0 {
			all = append(all, number(&s.frames[i]))
		}
	}
	return all
}

// checked makes an injector of a valid spec, and checks its counters when the test ends.
func checked(t testing.TB, spec Spec, out func([]ether.Frame)) *Injector {
	t.Helper()
	if err := spec.Check(); err != nil {
		t.Fatal(err)
	}
	g := New(spec, out)
	t.Cleanup(func() {
		balance(t, g)
		g.Close()
		balance(t, g)
	})
	return g
}

func balance(t testing.TB, g *Injector) {
	t.Helper()
	s := g.Stats()
	if s.Frames+s.Duplicated != s.Passed+s.Lost+s.OverRate+s.Overflow+uint64(s.Waiting) {
		t.Errorf("the counters do not add up: %+v", s)
	}
	if (s.Waiting == 0) != (s.WaitingBytes == 0) || s.WaitingBytes > maxWaiting {
		t.Errorf("%d frames wait with %d bytes", s.Waiting, s.WaitingBytes)
	}
}

// feed gives an injector n numbered frames, one a call.
func feed(g *Injector, n int) {
	for i := range n {
		g.Process([]ether.Frame{numbered(i, 60)})
	}
}
