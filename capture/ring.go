// Package capture is looking at frames: copies of what the switches judge, in rings that never make a frame wait.
package capture

import (
	"encoding/binary"
	"fmt"
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

// A record in the ring: a head, little-endian, and the data, padded to 8 bytes.
const (
	headLen = 56

	atSize    = 0  // u32, of head, data and padding; a skip has the highest bit set, and nothing but this
	atData    = 4  // u32, bytes of data
	atLen     = 8  // u32
	atIn      = 12 // u32
	atOut     = 16 // u32
	atVerdict = 20 // u8
	atKind    = 21 // u8
	atSum     = 22 // u8, NeedsSum
	atFault   = 23 // u8
	atTime    = 24 // i64
	atID      = 32 // u64
	atSegment = 40 // u16, and the three below
	atHead    = 42
	atStart   = 44
	atOffset  = 46
	atLost    = 48 // u32

	skip = 1 << 31
)

// wrongClock is by how much a clock may be set back without the frames' times following it.
const wrongClock = 10 * time.Second

// A ring holds records between those who judge frames, who put and never wait, and one reader. All of its memory is
// there from the beginning.
//
// In a full ring the new record is dropped and counted; one that overwrites drops its oldest instead.
type ring struct {
	mu sync.Mutex
	memory
	head      uint64 // of the oldest record, in bytes since the beginning: it lies at head modulo len(buf)
	tail      uint64 // behind the newest
	last      int64  // time of the newest
	overwrite bool
	closed    bool // takes no more
	now       func() int64

	put, dropped uint64
	late         uint64 // came when it was closed
	lost         losses
	ready        chan struct{} // holds a token when there is something to read
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
func (r *ring) add(in, out uint32, v vswitch.Verdict, id uint64, f *ether.Frame, snap int) bool {
	r.mu.Lock()
	if r.closed {
		r.late++
		r.mu.Unlock()
		return false
	}
	r.stamp()
	kept := r.keep(in, out, v, id, f, snap)
	r.mu.Unlock()
	if kept {
		r.wake()
	}
	return kept
}

// addRun is add for frames that came together and go one way: with one look at the clock.
func (r *ring) addRun(in, out uint32, v vswitch.Verdict, frames []ether.Frame, snap int, headers bool) {
	r.mu.Lock()
	if r.closed {
		r.late += uint64(len(frames))
		r.mu.Unlock()
		return
	}
	r.stamp()
	for i := range frames {
		f, n := &frames[i], snap
		if headers {
			n = min(n, f.Headers())
		}
		r.keep(in, out, v, f.ID, f, n)
	}
	r.mu.Unlock()
	r.wake()
}

// stamp takes the time. A clock that is set back a little would put later frames before earlier ones. One that is set
// back by more has been wrong before. It needs the lock.
func (r *ring) stamp() {
	if now := r.now(); now > r.last || now < r.last-int64(wrongClock) {
		r.last = now
	}
}

// keep is add with the lock held.
func (r *ring) keep(in, out uint32, v vswitch.Verdict, id uint64, f *ether.Frame, snap int) bool {
	data := f.Bytes()
	data = data[:min(len(data), snap)]
	size := (headLen + len(data) + 7) &^ 7
	b := r.room(size)
	port := in
	if port == 0 {
		port = out
	}
	if b == nil {
		r.dropped++
		r.lost.add(port)
		return false
	}
	le := binary.LittleEndian
	le.PutUint32(b[atSize:], uint32(size))
	le.PutUint32(b[atData:], uint32(len(data)))
	le.PutUint32(b[atLen:], uint32(f.Len()))
	le.PutUint32(b[atIn:], in)
	le.PutUint32(b[atOut:], out)
	b[atVerdict], b[atKind], b[atSum] = byte(v), byte(f.Off.Kind), 0
	if f.Off.NeedsSum {
		b[atSum] = 1
	}
	b[atFault] = byte(f.Fault)
	le.PutUint64(b[atTime:], uint64(r.last))
	le.PutUint64(b[atID:], id)
	le.PutUint16(b[atSegment:], f.Off.Segment)
	le.PutUint16(b[atHead:], f.Off.Head)
	le.PutUint16(b[atStart:], f.Off.SumStart)
	le.PutUint16(b[atOffset:], f.Off.SumOffset)
	le.PutUint32(b[atLost:], r.lost.take(port))
	copy(b[headLen:], data)
	r.tail += uint64(size)
	r.put++
	return true
}

// wake tells the reader to look.
func (r *ring) wake() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// room gives size bytes in one piece behind the newest record, nil if there are not as many. It needs the lock.
func (r *ring) room(size int) []byte {
	whole := uint64(len(r.buf))
	at := r.tail % whole
	gap := uint64(0) // at the end of the buffer, too short for the record
	if at+uint64(size) > whole {
		gap = whole - at
	}
	for r.tail+gap+uint64(size)-r.head > whole {
		if !r.overwrite {
			return nil
		}
		n := binary.LittleEndian.Uint32(r.buf[r.head%whole:])
		if n&skip == 0 {
			r.dropped++
		}
		r.head += uint64(n &^ skip)
	}
	if gap > 0 {
		binary.LittleEndian.PutUint32(r.buf[at:], uint32(gap)|skip)
		r.tail += gap
		at = 0
	}
	return r.buf[at:][:size]
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
		rec.decode(b)
		fn(&rec)
		n++
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

// snapshot copies the records that are in a ring that overwrites, from the oldest to the newest at the time of the
// call, and lends them to fn one by one. It takes the lock for a part of them at a time; what is overwritten before it
// gets there is gone.
func (r *ring) snapshot(fn func(*Record)) (n int) {
	const part = 64 << 10
	room := make([]byte, 0, part+ether.MaxFrame+headLen+8)
	r.mu.Lock()
	at, to := r.head, r.tail
	r.mu.Unlock()
	var rec Record
	for at < to {
		room = room[:0]
		r.mu.Lock()
		for at = max(at, r.head); at < to && len(room) < part; { // of one that was given back nothing is left
			b := r.buf[at%uint64(len(r.buf)):]
			size := binary.LittleEndian.Uint32(b)
			at += uint64(size &^ skip)
			if size&skip == 0 {
				room = append(room, b[:size]...)
			}
		}
		r.mu.Unlock()
		for b := room; len(b) > 0; b = b[binary.LittleEndian.Uint32(b):] {
			rec.decode(b)
			fn(&rec)
			n++
		}
	}
	return n
}

func (rec *Record) decode(b []byte) {
	le := binary.LittleEndian
	*rec = Record{
		Time: int64(le.Uint64(b[atTime:])), ID: le.Uint64(b[atID:]),
		In: le.Uint32(b[atIn:]), Out: le.Uint32(b[atOut:]), Verdict: vswitch.Verdict(b[atVerdict]),
		Off: ether.Offload{Kind: ether.Kind(b[atKind]), Segment: le.Uint16(b[atSegment:]), Head: le.Uint16(b[atHead:]),
			NeedsSum: b[atSum] != 0, SumStart: le.Uint16(b[atStart:]), SumOffset: le.Uint16(b[atOffset:])},
		Fault: ether.Fault(b[atFault]), Len: int(le.Uint32(b[atLen:])), Lost: le.Uint32(b[atLost:]), Data: b[headLen:][:le.Uint32(b[atData:])],
	}
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
