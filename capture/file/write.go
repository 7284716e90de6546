package file

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// Bytes that are reserved in a file of bounded size: for a packet's block besides its data and comment, at most; and for an
// interface's statistics.
const (
	packetRoom = 96
	statsRoom  = 160
)

// counters are an interface's.
type counters struct {
	total   pcapng.Stats // since the capture's beginning
	before  pcapng.Stats // of these, what is in the previous files
	id      uint64       // of the last packet: a packet with the same ID is the same frame
	written bool         // the present file has the statistics
}

// AddInterface is pcapng.Writer.AddInterface; the next files have the interface too.
func (s *Set) AddInterface(i *pcapng.Interface) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.blocks.AddInterface(i)
	if err != nil {
		return n, s.refused(err)
	}
	s.interfaces = append(s.interfaces, *i)
	s.counters = append(s.counters, counters{total: pcapng.Stats{Interface: n}})
	return n, nil
}

// maxNames is how many names are kept for the next files.
const maxNames = 1 << 16

// Names names addresses for the packets that follow, also in the next files. An address may have several names; the next files
// have only those that it was given last.
func (s *Set) Names(names pcapng.Names) error {
	if s.err != nil {
		return s.err
	}
	if err := s.blocks.Names(names); err != nil {
		return s.refused(err)
	}
	now := make(map[netip.Addr]bool)
	for _, n := range names {
		now[n.Addr] = true
	}
	s.names = append(slices.DeleteFunc(s.names, func(n pcapng.Name) bool { return now[n.Addr] }), names...)
	s.names = slices.Delete(s.names, 0, max(0, len(s.names)-maxNames))
	return nil
}

// WritePacket writes a packet, in the next file if this one is full.
func (s *Set) WritePacket(p *pcapng.Packet) error {
	if s.err != nil {
		return s.err
	}
	if uint(p.Interface) >= uint(len(s.counters)) {
		return s.blocks.WritePacket(p) // says what is wrong
	}
	if s.full(p) {
		if err := s.rotate(max(p.Time, 0)); err != nil {
			return err
		}
	}
	if err := s.blocks.WritePacket(p); err != nil {
		return s.refused(err)
	}
	if s.spanStart == 0 {
		s.spanStart = max(p.Time, 0)
	}
	if s.packets == 0 || p.Time < s.first {
		s.first = p.Time
	}
	s.last = max(s.last, p.Time)
	s.packets++
	b := &s.counters[p.Interface]
	if p.ID == 0 || p.ID != b.id {
		b.total.Delivered++
	}
	c := &s.counts[len(s.counts)-1]
	c.Packets++
	if p.ID == 0 || p.ID != s.lastID {
		c.Frames++
	}
	s.lastID = p.ID
	b.id = p.ID
	b.total.Dropped += p.Drops
	b.written = false
	return nil
}

// full tells whether the packet belongs into the next file.
func (s *Set) full(p *pcapng.Packet) bool {
	if s.packets == 0 {
		return false
	}
	if s.o.Every > 0 && max(p.Time, 0)-s.spanStart >= int64(s.o.Every) {
		return true
	}
	return s.o.MaxBytes > 0 &&
		s.blocks.Size()+int64(len(p.Data)+len(p.Comment)+packetRoom+statsRoom*len(s.interfaces)) > s.o.MaxBytes
}

func (s *Set) rotate(at int64) error {
	if err := s.finish(); err != nil {
		return err
	}
	switch {
	case s.o.Every > 0 && at >= s.spanStart: // all spans have equal length; one without packets has no file
		s.spanStart += (at - s.spanStart) / int64(s.o.Every) * int64(s.o.Every)
	default:
		s.spanStart = at
	}
	if err := s.begin(time.Unix(0, at)); err != nil {
		s.err = err
		return err
	}
	return nil
}

// Statistics takes an interface's counters since the capture's beginning. Each file gets what was added since the previous
// file, so that the statistics of all files add up.
func (s *Set) Statistics(t *pcapng.Stats) error {
	if s.err != nil || uint(t.Interface) >= uint(len(s.counters)) {
		return errors.Join(s.err, s.blocks.Statistics(t))
	}
	b := &s.counters[t.Interface]
	b.total = *t
	return s.writeStats(b)
}

// writeStats writes the statistics of an interface in this file.
func (s *Set) writeStats(b *counters) error {
	t := b.inThisFile()
	if s.spanStart > 0 && (t.Start == 0 || b.before.Accepted > 0) {
		t.Start = s.spanStart
		if s.packets > 0 {
			t.Start = min(s.spanStart, s.first)
		}
	}
	if t.End == 0 {
		t.End = s.last
	}
	b.written = true
	return s.blocks.Statistics(&t)
}

// inThisFile is what the previous files do not have. How many packets the filter refused is known from Statistics only.
func (b *counters) inThisFile() pcapng.Stats {
	w := &b.total
	w.Accepted = max(w.Accepted, w.Delivered+w.Dropped)
	w.Received = max(w.Received, w.Accepted)
	t := *w
	t.Received = subtract(t.Received, b.before.Received)
	t.Accepted = subtract(t.Accepted, b.before.Accepted)
	t.Dropped = subtract(t.Dropped, b.before.Dropped)
	t.Delivered = subtract(t.Delivered, b.before.Delivered)
	return t
}

func subtract(a, b uint64) uint64 { return a - min(a, b) }

// Flush writes what is buffered. After an error the file is truncated to its last complete block, and nothing more is written.
func (s *Set) Flush() error {
	if s.err != nil {
		return s.err
	}
	if err := s.blocks.Flush(); err != nil {
		s.failed(err)
		return s.err
	}
	s.complete = s.blocks.Size()
	return nil
}

// Waiting is how many bytes Flush would write.
func (s *Set) Waiting() int64 { return s.blocks.Size() - s.complete }

// refused adds the file's path to an error of its format. If nothing was written before, the file is removed.
func (s *Set) refused(err error) error {
	err = fmt.Errorf("%s: %w", s.file.path, err)
	if s.packets > 0 || s.complete > 0 {
		return err
	}
	if _, bad := s.file.closeAt(0); bad != nil {
		err = fmt.Errorf("%w; %w", err, bad)
	}
	last := len(s.paths) - 1
	s.paths, s.counts, s.err = s.paths[:last], s.counts[:last], err
	return err
}

// failed ends the set after a failed write; its error says how much of the file is complete.
func (s *Set) failed(err error) {
	path := s.file.path
	size, packets := s.blocks.Size(), s.blocks.Packets()
	if packets == 0 {
		size = 0
	}
	was := s.file.old != nil
	there, bad := s.file.closeAt(size)
	last := len(s.paths) - 1
	s.counts[last] = Count{min(s.counts[last].Frames, packets), packets}
	what := fmt.Sprintf("its first %d frames are complete", packets)
	switch {
	case was && !there:
		what = "nothing was written, and what was there before still is"
	case packets == 0:
		what = "no frame was written"
	case packets == 1:
		what = "its first frame is complete"
	}
	if !there {
		s.paths, s.counts = s.paths[:last], s.counts[:last]
	}
	switch {
	case errors.Is(err, syscall.EPIPE):
		s.err = fmt.Errorf("%s: %w", path, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		s.err = fmt.Errorf("the disk of %s is full; %s: %w", path, what, err)
	default:
		s.err = fmt.Errorf("%s; %s: %w", path, what, err)
	}
	if bad != nil {
		s.err = fmt.Errorf("%w; %w", s.err, bad)
	}
}

// finish writes the statistics and closes the present file.
func (s *Set) finish() error {
	for i := range s.counters {
		b := &s.counters[i]
		if !b.written {
			if err := s.writeStats(b); err != nil {
				return err
			}
		}
		t := b.inThisFile()
		b.before.Received += t.Received
		b.before.Accepted += t.Accepted
		b.before.Dropped += t.Dropped
		b.before.Delivered += t.Delivered
		b.written = false
	}
	if err := s.Flush(); err != nil {
		return err
	}
	if err := s.file.Close(); err != nil {
		s.err = fmt.Errorf("close %s: %w", s.file.path, err)
		return s.err
	}
	return nil
}

// Close writes what is buffered and the statistics, and closes the file.
func (s *Set) Close() error {
	if s.err != nil {
		if errors.Is(s.err, os.ErrClosed) {
			return nil
		}
		return s.err
	}
	err := s.finish()
	s.err = os.ErrClosed
	return err
}
