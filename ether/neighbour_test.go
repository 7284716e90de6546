package ether

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

var (
	asker, asked = MAC{2, 0x42, 10, 50, 0, 2}, MAC{2, 0x42, 10, 50, 0, 66}
	toAll        = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	four, there4 = netip.MustParseAddr("10.50.0.2"), netip.MustParseAddr("10.50.0.66")
	six, there6  = netip.MustParseAddr("fd50::2"), netip.MustParseAddr("fd50::3:1234:5642")
)

func request() []byte       { return packets.ARP(toAll, asker, 1, four, MAC{}, there4) }
func solicitation6() []byte { return packets.Solicitation(asker, six, there6) }

// What is read as a question, and what is left to the stations themselves.
func TestReadQuestion(t *testing.T) {
	with := func(b []byte, change func(b []byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		return b
	}
	put := func(at int, what ...byte) func([]byte) { return func(b []byte) { copy(b[at:], what) } }
	sum := func(b []byte) []byte { // anew, so that the checksum is not the reason
		b = bytes.Clone(b)
		copy(b[56:], []byte{0, 0})
		s := ^Sum(b[54:], uint32(Sum(b[22:54], 32+58)))
		b[56], b[57] = byte(s>>8), byte(s)
		return b
	}
	tagged := func(b []byte) []byte {
		return bytes.Join([][]byte{b[:12], {0x81, 0, 0, 7}, b[12:]}, nil)
	}
	for _, tc := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"ARP", request(), true},
		{"ARP, padded", append(request(), make([]byte, 18)...), true},
		{"NS", solicitation6(), true},
		{"ARP probe", packets.ARP(toAll, asker, 1, netip.IPv4Unspecified(), MAC{}, there4), false},
		{"ARP announcement", packets.ARP(toAll, asker, 1, four, MAC{}, four), false},
		{"ARP to one station", packets.ARP(asked, asker, 1, four, MAC{}, there4), false},
		{"ARP response", packets.ARP(toAll, asker, 2, four, MAC{}, there4), false},
		{"ARP of another sender", with(request(), put(22, asked[:]...)), false},
		{"ARP for a group", packets.ARP(toAll, asker, 1, four, MAC{}, netip.MustParseAddr("224.0.0.1")), false},
		{"ARP of another hardware", with(request(), put(15, 6)), false},
		{"ARP with other lengths", with(request(), put(18, 8)), false},
		{"ARP for another protocol", with(request(), put(16, 0x86, 0xdd)), false},
		{"ARP with a tag", tagged(request()), false},
		{"ARP, cut", request()[:41], false},
		{"ARP, longer than padding", append(request(), make([]byte, 19)...), false},
		{"DAD", packets.Solicitation(asker, netip.IPv6Unspecified(), there6), false},
		{"NS for itself", packets.Solicitation(asker, there6, there6), false},
		{"unsolicited NA", packets.Advertisement(MAC{0x33, 0x33, 0, 0, 0, 1}, asker, 0x20, six, netip.MustParseAddr("ff02::1")), false},
		{"NS to one station", with(solicitation6(), put(0, asked[:]...)), false},
		{"NS to another group's MAC", with(solicitation6(), put(5, 9)), false},
		{"NS to another group", sum(with(solicitation6(), put(53, 9))), false},
		{"NS with a checksum that is wrong", with(solicitation6(), put(56, 1, 2)), false},
		{"NS of another sender", sum(with(solicitation6(), put(80, asked[:]...))), false},
		{"NS from afar", with(solicitation6(), put(21, 254)), false},
		{"NS with another option", sum(with(solicitation6(), put(78, 14))), false},
		{"NS with a code", sum(with(solicitation6(), put(55, 1))), false},
		{"NS with another length", with(solicitation6(), put(19, 24)), false},
		{"NS with a tag", tagged(solicitation6()), false},
		{"NS, cut", solicitation6()[:85], false},
		{"IPv4", with(request(), put(12, 8, 0)), false},
		{"nothing", nil, false},
	} {
		f := lend(tc.b, Offload{})
		q, ok := ReadQuestion(&f)
		if ok != tc.ok {
			t.Errorf("%s: %v", tc.name, ok)
		}
		want := Question{four, there4, asker}
		if len(tc.b) == NeighbourLen {
			want = Question{six, there6, asker}
		}
		if ok && q != want {
			t.Errorf("%s: %+v", tc.name, q)
		}
	}
	f := lend(request(), Offload{PartialChecksum: true})
	if _, ok := ReadQuestion(&f); ok {
		t.Error("a partial checksum")
	}
}

// The answers are those that gopacket writes, and no memory is allocated for them.
func TestAnswer(t *testing.T) {
	for _, tc := range []struct{ question, want []byte }{
		{request(), packets.ARP(asker, asked, 2, there4, asker, four)},
		{solicitation6(), packets.Advertisement(asker, asked, 0x40, there6, six)},
	} {
		f := lend(tc.question, Offload{})
		q, _ := ReadQuestion(&f)
		if got := q.AppendAnswer(nil, asked); !bytes.Equal(got, tc.want) || q.AnswerLen() != len(got) {
			t.Errorf("got %x, want %x", got, tc.want)
		}
		room := make([]byte, 0, NeighbourLen)
		if n := testing.AllocsPerRun(100, func() {
			q, _ := ReadQuestion(&f)
			q.AppendAnswer(room, asked)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// Whatever a frame has: it is no question, or one whose answer goes to its sender.
func FuzzReadQuestion(f *testing.F) {
	f.Add(request())
	f.Add(solicitation6())
	f.Add(solicitation6()[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		g := lend(b, Offload{})
		q, ok := ReadQuestion(&g)
		if !ok {
			return
		}
		if q.MAC != g.Src() || q.Sender.Is4() != q.Target.Is4() || q.Sender == q.Target || !g.Dst().Group() {
			t.Errorf("%+v of %x", q, b)
		}
		a := lend(q.AppendAnswer(nil, asked), Offload{})
		if a.Dst() != q.MAC || a.Src() != asked || a.Check() != nil || a.Len() != q.AnswerLen() {
			t.Errorf("answer %x", a.Bytes())
		}
		if _, ok := ReadQuestion(&a); ok {
			t.Error("an answer is a question")
		}
	})
}
