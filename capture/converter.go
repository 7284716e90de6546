package capture

import (
	"fmt"

	"github.com/tapestry-net/tapestry/ether"
)

// A Mode is how a capture shows frames whose checksum or segmentation the kernel has left to an offload.
type Mode uint8

const (
	Fix     Mode = iota // checksums completed in the copy, super-frames not cut
	Segment             // as on a wire: super-frames cut, checksums completed
	Raw                 // as the switch gets them
)

var modes = [...]string{"fix", "segment", "raw"}

// String is the mode as --offload has it: fix, segment or raw.
func (m Mode) String() string { return modes[m] }

// ParseMode reads fix, segment or raw.
func ParseMode(text string) (Mode, error) {
	for m, name := range modes {
		if text == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("offload mode %q: want fix (checksums completed, super-frames whole), segment (cut as on a wire) or raw", text)
}

// A Converter makes frames out of records, as its Mode shows them. It keeps its memory for the next record, and is for one
// goroutine.
type Converter struct {
	Mode Mode

	buf     []byte // headroom and a record's frame
	segment []byte
	cutter  ether.Cutter
}

// Convert calls fn with each frame that r becomes, lent, and its full length in bytes; r is not changed. done is false if the
// Mode's work is incomplete, since the ring has not kept the whole frame.
func (w *Converter) Convert(r *Record, fn func(frame []byte, length int)) (done bool) {
	incomplete := r.Off.PartialChecksum || r.Off.Kind != ether.None
	if w.Mode == Raw || !incomplete {
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
	f.Off.Kind = ether.None // a super-frame's checksum is over all of it
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

// cutSegments calls fn with each segment of a super-frame, and returns their number; 0 if it is none.
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
