package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// classic is a pcap file of this snap length and link type, with a packet at each time in seconds since 1970.
func classic(snap, link uint32, data []byte, times ...uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint32(b, 4<<16|2)
	b = le.AppendUint32(le.AppendUint64(b, 0), snap)
	b = le.AppendUint32(b, link)
	for _, sec := range times {
		b = le.AppendUint32(le.AppendUint32(b, sec), 1)
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(data))), uint32(len(data)))
		b = append(b, data...)
	}
	return b
}

var shortFrame = []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5")

func saveFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file that can be read can be written again, whatever its snap length.
func TestReadSnapLen(t *testing.T) {
	for _, snap := range []uint32{0, 10, 14, 65535, 262145, 524288, 0x7fffffff, 0xffffffff} {
		in := saveFile(t, "in", classic(snap, pcapng.Ethernet, shortFrame, 1700000000))
		for _, name := range []string{"out.pcap", "out.pcapng"} {
			out := filepath.Join(t.TempDir(), name)
			r := tapestry(t, "capture", "-r", in, "-w", out)
			if want := fmt.Sprintf("read 1 frame from %s, wrote 1 into %s\n", in, out); r.code != exit.OK || r.stderr != want {
				t.Errorf("%#x: exit %d, %s, want %s", snap, r.code, r.stderr, want)
				continue
			}
			if p := pick[*pcapng.Packet](blocksOf(t, out)); len(p) != 1 || !bytes.Equal(p[0].Data, shortFrame) || p[0].Time != 1700000000000001000 {
				t.Errorf("%#x: %s has %+v", snap, name, p)
			}
			if lines := strings.Count(testhost.Output(t, "tcpdump", "-n", "-r", out), "\n"); lines != 1 {
				t.Errorf("%#x: tcpdump shows %d frames of %s", snap, lines, name)
			}
		}
	}
}

// A later interface with a greater snap length than those before loses no bytes.
func TestReadLaterInterface(t *testing.T) {
	var in bytes.Buffer
	for _, snap := range []int{20, 0} { // two sections
		w := pcapng.NewWriter(&in, pcapng.Section{})
		if _, err := w.AddInterface(&pcapng.Interface{SnapLen: snap, LinkType: pcapng.Ethernet}); err != nil {
			t.Fatal(err)
		}
		if err := w.WritePacket(&pcapng.Packet{Data: make([]byte, 60), Queue: -1}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "out.pcapng")
	if r := tapestry(t, "capture", "-r", saveFile(t, "in", in.Bytes()), "-w", out); r.code != exit.OK {
		t.Fatalf("exit %d, %s", r.code, r.stderr)
	}
	p := pick[*pcapng.Packet](blocksOf(t, out))
	if len(p) != 2 || len(p[0].Data) != 20 || len(p[1].Data) != 60 {
		t.Errorf("%+v", p)
	}
}

// A failure before the first write leaves an older file of that name as it was, and the error names the file.
func TestOlderFileStays(t *testing.T) {
	good := classic(65535, pcapng.Ethernet, shortFrame, 1700000000)
	// An Ethernet packet, and one of another link type: classic pcap cannot hold both.
	var mixed bytes.Buffer
	w := pcapng.NewWriter(&mixed, pcapng.Section{})
	for i, link := range []int{pcapng.Ethernet, pcapng.LinuxSLL} {
		if _, err := w.AddInterface(&pcapng.Interface{LinkType: link}); err != nil {
			t.Fatal(err)
		}
		if err := w.WritePacket(&pcapng.Packet{Interface: i, Data: make([]byte, 60), Queue: -1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		in   []byte
		args []string
		want string
		stay bool
	}{
		{"cut off in its head", good[:20], nil, "in: capture file at byte 0: file is cut off", true},
		{"cut off in its first packet", good[:50], nil, "in: capture file at byte 24: file is cut off", true},
		{"no capture", []byte("Dear Ada"), nil, "in: capture file at byte 0: file begins with", true},
		{"nothing", nil, nil, "in: capture file at byte 0: nothing there", true},
		{"a broken filter", good, []string{"-f", "hsot a"}, "the filter cannot be read", true},
		{"broken gzip", []byte("\x1f\x8b\x08\x00"), nil, "in: unpack by gzip", true},
		{"two link types", mixed.Bytes(), []string{"--pcap"}, "older: a packet is of link type 113, and a pcap file has one only, which is 1: want pcapng", false},
		{"nothing to write", good, []string{"-f", "udp"}, "", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			old := saveFile(t, "older", classic(9, 1, shortFrame, 1, 2, 3))
			was, _ := os.ReadFile(old)
			r := tapestry(t, append([]string{"capture", "-r", saveFile(t, "in", c.in), "-w", old}, c.args...)...)
			if (r.code == exit.OK) != (c.want == "") || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit %d, %s, want %s", r.code, r.stderr, c.want)
			}
			if now, _ := os.ReadFile(old); bytes.Equal(now, was) != c.stay {
				t.Errorf("the older file has %d bytes, it had %d", len(now), len(was))
			}
			if all, _ := filepath.Glob(filepath.Join(filepath.Dir(old), ".*")); len(all) > 0 {
				t.Errorf("left behind: %v", all)
			}
		})
	}
}

// The closing line says how many frames are kept, and the times of the earliest and the latest one.
func TestClosingSentences(t *testing.T) {
	dir := t.TempDir()
	in := saveFile(t, "in", classic(65535, pcapng.Ethernet, make([]byte, 1400), 1700000100, 1700000000, 1700000200, 1700000150, 1700000150, 1700000150))
	r := tapestry(t, "capture", "-r", in, "-w", filepath.Join(dir, "set.pcapng"), "-C", "4096", "-W", "1")
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 1 {
		t.Fatalf("exit %d, %s, %v", r.code, r.stderr, files)
	}
	kept := len(pick[*pcapng.Packet](blocksOf(t, files[0])))
	want := fmt.Sprintf("read 6 frames from %s, wrote 6, of which the latest %d are kept in %s\n", in, kept, files[0])
	if r.stderr != want || kept == 6 {
		t.Errorf("%q, want %q", r.stderr, want)
	}
	r = tapestry(t, "watch", "-r", in)
	at := func(sec int64) string { return time.Unix(sec, 1000).Format("2006-01-02 15:04:05.000000") }
	if want := at(1700000000) + " to " + at(1700000200); !strings.Contains(r.stderr, want) {
		t.Errorf("%q, want it to say %s", r.stderr, want)
	}
	var told api.Flows
	unmarshal(t, tapestry(t, "flows", "--json", "-r", in).out, &told)
	if told.Seconds != 200 || !strings.HasPrefix(told.Since, "2023-11-14T22:13:20") {
		t.Errorf("flows cover %v s since %s", told.Seconds, told.Since)
	}
}

// Frames of other days than today have their date.
func TestWatchDates(t *testing.T) {
	var now uint32
	var r result
	for today := 0; today != time.Now().Day(); { // again if it is another day now
		today, now = time.Now().Day(), uint32(time.Now().Unix())
		r = tapestry(t, "watch", "-r", saveFile(t, "in", classic(65535, pcapng.Ethernet, shortFrame, now, now-3*86400, now-2*86400)))
	}
	lines := strings.Split(r.out, "\n")
	if len(lines) != 4 {
		t.Fatalf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	for i, days := range []int64{0, 3, 2} {
		at := time.Unix(int64(now)-days*86400, 1000)
		want := at.Format("2006-01-02 15:04:05.000000")
		if days == 0 {
			want = at.Format("15:04:05.000000")
		}
		if !strings.HasPrefix(lines[i], want+" 02:00:00:00:00:01 → ") {
			t.Errorf("%q, want it to begin with %s", lines[i], want)
		}
	}
}

// A compressed file is recognized by its first bytes and not by its name, from a pipe too.
func TestReadPacked(t *testing.T) {
	plain := classic(65535, pcapng.Ethernet, shortFrame, 1700000000, 1700000001)
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := []byte(testhost.Output(t, "zstd", "-d", "-c", saveFile(t, "f.zst", zst.Bytes()))); !bytes.Equal(got, plain) {
		t.Fatal("zstd unpacks something else")
	}
	for name, b := range map[string][]byte{"f.pcap.gz": gz.Bytes(), "f.pcap.zst": zst.Bytes(), "f": gz.Bytes()} {
		in := saveFile(t, name, b)
		if r := tapestry(t, "watch", "-r", in, "--", "ether src 2:0:0:0:0:1"); r.code != exit.OK || strings.Count(r.out, "\n") != 2 {
			t.Errorf("%s: exit %d, %s%s", name, r.code, r.out, r.stderr)
		}
		out := filepath.Join(t.TempDir(), "out")
		if r := tapestry(t, "capture", "-r", in, "-w", out); r.code != exit.OK || len(pick[*pcapng.Packet](blocksOf(t, out))) != 2 {
			t.Errorf("%s: exit %d, %s", name, r.code, r.stderr)
		}
		var told api.Flows
		unmarshal(t, tapestry(t, "flows", "--json", "-r", in).out, &told)
		if told.Total.Frames != 2 {
			t.Errorf("%s: flows of %d frames", name, told.Total.Frames)
		}
		r := tapestry(t, "capture", "-r", saveFile(t, name, b[:len(b)-12]), "-w", filepath.Join(t.TempDir(), "out"))
		if r.code != exit.Failure || !strings.Contains(r.stderr, name) {
			t.Errorf("%s cut off: exit %d, %s", name, r.code, r.stderr)
		}
	}
	r := tapestryIn(t, gz.Bytes(), "watch", "-r", "-")
	if r.code != exit.OK || strings.Count(r.out, "\n") != 2 {
		t.Errorf("stdin: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	r = tapestryIn(t, zst.Bytes(), "flows", "-r", "-")
	if r.code != exit.OK || !strings.Contains(r.out, "2 frames") {
		t.Errorf("flows of stdin: exit %d, %s%s", r.code, r.out, r.stderr)
	}
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// tapestryIn runs a command with something on its standard input.
func tapestryIn(t *testing.T, in []byte, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	root := newRoot()
	root.SetIn(bytes.NewReader(in))
	root.SetOut(&out)
	root.SetErr(&stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return result{exit.Code(err), out.String(), stderr.String()}
}

// Files of other link types, such as those of tcpdump -i any, are read, filtered as by tcpdump, and written unchanged.
func TestReadLinks(t *testing.T) {
	udp := []byte("\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x01\x00\x35\x00\x08\x00\x00")
	for link, head := range map[uint32]string{
		pcapng.LinuxSLL:  "\x00\x00\x00\x01\x00\x06\x02\x42\x0a\x4d\x00\x02\x00\x00\x08\x00",
		pcapng.LinuxSLL2: "\x08\x00\x00\x00\x00\x00\x00\x02\x00\x01\x04\x06\x02\x42\x0a\x4d\x00\x02\x00\x00",
		pcapng.Raw:       "", pcapng.RawBSD: "", pcapng.Null: "\x02\x00\x00\x00", pcapng.Loop: "\x00\x00\x00\x02",
	} {
		data := append([]byte(head), udp...)
		in := saveFile(t, "in", classic(65535, link, data, 1700000000))
		for expr, n := range map[string]int{"udp dst port 53": 1, "tcp": 0, "host 10.0.0.2 and ip[8] = 64": 1} {
			if got := strings.Count(testhost.Output(t, "tcpdump", "-n", "-r", in, expr), "\n"); got != n {
				t.Fatalf("link type %d: tcpdump shows %d of %s", link, got, expr)
			}
			r := tapestry(t, "watch", "-r", in, "-v", "--", expr)
			if r.code != exit.OK || strings.Count(r.out, "10.0.0.1 → 10.0.0.2  UDP 1→53") != n || strings.Count(r.out, "UDP (") != n {
				t.Errorf("link type %d, %s: exit %d, %s%s", link, expr, r.code, r.out, r.stderr)
			}
			var told api.Flows
			unmarshal(t, tapestry(t, "flows", "--json", "-r", in, "--", expr).out, &told)
			if len(told.Flows) != n || n == 1 && (told.Flows[0].A.Address != "10.0.0.1" || told.Flows[0].B.Port != 53) {
				t.Errorf("link type %d, %s: %+v", link, expr, told.Flows)
			}
			for _, name := range []string{"out.pcap", "out.pcapng"} {
				out := filepath.Join(t.TempDir(), name)
				r := tapestry(t, "capture", "-r", in, "-w", out, "--", expr)
				all := blocksOf(t, out)
				p := pick[*pcapng.Packet](all)
				if r.code != exit.OK || len(p) != n || n == 1 && !bytes.Equal(p[0].Data, data) || uint32(pick[*pcapng.Interface](all)[0].LinkType) != link {
					t.Errorf("link type %d, %s: exit %d, %s, %v", link, name, r.code, r.stderr, all)
				}
			}
		}
	}
	// A frame of an unknown link type is shown by its length, and written unchanged.
	in := saveFile(t, "in", classic(65535, 147, shortFrame, 1700000000))
	if r := tapestry(t, "watch", "-r", in); r.code != exit.OK || !strings.Contains(r.out, "frame of link type 147  14 B") {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	if r := tapestry(t, "watch", "-r", in, "--", "tcp"); r.code != exit.Usage || !strings.Contains(r.stderr, "link type 147") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

// A name with several addresses, an address with several names, wherever the file tells them: all work in filters.
func TestReadNames(t *testing.T) {
	var in bytes.Buffer
	w := pcapng.NewWriter(&in, pcapng.Section{})
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")
	if _, err := w.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet}); err != nil {
		t.Fatal(err)
	}
	for i, names := range []pcapng.Names{{{Addr: a, Name: "web"}, {Addr: a, Name: "web.mynet"}, {Addr: a, Name: "alias"}}, {{Addr: b, Name: "web"}}, {{Addr: a, Name: "late"}}} {
		frame := append(append([]byte{}, shortFrame[:12]...), "\x08\x00\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x01\x00\x35\x00\x08\x00\x00"...)
		if i == 1 {
			frame[14+15] = 9
		}
		if err := errors.Join(w.Names(names), w.WritePacket(&pcapng.Packet{Time: int64(i), Data: frame, Queue: -1})); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	path := saveFile(t, "in", in.Bytes())
	for name, n := range map[string]int{"web": 3, "web.mynet": 2, "alias": 2, "late": 2} {
		if r := tapestry(t, "watch", "-r", path, "-f", "host "+name); r.code != exit.OK || strings.Count(r.out, "\n") != n {
			t.Errorf("%s: exit %d, %s%s, want %d", name, r.code, r.out, r.stderr, n)
		}
		if name == "late" {
			continue // a pipe cannot know it at the beginning
		}
		if r := tapestryIn(t, in.Bytes(), "watch", "-r", "-", "-f", "host "+name); r.code != exit.OK || strings.Count(r.out, "\n") != n {
			t.Errorf("%s from a pipe: exit %d, %s%s, want %d", name, r.code, r.out, r.stderr, n)
		}
		out := filepath.Join(t.TempDir(), "out.pcapng")
		tapestry(t, "capture", "-r", path, "-w", out)
		if r := tapestry(t, "watch", "-r", out, "-f", "host "+name); r.code != exit.OK || strings.Count(r.out, "\n") != n {
			t.Errorf("%s in what was written again: exit %d, %s%s, want %d", name, r.code, r.out, r.stderr, n)
		}
	}
}

// A small compressed file with very many interfaces or names is refused before it takes all memory, whether they stand before the
// first packet or behind it.
func TestReadBombs(t *testing.T) {
	long := strings.Repeat("x", 60_000)
	many := make(pcapng.Names, 2000)
	for i := range many {
		many[i] = pcapng.Name{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Name: long}
	}
	for name, tell := range map[string]func(*pcapng.Writer) error{
		"interfaces": func(w *pcapng.Writer) error {
			_, err := w.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet, Description: long})
			return err
		},
		"names":      func(w *pcapng.Writer) error { return w.Names(many[:1]) },
		"statistics": func(w *pcapng.Writer) error { return w.Statistics(&pcapng.Stats{Comment: long}) },
	} {
		for _, where := range []string{"before the first packet", "behind it"} {
			kept := name == "interfaces" || where == "before the first packet"
			var in bytes.Buffer
			z := gzip.NewWriter(&in)
			w := pcapng.NewWriter(z, pcapng.Section{})
			_, err := w.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet})
			testhost.Must(t, err)
			packet := &pcapng.Packet{Data: make([]byte, 60), Queue: -1}
			if where == "behind it" {
				testhost.Must(t, w.WritePacket(packet))
			}
			for range 1300 { // 78 MB
				testhost.Must(t, tell(w))
				testhost.Must(t, w.Flush())
			}
			testhost.Must(t, w.WritePacket(packet))
			testhost.Must(t, w.Flush())
			testhost.Must(t, z.Close())
			path := saveFile(t, "in.gz", in.Bytes())
			if in.Len() > 1<<20 {
				t.Errorf("%s: it is no small file, %d bytes", name, in.Len())
			}
			r := tapestry(t, "watch", "-r", path)
			refused := strings.Contains(r.stderr, path+": it tells more than 64 MiB beside its packets")
			if refused != kept || (r.code == exit.OK) == kept {
				t.Errorf("%s %s: exit %d, %s", name, where, r.code, r.stderr)
			}
		}
	}
}
