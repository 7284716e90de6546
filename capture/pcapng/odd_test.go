package pcapng

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// Headers of files, interfaces and packets are read as the more tolerant of tshark and tcpdump reads them, and whatever was read
// can be written.
func TestOddFiles(t *testing.T) {
	o := binary.LittleEndian
	data := udp(3)
	n := uint32(len(data))
	classic := func(magic uint32, major, minor uint16, snap, link uint32, records ...any) []byte {
		return join(o, magic, major, minor, uint32(3600), uint32(9), snap, link, join(o, records...))
	}
	record := func(frac, n, wire uint32) []byte { return join(o, uint32(1700000000), frac, n, wire, data) }
	pcap := func(snap uint32, records ...any) []byte { return classic(magicMicro, 2, 4, snap, 1, records...) }
	at := func(i uint32, n, wire uint32, ticks uint64, options ...any) []byte {
		return block(o, blockPacket, i, uint32(ticks>>32), uint32(ticks), n, wire, pad(slices.Clone(data), len(data)), join(o, options...))
	}
	packet := func(options ...any) []byte { return at(0, n, n, 1700000000000001, options...) }
	ng := func(blocks ...any) []byte { return join(o, sectionOf(o), join(o, blocks...)) }
	over := join(o, uint16(1), uint16(400), "ab\x00\x00")
	plain := "1700000000.000001000 "
	whole := plain + fmt.Sprint(n)
	type file struct {
		what string
		file []byte
		want []string // time and bytes of each packet
		tool string   // that says so too
	}
	all := []file{
		{"version 2.2, lengths turned", classic(magicMicro, 2, 2, 65535, 1, record(1, 99, n)), []string{whole}, "editcap"},
		{"version 2.3, lengths turned", classic(magicMicro, 2, 3, 65535, 1, record(1, 99, n)), []string{whole}, "editcap"},
		{"version 2.3", classic(magicMicro, 2, 3, 65535, 1, record(1, n, 99)), []string{whole}, "editcap"},
		{"version 543.0", classic(magicMicro, 543, 0, 65535, 1, record(1, 99, n)), []string{whole}, "editcap"},
		{"version 3.0", classic(magicMicro, 3, 0, 65535, 1, record(1, n, 99)), []string{whole}, "editcap"},
		{"long heads", classic(magicLong, 2, 4, 65535, 1, uint32(1700000000), uint32(1), n, n, uint64(7), data), []string{whole}, "editcap"},
		{"link type with FCS", classic(magicMicro, 2, 4, 65535, 0x24000001, record(1, n, n)), []string{whole}, "editcap"},
		{"shorter on the wire", pcap(65535, record(1, n, 4)), []string{whole}, "editcap"},
		{"no length on the wire", pcap(65535, record(1, n, 0)), []string{whole}, "editcap"},
		{"endless on the wire", pcap(65535, record(1, n, math.MaxUint32)), []string{whole}, "editcap"},
		{"no bytes", pcap(65535, uint64(0), uint32(0), uint32(60), record(1, n, n)), []string{"0.000000000 0", whole}, "editcap"},
		{"last second", pcap(65535, uint32(math.MaxUint32), uint32(0), n, n, data), []string{"4294967295.000000000 " + fmt.Sprint(n)}, "editcap"},
		{"2.5 seconds in the fraction", pcap(65535, record(2_500_000, n, n)), []string{"1700000002.500000000 " + fmt.Sprint(n)}, ""},
		{"differing snap lengths", ng(ifaceOf(o, 10), ifaceOf(o, 0), packet(), at(1, n, n, 1700000000000001)), []string{whole, whole}, "editcap"},
		{"interface that nothing uses", ng(ifaceOf(o, 0), block(o, blockInterface, uint16(147), uint16(0), uint32(5)), packet()), []string{whole}, "tshark"},
		{"section with a length", join(o, block(o, blockSection, uint32(byteOrder), uint16(1), uint16(2), uint64(4)), ifaceOf(o, 0), packet()), []string{whole}, "editcap"},
		{"resolution of two bytes", ng(ifaceOf(o, 0, option(o, ifResolution, "\x06\x00")), packet()), []string{whole}, "editcap"},
		{"offset of four bytes", ng(ifaceOf(o, 0, option(o, ifOffset, uint32(9))), packet()), []string{whole}, "editcap"},
		{"address of four bytes", ng(ifaceOf(o, 0, option(o, ifIPv4, uint32(9)), option(o, ifIPv6, uint32(9)), option(o, ifMAC, uint64(9))), packet()), []string{whole}, "editcap"},
		{"flags of two bytes", ng(ifaceOf(o, 0), packet(option(o, epbFlags, uint16(1)), option(o, epbID, uint32(1)), option(o, epbQueue, "a"))), []string{whole}, "tcpdump"},
		{"drops of four bytes", ng(ifaceOf(o, 0), packet(option(o, epbDrops, uint32(1)))), []string{whole}, "tcpdump"},
		{"option beyond its section", join(o, sectionOf(o, over), ifaceOf(o, 0), packet()), []string{whole}, "tcpdump"},
		{"option beyond its packet", ng(ifaceOf(o, 0), packet(over)), []string{whole}, "tcpdump"},
		{"statistics of no interface", ng(ifaceOf(o, 0), block(o, blockStats, uint32(9), uint64(0)), packet()), []string{whole}, "tcpdump"},
		{"short statistics", ng(ifaceOf(o, 0), block(o, blockStats, uint32(0)), packet()), []string{whole}, "tcpdump"},
		{"count of four bytes", ng(ifaceOf(o, 0), block(o, blockStats, uint32(0), uint64(0), option(o, isbReceived, uint32(1))), packet()), []string{whole}, "tcpdump"},
		{"short names", ng(ifaceOf(o, 0), block(o, blockNames, option(o, recordIPv4, "ab"), option(o, recordIPv6, "abcdefgh"), option(o, recordIPv4, "abcdweb")), packet()), []string{whole}, "tcpdump"},
		{"names beyond their block", ng(ifaceOf(o, 0), block(o, blockNames, over), packet()), []string{whole}, "tcpdump"},
		{"before 1970", ng(ifaceOf(o, 0, option(o, ifOffset, uint64(math.MaxUint64-1700000000+1))), packet(), at(0, n, n, 0)),
			[]string{"0.000001000 " + fmt.Sprint(n), "-1700000000.000000000 " + fmt.Sprint(n)}, "tshark"},
	}
	for _, snap := range []uint32{0, 10, 65535, 262145, 524288, 0x7fffffff, 0xffffffff} {
		all = append(all, file{fmt.Sprintf("pcap of snap length %#x", snap), pcap(snap, record(1, n, n)), []string{whole}, "editcap"},
			file{fmt.Sprintf("pcapng of snap length %#x", snap), ng(ifaceOf(o, snap), packet()), []string{whole}, "editcap"})
	}
	for _, c := range []struct {
		resolution byte
		ticks      uint64
		want       string
	}{{0, 5, "5.000000000"}, {1, 25, "2.500000000"}, {12, 1e12 + 5e11, "1.500000000"}, {18, 5e9, "0.000000005"}, {20, 5e9, "0.000000000"},
		{127, 5, "0.000000000"}, {0x80, 7, "7.000000000"}, {0x80 | 32, 3 << 31, "1.500000000"}, {0x80 | 64, 5, "0.000000000"}, {0xff, 5, "0.000000000"}} {
		all = append(all, file{fmt.Sprintf("resolution %#x", c.resolution), ng(ifaceOf(o, 0, option(o, ifResolution, string([]byte{c.resolution}))), at(0, n, n, c.ticks)),
			[]string{c.want + " " + fmt.Sprint(n)}, ""})
	}
	for _, c := range all {
		t.Run(c.what, func(t *testing.T) {
			read, err := blocks(bytes.NewReader(c.file))
			if err != nil {
				t.Fatal(err)
			}
			got := packetsOf(read)
			compare(t, got, c.want)
			for _, w := range []fileWriter{NewWriter(io.Discard, Section{}), NewPcapWriter(io.Discard, Ethernet, 0)} {
				for _, b := range read {
					if i, ok := b.(*Interface); ok {
						i.SnapLen = 0 // one for all
					}
					put(t, w, b)
				}
			}
			switch c.tool {
			case "tshark", "editcap": // which reads by the same code, and starts sooner
				testhost.Tools(t, c.tool)
				in, out := save(t, "f", c.file), filepath.Join(t.TempDir(), "out.pcap")
				if c.tool == "tshark" {
					compare(t, lines(t, "tshark", "-r", in, "-T", "fields", "-E", "separator= ", "-e", "frame.time_epoch", "-e", "frame.cap_len"), c.want)
					return
				}
				lines(t, "editcap", "-F", "nsecpcap", in, out)
				b, err := os.ReadFile(out)
				testhost.Must(t, err)
				again, err := blocks(bytes.NewReader(b))
				testhost.Must(t, err)
				compare(t, packetsOf(again), c.want)
			case "tcpdump":
				testhost.Tools(t, "tcpdump")
				if lines := lines(t, "tcpdump", "-tt", "--time-stamp-precision=nano", "-n", "-r", save(t, "f", c.file)); !strings.HasPrefix(lines[0], plain) {
					t.Errorf("tcpdump says %q", lines)
				}
			}
		})
	}
}

// seconds is a time as tshark writes it.
func seconds(ns int64) string {
	sec, frac := ns/1e9, ns%1e9
	return fmt.Sprintf("%d.%09d", sec, frac)
}

func packetsOf(all []Block) (got []string) {
	for _, b := range all {
		if p, ok := b.(*Packet); ok {
			got = append(got, fmt.Sprintf("%s %d", seconds(p.Time), len(p.Data)))
		}
	}
	return got
}
