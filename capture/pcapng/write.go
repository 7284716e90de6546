package pcapng

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
)

// maxNames is the length in bytes at which a block of names is ended and the next one begins.
const maxNames = 1 << 20

// Writer writes a pcapng file. Its methods append to a buffer, which is kept and reused, and only Flush writes.
// A Writer is for one goroutine.
type Writer struct{ output }

// NewWriter begins a file with the section s. Nothing is written before the first Flush.
func NewWriter(w io.Writer, s Section) *Writer {
	n := &Writer{output{w: w}}
	b, start := beginBlock(nil, blockSection)
	b = le.AppendUint32(b, byteOrder)
	b = le.AppendUint16(b, 1) // version 1.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, math.MaxUint64) // the section's length: not known
	options := len(b)
	b = appendString(b, optComment, s.Comment)
	b = appendString(b, shbHardware, s.Hardware)
	b = appendString(b, shbOS, s.OS)
	b = appendString(b, shbApplication, s.Application)
	n.buf = endBlock(b, start, options)
	return n
}

// AddInterface adds an interface, at any time before its first packet, and returns its index for Packet and Stats.
// It is an error if its snap length is not that of the other interfaces (one longer than MaxSnapLen counts as MaxSnapLen), or
// if one of its addresses is invalid.
func (w *Writer) AddInterface(i *Interface) (index int, err error) {
	snap, err := w.checkInterface(i)
	if err != nil {
		return 0, err
	}
	for _, a := range i.Addrs {
		if !a.IsValid() {
			return 0, fmt.Errorf("interface %q has an address that is none, want one as 10.0.0.2/24", i.Name)
		}
	}
	b, start := beginBlock(w.buf, blockInterface)
	b = le.AppendUint16(b, uint16(i.LinkType))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, uint32(snap))
	options := len(b)
	b = appendString(b, optComment, i.Comment)
	b = appendString(b, ifName, i.Name)
	b = appendString(b, ifDescription, i.Description)
	for _, a := range i.Addrs {
		b = appendAddr(b, a)
	}
	if !i.MAC.IsZero() {
		b = appendBytes(b, ifMAC, i.MAC[:])
	}
	b = appendBytes(b, ifResolution, []byte{9}) // 10⁻⁹ s
	if i.Filter != "" {
		var at int
		b, at = beginOption(b, ifFilter)
		b = append(b, 0) // the filter is a text
		b = endOption(appendText(b, i.Filter, math.MaxUint16-1), at)
	}
	b = appendString(b, ifHardware, i.Hardware)
	w.buf = endBlock(b, start, options)
	w.snap = snap
	w.interfaces++
	return w.interfaces - 1, nil
}

func appendAddr(b []byte, a netip.Prefix) []byte {
	if a.Addr().Is4() {
		b, at := beginOption(b, ifIPv4)
		b = append(b, a.Addr().AsSlice()...)
		return endOption(append(b, net.CIDRMask(a.Bits(), 32)...), at)
	}
	b, at := beginOption(b, ifIPv6)
	b = append(b, a.Addr().AsSlice()...)
	return endOption(append(b, byte(a.Bits())), at)
}

// Names names addresses, for the packets that follow. Each name has a record of its own, since Wireshark uses only the last
// name of a record. It is an error, and none is written, if an address is invalid or a name is empty.
func (w *Writer) Names(names Names) error {
	if w.err != nil {
		return w.err
	}
	for _, n := range names {
		if !n.Addr.IsValid() || n.Name == "" {
			return fmt.Errorf("address %v has the name %q, want an address and a name that is not empty", n.Addr, n.Name)
		}
	}
	for len(names) > 0 {
		b, start := beginBlock(w.buf, blockNames)
		for ; len(names) > 0 && len(b)-start < maxNames; names = names[1:] {
			b = appendName(b, names[0])
		}
		b, _ = beginOption(b, recordEnd)
		w.buf = endBlock(b, start, len(b))
	}
	return nil
}

// appendName appends a name record, which has the format of an option.
func appendName(b []byte, n Name) []byte {
	addr, kind := n.Addr.Unmap(), uint16(recordIPv6)
	if addr.Is4() {
		kind = recordIPv4
	}
	b, at := beginOption(b, kind)
	b = append(b, addr.AsSlice()...)
	b = appendText(b, n.Name, math.MaxUint16-16-1)
	return endOption(append(b, 0), at)
}

// WritePacket adds a packet, its data cut to the snap length. It keeps nothing of p, and does not allocate once the buffer has
// the size that is needed between two calls of Flush. It is an error, and nothing is written, if the interface was not added
// or a number does not fit.
func (w *Writer) WritePacket(p *Packet) error {
	if err := w.checkPacket(p); err != nil {
		return err
	}
	data, wire := w.truncate(p)
	b, start := beginBlock(w.buf, blockPacket)
	b = le.AppendUint32(b, uint32(p.Interface))
	b = appendTime(b, since1970(p.Time))
	b = le.AppendUint32(b, uint32(len(data)))
	b = le.AppendUint32(b, uint32(wire))
	b = pad(append(b, data...), len(data))
	options := len(b)
	if p.Flags != 0 {
		b = le.AppendUint32(appendOptionHeader(b, epbFlags, 4), p.Flags)
	}
	if p.Drops != 0 {
		b = le.AppendUint64(appendOptionHeader(b, epbDrops, 8), p.Drops)
	}
	if p.ID != 0 {
		b = le.AppendUint64(appendOptionHeader(b, epbID, 8), p.ID)
	}
	if p.Queue >= 0 {
		b = le.AppendUint32(appendOptionHeader(b, epbQueue, 4), uint32(p.Queue))
	}
	if len(p.Verdict) != 0 {
		b = appendBytes(b, epbVerdict, p.Verdict)
	}
	b = appendString(b, optComment, p.Comment)
	w.buf = endBlock(b, start, options)
	return nil
}

// Statistics adds an interface's counters. It is an error if the interface was not added.
func (w *Writer) Statistics(s *Stats) error {
	switch {
	case w.err != nil:
		return w.err
	case uint(s.Interface) >= uint(w.interfaces):
		return w.noInterface(s.Interface)
	}
	from, to := since1970(s.Start), since1970(s.End)
	b, start := beginBlock(w.buf, blockStats)
	b = le.AppendUint32(b, uint32(s.Interface))
	b = appendTime(b, max(from, to)) // when the counters were read
	options := len(b)
	b = appendString(b, optComment, s.Comment)
	if from != 0 {
		b = appendTime(appendOptionHeader(b, isbStart, 8), from)
	}
	if to != 0 {
		b = appendTime(appendOptionHeader(b, isbEnd, 8), to)
	}
	b = le.AppendUint64(appendOptionHeader(b, isbReceived, 8), s.Received)
	b = le.AppendUint64(appendOptionHeader(b, isbIfDrop, 8), s.Dropped)
	b = le.AppendUint64(appendOptionHeader(b, isbAccepted, 8), s.Accepted)
	b = le.AppendUint64(appendOptionHeader(b, isbOSDrop, 8), s.Dropped)
	b = le.AppendUint64(appendOptionHeader(b, isbDelivered, 8), s.Delivered)
	w.buf = endBlock(b, start, options)
	return nil
}

// Flush writes the buffered blocks, in one Write. After an error every method returns it.
func (w *Writer) Flush() error {
	return w.flush(func(b []byte) (n int, packets uint64) {
		for len(b)-n >= 8 && int(le.Uint32(b[n+4:])) <= len(b)-n {
			if le.Uint32(b[n:]) == blockPacket {
				packets++
			}
			n += int(le.Uint32(b[n+4:]))
		}
		return n, packets
	})
}
