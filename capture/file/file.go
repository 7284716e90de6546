// Package file writes a capture into a file, or into many that follow each other.
//
// Each file opens alone: it begins with the section, all interfaces and all names that are known by then, and ends with
// its interfaces' books. Whatever goes wrong, what is left on the disk ends with a whole block.
package file

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// Options say where a capture goes.
type Options struct {
	Path     string
	Pcap     bool          // classic pcap
	SnapLen  int           // bytes of a packet in classic pcap; 0: pcapng.MaxSnapLen
	MaxBytes int64         // of a file, after which the next begins; 0: no bound
	Every    time.Duration // of packets' time in a file, after which the next begins; 0: no bound
	Keep     int           // files, of which the oldest are removed; 0: all
	Begin    time.Time     // in the name of the first of many files; zero: now
	Force    bool          // replace any regular file, not only a capture
	Section  pcapng.Section
}

// many tells whether the names are those of a file set.
func (o *Options) many() bool { return o.MaxBytes > 0 || o.Every > 0 }

// blocks is what pcapng's two writers have in common.
type blocks interface {
	AddInterface(*pcapng.Interface) (int, error)
	Names(pcapng.Names) error
	WritePacket(*pcapng.Packet) error
	Statistics(*pcapng.Stats) error
	Flush() error
	Size() int64
}

// A Set is the files of one capture. It is for one goroutine.
type Set struct {
	o    Options
	file *os.File
	blocks
	paths  []string // that are there
	number int      // of the file, from 1

	interfaces []pcapng.Interface
	books      []books
	names      pcapng.Names
	named      map[netip.Addr]int // in names
	from       int64              // time of the file's first packet; with Every, when its span begins; 0: none yet
	last       int64              // time of the last packet
	packets    int                // in the file
	complete   int64              // bytes that are flushed
	err        error              // that ended it
}

// Create makes the first file. A capture or an empty file that is there already is replaced; another regular file is
// not, unless Force is set. A pipe or a device is written to as it is.
func Create(o Options) (*Set, error) {
	if o.Keep > 0 && !o.many() {
		return nil, errors.New("how many files to keep needs a size or a time after which the next one begins")
	}
	s := &Set{o: o}
	if o.many() {
		if i, err := os.Stat(o.Path); err == nil && !i.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is %s, and many files need names of their own: want a path as db.pcapng",
				o.Path, kind(i.Mode()))
		}
	}
	at := o.Begin
	if at.IsZero() {
		at = time.Now()
	}
	return s, s.next(at)
}

// next makes a file.
func (s *Set) next(at time.Time) (err error) {
	path := s.o.Path
	if s.o.many() {
		s.file, path, err = s.fresh(at)
	} else {
		s.file, err = open(path, s.o.Force)
	}
	if err != nil {
		return err
	}
	s.paths = append(s.paths, path)
	if s.o.Keep > 0 && len(s.paths) > s.o.Keep {
		err = os.Remove(s.paths[0])
		s.paths = s.paths[1:]
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // somebody took it away
	}
	s.packets, s.complete = 0, 0
	if s.o.Pcap {
		w, bad := pcapng.NewPcapWriter(s.file, s.o.SnapLen)
		if bad != nil {
			return bad
		}
		s.blocks = w
	} else {
		s.blocks = pcapng.NewWriter(s.file, s.o.Section)
	}
	for i := range s.interfaces {
		if _, err := s.blocks.AddInterface(&s.interfaces[i]); err != nil {
			return err
		}
	}
	return errors.Join(err, s.blocks.Names(s.names))
}

// fresh makes a file of a set, named as Wireshark names its own, whose File Set menu then finds them:
// PREFIX_NNNNN_YYYYMMDDHHMMSS.EXT, the time being local.
func (s *Set) fresh(at time.Time) (f *os.File, path string, err error) {
	ext := filepath.Ext(s.o.Path)
	for range 1000 { // what an earlier capture left in the same second
		s.number++
		path = fmt.Sprintf("%s_%05d_%s%s", strings.TrimSuffix(s.o.Path, ext), s.number, at.Local().Format("20060102150405"),
			ext)
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	return f, path, err
}

// open opens the only file.
func open(path string, force bool) (*os.File, error) {
	if i, err := os.Stat(path); err == nil && i.IsDir() {
		return nil, fmt.Errorf("%s is a directory: want the path of a file", path)
	} else if err == nil && !i.Mode().IsRegular() {
		return os.OpenFile(path, os.O_WRONLY, 0)
	}
	// No O_TRUNC: what is there may be somebody's letters.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := own(f, force); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// own empties a file that was there already, and makes it as private as a new one.
func own(f *os.File, force bool) error {
	i, err := f.Stat()
	if err != nil {
		return err
	}
	if !i.Mode().IsRegular() {
		return fmt.Errorf("%s is %s: want a file", f.Name(), kind(i.Mode()))
	}
	var magic [4]byte
	if n, _ := f.ReadAt(magic[:], 0); n > 0 && !force && !isCapture(magic) {
		return fmt.Errorf("%s is there and is no capture: want another path, or --force to replace it", f.Name())
	}
	if err := f.Chmod(0o600); err != nil && !force {
		return fmt.Errorf("%s belongs to somebody else, who could read the capture: want another path, or --force (%w)",
			f.Name(), err)
	}
	if err := f.Chown(os.Geteuid(), os.Getegid()); err != nil && !force {
		return fmt.Errorf("%s belongs to somebody else, who could read the capture: want another path, or --force (%w)",
			f.Name(), err)
	}
	return f.Truncate(0)
}

// isCapture tells what pcapng and pcap files of either byte order begin with.
func isCapture(magic [4]byte) bool {
	switch magic {
	case [4]byte{0x0a, 0x0d, 0x0d, 0x0a}, [4]byte{0xd4, 0xc3, 0xb2, 0xa1}, [4]byte{0xa1, 0xb2, 0xc3, 0xd4},
		[4]byte{0x4d, 0x3c, 0xb2, 0xa1}, [4]byte{0xa1, 0xb2, 0x3c, 0x4d}:
		return true
	}
	return false
}

func kind(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeNamedPipe != 0:
		return "a pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// Paths are the files that are there, the oldest first.
func (s *Set) Paths() []string { return s.paths }

// Gone tells whether what is written to is a pipe that nobody reads any more.
func (s *Set) Gone() bool { return s.file != nil && Gone(s.file) }

// Gone tells whether f is a pipe or a socket that nobody reads any more, which else only a write would tell.
func Gone(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = raw.Control(func(fd uintptr) { // of a closed file: the next write tells
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n == 1 && p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	return gone
}
