package daemon

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
)

// An activeCapture is one capture, from its request until its counts are forgotten.
type activeCapture struct {
	// Set before it is in Captures.all, then not changed.
	id                string
	name              string
	sub               *capture.Subscriber
	who               api.Credentials
	began             time.Time
	network, endpoint string             // of the container that it was armed for; "": of none
	stop              func(state string) // the first state wins

	spec *captureSpec // nil: it has ended. Of the goroutine that runs the capture; while it awaits a reader, guarded by Captures.mu

	counted bool // in Captures.ended; guarded by Captures.mu

	detachedAt atomic.Int64 // ns since 1970, when that container's port was removed

	once sync.Once
	done chan struct{} // closed by stop

	changes     sync.Mutex             // held while the filter is replaced, so that sub and filter agree
	filter      atomic.Pointer[string] // the filter's expression; replaced with changes held
	state       atomic.Pointer[string] // as api.CaptureStats has it; set by stop, disarm and Captures.Close
	lasted      atomic.Int64           // ns from its beginning to its end; 0: it runs
	beyondLimit atomic.Uint64          // frames that were read after the limit was reached
	packets     atomic.Uint64          // written to the reader
	bytes       atomic.Int64           // written to the reader
}

// newActiveCapture returns a capture that is not in Captures.all yet: the caller sets id and sub.
func newActiveCapture(ask *captureSpec, who api.Credentials) *activeCapture {
	s := &activeCapture{name: ask.Name, spec: ask, who: who, began: time.Now(), done: make(chan struct{}),
		network: ask.network, endpoint: ask.endpoint}
	state := "running"
	if ask.endpoint != "" {
		state = "armed"
	}
	s.state.Store(&state)
	s.filter.Store(&ask.Filter.Expr)
	s.stop = func(state string) {
		s.once.Do(func() {
			s.state.Store(&state)
			close(s.done)
		})
	}
	return s
}

// end is when a capture has ended.
func (s *activeCapture) end() time.Time { return s.began.Add(time.Duration(s.lasted.Load())) }

func (s *activeCapture) stats() api.CaptureStats {
	t := s.sub.Stats()
	beyond := min(s.beyondLimit.Load(), t.Delivered) // frames beyond the limit are counted during a Read, Delivered at its end: so it may be more
	length := time.Duration(s.lasted.Load())
	if length == 0 {
		length = time.Since(s.began)
	} else { // what waits was not written
		t.Dropped, t.Waiting = t.Dropped+t.Waiting, 0
	}
	return api.CaptureStats{ID: s.id, Name: s.name, UID: s.who.UID, PID: s.who.PID, State: *s.state.Load(), Filter: *s.filter.Load(),
		Seconds: length.Seconds(), Seen: t.Seen, Filtered: t.Filtered + beyond,
		Accepted: t.Accepted - beyond, Delivered: t.Delivered - beyond, Dropped: t.Dropped, Waiting: t.Waiting,
		Packets: s.packets.Load(), Bytes: s.bytes.Load(), Network: s.network, Endpoint: s.endpoint}
}

// setFilter replaces the filter, and tells whether it did. If f.Was is set and the filter has been changed since, nothing happens.
func (s *activeCapture) setFilter(f *api.Filter, match capture.Match) bool {
	s.changes.Lock()
	defer s.changes.Unlock()
	if f.Was != nil && *f.Was != *s.filter.Load() {
		return false
	}
	s.filter.Store(&f.Expr)
	s.sub.Filter(match)
	return true
}
