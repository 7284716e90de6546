package capture

import (
	"errors"
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
	all, drops *Sink // nil: off
	size       int
	since      int64 // ns since 1970: it was switched on, or resized
}

// NewRecorder makes a Recorder that is off.
func (h *Hub) NewRecorder() *Recorder { return &Recorder{hub: h} }

// Resize switches the Recorder on with size bytes of memory, a power of two, and an eighth as many beside them for
// drops; 0 switches it off. What it has kept is gone.
func (r *Recorder) Resize(size int) error {
	if size < 0 || size&(size-1) != 0 || size > 0 && size < 1<<21 || size > 1<<30 {
		return errors.New("the recorder's memory: want a power of two from 2 MiB to 1 GiB, or 0 for none")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all, drops *Sink
	if size > 0 {
		var err error
		if all, err = r.hub.Open(Options{Ring: size, Snap: RecordedBytes, Headers: true, Overwrite: true}); err != nil {
			return err
		}
		if drops, err = r.hub.Open(Options{Ring: size / 8, Snap: RecordedBytes, Headers: true, Overwrite: true,
			DropsOnly: true}); err != nil {
			all.Close()
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

// Dump lends fn, in the order of time, every frame that is kept and not older than last; with last 0 all of them.
// Before the first one it calls begin with the time since when no frame is missing, in ns since 1970; of the time
// before that there may be drops only.
func (r *Recorder) Dump(last time.Duration, begin func(since int64), fn func(*Record)) error {
	r.mu.Lock()
	all, drops := r.all, r.drops
	since := r.since
	r.mu.Unlock()
	if all == nil {
		return errors.New("the recorder is off: tapestry recorder on")
	}
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
	defer lost.giveBack()
	kept, err := all.ring.snapshot()
	if err != nil {
		return err
	}
	defer kept.giveBack()
	var dropped []Record
	lost.read(func(rec *Record) {
		if rec.Time >= from {
			dropped = append(dropped, rec.clone())
		}
	})
	began, full := false, kept.head > 0
	start := func(oldest *Record) {
		if began = true; oldest != nil && full {
			since = max(since, oldest.Time)
		}
		begin(max(since, from))
		for len(dropped) > 0 && (oldest == nil || dropped[0].Time < oldest.Time && dropped[0].ID < oldest.ID) {
			fn(&dropped[0])
			dropped = dropped[1:]
		}
	}
	kept.read(func(rec *Record) {
		if !began {
			start(rec)
		}
		if rec.Time >= from {
			fn(rec)
		}
	})
	if !began {
		start(nil)
	}
	return nil
}

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

func (rec *Record) clone() Record {
	c := *rec
	c.Data = append([]byte(nil), rec.Data...)
	return c
}
