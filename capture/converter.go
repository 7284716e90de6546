package capture

import (
	"fmt"

	"github.com/tapestry-net/tapestry/ether"
)

// A Mode is how a capture shows what the kernel has left undone: checksums, and the cutting of super-frames.
type Mode uint8

const (
	Fix     Mode = iota // checksums finished in the copy, super-frames whole
	Segment             // as on a wire: super-frames cut, checksums finished
	Raw                 // as the switch sees it
)

var modes = [...]string{"fix", "segment", "raw"}

func (m Mode) String() string { return modes[m] }

// ParseMode reads fix, segment or raw.
func ParseMode(text string) (Mode, error) {
	for m, name := range modes {
		if text == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("offload mode %q: want fix (checksums finished, super-frames whole), segment (cut as on a wire) or raw", text)
}

// A Converter turns records into frames as its Mode shows them. Its memory is there after the first frames; it is one
// goroutine's.
type Converter struct {
	Mode Mode

	buf     []byte // headroom and a record's frame
	segment []byte
	cutter  ether.Cutter
}

// Convert gives fn the frames that r becomes, with their true length in bytes; they are lent, and r stays as it is. done
// is false if something is left undone although it should not be, since the ring has not kept the whole frame.
func (w *Converter) Convert(r *Record, fn func(frame []byte, length int)) (done bool) {
	unfinished := r.Off.PartialChecksum || r.Off.Kind != ether.None
	if w.Mode == Raw || !unfinished {
		fn(r.Data, r.Len)
		return true
	}
	if len(r.Data) < r.Len {
		fn(r.Data, r.Len)
		return !r.Off.PartialChecksum && w.Mode == Fix
	}
	if w.Mode == Segment && r.Off.Kind != ether.None {
		if w.cutSegments(r, fn) > 0 {
			return true
		}
	}
	f := w.frame(r)
	f.Off.Kind = ether.None // the sum of a super-frame's is over all of it
	f.CompleteChecksum()
	fn(f.Bytes(), r.Len)
	return !f.Off.PartialChecksum
}

// frame makes a frame of a record.
func (w *Converter) frame(r *Record) ether.Frame {
	if w.buf == nil {
		w.buf = make([]byte, ether.Headroom, ether.Headroom+ether.MaxFrame)
	}
	w.buf = append(w.buf[:ether.Headroom], r.Data...)
	return ether.Lend(w.buf, r.Off)
}

// cutSegments gives fn the segments of a super-frame, and their number; 0 if it is none.
func (w *Converter) cutSegments(r *Record, fn func(frame []byte, length int)) (n int) {
	f := w.frame(r)
	if f.Check() != nil { // it was dropped for that
		return 0
	}
	if w.segment == nil {
		w.segment = make([]byte, ether.MaxHead+ether.MaxFrame)
	}
	for w.cutter.Reset(&f); ; n++ {
		head, payload, ok := w.cutter.Next(w.segment)
		if !ok {
			return n
		}
		length := head + copy(w.segment[head:], payload)
		fn(w.segment[:length], length)
	}
}
