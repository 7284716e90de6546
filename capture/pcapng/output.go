package pcapng

import (
	"fmt"
	"io"
	"math"
)

// output is what both writers share: the buffer, and the rules of what a file can hold.
type output struct {
	w          io.Writer
	buf        []byte // whole blocks that w has not got
	written    int64  // bytes of whole blocks that w has got
	err        error  // of the Flush that failed
	snap       int    // bytes; 0 before the first interface
	interfaces int
	packets    uint64 // that w has got, whole
	buffered   uint64 // in buf
}

// Size returns the file's size in bytes, with what Flush has not written yet. After a failed Flush it is the
// size of the whole blocks that were written: a file cut to it is complete.
func (o *output) Size() int64 { return o.written + int64(len(o.buf)) }

// Packets returns how many packets Flush has written, whole ones also when it failed.
func (o *output) Packets() uint64 { return o.packets }

// flush returns the buffer to w in one Write. whole tells how many of some bytes are whole blocks, and how many packets
// are in these.
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

// checkInterface holds an interface against the file's rules, and gives back its snap length in bytes.
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

// snapLength is what is written for a snap length: what is longer than any packet means no limit, as 0 does.
func snapLength(n int) int {
	if n <= 0 || n > MaxSnapLen {
		return MaxSnapLen
	}
	return n
}

// since1970 is a time as both formats can say it: not before 1970.
func since1970(ns int64) int64 { return max(ns, 0) }

// checkPacket holds a packet against the file's rules.
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

// truncate returns what of a packet, which is counted, goes into the file, and its length on the wire.
func (o *output) truncate(p *Packet) (data []byte, wire int) {
	o.buffered++
	return p.Data[:min(len(p.Data), o.snap)], max(p.Len, len(p.Data))
}
