package pcapng

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Magic numbers of classic pcap, in its own byte order.
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
)

// Bytes of classic pcap's file header, and of a record's.
const (
	pcapHeader = 24
	pcapRecord = 16
)

// PcapWriter writes a classic pcap file with nanoseconds, by the methods of Writer. The format knows packets with
// their time and length on the wire and nothing else, so this is lost without an error: who captured, what an
// interface is and which a packet is of, Flags, ID, Drops, Verdict, Queue, all comments, Names and Statistics.
type PcapWriter struct{ output }

// NewPcapWriter begins a file of at most snapLen bytes a packet, 0 for MaxSnapLen. It is an error if snapLen is
// longer than that. Nothing is written before the first Flush.
func NewPcapWriter(w io.Writer, snapLen int) (*PcapWriter, error) {
	snap, err := snapLength(snapLen)
	if err != nil {
		return nil, err
	}
	n := &PcapWriter{output{w: w, snap: snap}}
	n.buf = le.AppendUint32(n.buf, magicNano)
	n.buf = le.AppendUint16(n.buf, 2) // version 2.4
	n.buf = le.AppendUint16(n.buf, 4)
	n.buf = le.AppendUint64(n.buf, 0) // time zone and accuracy: always 0
	n.buf = le.AppendUint32(n.buf, uint32(snap))
	n.buf = le.AppendUint32(n.buf, Ethernet)
	return n, nil
}

// AddInterface is Writer.AddInterface. It writes nothing, but has the same errors: also a pcap file has one link type
// and one snap length.
func (w *PcapWriter) AddInterface(i *Interface) (index int, err error) {
	if _, err := w.admit(i); err != nil {
		return 0, err
	}
	w.interfaces++
	return w.interfaces - 1, nil
}

// Names writes nothing.
func (w *PcapWriter) Names(Names) error { return w.err }

// Statistics writes nothing.
func (w *PcapWriter) Statistics(*Stats) error { return w.err }

// WritePacket is Writer.WritePacket. Besides, a time in 2106 or later is an error.
func (w *PcapWriter) WritePacket(p *Packet) error {
	if err := w.check(p); err != nil {
		return err
	}
	sec := p.Time / 1e9
	if sec > math.MaxUint32 {
		return fmt.Errorf("packet's time is %d s after 1970, want at most %d in a pcap file", sec, uint32(math.MaxUint32))
	}
	data, wire := w.cut(p)
	w.buf = le.AppendUint32(w.buf, uint32(sec))
	w.buf = le.AppendUint32(w.buf, uint32(p.Time%1e9))
	w.buf = le.AppendUint32(w.buf, uint32(len(data)))
	w.buf = le.AppendUint32(w.buf, uint32(wire))
	w.buf = append(w.buf, data...)
	return nil
}

// Flush is Writer.Flush.
func (w *PcapWriter) Flush() error {
	first := w.sent == 0
	return w.flush(func(b []byte) (n int) {
		if first {
			if len(b) < pcapHeader {
				return 0
			}
			n = pcapHeader
		}
		for len(b)-n >= pcapRecord && pcapRecord+int(le.Uint32(b[n+8:])) <= len(b)-n {
			n += pcapRecord + int(le.Uint32(b[n+8:]))
		}
		return n
	})
}

// openPcap reads the file header of a classic pcap file whose fractions of a second are units of unit ns.
func (r *Reader) openPcap(order binary.ByteOrder, unit int64) (Block, error) {
	b, err := r.fill(pcapHeader)
	if err != nil {
		return nil, err
	}
	if major := order.Uint16(b[4:]); major != 2 {
		return nil, fmt.Errorf("pcap of version %d, want 2", major)
	}
	r.order, r.unit = order, unit
	only := &Interface{SnapLen: clamp(order.Uint32(b[16:])), LinkType: int(order.Uint32(b[20:]) & math.MaxUint16)}
	r.step = func() (Block, error) {
		r.step = r.record
		return only, nil
	}
	return new(Section), nil
}

// record reads a packet of classic pcap.
func (r *Reader) record() (Block, error) {
	head, err := r.peek(pcapRecord)
	if err != nil {
		return nil, err
	}
	n := r.order.Uint32(head[8:])
	if n > maxBlock {
		return nil, fmt.Errorf("packet of %d bytes, want at most %d", n, maxBlock)
	}
	b, err := r.fill(pcapRecord + int(n))
	if err != nil {
		return nil, err
	}
	r.packet = Packet{
		Time:  int64(r.order.Uint32(b))*1e9 + int64(r.order.Uint32(b[4:]))*r.unit,
		Data:  b[pcapRecord:],
		Len:   max(clamp(r.order.Uint32(b[12:])), int(n)),
		Queue: -1,
	}
	return &r.packet, nil
}
