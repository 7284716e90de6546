package show

import (
	"io"
	"net/netip"

	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// fileWriter is what file.Set and both writers of pcapng have.
type fileWriter interface {
	AddInterface(*pcapng.Interface) (int, error)
	Names(pcapng.Names) error
	WritePacket(*pcapng.Packet) error
	Statistics(*pcapng.Stats) error
	Flush() error
}

// writeAt is the bytes that are collected before they are written.
const writeAt = 256 << 10

// A Writer is a sink that makes a capture file of blocks: named, and without what only this program reads.
type Writer struct {
	to      fileWriter
	waiting func() int64 // bytes that Flush would write
	shut    func() error
	gone    func() bool // nobody reads any more
	Labels  Labels
	Filter  string // of the interfaces
	Fixed   bool   // all interfaces are told with the snap length snap
	Snap    int
	told    int                   // interfaces that are written
	names   map[netip.Addr]string // that are written
	version uint64                // of these
}

// WriteStream writes a file to what is no file.
func WriteStream(w io.Writer, pcap bool, section pcapng.Section, link, snap int) *Writer {
	n := &Writer{gone: func() bool { return ReaderGone(w) }, Fixed: pcap, Snap: snap}
	var to interface {
		fileWriter
		Size() int64
	} = pcapng.NewWriter(w, section)
	if pcap {
		to = pcapng.NewPcapWriter(w, link, snap)
	}
	var flushed int64
	n.waiting = func() int64 { return to.Size() - flushed }
	n.to = flushing{to, func() { flushed = to.Size() }}
	n.shut = to.Flush
	return n
}

// flushing tells when something was flushed.
type flushing struct {
	fileWriter
	done func()
}

func (f flushing) Flush() error {
	err := f.fileWriter.Flush()
	f.done()
	return err
}

func WriteSet(s *file.Set, pcap bool, snap int) *Writer {
	return &Writer{to: s, waiting: s.Waiting, shut: s.Close, gone: s.ReaderGone, Fixed: pcap, Snap: snap}
}

func (w *Writer) put(b pcapng.Block) error {
	if i, ok := b.(*pcapng.Interface); ok {
		w.Labels.Add(i) // written when all those that begin the stream are known: what a port is called depends on them
		return nil
	}
	if err := w.tell(); err != nil {
		return err
	}
	switch b := b.(type) {
	case *pcapng.Packet:
		b.Verdict = nil // what other programs save of a file with verdicts is corrupt
		b.Comment = w.Labels.comment(b.Comment)
		if err := w.to.WritePacket(b); err != nil {
			return err
		}
	case *pcapng.Stats:
		if err := w.to.Statistics(b); err != nil {
			return err
		}
	}
	if w.waiting() >= writeAt {
		return w.to.Flush()
	}
	return nil
}

// tell writes the interfaces and names that are new, no names before the first interface.
func (w *Writer) tell() error {
	for ; w.told < len(w.Labels.interfaces); w.told++ {
		i := w.Labels.forFile(w.told)
		if w.Filter != "" {
			i.Filter = w.Filter
		}
		if w.Fixed {
			i.SnapLen = w.Snap
		}
		if _, err := w.to.AddInterface(&i); err != nil {
			return err
		}
	}
	v := w.Labels.Who.Version()
	if v == w.version || w.told == 0 {
		return nil // libwiretap learns a file's link type from what stands before its first names and packets
	}
	var fresh pcapng.Names
	for _, n := range w.Labels.Who.Since(w.version) {
		if w.names[n.Addr] != n.Name {
			if w.names == nil {
				w.names = make(map[netip.Addr]string)
			}
			w.names[n.Addr], fresh = n.Name, append(fresh, n)
		}
	}
	w.version = v
	return w.to.Names(fresh)
}

func (w *Writer) flush() error {
	if err := w.tell(); err != nil {
		return err
	}
	if w.gone() {
		return ErrReaderGone
	}
	return w.to.Flush()
}

func (w *Writer) Close() error {
	told := w.tell() // no file is written to after an error, so this has the same
	if err := w.shut(); err != nil {
		return err
	}
	return told
}
