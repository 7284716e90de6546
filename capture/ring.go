// Package capture copies the frames that the switches forward or drop, with their verdicts, into rings for readers. A frame
// never waits for a reader: if a ring is full, the copy is dropped and counted, or overwrites the oldest one.
package capture

import (
	"encoding/binary"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Record is the copy of one frame, with its verdict.
type Record struct {
	Time    int64  // ns since 1970; in one ring never before that of the record before
	ID      uint64 // of the frame on this host: copies from two points of one frame have the same ID
	In, Out uint32 // Number of the ports. Out is 0 unless the frame was forwarded to one port; In is 0 of a frame that is seen again on its way out by Out
	Verdict vswitch.Verdict
	Off     ether.Offload // what the kernel had left undone
	Fault   ether.Fault   // what an injected fault did to it
	Len     int           // of the frame, in bytes
	Lost    uint32        // frames of the same port that were dropped before this one since the ring was full
	Data    []byte        // the frame's first bytes, as many as the ring keeps of a frame
}

// The format of the ring, little-endian: a head, followed by one frame, or by several with consecutive IDs that came together
// and share the head. Each frame is its lengths and its data, padded to 8 bytes.
const (
	headLen = 48

	atSize    = 0  // u32, of all of it; a skip has the highest bit set, and nothing but this
	atCount   = 4  // u32, frames
	atIn      = 8  // u32
	atOut     = 12 // u32
	atVerdict = 16 // u8
	atKind    = 17 // u8
	atSum     = 18 // u8, 1: PartialChecksum; more: that, and Inner
	atFault   = 19 // u8
	atLost    = 20 // u32, before the first
	atTime    = 24 // i64
	atID      = 32 // u64, of the first
	atSegment = 40 // u16, and the three below
	atHead    = 42
	atStart   = 44
	atOffset  = 46

	lengthsLen = 8 // u32 of the data, u32 of the frame

	skip = 1 << 31
)

// wrongClock is the largest step back of the clock that the frames' times do not follow.
const wrongClock = 10 * time.Second

// A ring holds records between the workers, which add them and never wait for a reader, and one reader. All of its memory is
// allocated at the beginning.
//
// If the ring is full, the new record is dropped and counted; a ring that overwrites drops a part of its oldest ones instead.
type ring struct {
	overwrite bool
	ready     chan struct{} // holds a token when there is something to read

	mu sync.Mutex // guards all below; the records between head and tail are read without it
	memory
	head   uint64 // where the oldest record begins, in bytes since the ring's first one: it is at head modulo len(buf)
	tail   uint64 // where the newest record ends
	last   int64  // time of the newest record
	marks  marks  // of a ring that overwrites
	closed bool   // nothing more is added
	now    func() int64

	accepted, dropped uint64 // frames
	afterClose        uint64 // frames that came after the ring was closed
	lost              losses
}

// newRing makes a ring of size bytes, a power of two that has room for a few of the longest frames.
func newRing(size int, overwrite bool) (*ring, error) {
	const least = 1 << 18
	if size < least || size&(size-1) != 0 {
		return nil, fmt.Errorf("a ring of %d bytes: want a power of two, %d or more", size, least)
	}
	r := &ring{overwrite: overwrite, now: clock(), ready: make(chan struct{}, 1)}
	return r, r.allocate(size)
}

// clock returns a function for the time in ns since 1970. It reads the wall clock once a second only, and the monotonic clock
// between, which takes half the time. Its calls must not run at the same time.
func clock() func() int64 {
	var read time.Time
	var wall int64
	return func() int64 {
		since := time.Since(read)
		if since > time.Second {
			read, since = time.Now(), 0
			wall = read.UnixNano()
		}
		return wall + int64(since)
	}
}

// add adds a copy of the first snap bytes of f with the present time, and tells whether there was room.
func (r *ring) add(in, out uint32, v vswitch.Verdict, f *ether.Frame, snap int) bool {
	r.mu.Lock()
	if r.closed {
		r.afterClose++
		r.mu.Unlock()
		return false
	}
	r.updateTime()
	kept := r.put(in, out, v, f, snap)
	r.mu.Unlock()
	if kept {
		r.notify()
	}
	return kept
}

// addRun is add for frames that came together and go to one port, with consecutive IDs, into a ring that overwrites. It reads
// the clock once. With headers it keeps no more than the headers.
func (r *ring) addRun(in, out uint32, v vswitch.Verdict, frames []ether.Frame, snap int, headers bool) {
	r.mu.Lock()
	if r.closed {
		r.afterClose += uint64(len(frames))
		r.mu.Unlock()
		return
	}
	r.updateTime()
	for len(frames) > 0 {
		n := r.putRun(in, out, v, frames, snap, headers)
		frames = frames[n:]
	}
	r.mu.Unlock()
	r.notify()
}

// updateTime reads the clock. If the clock was set back a little, the time stays, so that later frames are not before earlier
// ones; if by more, it was wrong before, and the time follows. The caller holds mu.
func (r *ring) updateTime() {
	if now := r.now(); now > r.last || now < r.last-int64(wrongClock) {
		r.last = now
	}
}

// put is add; the caller holds mu.
func (r *ring) put(in, out uint32, v vswitch.Verdict, f *ether.Frame, snap int) bool {
	n := min(snap, f.Len())
	b := r.reserve(headLen + entryLen(n))
	if b == nil {
		r.dropped++
		r.lost.add(portOf(in, out))
		return false
	}
	r.write(b, in, out, v, f, 1, headLen+putEntry(b[headLen:], f, n))
	return true
}

// runBytes is the largest length of frames that share a head.
const runBytes = 16 << 10

// putRun keeps the first of frames, with those that follow and share its head, and returns how many they are.
func (r *ring) putRun(in, out uint32, v vswitch.Verdict, frames []ether.Frame, snap int, headers bool) (count int) {
	first := &frames[0]
	frames = frames[:min(len(frames), max(1, runBytes/entryLen(snap)))]
	b := r.reserve(headLen + len(frames)*entryLen(snap))
	size := headLen
	for i := range frames {
		f := &frames[i]
		if f.Off != first.Off || f.Fault != first.Fault {
			break
		}
		n := min(snap, f.Len())
		if headers {
			n = min(n, f.HeadersLen())
		}
		size += putEntry(b[size:], f, n)
		count++
	}
	r.write(b, in, out, v, first, count, size)
	return count
}

// write writes the head of count frames, of which f is the first and whose entries are in b, and makes them part of the ring.
func (r *ring) write(b []byte, in, out uint32, v vswitch.Verdict, f *ether.Frame, count, size int) {
	h, le := (*[headLen]byte)(b), binary.LittleEndian
	le.PutUint32(h[atSize:], uint32(size))
	le.PutUint32(h[atCount:], uint32(count))
	le.PutUint32(h[atIn:], in)
	le.PutUint32(h[atOut:], out)
	h[atVerdict], h[atKind], h[atSum], h[atFault] = byte(v), byte(f.Off.Kind), 0, byte(f.Fault)
	if f.Off.PartialChecksum {
		h[atSum] = 1
		if inner := f.Off.Inner; inner > 1 && inner <= ether.MaxHead-1 {
			h[atSum] = byte(inner)
		}
	}
	le.PutUint32(h[atLost:], r.lost.take(portOf(in, out)))
	le.PutUint64(h[atTime:], uint64(r.last))
	le.PutUint64(h[atID:], f.ID)
	le.PutUint16(h[atSegment:], f.Off.Segment)
	le.PutUint16(h[atHead:], f.Off.Head)
	le.PutUint16(h[atStart:], f.Off.ChecksumStart)
	le.PutUint16(h[atOffset:], f.Off.ChecksumOffset)
	r.tail += uint64(size)
	r.accepted += uint64(count)
}

// entryLen is the length of an entry with n bytes of a frame.
func entryLen(n int) int { return (lengthsLen + n + 7) &^ 7 }

// putEntry writes the entry of n bytes of f, and returns its length.
func putEntry(b []byte, f *ether.Frame, n int) int {
	data := f.Bytes()
	binary.LittleEndian.PutUint64(b, uint64(n)|uint64(len(data))<<32)
	copy(b[lengthsLen:], data[:n])
	return entryLen(n)
}

// portOf is the port that a frame was seen at.
func portOf(in, out uint32) uint32 {
	if in == 0 {
		return out
	}
	return in
}

// notify wakes the reader.
func (r *ring) notify() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// reserve returns size contiguous bytes after the newest record, nil if there are not as many. The caller holds mu.
func (r *ring) reserve(size int) []byte {
	whole := uint64(len(r.buf))
	at := r.tail & (whole - 1)
	if at+uint64(size) > whole { // the end of the buffer is too short for the record
		gap := whole - at
		if !r.makeFree(gap + uint64(size)) {
			return nil
		}
		binary.LittleEndian.PutUint32(r.buf[at:], uint32(gap)|skip)
		r.tail += gap
		at = 0
	} else if !r.makeFree(uint64(size)) {
		return nil
	}
	if r.overwrite {
		r.mark()
	}
	return r.buf[at:][:size]
}

// makeFree makes n bytes after the newest record free, and tells whether they are.
func (r *ring) makeFree(n uint64) bool {
	for r.tail+n-r.head > uint64(len(r.buf)) {
		if !r.overwrite {
			return false
		}
		r.dropOldest()
	}
	return true
}

// mark sets a mark before the next record, if the newest mark is far enough away.
func (r *ring) mark() {
	m := &r.marks
	part := uint64(len(r.buf) / (len(m.queue) / 2))
	if m.next > m.oldest && r.tail-m.nth(m.next-1).at < part {
		return
	}
	*m.nth(m.next) = mark{r.tail, r.accepted}
	m.next++
}

// dropOldest drops the records up to the second mark. There always is one: reserve asks for less than two of the longest
// records at once, the newest mark is less than one such record and a part before the tail, and the smallest ring of newRing
// is longer than all that together.
func (r *ring) dropOldest() {
	r.marks.oldest++
	to := r.marks.nth(r.marks.oldest)
	r.head, r.dropped = to.at, to.accepted
}

// read lends fn the present records, from the oldest to the newest, and frees them in steps. Only one goroutine may read, and
// not from a ring that overwrites.
func (r *ring) read(fn func(*Record)) (n int) {
	r.mu.Lock()
	at, to := r.head, r.tail
	r.mu.Unlock()
	var rec Record
	for given := at; at < to; {
		b := r.buf[at%uint64(len(r.buf)):]
		size := binary.LittleEndian.Uint32(b)
		at += uint64(size &^ skip)
		if size&skip != 0 {
			continue
		}
		rec.each(b, func(rec *Record) bool {
			n++
			fn(rec)
			return true
		})
		if at-given > uint64(len(r.buf))/16 {
			given = at
			r.free(at)
		}
	}
	r.free(to)
	return n
}

// free frees the records before at.
func (r *ring) free(at uint64) {
	r.mu.Lock()
	r.head = at
	r.mu.Unlock()
}

// snapshot copies a ring that overwrites into a new ring, which the caller releases: all records from some point on to the
// newest one at the time of the call, so that a slow reader misses none. It holds the lock for a part at a time only: records
// that are overwritten before they are copied are missing, with all before them.
func (r *ring) snapshot() (*ring, error) {
	const part = 16 << 10
	r.mu.Lock()
	c, whole := &ring{closed: true, head: r.head, tail: r.tail}, uint64(len(r.buf))
	r.mu.Unlock()
	if c.head == c.tail {
		return c, nil
	}
	if err := c.allocate(int(whole)); err != nil {
		return nil, err
	}
	for at := c.head; at < c.tail; {
		r.mu.Lock()
		if r.head > at { // a ring that was released has its head at its tail
			at = min(r.head, c.tail)
			c.head = at
		}
		if at < c.tail {
			from := at % whole
			at += uint64(copy(c.buf[from:], r.buf[from:][:min(part, c.tail-at, whole-from)]))
		}
		r.mu.Unlock()
	}
	return c, nil
}

// records lends the records of a snapshot, from the oldest to the newest.
func (r *ring) records() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		var rec Record
		for at := r.head; at < r.tail; {
			b := r.buf[at%uint64(len(r.buf)):]
			size := binary.LittleEndian.Uint32(b)
			at += uint64(size &^ skip)
			if size&skip == 0 && !rec.each(b, yield) {
				return
			}
		}
	}
}

// each lends fn the records under the head at the beginning of b, until fn returns false, and tells whether it never did.
func (rec *Record) each(b []byte, fn func(*Record) bool) bool {
	le := binary.LittleEndian
	*rec = Record{
		Time: int64(le.Uint64(b[atTime:])), ID: le.Uint64(b[atID:]),
		In: le.Uint32(b[atIn:]), Out: le.Uint32(b[atOut:]), Verdict: vswitch.Verdict(b[atVerdict]),
		Off: ether.Offload{Kind: ether.Kind(b[atKind]), Segment: le.Uint16(b[atSegment:]), Head: le.Uint16(b[atHead:]),
			PartialChecksum: b[atSum] != 0, ChecksumStart: le.Uint16(b[atStart:]), ChecksumOffset: le.Uint16(b[atOffset:])},
		Fault: ether.Fault(b[atFault]), Lost: le.Uint32(b[atLost:]),
	}
	if b[atSum] > 1 {
		rec.Off.Inner = uint16(b[atSum])
	}
	count := le.Uint32(b[atCount:])
	for b = b[headLen:]; count > 0; count-- {
		length := int(le.Uint32(b))
		rec.Len, rec.Data = int(le.Uint32(b[4:])), b[lengthsLen:][:length:length]
		if !fn(rec) {
			return false
		}
		rec.ID++
		rec.Lost = 0
		b = b[entryLen(length):]
	}
	return true
}
