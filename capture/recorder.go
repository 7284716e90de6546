package capture

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// RecordedBytes is what the Recorder keeps of a frame at most.
const RecordedBytes = 128

// A Recorder is a flight recorder: it always keeps the headers of the latest frames. Dropped frames have a ring of their own,
// so that other frames do not overwrite them.
type Recorder struct {
	hub *Hub

	mu         sync.Mutex
	all, drops *Subscriber // nil: off; guarded by mu
	size       int         // bytes of all's ring; guarded by mu
	since      int64       // ns since 1970, when it was switched on or resized; guarded by mu
	dumps      int         // that are being read; guarded by mu
	copied     int         // bytes of the copies for them; guarded by mu
}

// NewRecorder makes a Recorder that is off.
func (h *Hub) NewRecorder() *Recorder { return &Recorder{hub: h} }

// Resize switches the Recorder on with size bytes of memory, a power of two, and an eighth of that more for drops; 0 switches
// it off. Frames that it has kept are lost.
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
		r.all.Free() // a dump that is being read has a copy
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

// Dump lends fn every kept frame that is not older than last, ordered by time; with last 0 all of them. Before the first one
// it calls begin with the time from which on no frame is missing, in ns since 1970; from before that time there may be drops
// only. It ends with the first error of begin or fn. It reads a copy, so that a slow reader does not miss frames: there are at
// most MaxDumps dumps at a time, whose copies have at most the memory of the largest Recorder.
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
	// The drops are copied first, so that none from before the oldest record of all is missing. One that is in both copies is
	// not older than that record, so it is not passed on twice.
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

// MaxDumps is how many dumps can be read at a time.
const MaxDumps = 4

// startDump begins a dump if there is memory for its copy; the caller calls done when the copy is freed.
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

// maxRecorder is the largest memory of a Recorder in bytes, without that for drops.
const maxRecorder = 1 << 30

// totalMemory is a Recorder's memory in bytes, with that for drops.
func totalMemory(size int) int { return size + size/8 }

// A RecorderState is the state of a Recorder.
type RecorderState struct {
	Bytes  int    // of its memory; 0: it is off
	Since  int64  // ns since 1970, when it was switched on or resized
	Frames uint64 // recorded since then
	Kept   uint64 // of these, still kept
	Drops  uint64 // dropped frames that are still kept
}

// State returns the Recorder's state.
func (r *Recorder) State() (s RecorderState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		return s
	}
	all, drops := r.all.Stats(), r.drops.Stats()
	return RecorderState{Bytes: r.size, Since: r.since, Frames: all.Accepted, Kept: all.Waiting, Drops: drops.Waiting}
}
