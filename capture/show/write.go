package show

import (
	"io"
	"net/netip"

	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A fileOutput writes a capture file: *file.Set, *pcapng.Writer and *pcapng.PcapWriter do.
type fileOutput interface {
	AddInterface(*pcapng.Interface) (int, error)
	Names(pcapng.Names) error
	WritePacket(*pcapng.Packet) error
	Statistics(*pcapng.Stats) error
	Flush() error
}

// writeThreshold is the number of buffered bytes from which on they are written.
const writeThreshold = 256 << 10

// A FileWriter is a BlockWriter that writes a capture file: with names, and without the daemon's binary verdicts, which only
// this program reads.
type FileWriter struct {
	out        fileOutput
	buffered   func() int64 // bytes that Flush would write
	close      func() error
	readerGone func() bool // nobody reads any more
	Labels     Labels
	Filter     string                // of the interfaces
	OneSnapLen bool                  // all interfaces are written with the snap length SnapLen
	SnapLen    int                   // bytes; 0: no bound
	written    int                   // interfaces that are written
	names      map[netip.Addr]string // names that are written
	version    uint64                // the Resolver's version of these
}

// NewStreamWriter returns a FileWriter to w, such as stdout or a connection. It writes pcapng that begins with section, or, if
// pcap is true, classic pcap of this link type and snap length (0: no bound).
func NewStreamWriter(w io.Writer, pcap bool, section pcapng.Section, link, snap int) *FileWriter {
	n := &FileWriter{readerGone: func() bool { return readerGone(w) }, OneSnapLen: pcap, SnapLen: snap}
	var to interface {
		fileOutput
		Size() int64
	} = pcapng.NewWriter(w, section)
	if pcap {
		to = pcapng.NewPcapWriter(w, link, snap)
	}
	var flushed int64
	n.buffered = func() int64 { return to.Size() - flushed }
	n.out = flushNotifier{to, func() { flushed = to.Size() }}
	n.close = to.Flush
	return n
}

// A flushNotifier calls done after each Flush.
type flushNotifier struct {
	fileOutput
	done func()
}

func (f flushNotifier) Flush() error {
	err := f.fileOutput.Flush()
	f.done()
	return err
}

// NewSetWriter returns a FileWriter to a set of files. pcap says that they are classic pcap, of this snap length (0: no bound).
func NewSetWriter(s *file.Set, pcap bool, snap int) *FileWriter {
	return &FileWriter{out: s, buffered: s.Waiting, close: s.Close, readerGone: s.ReaderGone, OneSnapLen: pcap, SnapLen: snap}
}

func (w *FileWriter) put(b pcapng.Block) error {
	if i, ok := b.(*pcapng.Interface); ok {
		w.Labels.AddInterface(i) // writeNew writes it, once all interfaces at the begin of the stream are known: a port's label depends on the others
		return nil
	}
	if err := w.writeNew(); err != nil {
		return err
	}
	switch b := b.(type) {
	case *pcapng.Packet:
		b.Verdict = nil // Wireshark corrupts it when it saves the file
		b.Comment = w.Labels.comment(b.Comment)
		if err := w.out.WritePacket(b); err != nil {
			return err
		}
	case *pcapng.Stats:
		if err := w.out.Statistics(b); err != nil {
			return err
		}
	}
	if w.buffered() >= writeThreshold {
		return w.out.Flush()
	}
	return nil
}

// writeNew writes the interfaces and names that are not written yet, and no names before the first interface.
func (w *FileWriter) writeNew() error {
	for ; w.written < len(w.Labels.interfaces); w.written++ {
		i := w.Labels.fileInterface(w.written)
		if w.Filter != "" {
			i.Filter = w.Filter
		}
		if w.OneSnapLen {
			i.SnapLen = w.SnapLen
		}
		if _, err := w.out.AddInterface(&i); err != nil {
			return err
		}
	}
	v := w.Labels.Resolver.Version()
	if v == w.version || w.written == 0 {
		return nil // libwiretap takes a file's link type from the interfaces before its first names and packets
	}
	var fresh pcapng.Names
	for _, n := range w.Labels.Resolver.Since(w.version) {
		if w.names[n.Addr] != n.Name {
			if w.names == nil {
				w.names = make(map[netip.Addr]string)
			}
			w.names[n.Addr], fresh = n.Name, append(fresh, n)
		}
	}
	w.version = v
	return w.out.Names(fresh)
}

func (w *FileWriter) flush() error {
	if err := w.writeNew(); err != nil {
		return err
	}
	if w.readerGone() {
		return errReaderGone
	}
	return w.out.Flush()
}

// Close writes what is buffered and closes the file or the set. Of a stream it flushes only.
func (w *FileWriter) Close() error {
	err := w.writeNew() // after an error of put this fails too, for nothing is written any more
	if err := w.close(); err != nil {
		return err
	}
	return err
}
