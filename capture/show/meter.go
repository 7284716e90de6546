package show

import (
	"fmt"
	"io"
	"time"

	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// A Meter is a sink that counts what goes into another, and tells it on the way.
type Meter struct {
	Sink
	news    io.Writer // nil: tells nothing
	live    bool      // news is a terminal that shows a line of progress
	Frames  uint64    // packets, segments of one frame once
	packets uint64
	bytes   uint64 // on the wire
	lost    []loss // by interface
	id      uint64 // of the packet before
	began   time.Time
	told    time.Time
	known   uint64 // lost frames that were told
	shown   bool   // a line of progress
}

type loss struct{ seen, told uint64 } // as the packets say, as the statistics say

func NewMeter(to Sink, news io.Writer, live bool) *Meter {
	return &Meter{Sink: to, news: news, live: live, began: time.Now()}
}

func (m *Meter) put(b pcapng.Block) error {
	switch b := b.(type) {
	case *pcapng.Interface:
		m.lost = append(m.lost, loss{})
	case *pcapng.Packet:
		m.packets++
		if b.ID == 0 || b.ID != m.id {
			m.Frames++
		}
		m.id = b.ID
		m.bytes += uint64(max(b.Len, len(b.Data)))
		if uint(b.Interface) < uint(len(m.lost)) {
			m.lost[b.Interface].seen += b.Drops
		}
	case *pcapng.Stats:
		if uint(b.Interface) < uint(len(m.lost)) {
			m.lost[b.Interface].told = b.Dropped
		}
	}
	return m.Sink.put(b)
}

// Count is what went through.
func (m *Meter) Count() file.Count { return file.Count{Frames: m.Frames, Packets: m.packets} }

// Total is how many frames were lost.
func (m *Meter) Total() (n uint64) {
	for _, l := range m.lost {
		n += max(l.seen, l.told)
	}
	return n
}

func (m *Meter) flush() error {
	if m.news != nil && time.Since(m.told) >= time.Second {
		m.told = time.Now()
		m.Loss()
		if m.live {
			m.shown = true
			fmt.Fprintf(m.news, "\r%s, %s, %s lost, %s\x1b[K", human.Count(m.Frames, "frame"), human.Bytes(m.bytes),
				human.Thousands(m.Total()), human.Ago(int64(time.Since(m.began).Seconds())))
		}
	}
	return m.Sink.flush()
}

// Loss tells of frames that were lost since it last did.
func (m *Meter) Loss() {
	if n := m.Total(); n > m.known && m.news != nil {
		m.Clear()
		fmt.Fprintf(m.news, "%s lost: more came than was read in time (--ring gives more memory, -s or -f take less of it)\n",
			human.Count(n-m.known, "frame"))
		m.known = n
	}
}

// Clear takes the line of progress away.
func (m *Meter) Clear() {
	if m.shown {
		fmt.Fprint(m.news, "\r\x1b[K")
		m.shown = false
	}
}
