package file

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
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
	Disk *os.File // the file that Open opened; nil: a stream
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

// Unpack reads a stream, and unpacks it if its first bytes are those of gzip (RFC 1952; with any number of members) or zstd
// (RFC 8878; with any number of frames). It needs some 100 kB of memory, and for zstd up to maxWindow; the length of the
// result is not bounded. Its Reader returns io.EOF only after the last byte; errors of unpacking begin with "unpack by".
func Unpack(r io.Reader) (*Source, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	s := &Source{Reader: b, done: func() {}}
	head, err := b.Peek(4)
	switch {
	case err != nil: // shorter than 4 bytes: whoever parses it reports that
	case head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, unpackError("gzip", err)
		}
		s.Reader = unpacker{z, "gzip"}
	case isZstd([4]byte(head)):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, unpackError("zstd", err)
		}
		s.Reader, s.done = unpacker{z, "zstd"}, z.Close
	}
	return s, nil
}

// isZstd tells whether a stream begins like zstd: with a frame, or with a skippable frame as pzstd writes (RFC 8878 section 3.1).
func isZstd(head [4]byte) bool {
	const frame, skip = 0xfd2fb528, 0x184d2a50
	magic := binary.LittleEndian.Uint32(head[:])
	return magic == frame || magic&^0xf == skip
}

// An unpacker adds to its errors what it was doing.
type unpacker struct {
	io.Reader
	by string
}

func (u unpacker) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = unpackError(u.by, err)
	}
	return n, err
}

func unpackError(by string, err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("unpack by %s: the file is cut off: %w", by, io.ErrUnexpectedEOF)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("unpack by zstd: it takes more than %d MiB of memory to unpack: do that first, zstd -d --long=31", maxWindow>>20)
	}
	return fmt.Errorf("unpack by %s: %w", by, err)
}

// Close frees the unpacker's memory, and closes the file that Open opened.
func (s *Source) Close() error {
	s.done()
	if s.Disk == nil {
		return nil
	}
	return s.Disk.Close()
}
