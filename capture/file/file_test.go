package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC).UnixNano()

// fill writes n packets of 100 bytes, ten a second, on two interfaces; each tenth has lost one before it.
func fill(t *testing.T, s *Set, n int) {
	t.Helper()
	for i := range 2 {
		if _, err := s.AddInterface(&pcapng.Interface{Name: fmt.Sprintf("port%d", i), LinkType: pcapng.Ethernet}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Names(pcapng.Names{{Addr: netip.MustParseAddr("10.0.0.1"), Name: "web"}}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		p := pcapng.Packet{Interface: i % 2, Time: start + int64(i)*1e8, Data: bytes.Repeat([]byte{byte(i)}, 100), ID: uint64(i + 1), Queue: -1}
		if i%10 == 9 {
			p.Drops = 1
		}
		if err := s.WritePacket(&p); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// read reads a file, which must be complete.
func read(t *testing.T, path string) (interfaces, names int, packets []pcapng.Packet, books map[int]pcapng.Stats) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	books = map[int]pcapng.Stats{}
	for r := pcapng.NewReader(f); ; {
		b, err := r.Next()
		switch b := b.(type) {
		case *pcapng.Interface:
			interfaces++
		case pcapng.Names:
			names += len(b)
		case *pcapng.Packet:
			p := *b
			p.Data = bytes.Clone(b.Data)
			packets = append(packets, p)
		case *pcapng.Stats:
			books[b.Interface] = *b
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

func TestOneFile(t *testing.T) {
	for _, name := range []string{"a.pcapng", "a.pcap"} {
		path := filepath.Join(t.TempDir(), name)
		s, err := Create(Options{Path: path, Pcap: name == "a.pcap"})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, s, 100)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, packets, books := read(t, path)
		if len(packets) != 100 {
			t.Errorf("%d packets", len(packets))
		}
		if name == "a.pcapng" && (books[0].Delivered != 50 || books[1].Dropped != 10 || books[1].Accepted != 60 || books[1].End != start+99e8) {
			t.Errorf("books %+v", books)
		}
		if i, _ := os.Stat(path); i.Mode() != 0o600 {
			t.Errorf("mode %v", i.Mode())
		}
		if s.Close() != nil {
			t.Error("a second Close fails")
		}
	}
}

func TestRotation(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     Options
		files int
	}{
		{"size", Options{MaxBytes: 5000}, 4},
		{"time", Options{Every: 2 * time.Second}, 5},
		{"both", Options{MaxBytes: 1 << 20, Every: 5 * time.Second}, 2},
		{"keep", Options{Every: 2 * time.Second, Keep: 3}, 3},
		{"pcap", Options{Every: 2 * time.Second, Pcap: true}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.o.Path, c.o.Begin = filepath.Join(dir, "db.pcapng"), time.Unix(0, start)
			s, err := Create(c.o)
			if err != nil {
				t.Fatal(err)
			}
			fill(t, s, 100)
			// The source's books: 20 frames that the filter refused came to interface 0.
			if err := s.Statistics(&pcapng.Stats{Interface: 0, Start: start, End: start + 99e8, Received: 70, Accepted: 50, Delivered: 50}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			found, _ := filepath.Glob(filepath.Join(dir, "*"))
			if len(found) != c.files || strings.Join(found, " ") != strings.Join(s.Paths(), " ") {
				t.Fatalf("%d files, want %d: %v, told %v", len(found), c.files, found, s.Paths())
			}
			var all int
			var sum pcapng.Stats
			last := int64(0)
			for _, path := range found {
				if !regexp.MustCompile(`/db_\d{5}_\d{14}\.pcapng$`).MatchString(path) {
					t.Errorf("%s is no name of a file set", path)
				}
				interfaces, names, packets, books := read(t, path)
				if !c.o.Pcap && (interfaces != 2 || names != 1 || len(books) != 2) {
					t.Errorf("%s has %d interfaces, %d names, books %v", path, interfaces, names, books)
				}
				if i, _ := os.Stat(path); c.o.MaxBytes > 0 && i.Size() > c.o.MaxBytes {
					t.Errorf("%s has %d bytes, want at most %d", path, i.Size(), c.o.MaxBytes)
				}
				for _, p := range packets {
					if p.Time <= last || c.o.Every > 0 && p.Time-packets[0].Time >= int64(c.o.Every) {
						t.Errorf("%s: packet of %d behind %d", path, p.Time-start, last-start)
					}
					last = p.Time
				}
				all += len(packets)
				for _, b := range books {
					sum.Received += b.Received
					sum.Accepted += b.Accepted
					sum.Delivered += b.Delivered
					sum.Dropped += b.Dropped
				}
			}
			if c.o.Keep > 0 {
				if all != 60 {
					t.Errorf("%d packets are left, want 60", all)
				}
				return
			}
			if all != 100 || !c.o.Pcap && (sum.Received != 130 || sum.Accepted != 110 || sum.Delivered != 100 || sum.Dropped != 10) {
				t.Errorf("%d packets; the books add up to %+v", all, sum)
			}
		})
	}
}

// The files of a set, joined by mergecap, are the capture.
func TestMerged(t *testing.T) {
	for _, tool := range []string{"mergecap", "tshark", "capinfos"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("TAPESTRY_MUST") == "1" {
				t.Fatal(err)
			}
			t.Skip("needs ", tool)
		}
	}
	dir := t.TempDir()
	write := func(o Options) []string {
		o.Begin = time.Unix(0, start)
		s, err := Create(o)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, s, 100)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return s.Paths()
	}
	run := func(name string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), name, args...).Output()
		if err != nil {
			t.Fatalf("%s %v: %v, %s", name, args, err, out)
		}
		return string(out)
	}
	fields := func(path string) string {
		return run("tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.packet_id", "-e", "eth.src")
	}
	whole := write(Options{Path: filepath.Join(dir, "whole.pcapng")})[0]
	parts := write(Options{Path: filepath.Join(dir, "part.pcapng"), MaxBytes: 5000})
	for _, p := range parts {
		if out := run("capinfos", "-cM", p); !strings.Contains(out, "Number of packets") {
			t.Errorf("capinfos says %s", out)
		}
	}
	merged := filepath.Join(dir, "merged.pcapng")
	run("mergecap", append([]string{"-w", merged}, parts...)...)
	if got, want := fields(merged), fields(whole); got != want || strings.Count(want, "\n") != 100 {
		t.Errorf("%d parts make\n%s\nwant\n%s", len(parts), got, want)
	}
}

func TestWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path  string
		force bool
		want  string // "": is replaced
	}{
		{file("capture", "\x0a\x0d\x0d\x0a rest of a capture", 0o644), false, ""},
		{file("pcap", "\x4d\x3c\xb2\xa1 rest of a capture", 0o644), false, ""},
		{file("empty", "", 0o644), false, ""},
		{file("letter", "Dear Ada", 0o644), false, "is there and is no capture: want another path, or --force"},
		{file("short", "D", 0o644), false, "is no capture"},
		{file("forced", "Dear Ada", 0o644), true, ""},
		{dir, true, "is a directory: want the path of a file"},
		{filepath.Join(dir, "none", "a"), false, "no such file or directory"},
	} {
		before, _ := os.ReadFile(c.path)
		s, err := Create(Options{Path: c.path, Force: c.force})
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", c.path, err, c.want)
			}
			if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
				t.Errorf("%s was changed", c.path)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		fill(t, s, 1)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, _, packets, _ := read(t, c.path); len(packets) != 1 {
			t.Errorf("%s has %d packets", c.path, len(packets))
		}
		if i, _ := os.Stat(c.path); i.Mode() != 0o600 {
			t.Errorf("%s has mode %v", c.path, i.Mode())
		}
	}
	if _, err := Create(Options{Path: "/dev/null", MaxBytes: 5000}); err == nil || !strings.Contains(err.Error(), "is a device") {
		t.Errorf("a set into a device: %v", err)
	}
	if _, err := Create(Options{Path: filepath.Join(dir, "x"), Keep: 2}); err == nil {
		t.Error("Keep without a bound is no error")
	}
	if s, err := Create(Options{Path: "/dev/null"}); err != nil || s.Close() != nil {
		t.Errorf("a device: %v", err)
	}
}

// Two captures that begin in the same second share no file.
func TestSameSecond(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "a.pcapng"), MaxBytes: 5000, Begin: time.Unix(0, start)}
	a, err := Create(o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Create(o)
	if err != nil || a.Paths()[0] == b.Paths()[0] {
		t.Errorf("%v and %v, %v", a.Paths(), b.Paths(), err)
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

// A full disk: RLIMIT_FSIZE makes one without root, which a write meets in the middle of a block as it meets ENOSPC.
func TestDiskFull(t *testing.T) {
	if path := os.Getenv("FILE_FULL"); path != "" {
		full(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "a.pcapng")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), "FILE_FULL="+path)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS: TestDiskFull")) {
		t.Fatalf("%v: %s", err, out)
	}
	_, _, packets, _ := read(t, path)
	if i, _ := os.Stat(path); len(packets) < 50 || i.Size() > 10001 || i.Size() < 9700 {
		t.Errorf("%d packets in %d bytes are left", len(packets), i.Size())
	}
}

// full fills a file that may have 10001 bytes.
func full(t *testing.T, path string) {
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10001, Max: 10001}); err != nil {
		t.Skip(err)
	}
	s, err := Create(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddInterface(&pcapng.Interface{LinkType: pcapng.Ethernet}); err != nil {
		t.Fatal(err)
	}
	var failed error
	for i := 0; i < 1000 && failed == nil; i++ {
		p := pcapng.Packet{Time: start, Data: make([]byte, 100), Queue: -1}
		if failed = s.WritePacket(&p); failed == nil && i%7 == 0 {
			failed = s.Flush()
		}
	}
	if !errors.Is(failed, syscall.EFBIG) || !strings.Contains(failed.Error(), path+", which is complete up to there") {
		t.Errorf("the error is %v", failed)
	}
	if err := s.Close(); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Close says %v", err)
	}
	if err := s.WritePacket(&pcapng.Packet{}); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("WritePacket says %v", err)
	}
}

func TestDiskFullText(t *testing.T) {
	s, err := Create(Options{Path: "/dev/full"})
	if err != nil {
		t.Skip(err)
	}
	if err := s.Close(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk of /dev/full is full") {
		t.Errorf("%v", err)
	}
}

func TestGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if Gone(w) {
		t.Error("gone while it is there")
	}
	r.Close()
	if !Gone(w) {
		t.Error("there while it is gone")
	}
}

func TestNoAllocs(t *testing.T) {
	s, err := Create(Options{Path: filepath.Join(t.TempDir(), "a.pcapng")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fill(t, s, 100)
	p := &pcapng.Packet{Time: start + 1e12, Data: make([]byte, 1000), Queue: -1}
	if n := testing.AllocsPerRun(100, func() {
		if s.WritePacket(p) != nil || s.Flush() != nil {
			t.Error("fails")
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
