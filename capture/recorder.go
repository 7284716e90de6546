package capture

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// RecordedBytes is what the Recorder keeps of a frame at most.
const RecordedBytes = 128

// A Recorder always keeps the headers of the latest frames: what led to this. Drops have a ring of their own, so that
// no flood of others washes them out.
type Recorder struct {
	hub *Hub

	mu         sync.Mutex
	all, drops *Subscriber // nil: off
	size       int
	since      int64 // ns since 1970: it was switched on, or resized
	dumps      int   // that are being read
	copied     int   // bytes of their copies
}

// NewRecorder makes a Recorder that is off.
func (h *Hub) NewRecorder() *Recorder { return &Recorder{hub: h} }

// Resize switches the Recorder on with size bytes of memory, a power of two, and an eighth as many beside them for
// drops; 0 switches it off. What it has kept is gone.
func (r *Recorder) Resize(size int) error {
	if size < 0 || size&(size-1) != 0 || size > 0 && size < 1<<21 || size > maxRecorder {
		return errors.New("the recorder's memory: want a power of two from 2 MiB to 1 GiB, or 0 for none")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all, drops *Subscriber
	if size > 0 {
		var err error
		if all, err = r.hub.Subscribe(Options{Ring: size, Snap: RecordedBytes, Headers: true, Overwrite: true}); err != nil {
			return err
		}
		if drops, err = r.hub.Subscribe(Options{Ring: size / 8, Snap: RecordedBytes, Headers: true, Overwrite: true,
			DropsOnly: true}); err != nil {
			all.Free()
			return err
		}
	}
	r.close()
	r.all, r.drops, r.size, r.since = all, drops, size, time.Now().UnixNano()
	return nil
}

// Close switches the Recorder off.
func (r *Recorder) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.close()
}

func (r *Recorder) close() {
	if r.all != nil {
		r.all.Free() // who dumps it now has a copy
		r.drops.Free()
	}
	r.all, r.drops, r.size = nil, nil, 0
}

// Size is the Recorder's memory in bytes, 0 if it is off.
func (r *Recorder) Size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size
}

// Dump lends fn, in the order of time, every frame that is kept and not older than last; with last 0 all of them. Before
// the first one it calls begin with the time since when no frame is missing, in ns since 1970; of the time before that
// there may be drops only. It ends with the first error of either. A dump is of a copy, so that a slow reader finds no
// hole in it: there are MaxDumps at most at one time, with no more memory together than the largest Recorder has.
func (r *Recorder) Dump(last time.Duration, begin func(since int64) error, fn func(*Record) error) error {
	all, drops, since, done, err := r.startDump()
	if err != nil {
		return err
	}
	defer done()
	from := int64(0)
	if last > 0 {
		from = time.Now().Add(-last).UnixNano()
	}
	// The drops first: then none of those before the oldest of all is missing. One that is in both rings is in all at
	// the oldest or after it, so it is not told twice.
	lost, err := drops.ring.snapshot()
	if err != nil {
		return err
	}
	defer lost.release()
	kept, err := all.ring.snapshot()
	if err != nil {
		return err
	}
	defer kept.release()
	var oldest *Record
	for rec := range kept.records() {
		oldest = &Record{Time: rec.Time, ID: rec.ID}
		break
	}
	if oldest != nil && kept.head > 0 {
		since = max(since, oldest.Time)
	}
	if err := begin(max(since, from)); err != nil {
		return err
	}
	for rec := range lost.records() {
		if oldest != nil && (rec.Time >= oldest.Time || rec.ID >= oldest.ID) {
			break
		}
		if rec.Time >= from {
			if err := fn(rec); err != nil {
				return err
			}
		}
	}
	for rec := range kept.records() {
		if rec.Time >= from {
			if err := fn(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// MaxDumps is how many dumps there may be at one time.
const MaxDumps = 4

// startDump lets a dump begin, if there is room for its copy; its caller calls done when that is given back.
func (r *Recorder) startDump() (all, drops *Subscriber, since int64, done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := totalMemory(r.size)
	switch {
	case r.all == nil:
		return nil, nil, 0, nil, errors.New("the recorder is off: tapestry recorder on")
	case r.dumps >= MaxDumps:
		return nil, nil, 0, nil, fmt.Errorf("%d dumps of the recorder are being read, which is the most: "+
			"try again when one of them has ended", r.dumps)
	case r.copied+size > totalMemory(maxRecorder):
		return nil, nil, 0, nil, fmt.Errorf("a dump needs %d MiB for its copy of the recorder, and those that are being read have %d of %d: "+
			"try again when one of them has ended, or make the recorder smaller (tapestry recorder size)",
			size>>20, r.copied>>20, totalMemory(maxRecorder)>>20)
	}
	r.dumps, r.copied = r.dumps+1, r.copied+size
	return r.all, r.drops, r.since, func() {
		r.mu.Lock()
		r.dumps, r.copied = r.dumps-1, r.copied-size
		r.mu.Unlock()
	}, nil
}

// maxRecorder is the most memory in bytes that a Recorder may have, without that for drops.
const maxRecorder = 1 << 30

// totalMemory is a Recorder's memory in bytes, with the eighth for drops.
func totalMemory(size int) int { return size + size/8 }

// A RecorderState is what the Recorder is doing.
type RecorderState struct {
	Bytes  int    // of its memory; 0: it is off
	Since  int64  // ns since 1970: it was switched on, or resized
	Frames uint64 // seen since then
	Kept   uint64 // of these, still there
	Drops  uint64 // frames that went nowhere, still there
}

// State tells what the Recorder is doing.
func (r *Recorder) State() (s RecorderState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		return s
	}
	all, drops := r.all.Stats(), r.drops.Stats()
	return RecorderState{Bytes: r.size, Since: r.since, Frames: all.Accepted, Kept: all.Waiting, Drops: drops.Waiting}
}
