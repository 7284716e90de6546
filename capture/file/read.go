package file

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the memory in bytes that a file packed by zstd may ask for; zstd itself unpacks no more without --long.
const maxWindow = 128 << 20

// A Source is a capture file to read, unpacked if it is packed by gzip or zstd.
type Source struct {
	io.Reader
	Disk *os.File // nil: a stream
	done func()
}

// Open opens a file for reading.
func Open(path string) (*Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := Unpack(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.Disk = f
	return s, nil
}

// Unpack reads a stream. What is packed is known by its first bytes, whatever it is called. Memory is bounded; what comes
// out of it is not.
func Unpack(r io.Reader) (*Source, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	s := &Source{Reader: b, done: func() {}}
	head, err := b.Peek(4)
	switch {
	case err != nil: // the reader says what it misses
	case head[0] == 0x1f && head[1] == 0x8b:
		if s.Reader, err = gzip.NewReader(b); err != nil {
			return nil, fmt.Errorf("unpack by gzip: %w", err)
		}
	case string(head) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("unpack by zstd: %w", err)
		}
		s.Reader, s.done = z, z.Close
	}
	return s, nil
}

// Close ends it, and closes the file that Open opened.
func (s *Source) Close() error {
	s.done()
	if s.Disk == nil {
		return nil
	}
	return s.Disk.Close()
}
