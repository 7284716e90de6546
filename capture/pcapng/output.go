package pcapng

import (
	"fmt"
	"io"
	"math"
)

// output is what both writers have in common: the buffer, and the limits of the formats.
type output struct {
	w          io.Writer
	buf        []byte // complete blocks that are not written yet
	written    int64  // bytes of complete blocks that were written
	err        error  // of the Flush that failed
	snap       int    // bytes; 0 before the first interface
	interfaces int
	packets    uint64 // that were written completely
	buffered   uint64 // packets in buf
}

// Size returns the file's size in bytes, with what Flush has not written yet. After a failed Flush it is the size of the
// complete blocks that were written: a file that is truncated to it is valid.
func (o *output) Size() int64 { return o.written + int64(len(o.buf)) }

// Packets returns how many packets Flush has written completely, also if it failed.
func (o *output) Packets() uint64 { return o.packets }

// flush writes the buffer in one Write. whole tells how many of some bytes are complete blocks, and how many packets these
// hold.
func (o *output) flush(whole func([]byte) (n int, packets uint64)) error {
	if o.err != nil || len(o.buf) == 0 {
		return o.err
	}
	n, err := o.w.Write(o.buf)
	if err == nil && n < len(o.buf) {
		err = io.ErrShortWrite
	}
	if err != nil {
		o.err = fmt.Errorf("write capture: %w", err)
		n, o.buffered = whole(o.buf[:max(0, min(n, len(o.buf)))])
	}
	o.packets, o.buffered = o.packets+o.buffered, 0
	o.written += int64(n)
	o.buf = o.buf[:0]
	return o.err
}

// checkInterface checks that the format can hold an interface, and returns its snap length in bytes.
func (o *output) checkInterface(i *Interface) (snap int, err error) {
	if o.err != nil {
		return 0, o.err
	}
	if i.LinkType < 0 || i.LinkType > math.MaxUint16 {
		return 0, fmt.Errorf("interface %q has link type %d, want 0 to %d", i.Name, i.LinkType, math.MaxUint16)
	}
	snap = snapLength(i.SnapLen)
	if o.snap != 0 && snap != o.snap {
		return 0, fmt.Errorf("interface %q has snap length %d, want %d as the rest of the file", i.Name, snap, o.snap)
	}
	return snap, nil
}

// snapLength is what is written for a snap length: MaxSnapLen for 0 and for anything larger, which mean no limit.
func snapLength(n int) int {
	if n <= 0 || n > MaxSnapLen {
		return MaxSnapLen
	}
	return n
}

// since1970 is a time that both formats can hold: not before 1970.
func since1970(ns int64) int64 { return max(ns, 0) }

// checkPacket checks that the format can hold a packet.
func (o *output) checkPacket(p *Packet) error {
	switch {
	case o.err != nil:
		return o.err
	case uint(p.Interface) >= uint(o.interfaces):
		return o.noInterface(p.Interface)
	case p.Len < 0 || p.Len > math.MaxInt32:
		return fmt.Errorf("packet's length is %d bytes, want 0 to %d", p.Len, math.MaxInt32)
	case p.Queue > math.MaxInt32:
		return fmt.Errorf("packet's queue is %d, want at most %d", p.Queue, math.MaxInt32)
	case len(p.Verdict) > math.MaxUint16:
		return fmt.Errorf("packet's verdict has %d bytes, want at most %d", len(p.Verdict), math.MaxUint16)
	}
	return nil
}

func (o *output) noInterface(index int) error {
	return fmt.Errorf("no interface %d, the file has %d so far", index, o.interfaces)
}

// truncate counts a packet, and returns its data cut to the snap length, and its length on the wire.
func (o *output) truncate(p *Packet) (data []byte, wire int) {
	o.buffered++
	return p.Data[:min(len(p.Data), o.snap)], max(p.Len, len(p.Data))
}
