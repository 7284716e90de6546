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
	magicLong  = 0xa1b2cd34 // with longer record headers: a patch of 1999 that several systems shipped
)

// Bytes of classic pcap's file header, and of a record's.
const (
	pcapHeader = 24
	pcapRecord = 16
	longRecord = 24
)

// PcapWriter writes a classic pcap file with nanoseconds; it has the methods of Writer. The format holds packets with their
// time and length only. So this is dropped without an error: the section's and the interfaces' descriptions, the interface of a
// packet, Flags, ID, Drops, Verdict, Queue, all comments, Names and Statistics. A time in 2106 or later is written as the last
// second that the format can hold.
type PcapWriter struct {
	output
	link  int
	links []int // of the interfaces
}

// NewPcapWriter begins a file for packets of one link type with at most snapLen bytes each; 0 and anything larger mean
// MaxSnapLen. Nothing is written before the first Flush.
func NewPcapWriter(w io.Writer, link, snapLen int) *PcapWriter {
	snap := snapLength(snapLen)
	n := &PcapWriter{output: output{w: w, snap: snap}, link: link}
	n.buf = le.AppendUint32(n.buf, magicNano)
	n.buf = le.AppendUint16(n.buf, 2) // version 2.4
	n.buf = le.AppendUint16(n.buf, 4)
	n.buf = le.AppendUint64(n.buf, 0) // time zone and accuracy: always 0
	n.buf = le.AppendUint32(n.buf, uint32(snap))
	n.buf = le.AppendUint32(n.buf, uint32(link))
	return n
}

// AddInterface is Writer.AddInterface. It writes nothing, but returns the same errors. An interface of another link type may be
// added, but no packet of it can be written.
func (w *PcapWriter) AddInterface(i *Interface) (index int, err error) {
	if _, err := w.checkInterface(i); err != nil {
		return 0, err
	}
	w.interfaces++
	w.links = append(w.links, i.LinkType)
	return w.interfaces - 1, nil
}

// Names writes nothing.
func (w *PcapWriter) Names(Names) error { return w.err }

// Statistics writes nothing.
func (w *PcapWriter) Statistics(*Stats) error { return w.err }

// WritePacket is Writer.WritePacket. It is also an error if the packet's link type is not the file's.
func (w *PcapWriter) WritePacket(p *Packet) error {
	if err := w.checkPacket(p); err != nil {
		return err
	}
	if link := w.links[p.Interface]; link != w.link {
		return fmt.Errorf("a packet is of link type %d, and a pcap file has one only, which is %d: want pcapng", link, w.link)
	}
	data, wire := w.truncate(p)
	at := min(since1970(p.Time), math.MaxUint32*1e9+999_999_999)
	w.buf = le.AppendUint32(w.buf, uint32(at/1e9))
	w.buf = le.AppendUint32(w.buf, uint32(at%1e9))
	w.buf = le.AppendUint32(w.buf, uint32(len(data)))
	w.buf = le.AppendUint32(w.buf, uint32(wire))
	w.buf = append(w.buf, data...)
	return nil
}

// Flush is Writer.Flush.
func (w *PcapWriter) Flush() error {
	first := w.written == 0
	return w.flush(func(b []byte) (n int, packets uint64) {
		if first {
			if len(b) < pcapHeader {
				return 0, 0
			}
			n = pcapHeader
		}
		for len(b)-n >= pcapRecord && pcapRecord+int(le.Uint32(b[n+8:])) <= len(b)-n {
			n += pcapRecord + int(le.Uint32(b[n+8:]))
			packets++
		}
		return n, packets
	})
}

// openPcap reads the header of a classic pcap file. head is the length of its records' headers in bytes, unit that of a unit of
// their fractions of a second in ns.
func (r *Reader) openPcap(order binary.ByteOrder, unit int64, head int) (Block, error) {
	b, err := r.fill(pcapHeader)
	if err != nil {
		return nil, err
	}
	major, minor := order.Uint16(b[4:]), order.Uint16(b[6:])
	if major < 2 {
		return nil, fmt.Errorf("pcap of version %d, want 2", major)
	}
	const dgux = 543 // the version that a tcpdump of DG/UX wrote
	r.swapped = major == dgux || major == 2 && minor < 3
	r.maybeSwapped = major == 2 && minor == 3
	r.order, r.tick, r.recordHeader = order, unit, head
	only := &Interface{SnapLen: clamp(order.Uint32(b[16:])), LinkType: int(order.Uint32(b[20:]) & math.MaxUint16)}
	r.clocks = append(r.clocks, clock{link: only.LinkType})
	r.readNext = func() (Block, error) {
		r.readNext = r.record
		return only, nil
	}
	return new(Section), nil
}

// record reads a packet of classic pcap.
func (r *Reader) record() (Block, error) {
	head, err := r.peek(r.recordHeader)
	if err != nil {
		return nil, err
	}
	n, wire := r.order.Uint32(head[8:]), r.order.Uint32(head[12:])
	if r.swapped || r.maybeSwapped && n > wire { // the two lengths, in files before version 2.4
		n, wire = wire, n
	}
	if n > maxBlock {
		return nil, fmt.Errorf("packet of %d bytes, want at most %d", n, maxBlock)
	}
	b, err := r.fill(r.recordHeader + int(n))
	if err != nil {
		return nil, err
	}
	r.packet = Packet{
		Time:  int64(r.order.Uint32(b))*1e9 + int64(r.order.Uint32(b[4:]))*r.tick,
		Data:  b[r.recordHeader:],
		Len:   max(clamp(wire), int(n)),
		Queue: -1,
	}
	r.fixByteOrder(r.clocks[0].link, r.packet.Data)
	return &r.packet, nil
}
