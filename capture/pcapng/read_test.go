package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// orders are the byte orders that a file may have.
var orders = []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian}

// join appends numbers in the byte order, and bytes and texts padded to 32 bits.
func join(o binary.AppendByteOrder, parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case uint16:
			b = o.AppendUint16(b, p)
		case uint32:
			b = o.AppendUint32(b, p)
		case uint64:
			b = o.AppendUint64(b, p)
		case string:
			b = pad(append(b, p...), len(p))
		case []byte:
			b = append(b, p...)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return b
}

// block is a block as another writer makes it.
func block(o binary.AppendByteOrder, kind uint32, parts ...any) []byte {
	body := join(o, parts...)
	n := uint32(len(body) + 12)
	return join(o, kind, n, body, n)
}

// option is an option, or a name record; its parts are not padded one by one.
func option(o binary.AppendByteOrder, code uint16, parts ...any) []byte {
	var value []byte
	for _, p := range parts {
		if s, ok := p.(string); ok {
			p = []byte(s)
		}
		value = append(value, join(o, p)...)
	}
	return join(o, code, uint16(len(value)), string(value))
}

func sectionOf(o binary.AppendByteOrder, options ...any) []byte {
	return block(o, blockSection, uint32(byteOrder), uint16(1), uint16(0), uint64(math.MaxUint64), join(o, options...))
}

func ifaceOf(o binary.AppendByteOrder, snap uint32, options ...any) []byte {
	return block(o, blockInterface, uint16(Ethernet), uint16(0), snap, join(o, options...))
}

// A file of another writer in either byte order: all blocks, all options, what is unknown skipped.
func TestForeign(t *testing.T) {
	for _, o := range orders {
		end := option(o, optEnd)
		f := join(o,
			sectionOf(o, option(o, optComment, "one"), option(o, 77, "unknown"), option(o, shbHardware, "hw"),
				option(o, shbOS, "os\x00"),
				option(o, shbApplication, "app\xff"), option(o, optComment, ""), option(o, optComment, "two"), end,
				"behind the end"),
			block(o, 0xbad, uint32(1), "custom"),
			ifaceOf(o, 5, option(o, ifName, "eth0"), option(o, ifDescription, "first"),
				option(o, ifIPv4, "\x0a\x00\x00\x01\xff\xff\xff\x00"),
				option(o, ifIPv6, netip.MustParseAddr("fd00::1").AsSlice(), "\x40"), option(o, ifMAC, "\x02\x00\x00\x00\x00\x01"),
				option(o, ifResolution, "\x09"), option(o, ifFilter, "\x00ip"), option(o, 8, uint64(1e9)),
				option(o, ifHardware, "nic"),
				option(o, ifOffset, uint64(100)), option(o, optComment, "if"), end),
			block(o, blockInterface, uint16(101), uint16(0), uint32(0), option(o, ifFilter, "\x01bpf")), // no end of options
			block(o, blockPacket, uint32(0), uint32(1), uint32(2), uint32(5), uint32(60), "abcde",
				option(o, epbFlags, uint32(Inbound|Broadcast)), option(o, 3, "\x02hash"), option(o, epbDrops, uint64(3)),
				option(o, epbID, uint64(4)), option(o, epbQueue, uint32(5)), option(o, epbVerdict, []byte{2}, uint64(2)),
				option(o, optComment, "c"), end),
			block(o, blockPacket, uint32(1), uint32(0), uint32(3), uint32(4), uint32(1), "abcd"),
			block(o, blockObsolete, uint16(1), uint16(6), uint32(0), uint32(4), uint32(3), uint32(3), "abc",
				option(o, epbFlags, uint32(Outbound)), end),
			block(o, blockObsolete, uint16(0), uint16(0xffff), uint32(0), uint32(0), uint32(0), uint32(9), ""),
			block(o, blockSimple, uint32(3), "abc"),
			block(o, blockSimple, uint32(7), "abcde"),
			block(o, blockNames, option(o, recordIPv4, "\x0a\x00\x00\x02first\x00last\x00"),
				option(o, recordIPv6, netip.IPv6Loopback().AsSlice(), "self\x00"),
				option(o, 3, "\x02\x00\x00\x00\x00\x02mac\x00"), end, option(o, 2, "dns server")),
			block(o, blockNames, end),
			block(o, blockStats, uint32(1), uint32(0), uint32(0), option(o, isbStart, uint32(0), uint32(1)),
				option(o, isbEnd, uint32(1), uint32(0)),
				option(o, isbReceived, uint64(9)), option(o, isbIfDrop, uint64(1)), option(o, isbAccepted, uint64(8)),
				option(o, isbOSDrop, uint64(2)), option(o, isbDelivered, uint64(6)), option(o, optComment, "s"), end),
		)
		want := []Block{
			&Section{Hardware: "hw", OS: "os", Application: "app\ufffd", Comment: "one\ntwo"},
			&Interface{Name: "eth0", Description: "first", Filter: "ip", Hardware: "nic", Comment: "if",
				MAC:   ether.MAC{2, 0, 0, 0, 0, 1},
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}, SnapLen: 5,
				LinkType: Ethernet},
			&Interface{LinkType: 101},
			&Packet{Time: 100e9 + 1<<32 + 2, Data: []byte("abcde"), Len: 60, Flags: Inbound | Broadcast, Drops: 3, ID: 4,
				Queue:   5,
				Verdict: join(o, []byte{2}, uint64(2)), Comment: "c"},
			&Packet{Interface: 1, Time: 3000, Data: []byte("abcd"), Len: 4, Queue: -1},
			&Packet{Interface: 1, Time: 4000, Data: []byte("abc"), Len: 3, Flags: Outbound, Drops: 6, Queue: -1},
			&Packet{Time: 100e9, Data: []byte{}, Len: 9, Queue: -1},
			&Packet{Data: []byte("abc"), Len: 3, Queue: -1},
			&Packet{Data: []byte("abcde"), Len: 7, Queue: -1},
			Names{{netip.MustParseAddr("10.0.0.2"), "first"}, {netip.MustParseAddr("10.0.0.2"), "last"}, {netip.IPv6Loopback(), "self"}},
			&Stats{Interface: 1, Start: 1000, End: 1 << 32 * 1000, Received: 9, Accepted: 8, Dropped: 2, Delivered: 6,
				Comment: "s"},
		}
		got, err := blocks(iotest.OneByteReader(bytes.NewReader(f)))
		testhost.Must(t, err)
		if len(got) != len(want) {
			t.Fatalf("%v: %d blocks, want %d", o, len(got), len(want))
		}
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Errorf("%v: block %d is\n%+v, want\n%+v", o, i, got[i], want[i])
			}
		}
	}
}

// Sections follow each other, also in another byte order; interfaces are counted through.
func TestSections(t *testing.T) {
	var f []byte
	for i, o := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian, binary.LittleEndian} {
		f = join(o, f, sectionOf(o), ifaceOf(o, 0), ifaceOf(o, uint32(i)),
			block(o, blockPacket, uint32(1), uint64(0), uint32(0), uint32(0)), block(o, blockSimple, uint32(0)))
	}
	all, err := blocks(bytes.NewReader(f))
	testhost.Must(t, err)
	var got []int
	for _, b := range all {
		if p, ok := b.(*Packet); ok {
			got = append(got, p.Interface)
		}
	}
	if want := []int{1, 0, 3, 2, 5, 4}; !reflect.DeepEqual(got, want) {
		t.Errorf("packets of interfaces %v, want %v", got, want)
	}
}

// Ticks of any resolution, held against exact arithmetic.
func TestClock(t *testing.T) {
	ticks := []uint64{0, 1, 999, 1_000_000, 1_700_000_000, 1_700_000_000_123_456, 1_700_000_000_123_456_789,
		9_223_372_036_900_000_000, math.MaxInt64, math.MaxUint64}
	offsets := []int64{0, 1, -1, 1_700_000_000, -1_700_000_000, math.MaxInt64, math.MinInt64}
	for r := range 256 {
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(r&0x7f)), nil)
		if r&0x80 != 0 {
			unit.Lsh(big.NewInt(1), uint(r&0x7f))
		}
		for _, n := range ticks {
			for _, offset := range offsets {
				want := new(big.Int).SetUint64(n)
				want.Mul(want, big.NewInt(1e9)).Div(want, unit)
				want.Add(want, new(big.Int).Mul(big.NewInt(offset), big.NewInt(1e9)))
				c := clock{resolution: byte(r), offset: offset}
				got := c.time(n)
				ok := want.IsInt64() && want.Int64() == got
				if want.Cmp(big.NewInt(math.MaxInt64-1e9)) > 0 {
					ok = ok || got == math.MaxInt64
				} else if want.Cmp(big.NewInt(math.MinInt64+1e9)) < 0 {
					ok = ok || got == math.MinInt64
				}
				if !ok {
					t.Fatalf("%d ticks of resolution %#x and %d s are %d ns, want %v", n, r, offset, got, want)
				}
			}
		}
	}
}

// Classic pcap in both byte orders and resolutions.
func TestPcap(t *testing.T) {
	for _, o := range orders {
		for magic, want := range map[uint32]int64{magicMicro: 1e9 + 2000, magicNano: 1e9 + 2} {
			f := join(o, magic, uint16(2), uint16(4), uint64(0), uint32(96), uint32(0x1000_0000|113),
				uint32(1), uint32(2), uint32(3), uint32(60), []byte("abc"),
				uint32(math.MaxUint32), uint32(0), uint32(4), uint32(1), []byte("abcd"))
			got, err := blocks(iotest.HalfReader(bytes.NewReader(f)))
			testhost.Must(t, err)
			wanted := []Block{&Section{}, &Interface{SnapLen: 96, LinkType: 113},
				&Packet{Time: want, Data: []byte("abc"), Len: 60, Queue: -1},
				&Packet{Time: math.MaxUint32 * 1e9, Data: []byte("abcd"), Len: 4, Queue: -1}}
			if !reflect.DeepEqual(got, wanted) {
				t.Errorf("%v %x: got %+v", o, magic, got)
			}
		}
	}
}

// A file cut anywhere is read to its last whole block.
func TestCut(t *testing.T) {
	section, all := sample()
	ng, ends := file(t, section, all...)
	var out bytes.Buffer
	w := NewPcapWriter(&out, Ethernet, 0)
	put(t, w, &Interface{LinkType: Ethernet})
	pcapEnds := []int{24}
	for i := range 3 {
		put(t, w, &Packet{Data: udp(i)})
		pcapEnds = append(pcapEnds, int(w.Size()))
	}
	testhost.Must(t, w.Flush())
	for name, c := range map[string]struct {
		file  []byte
		ends  []int
		extra int // blocks that are no bytes of their own
	}{"pcapng": {ng, ends, 0}, "pcap": {out.Bytes(), pcapEnds, 1}} {
		for n := range len(c.file) + 1 {
			want, whole := 0, false
			for _, e := range c.ends {
				if e <= n {
					want++
					whole = e == n
				}
			}
			if want > 0 {
				want += c.extra
			}
			got, err := blocks(bytes.NewReader(c.file[:n]))
			if len(got) != want || whole != (err == nil) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s cut at %d: %d blocks and %v, want %d blocks", name, n, len(got), err, want)
			}
		}
	}
}

// An error of what is read from comes through, and stays.
func TestReadError(t *testing.T) {
	section, all := sample()
	f, _ := file(t, section, all...)
	broken := errors.New("connection reset")
	r := NewReader(io.MultiReader(bytes.NewReader(f), iotest.ErrReader(broken)))
	for {
		if _, err := r.Next(); err != nil {
			_, again := r.Next()
			if !errors.Is(err, broken) || again != err {
				t.Errorf("%v, then %v", err, again)
			}
			return
		}
	}
}

// A live stream: a block is there when its last byte is.
func TestLive(t *testing.T) {
	section, all := sample()
	f, ends := file(t, section, all...)
	in, out := io.Pipe()
	defer out.Close()
	r := NewReader(in)
	from := 0
	for i, to := range ends {
		go out.Write(f[from:to])
		if _, err := r.Next(); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		from = to
	}
}

// What is no capture file, or a broken one, is refused with the place and the reason.
func TestMalformed(t *testing.T) {
	o := binary.LittleEndian
	head := join(o, sectionOf(o), ifaceOf(o, 96))
	packet := func(n uint32, parts ...any) []byte {
		return block(o, blockPacket, uint32(0), uint64(0), n, n, join(o, parts...))
	}
	many := bytes.Repeat(ifaceOf(o, 0), maxInterfaces)
	for _, c := range []struct {
		what string
		file []byte
		want string
	}{
		{"nothing", nil, "want a pcapng or pcap file"},
		{"text", []byte("hello, world"), "byte 0: file begins with 68 65 6c 6c, want 0a 0d 0d 0a"},
		{"gzip", []byte{0x1f, 0x8b, 8, 0}, "file begins with 1f 8b 08 00"}, // who opens the file unpacks it
		{"byte order", block(o, blockSection, uint32(1), uint16(1), uint16(0), uint64(0)), "want 1a 2b 3c 4d"},
		{"version", block(o, blockSection, uint32(byteOrder), uint16(2), uint16(0), uint64(0)), "version 2, want 1"},
		{"short section", block(o, blockSection, uint32(byteOrder)), "want at least 16"},
		{"pcap version", join(o, uint32(magicNano), uint16(1), uint16(0), uint64(0), uint64(0)), "version 1, want 2"},
		{"long record", join(o, uint32(magicNano), uint16(2), uint16(4), uint64(0), uint64(0), uint64(0),
			uint32(maxBlock+1), uint32(0)), "want at most 16777216"},
		{"long block", join(o, head, uint32(9), uint32(maxBlock+4), uint32(0)),
			"byte 48: block has 16777220 bytes, want a multiple of 4 from 12 to 16777216"},
		{"short block", join(o, head, uint32(9), uint32(8), uint32(8)), "block has 8 bytes"},
		{"odd block", join(o, head, uint32(9), uint32(13), uint32(13)), "block has 13 bytes"},
		{"other length behind", join(o, head, uint32(9), uint32(12), uint32(16)), "begins with length 12 and ends with 16"},
		{"no interface", join(o, sectionOf(o), block(o, blockPacket, uint32(0), uint64(0), uint64(0))),
			"no interface 0, the section has 0"},
		{"no simple interface", join(o, sectionOf(o), block(o, blockSimple, uint32(0))), "no interface 0, the section has 0"},
		{"interface of the section before", join(o, head, sectionOf(o), packet(0)), "no interface 0, the section has 0"},
		{"short interface", join(o, head, block(o, blockInterface, uint32(1))), "want at least 8"},
		{"short packet", join(o, head, block(o, blockPacket, uint64(0), uint64(0))), "want at least 20"},
		{"short obsolete packet", join(o, head, block(o, blockObsolete, uint64(0), uint64(0))), "want at least 20"},
		{"short simple packet", join(o, head, block(o, blockSimple)), "want at least 4"},
		{"long packet", join(o, head, packet(5, "abcd")), "packet has 5 bytes in a block with room for 4"},
		{"endless packet", join(o, head, packet(math.MaxUint32, "abcd")), "in a block with room for 4"},
		{"long simple packet", join(o, head, block(o, blockSimple, uint32(5), "abcd")),
			"packet has 5 bytes in a block with room for 4"},
		{"too many interfaces", join(o, head, many), "more interfaces in one section than 65536"},
	} {
		_, err := blocks(bytes.NewReader(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to say %q", c.what, err, c.want)
		}
	}
}

// A block that claims 16 MiB costs no memory before they come.
func TestClaim(t *testing.T) {
	o := binary.LittleEndian
	f := join(o, sectionOf(o), uint32(9), uint32(maxBlock), uint32(0))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := blocks(bytes.NewReader(f))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v after %d bytes of memory for a block of 12", err, n)
	}
}
