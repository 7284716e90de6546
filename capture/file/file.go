// Package file writes a capture into one file, or into a set of files that rotates; and it opens capture files, packed or not.
//
// Each file can be read alone: it begins with the section and all interfaces and names known by then, and ends with the
// statistics of its interfaces. After any failure the file on the disk ends with a complete block.
package file

import (
	"errors"
	"fmt"
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
	LinkType int           // of classic pcap
	SnapLen  int           // bytes of a packet in classic pcap; 0: pcapng.MaxSnapLen
	MaxBytes int64         // of a file, after which the next begins; 0: no bound
	Every    time.Duration // span of packets' time in a file, after which the next begins; 0: no bound
	Keep     int           // how many files stay, the latest ones; 0: all
	Begin    time.Time     // in the name of the first of many files; zero: now
	Force    bool          // replace any regular file, not only a capture
	Section  pcapng.Section
}

// rotates tells whether there are many files, with names of their own.
func (o *Options) rotates() bool { return o.MaxBytes > 0 || o.Every > 0 }

// blocks is what pcapng's two writers have in common.
type blocks interface {
	AddInterface(*pcapng.Interface) (int, error)
	Names(pcapng.Names) error
	WritePacket(*pcapng.Packet) error
	Statistics(*pcapng.Stats) error
	Flush() error
	Size() int64
	Packets() uint64
}

// A Set is the files of one capture. It is for one goroutine.
type Set struct {
	o    Options
	file *target
	blocks
	paths  []string // of the files that exist
	counts []Count  // of each of them
	number int      // of the file, from 1

	interfaces []pcapng.Interface
	counters   []counters
	names      pcapng.Names
	spanStart  int64  // time of the file's first packet; with Every, when its span begins; 0: none yet
	first      int64  // time of the earliest packet in the file
	last       int64  // time of the latest packet
	packets    int    // in the file
	lastID     uint64 // of the previous packet
	complete   int64  // bytes that are flushed
	err        error  // that ended the set
}

// Create creates the first file. An existing capture or empty file is replaced at the first write; another regular file is an
// error unless Force is set. A pipe or a device is written to.
func Create(o Options) (*Set, error) {
	if o.Keep > 0 && !o.rotates() {
		return nil, errors.New("how many files to keep needs a size or a time after which the next one begins")
	}
	s := &Set{o: o}
	if o.rotates() {
		if i, err := os.Stat(o.Path); err == nil && !i.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is %s, and many files need names of their own: want a path as db.pcapng",
				o.Path, kind(i.Mode()))
		}
	}
	at := o.Begin
	if at.IsZero() {
		at = time.Now()
	}
	return s, s.begin(at)
}

// begin makes a file.
func (s *Set) begin(at time.Time) (err error) {
	path := s.o.Path
	if s.o.rotates() {
		s.file, path, err = s.createNext(at)
	} else {
		s.file, err = open(path, s.o.Force)
	}
	if err != nil {
		return err
	}
	s.paths, s.counts = append(s.paths, path), append(s.counts, Count{})
	if s.o.Keep > 0 && len(s.paths) > s.o.Keep {
		err = os.Remove(s.paths[0])
		s.paths, s.counts = s.paths[1:], s.counts[1:]
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // somebody has removed it
	}
	s.packets, s.complete = 0, 0
	if s.o.Pcap {
		s.blocks = pcapng.NewPcapWriter(s.file, s.o.LinkType, s.o.SnapLen)
	} else {
		s.blocks = pcapng.NewWriter(s.file, s.o.Section)
	}
	for i := range s.interfaces {
		if _, err := s.blocks.AddInterface(&s.interfaces[i]); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return errors.Join(err, s.blocks.Names(s.names))
}

// createNext makes a file of a set, named as Wireshark names its own, whose File Set menu then finds them:
// PREFIX_NNNNN_YYYYMMDDHHMMSS.EXT, the time being local.
func (s *Set) createNext(at time.Time) (t *target, path string, err error) {
	t = new(target)
	ext := filepath.Ext(s.o.Path)
	for range 1000 { // an earlier capture may have used numbers in the same second
		s.number++
		path = fmt.Sprintf("%s_%05d_%s%s", strings.TrimSuffix(s.o.Path, ext), s.number, at.Local().Format("20060102150405"),
			ext)
		t.path = path
		t.File, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	return t, path, err
}

// isCapture tells whether a file begins like pcapng or pcap, of either byte order.
func isCapture(magic [4]byte) bool {
	switch magic {
	case [4]byte{0x0a, 0x0d, 0x0d, 0x0a}, [4]byte{0xd4, 0xc3, 0xb2, 0xa1}, [4]byte{0xa1, 0xb2, 0xc3, 0xd4},
		[4]byte{0x4d, 0x3c, 0xb2, 0xa1}, [4]byte{0xa1, 0xb2, 0x3c, 0x4d},
		[4]byte{0x34, 0xcd, 0xb2, 0xa1}, [4]byte{0xa1, 0xb2, 0xcd, 0x34}:
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

// Paths are the files that exist, the oldest first.
func (s *Set) Paths() []string { return s.paths }

// A Count is how much a file holds. Consecutive packets with the same ID are one frame.
type Count struct{ Frames, Packets uint64 }

// Kept is how much is in the files that exist: with Keep, less than was written.
func (s *Set) Kept() (n Count) {
	for _, c := range s.counts {
		n.Frames += c.Frames
		n.Packets += c.Packets
	}
	return n
}

// ReaderGone tells whether the file is a pipe that nobody reads any more.
func (s *Set) ReaderGone() bool { return s.file != nil && ReaderGone(s.file.File) }

// ReaderGone tells whether f is a pipe or a socket that nobody reads any more, without writing to it.
func ReaderGone(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = raw.Control(func(fd uintptr) { // it fails if the file is closed: then the next write reports that
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n == 1 && p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	return gone
}
