package pcapng

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
)

// maxInterfaces is how many interfaces one section may have.
const maxInterfaces = 1 << 16

// Reader reads a pcapng or a classic pcap file. It needs memory for one block, at most 16 MiB, and does not wait for more input
// than the block needs, so that a live stream can be read block by block. A Reader is for one goroutine.
type Reader struct {
	r        *bufio.Reader
	readNext func() (Block, error) // the file's next block
	order    binary.ByteOrder      // of the section, or of the pcap file
	pos      int64                 // bytes before the block that step reads
	buf      []byte
	packet   Packet
	err      error

	clocks         []clock // pcapng: of the section's interfaces
	firstInterface int     // pcapng: the index of the section's first interface
	tick           int64   // pcap: ns in a unit of a record's fraction of a second
	recordHeader   int     // pcap: bytes before a packet

	swapped, maybeSwapped bool // pcap: the two lengths of each record are swapped; swapped if only that makes sense
}

// NewReader returns a reader of r. It reads nothing before the first Next.
func NewReader(r io.Reader) *Reader {
	n := &Reader{r: bufio.NewReaderSize(r, 64<<10)}
	n.readNext = n.open
	return n
}

// Next returns the next block: *Section, *Interface, *Packet, Names or *Stats. A Packet and its bytes are lent until
// the next call. Blocks and options of other kinds are skipped. A classic pcap file has one Section and one Interface,
// both without texts.
//
// At the file's end the error is io.EOF. If the file ends within a block, the error wraps io.ErrUnexpectedEOF, after all
// complete blocks were returned. After an error every call returns it again.
func (r *Reader) Next() (Block, error) {
	for r.err == nil {
		pos := r.pos
		b, err := r.readNext()
		if err == io.EOF {
			r.err = err
		} else if err != nil {
			r.err = fmt.Errorf("capture file at byte %d: %w", pos, err)
		} else if b != nil {
			return b, nil
		}
	}
	return nil, r.err
}

// open finds out the file's format.
func (r *Reader) open() (Block, error) {
	b, err := r.peek(4)
	if err == io.EOF {
		return nil, fmt.Errorf("nothing there, want a pcapng or pcap file: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	if le.Uint32(b) == blockSection {
		r.readNext = r.block
		return nil, nil
	}
	for _, order := range []binary.ByteOrder{le, binary.BigEndian} {
		switch order.Uint32(b) {
		case magicMicro:
			return r.openPcap(order, 1000, pcapRecord)
		case magicNano:
			return r.openPcap(order, 1, pcapRecord)
		case magicLong:
			return r.openPcap(order, 1000, longRecord)
		}
	}
	return nil, fmt.Errorf("file begins with % x, want 0a 0d 0d 0a (pcapng), or a1 b2 c3 d4 or a1 b2 3c 4d in either "+
		"byte order (pcap)", b)
}

// block reads a block of pcapng.
func (r *Reader) block() (Block, error) {
	b, err := r.peek(12) // the shortest block, and a section's byte order
	if err != nil {
		return nil, err
	}
	if le.Uint32(b) == blockSection {
		if le.Uint32(b[8:]) == byteOrder {
			r.order = le
		} else if binary.BigEndian.Uint32(b[8:]) == byteOrder {
			r.order = binary.BigEndian
		} else {
			return nil, fmt.Errorf("section has the byte order % x, want 1a 2b 3c 4d or 4d 3c 2b 1a", b[8:12])
		}
	}
	kind, n := r.order.Uint32(b), r.order.Uint32(b[4:])
	if n < 12 || n%4 != 0 || n > maxBlock {
		return nil, fmt.Errorf("block has %d bytes, want a multiple of 4 from 12 to %d", n, maxBlock)
	}
	if b, err = r.fill(int(n)); err != nil {
		return nil, err
	}
	if again := r.order.Uint32(b[n-4:]); again != n {
		return nil, fmt.Errorf("block begins with length %d and ends with %d, want the same", n, again)
	}
	body := b[8 : n-4]
	switch kind {
	case blockSection:
		return r.section(body)
	case blockInterface:
		return r.iface(body)
	case blockPacket:
		return r.enhanced(body)
	case blockObsolete:
		return r.obsolete(body)
	case blockSimple:
		return r.simple(body)
	case blockNames:
		return r.names(body)
	case blockStats:
		return r.statistics(body)
	}
	return nil, nil
}

// peek returns the next n bytes without reading them: io.EOF if there are none, io.ErrUnexpectedEOF if there are fewer.
func (r *Reader) peek(n int) ([]byte, error) {
	b, err := r.r.Peek(n)
	if err == io.EOF && len(b) > 0 {
		err = cutOff(len(b))
	}
	return b, err
}

// fill reads n bytes into the buffer. The buffer grows with what is read: a block's length may be a lie.
func (r *Reader) fill(n int) ([]byte, error) {
	b := r.buf[:0]
	for len(b) < n {
		more := min(n-len(b), max(len(b), 64<<10))
		b = slices.Grow(b, more)
		m, err := io.ReadFull(r.r, b[len(b):len(b)+more])
		b = b[:len(b)+m]
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, cutOff(len(b))
		}
		if err != nil {
			return nil, err
		}
	}
	r.buf = b
	r.pos += int64(n)
	return b, nil
}

func cutOff(n int) error {
	return fmt.Errorf("file is cut off %d bytes further: %w", n, io.ErrUnexpectedEOF)
}

// clamp converts a length that may be a lie to an int.
func clamp(n uint32) int { return int(min(n, math.MaxInt32)) }
