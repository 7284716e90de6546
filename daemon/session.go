package daemon

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
)

// A session is one capture.
type session struct {
	id    string
	name  string
	spec  *captureSpec // nil: it has ended. Only its own goroutine uses it
	sink  *capture.Subscriber
	who   api.Credentials
	began time.Time

	network, endpoint string       // of the container that it was armed for; "": of none
	detachedAt        atomic.Int64 // ns since 1970, when that container's port was removed

	once sync.Once
	stop func(state string) // the first state wins
	done chan struct{}      // closed by stop

	changes     sync.Mutex             // held while the filter is replaced
	filter      atomic.Pointer[string] // the filter's expression; replaced with changes held
	state       atomic.Pointer[string] // as api.CaptureStats has it; set by stop, disarm and Captures.Close
	lasted      atomic.Int64           // ns from its beginning to its end; 0: it runs
	beyondLimit atomic.Uint64          // frames that were read after the limit was reached
	packets     atomic.Uint64          // written to the reader
	bytes       atomic.Int64           // written to the reader
}

// newSession returns a session that is not in Captures.all yet.
func newSession(ask *captureSpec, who api.Credentials) *session {
	s := &session{name: ask.Name, spec: ask, who: who, began: time.Now(), done: make(chan struct{}),
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
func (s *session) end() time.Time { return s.began.Add(time.Duration(s.lasted.Load())) }

func (s *session) stats() api.CaptureStats {
	t := s.sink.Stats()
	beyond := min(s.beyondLimit.Load(), t.Delivered) // it is counted before the read that it is of has ended
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

// setFilter gives a capture another filter, unless that is to renew one which it has not any more.
func (s *session) setFilter(f *api.Filter, match capture.Match) bool {
	s.changes.Lock()
	defer s.changes.Unlock()
	if f.Was != nil && *f.Was != *s.filter.Load() {
		return false
	}
	s.filter.Store(&f.Expr)
	s.sink.Filter(match)
	return true
}
