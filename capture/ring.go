// Package capture is looking at frames: copies of what the switches judge, in rings that never make a frame wait.
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

// A Record is one frame as the switch judged it.
type Record struct {
	Time    int64  // ns since 1970; in one ring never before that of the record before
	ID      uint64 // of the frame on this host: what is seen at two points is one frame
	In, Out uint32 // Number of the ports. Out is 0 unless it was forwarded; In is 0 of a frame seen again, on its way out by Out
	Verdict vswitch.Verdict
	Off     ether.Offload // what the kernel had left undone
	Fault   ether.Fault   // what was done to it on purpose
	Len     int           // of the frame, in bytes
	Lost    uint32        // frames of the same port that were dropped before this one, for want of room
	Data    []byte        // its beginning, at most as many bytes as the ring keeps of a frame
}

// What lies in the ring, little-endian: a head, and behind it one frame, or several that came together and share it, their
// IDs being consecutive. Each is its lengths and its data, padded to 8 bytes.
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

// wrongClock is by how much a clock may be set back without the frames' times following it.
const wrongClock = 10 * time.Second

// A ring holds records between those who judge frames, who put and never wait, and one reader. All of its memory is
// there from the beginning.
//
// In a full ring the new record is dropped and counted; one that overwrites drops a part of its oldest instead.
type ring struct {
	mu sync.Mutex
	memory
	head      uint64 // of the oldest record, in bytes since the beginning: it lies at head modulo len(buf)
	tail      uint64 // behind the newest
	last      int64  // time of the newest
	overwrite bool
	marks     marks // of one that overwrites
	closed    bool  // takes no more
	now       func() int64

	accepted, dropped uint64 // frames
	afterClose        uint64 // that came when it was closed
	lost              losses
	ready             chan struct{} // holds a token when there is something to read
}

// marks stand at the beginning of records, one in about every 128th part of the ring, the oldest at its head. What a full
// ring gives up are all records from one mark to the next: who puts need not read how long the old ones are, which are in
// no cache any more.
type marks struct {
	queue  [256]mark // twice as many as there can be
	oldest uint64
	next   uint64 // behind the newest
}

type mark struct {
	at       uint64 // in bytes since the beginning
	accepted uint64 // frames before it
}

// nth is the n-th mark that was set.
func (m *marks) nth(n uint64) *mark { return &m.queue[n%uint64(len(m.queue))] }

// newRing makes a ring of size bytes, a power of two that has room for a few of the longest frames.
func newRing(size int, overwrite bool) (*ring, error) {
	const least = 1 << 18
	if size < least || size&(size-1) != 0 {
		return nil, fmt.Errorf("a ring of %d bytes: want a power of two, %d or more", size, least)
	}
	r := &ring{overwrite: overwrite, now: clock(), ready: make(chan struct{}, 1)}
	return r, r.allocate(size)
}

// clock gives the time in ns since 1970. It reads the wall clock once a second and counts on from there, which takes
// half the time. One goroutine may call it at a time.
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

// add puts a copy of the first snap bytes of f into the ring, and stamps it with the time. It tells whether there was room.
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

// addRun is add for frames that came together and go one way, with consecutive IDs, into a ring that overwrites: with one
// look at the clock. With headers it keeps at most these.
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

// updateTime takes the time. A clock that is set back a little would put later frames before earlier ones. One that is set
// back by more has been wrong before. It needs the lock.
func (r *ring) updateTime() {
	if now := r.now(); now > r.last || now < r.last-int64(wrongClock) {
		r.last = now
	}
}

// put is add with the lock held.
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

// runBytes bounds what shares a head.
const runBytes = 16 << 10

// putRun keeps the first of frames, with those that follow and are like it, and tells how many they are.
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

// write puts the head before the entries of count frames, of which f is the first, and all of it into the ring.
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

// entryLen is what n bytes of a frame take behind a head.
func entryLen(n int) int { return (lengthsLen + n + 7) &^ 7 }

// putEntry writes n bytes of f, and tells how many it has written.
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

// notify tells the reader to look.
func (r *ring) notify() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// reserve gives size bytes in one piece behind the newest record, nil if there are not as many. It needs the lock.
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

// makeFree makes sure that n bytes behind the newest record are free, if it can.
func (r *ring) makeFree(n uint64) bool {
	for r.tail+n-r.head > uint64(len(r.buf)) {
		if !r.overwrite {
			return false
		}
		r.dropOldest()
	}
	return true
}

// mark sets a mark before the next record, if the newest one is far enough away.
func (r *ring) mark() {
	m := &r.marks
	part := uint64(len(r.buf) / (len(m.queue) / 2))
	if m.next > m.oldest && r.tail-m.nth(m.next-1).at < part {
		return
	}
	*m.nth(m.next) = mark{r.tail, r.accepted}
	m.next++
}

// dropOldest drops the records up to the second mark. There is one: room asks for less than two of the longest records at
// once, and the newest mark is less than one and a part behind the tail; newRing's least ring is longer than that together.
func (r *ring) dropOldest() {
	r.marks.oldest++
	to := r.marks.nth(r.marks.oldest)
	r.head, r.dropped = to.at, to.accepted
}

// read lends fn the records that are there, from the oldest to the newest, and gives their room back as it goes. Only one
// goroutine may read, and not from a ring that overwrites.
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

// free gives the room before at back.
func (r *ring) free(at uint64) {
	r.mu.Lock()
	r.head = at
	r.mu.Unlock()
}

// snapshot gives what is in a ring that overwrites, from one record on all of them to the newest at the time of the call, in
// a ring of its own: however slowly that is read, it has no hole. Its caller gives it back. The lock is taken for a part at
// a time, and what is overwritten before its turn comes is gone with all before it.
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
		if r.head > at { // of a ring that was given back this is behind everything
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

// records lends what is in a snapshot, from the oldest to the newest.
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

// each lends fn what lies at the beginning of b, as Records, until it returns false, and tells whether it never did.
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

// losses count what was dropped, by port, until the next frame of the port gets in. It is a hash table with linear
// probing, of a fixed size: what is dropped must cost little. Ports beyond its room are not told apart.
type losses struct {
	slots [256]loss
	sum   uint64 // of all slots
	other uint64
}

type loss struct {
	port uint32
	n    uint32
}

func (l *losses) add(port uint32) {
	for i := range uint32(len(l.slots)) {
		s := &l.slots[(port+i)%uint32(len(l.slots))]
		if s.port == port || s.port == 0 {
			s.port = port
			s.n++
			l.sum++
			return
		}
	}
	l.other++
}

// take gives a port's count and begins a new one. Its slot stays: others may lie behind it.
func (l *losses) take(port uint32) (n uint32) {
	if l.sum == 0 {
		return 0
	}
	for i := range uint32(len(l.slots)) {
		s := &l.slots[(port+i)%uint32(len(l.slots))]
		if s.port == port {
			n, s.n = s.n, 0
			if l.sum -= uint64(n); l.sum == 0 {
				clear(l.slots[:]) // room for other ports
			}
			return n
		}
		if s.port == 0 {
			break
		}
	}
	return 0
}
