package pcapng

import (
	"bytes"
	"encoding/hex"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// fileWriter is what both writers can do.
type fileWriter interface {
	AddInterface(*Interface) (int, error)
	Names(Names) error
	WritePacket(*Packet) error
	Statistics(*Stats) error
	Flush() error
	Size() int64
}

var _, _ fileWriter = (*Writer)(nil), (*PcapWriter)(nil)

// put writes blocks as Next returns them.
func put(t testing.TB, w fileWriter, blocks ...Block) {
	t.Helper()
	for _, b := range blocks {
		var err error
		switch b := b.(type) {
		case *Interface:
			_, err = w.AddInterface(b)
		case *Packet:
			err = w.WritePacket(b)
		case Names:
			err = w.Names(b)
		case *Stats:
			err = w.Statistics(b)
		}
		testhost.Must(t, err)
	}
}

// file is a section and its blocks as a pcapng file, and where each block ends.
func file(t testing.TB, s Section, blocks ...Block) (b []byte, ends []int) {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, s)
	ends = append(ends, int(w.Size()))
	for _, block := range blocks {
		put(t, w, block)
		ends = append(ends, int(w.Size()))
	}
	testhost.Must(t, w.Flush())
	if int64(out.Len()) != w.Size() {
		t.Fatalf("Size is %d, written were %d bytes", w.Size(), out.Len())
	}
	return out.Bytes(), ends
}

// blocks reads a file to its end, which err is nil for.
func blocks(r io.Reader) (all []Block, err error) {
	for in := NewReader(r); ; {
		b, err := in.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if p, ok := b.(*Packet); ok {
			own := *p
			own.Data, own.Verdict = bytes.Clone(p.Data), bytes.Clone(p.Verdict)
			b = &own
		}
		all = append(all, b)
	}
}

// udp is an Ethernet frame of UDP from 10.77.0.2:1000 to 10.77.0.3:2000 with n bytes of payload.
func udp(n int) []byte {
	return packets.Packet{UDP: true, SrcPort: 1000, DstPort: 2000, Payload: packets.Data(n)}.Bytes()
}

const start int64 = 1_700_000_000_123_456_789

// sample has everything: an interface that comes late, names that change, packets of every odd length.
func sample() (Section, []Block) {
	web, dns := netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.3")
	return Section{Hardware: "amd64", OS: "Linux 6.1", Application: "tapestry 1.0",
			Comment: "host=node1 nets=α,β"}, []Block{
			&Interface{
				Name: "web", Description: "container web on mynet", Filter: "udp port 2000", Hardware: "tap", Comment: "id=1",
				MAC:      ether.MAC{2, 0x42, 10, 77, 0, 2},
				Addrs:    []netip.Prefix{netip.MustParsePrefix("10.77.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
				SnapLen:  1500,
				LinkType: Ethernet,
			},
			Names{{web, "web.mynet"}, {netip.MustParseAddr("fd00::2"), "web.mynet"}},
			&Packet{Time: start, Data: udp(1), Len: 43, Flags: Inbound | Unicast | ChecksumNotReady, ID: 101, Queue: 0,
				Verdict: []byte{0, 1}},
			&Packet{Time: start + 1, Data: udp(2), Len: 9000, Flags: Outbound | Segmented, Queue: -1, Drops: 7},
			&Interface{Name: "dns", SnapLen: 1500, LinkType: Ethernet},
			Names{{dns, "dns"}},
			&Packet{Interface: 1, Time: start + 2, Data: udp(3), Len: 45, ID: math.MaxUint64, Queue: 3,
				Comment: "verdict=drop\nreason=mtu é"},
			&Packet{Interface: 1, Time: start + 1e9, Data: udp(4), Len: 46, Flags: Inbound, ID: 101, Drops: math.MaxUint64,
				Queue:   1,
				Verdict: []byte{0, 2}},
			&Stats{Start: start, End: start + 2e9, Received: 10, Accepted: 9, Dropped: 7, Delivered: 2, Comment: "last"},
			&Stats{Interface: 1, End: start + 2e9, Received: 2, Accepted: 2, Delivered: 2},
		}
}

// What was written is read the same, and written again the same bytes.
func TestRoundTrip(t *testing.T) {
	section, all := sample()
	first, _ := file(t, section, all...)
	got, err := blocks(bytes.NewReader(first))
	testhost.Must(t, err)
	want := append([]Block{&section}, all...)
	if len(got) != len(want) {
		t.Fatalf("%d blocks, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("block %d is\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
	if again, _ := file(t, *got[0].(*Section), got[1:]...); !bytes.Equal(again, first) {
		t.Error("the bytes differ when the blocks are written again")
	}
}

// The bytes of a small file, by hand from the draft.
func TestGolden(t *testing.T) {
	got, _ := file(t, Section{Application: "t"},
		&Interface{Name: "web", SnapLen: 96, LinkType: Ethernet, Filter: "ip",
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}},
		&Packet{Time: 0x1122334455667788, Data: []byte{0xaa, 0xbb, 0xcc, 0xdd, 0xee}, Len: 6, Flags: Inbound, Queue: -1,
			Verdict: []byte{0, 2}},
		Names{{netip.MustParseAddr("::ffff:10.0.0.2"), "web"}},
		&Stats{Start: 0x1122334455667788, End: 0x1122334455667799, Received: 10, Accepted: 9, Dropped: 2, Delivered: 7})
	want := strings.Join([]string{
		"0a0d0d0a 28000000 4d3c2b1a 0100 0000 ffffffffffffffff", "0400 0100 74000000", "0000 0000", "28000000",
		"01000000 3c000000 0100 0000 60000000", "0200 0300 77656200", "0400 0800 0a000002 ffffff00", "0900 0100 09000000",
		"0b00 0300 00697000", "0000 0000", "3c000000",
		"06000000 3c000000 00000000 44332211 88776655 05000000 06000000 aabbccddee000000", "0200 0400 01000000",
		"0700 0200 00020000", "0000 0000", "3c000000",
		"04000000 1c000000", "0100 0800 0a000002 77656200", "0000 0000", "1c000000",
		"05000000 70000000 00000000 44332211 99776655", "0200 0800 44332211 88776655", "0300 0800 44332211 99776655",
		"0400 0800 0a00000000000000", "0500 0800 0200000000000000", "0600 0800 0900000000000000",
		"0700 0800 0200000000000000", "0800 0800 0700000000000000", "0000 0000", "70000000",
	}, "")
	if got := hex.EncodeToString(got); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got\n%s, want\n%s", got, strings.ReplaceAll(want, " ", ""))
	}
}

func TestGoldenPcap(t *testing.T) {
	var out bytes.Buffer
	w := NewPcapWriter(&out, Ethernet, 4)
	put(t, w, &Interface{Name: "lost", SnapLen: 4, LinkType: Ethernet}, Names{{}}, &Stats{},
		&Packet{Time: 0x44332211*1e9 + 0x11223344, Data: []byte{1, 2, 3, 4, 5}, Comment: "lost"})
	testhost.Must(t, w.Flush())
	want := "4d3cb2a1 0200 0400 00000000 00000000 04000000 01000000" + "11223344 44332211 04000000 05000000 01020304"
	if got := hex.EncodeToString(out.Bytes()); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got\n%s, want\n%s", got, strings.ReplaceAll(want, " ", ""))
	}
}

// Texts of any bytes are UTF-8 in the file, and cut between runes.
func TestTexts(t *testing.T) {
	long := strings.Repeat("x", math.MaxUint16-1)
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"a\x00b\xff\xfec", "a\ufffdb\ufffd\ufffdc"},
		{long + "y", long + "y"},
		{long + "yz", long + "y"},
		{long + "é", long},
		{long[1:] + "é", long[1:] + "é"},
		{long[2:] + "\xff\xff", long[2:] + "\ufffd"},
	} {
		b, _ := file(t, Section{}, &Interface{LinkType: Ethernet, Filter: c.in}, &Packet{Comment: c.in},
			Names{{netip.IPv6Unspecified(), c.in}})
		all, err := blocks(bytes.NewReader(b))
		testhost.Must(t, err)
		if got := all[2].(*Packet).Comment; got != c.want {
			t.Errorf("comment of %d bytes is read with %d bytes, want %d", len(c.in), len(got), len(c.want))
		}
		for _, got := range []string{all[1].(*Interface).Filter, all[3].(Names)[0].Name} {
			if !utf8.ValidString(got) || !strings.HasPrefix(c.want, got) || len(got) < len(c.want)-20 {
				t.Errorf("text of %d bytes is read with %d bytes, no prefix of what is wanted", len(c.in), len(got))
			}
		}
	}
}

// More names than fit one block.
func TestManyNames(t *testing.T) {
	var want Names
	for i := range 60_000 {
		want = append(want, Name{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
			"a.container.of.a.large.network"})
	}
	b, _ := file(t, Section{}, want)
	all, err := blocks(bytes.NewReader(b))
	testhost.Must(t, err)
	var got Names
	for _, block := range all[1:] {
		got = append(got, block.(Names)...)
	}
	if len(all) < 3 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d names in %d blocks, want %d in several", len(got), len(all)-1, len(want))
	}
}

// Packets are cut to the snap length and keep their length on the wire.
func TestSnapLen(t *testing.T) {
	for _, c := range []struct{ snap, data, len, wantData, wantLen int }{
		{96, 1500, 0, 96, 1500},
		{96, 1500, 64000, 96, 64000},
		{96, 60, 1500, 60, 1500},
		{96, 60, 10, 60, 60},
		{0, MaxSnapLen + 1, 0, MaxSnapLen, MaxSnapLen + 1},
	} {
		var ng, classic bytes.Buffer
		w := NewWriter(&ng, Section{})
		p := NewPcapWriter(&classic, Ethernet, c.snap)
		for _, w := range []fileWriter{w, p} {
			put(t, w, &Interface{SnapLen: c.snap, LinkType: Ethernet}, &Packet{Data: make([]byte, c.data), Len: c.len})
			testhost.Must(t, w.Flush())
		}
		for _, out := range []*bytes.Buffer{&ng, &classic} {
			all, err := blocks(out)
			testhost.Must(t, err)
			if p := all[2].(*Packet); len(p.Data) != c.wantData || p.Len != c.wantLen {
				t.Errorf("%+v: %d bytes of %d", c, len(p.Data), p.Len)
			}
		}
	}
}
