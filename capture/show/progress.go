package show

import (
	"fmt"
	"io"
	"time"

	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// A Progress is a BlockWriter in front of another one. It counts packets and losses, and reports both while they come.
type Progress struct {
	BlockWriter
	messages     io.Writer // nil: no reports
	live         bool      // messages is a terminal: show a line that is updated each second
	Frames       uint64    // frames; several packets with one ID (segments, views) count once
	packets      uint64
	bytes        uint64 // on the wire
	lost         []loss // by interface
	lastID       uint64 // of the previous packet
	began        time.Time
	reportedAt   time.Time
	reportedLost uint64 // number of lost frames in the reports so far
	lineShown    bool   // the cursor is behind a line of progress
}

// loss is the number of frames lost at one interface: the sum over the packets' drop counts, and the total of the latest
// statistics block. The greater one counts: either may come first.
type loss struct{ packets, statistics uint64 }

// NewProgress returns a Progress that writes to another BlockWriter and reports losses, at most once a second, to messages; with
// live it also keeps a line of progress there.

func NewProgress(to BlockWriter, news io.Writer, live bool) *Progress {
	return &Progress{BlockWriter: to, messages: news, live: live, began: time.Now()}
}

func (m *Progress) put(b pcapng.Block) error {
	switch b := b.(type) {
	case *pcapng.Interface:
		m.lost = append(m.lost, loss{})
	case *pcapng.Packet:
		m.packets++
		if b.ID == 0 || b.ID != m.lastID {
			m.Frames++
		}
		m.lastID = b.ID
		m.bytes += uint64(max(b.Len, len(b.Data)))
		if uint(b.Interface) < uint(len(m.lost)) {
			m.lost[b.Interface].packets += b.Drops
		}
	case *pcapng.Stats:
		if uint(b.Interface) < uint(len(m.lost)) {
			m.lost[b.Interface].statistics = b.Dropped
		}
	}
	return m.BlockWriter.put(b)
}

// Count returns the number of frames and packets so far.
func (m *Progress) Count() file.Count { return file.Count{Frames: m.Frames, Packets: m.packets} }

// Lost returns the number of frames that were lost, of all interfaces.
func (m *Progress) Lost() (n uint64) {
	for _, l := range m.lost {
		n += max(l.packets, l.statistics)
	}
	return n
}

func (m *Progress) flush() error {
	if m.messages != nil && time.Since(m.reportedAt) >= time.Second {
		m.reportedAt = time.Now()
		m.ReportLoss()
		if m.live {
			m.lineShown = true
			fmt.Fprintf(m.messages, "\r%s, %s, %s lost, %s\x1b[K", human.Count(m.Frames, "frame"), human.Bytes(m.bytes),
				human.Thousands(m.Lost()), human.Age(int64(time.Since(m.began).Seconds())))
		}
	}
	return m.BlockWriter.flush()
}

// ReportLoss reports the frames that were lost since the last report, if there are any.
func (m *Progress) ReportLoss() {
	if n := m.Lost(); n > m.reportedLost && m.messages != nil {
		m.ClearLine()
		fmt.Fprintf(m.messages, "%s lost: more came than was read in time (--ring gives more memory, -s or -f take less of it)\n",
			human.Count(n-m.reportedLost, "frame"))
		m.reportedLost = n
	}
}

// ClearLine erases the line of progress, if one is shown.
func (m *Progress) ClearLine() {
	if m.lineShown {
		fmt.Fprint(m.messages, "\r\x1b[K")
		m.lineShown = false
	}
}
