package main

import (
	"fmt"
	"io"
	"time"

	"github.com/tapestry-net/tapestry/capture/file"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A meter is a sink that counts what goes into another, and tells it on the way.
type meter struct {
	sink
	news    io.Writer // nil: tells nothing
	live    bool      // news is a terminal that shows a line of progress
	frames  uint64    // packets, segments of one frame once
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

func newMeter(to sink, news io.Writer, live bool) *meter {
	return &meter{sink: to, news: news, live: live, began: time.Now()}
}

func (m *meter) put(b pcapng.Block) error {
	switch b := b.(type) {
	case *pcapng.Interface:
		m.lost = append(m.lost, loss{})
	case *pcapng.Packet:
		m.packets++
		if b.ID == 0 || b.ID != m.id {
			m.frames++
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
	return m.sink.put(b)
}

// count is what went through.
func (m *meter) count() file.Count { return file.Count{Frames: m.frames, Packets: m.packets} }

// total is how many frames were lost.
func (m *meter) total() (n uint64) {
	for _, l := range m.lost {
		n += max(l.seen, l.told)
	}
	return n
}

func (m *meter) flush() error {
	if m.news != nil && time.Since(m.told) >= time.Second {
		m.told = time.Now()
		m.loss()
		if m.live {
			m.shown = true
			fmt.Fprintf(m.news, "\r%s, %s, %s lost, %s\x1b[K", count(m.frames, "frame"), bytesText(m.bytes),
				thousands(m.total()), agoText(int64(time.Since(m.began).Seconds())))
		}
	}
	return m.sink.flush()
}

// loss tells of frames that were lost since it last did.
func (m *meter) loss() {
	if n := m.total(); n > m.known && m.news != nil {
		m.clear()
		fmt.Fprintf(m.news, "%s lost: more came than was read in time (--ring gives more memory, -s or -f take less of it)\n",
			count(n-m.known, "frame"))
		m.known = n
	}
}

// clear takes the line of progress away.
func (m *meter) clear() {
	if m.shown {
		fmt.Fprint(m.news, "\r\x1b[K")
		m.shown = false
	}
}
