package file

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

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
		cannot(t, err)
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
		cannot(t, err)
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
