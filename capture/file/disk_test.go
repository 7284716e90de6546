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
	"github.com/tapestry-net/tapestry/test/testhost"
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

// Two captures that begin in the same second write different files.
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
		testhost.Cannot(t, err)
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
	if !errors.Is(failed, syscall.EFBIG) || !strings.Contains(failed.Error(), path+"; its first ") {
		t.Errorf("the error is %v", failed)
	}
	if err := s.Close(); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Close says %v", err)
	}
	if err := s.WritePacket(&pcapng.Packet{}); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("WritePacket says %v", err)
	}
}

// A disk that is full at the first byte: no file is left, an old file stays, and the error says so.
func TestDiskFullAtOnce(t *testing.T) {
	if path := os.Getenv("FILE_FULL"); path != "" {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 20, Max: 20}); err != nil {
			testhost.Cannot(t, err)
		}
		s, err := Create(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), path+"; "+os.Getenv("FILE_SAYS")+": ") {
			t.Error(err)
		}
		if len(s.Paths()) != 0 {
			t.Errorf("told: %v", s.Paths())
		}
		return
	}
	for says, old := range map[string]string{"no frame was written": "", "nothing was written, and what was there before still is": "\x0a\x0d\x0d\x0a an older capture"} {
		path := filepath.Join(t.TempDir(), "a.pcapng")
		if old != "" {
			if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestDiskFullAtOnce$", "-test.v")
		cmd.Env = append(os.Environ(), "FILE_FULL="+path, "FILE_SAYS="+says)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS: TestDiskFullAtOnce")) {
			t.Fatalf("%v: %s", err, out)
		}
		if now, err := os.ReadFile(path); string(now) != old || (err == nil) != (old != "") {
			t.Errorf("%q is left, %v; it was %q", now, err, old)
		}
		if all, _ := os.ReadDir(filepath.Dir(path)); len(all) > 1 {
			t.Errorf("left behind: %v", all)
		}
	}
}

// A symbolic link is followed, and a file in a directory where none can be created is overwritten.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	old := []byte("\x0a\x0d\x0d\x0a old")
	if err := errors.Join(os.WriteFile(real, old, 0o644), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	s, err := Create(Options{Path: link})
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(real); !bytes.Equal(now, old) {
		t.Errorf("changed before anything was written: %q", now)
	}
	fill(t, s, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, packets, _ := read(t, real); len(packets) != 3 {
		t.Errorf("%d packets", len(packets))
	}
	if i, err := os.Lstat(link); err != nil || i.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is gone")
	}
	for _, in := range []string{"place", "turned"} { // as a directory does that takes no file, and one that renames none
		path := filepath.Join(dir, in)
		if err := os.WriteFile(path, old, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Create(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if in == "place" {
			s.file.discard()
			s.file.File = s.file.old
		} else if err := os.Rename(s.file.temp, s.file.temp+"x"); err != nil {
			t.Fatal(err)
		}
		fill(t, s, 3)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, packets, _ := read(t, path); len(packets) != 3 {
			t.Errorf("%s: %d packets", in, len(packets))
		}
		if i, _ := os.Stat(path); i.Mode() != 0o600 {
			t.Errorf("%s: %v", in, i.Mode())
		}
	}
}

func TestDiskFullText(t *testing.T) {
	s, err := Create(Options{Path: "/dev/full"})
	if err != nil {
		testhost.Cannot(t, err)
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
	if ReaderGone(w) {
		t.Error("gone while it is there")
	}
	r.Close()
	if !ReaderGone(w) {
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
