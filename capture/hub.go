package capture

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Hub copies the frames of all networks of this host to its Subscribers. Without one, no switch is watched.
type Hub struct {
	frames atomic.Uint64 // the last frame ID that was assigned

	mu          sync.Mutex
	networks    map[string]*watcher // by id; guarded by mu
	subscribers []*Subscriber       // guarded by mu
	ports       portTable           // guarded by mu
}

// A watcher is the vswitch.Watcher of one network's switch.
type watcher struct {
	hub         *Hub
	network     string
	sw          *vswitch.Switch
	subscribers atomic.Pointer[[]*Subscriber] // an immutable slice, replaced with hub.mu held
}

// NewHub makes a Hub without networks.
func NewHub() *Hub { return &Hub{networks: make(map[string]*watcher), ports: newPortTable()} }

// Add adds a network: its frames can be captured.
func (h *Hub) Add(network string, sw *vswitch.Switch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.networks[network] = &watcher{hub: h, network: network, sw: sw}
	h.updateWatchers()
}

// Remove removes a network.
func (h *Hub) Remove(network string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.networks[network]; o != nil {
		o.sw.Watch(nil)
		delete(h.networks, network)
	}
}

// updateWatchers stores the present subscribers in every watcher. The caller holds mu.
func (h *Hub) updateWatchers() {
	for _, o := range h.networks {
		subscribers := slices.Clone(h.subscribers)
		o.subscribers.Store(&subscribers)
		if len(subscribers) == 0 {
			o.sw.Watch(nil)
		} else {
			o.sw.Watch(o)
		}
	}
}

// Watch copies the frame to each Subscriber that wants it.
func (o *watcher) Watch(in, out *vswitch.Port, v vswitch.Verdict, f *ether.Frame) {
	for _, s := range *o.subscribers.Load() {
		o.copyTo(s, in, out, v, f)
	}
}

// copyTo copies the frame to a Subscriber if it wants it.
func (o *watcher) copyTo(s *Subscriber, in, out *vswitch.Port, v vswitch.Verdict, f *ether.Frame) {
	if !s.wants(o.network, in, out, v, f) {
		if !s.ring.overwrite { // not counted for the recorder: a counter that all workers write slows them down
			s.filtered.Add(1)
		}
		return
	}
	if f.ID == 0 {
		f.ID = o.hub.frames.Add(1)
	}
	snap := s.snap
	if s.headers {
		snap = min(snap, f.HeadersLen())
	}
	s.ring.add(numberOf(in), numberOf(out), v, f, snap)
}

// numberOf is a port's Number, 0 of none.
func numberOf(p *vswitch.Port) uint32 {
	if p == nil {
		return 0
	}
	return p.Number
}

// WatchRun is Watch for frames that were received together and are forwarded to one port.
func (o *watcher) WatchRun(in, out *vswitch.Port, frames []ether.Frame) {
	last := o.hub.frames.Add(uint64(len(frames)))
	for i := range frames {
		frames[i].ID = last - uint64(len(frames)-1-i)
	}
	for _, s := range *o.subscribers.Load() {
		switch {
		case !s.ring.overwrite:
			for i := range frames {
				o.copyTo(s, in, out, vswitch.Forwarded, &frames[i])
			}
		case !s.drops: // the recorder
			s.ring.addRun(in.Number, out.Number, vswitch.Forwarded, frames, s.snap, s.headers)
		}
	}
}

// Options say which frames a Subscriber gets.
type Options struct {
	Targets   Targets
	Ring      int   // bytes of memory, a power of two; 0: DefaultRing
	Snap      int   // bytes of each frame; 0: all
	Headers   bool  // of these the headers only, see ether.Frame.HeadersLen
	DropsOnly bool  // dropped frames only
	Match     Match // nil: every frame
	Overwrite bool  // a full ring overwrites its oldest frames, for a Recorder. Forwarded frames are then not matched: all get into it
}

// A Match tells whether a frame is wanted. It is called by several goroutines at a time.
type Match func(frame []byte, wireLen int) bool

// DefaultRing holds 8 MiB: a few thousand frames of 1,500 bytes, or some hundred super-frames.
const DefaultRing = 8 << 20

// A Subscriber gets copies of frames in a ring. What it does not read in time is dropped and counted.
type Subscriber struct {
	hub      *Hub
	ring     *ring
	snap     int
	headers  bool
	drops    bool
	match    atomic.Pointer[Match]     // nil: every frame; replaced by Filter, without a lock
	selected atomic.Pointer[selection] // immutable, replaced with hub.mu held

	filtered  atomic.Uint64
	delivered uint64 // guarded by ring.mu

	targets  Targets // guarded by hub.mu
	since    uint32  // Number of the newest port when it subscribed; guarded by hub.mu
	newPorts []*Port // selected since the last call of NewPorts; guarded by hub.mu
}

// Subscribe adds a Subscriber, which gets frames until it is closed.
func (h *Hub) Subscribe(o Options) (*Subscriber, error) {
	if o.Ring == 0 {
		o.Ring = DefaultRing
	}
	if o.Snap <= 0 || o.Snap > ether.MaxFrame {
		o.Snap = ether.MaxFrame
	}
	r, err := newRing(o.Ring, o.Overwrite)
	if err != nil {
		return nil, err
	}
	s := &Subscriber{hub: h, ring: r, snap: o.Snap, headers: o.Headers, drops: o.DropsOnly}
	s.Filter(o.Match)
	h.mu.Lock()
	defer h.mu.Unlock()
	s.since = h.ports.newest
	s.setTargets(o.Targets)
	h.subscribers = append(h.subscribers, s)
	h.updateWatchers()
	return s, nil
}

// wants tells whether the Subscriber gets a frame.
func (s *Subscriber) wants(network string, in, out *vswitch.Port, v vswitch.Verdict, f *ether.Frame) bool {
	if s.drops && !v.Drop() {
		return false
	}
	if only := s.selected.Load(); !only.all && !only.wants(network, numberOf(in), numberOf(out), v, f.Bytes(), f.Len()) {
		return false
	}
	match := *s.match.Load()
	return match == nil || match(f.Bytes(), f.Len())
}

// Filter changes which of the selected ports' frames are wanted; nil: all.
func (s *Subscriber) Filter(m Match) { s.match.Store(&m) }

// Ready holds a token when there is something to Read.
func (s *Subscriber) Ready() <-chan struct{} { return s.ring.ready }

// Read lends fn the records that were added since its last call, ordered by time, and returns their number.
func (s *Subscriber) Read(fn func(*Record)) int {
	n := s.ring.read(fn)
	s.ring.mu.Lock()
	s.delivered += uint64(n)
	s.ring.mu.Unlock()
	return n
}

// Close ends the subscription. Records from before it can still be read. A second Close does nothing.
func (s *Subscriber) Close() {
	h := s.hub
	h.mu.Lock()
	h.subscribers = slices.DeleteFunc(h.subscribers, func(x *Subscriber) bool { return x == s })
	h.updateWatchers()
	h.mu.Unlock()
	s.ring.mu.Lock()
	s.ring.closed = true // a worker may be about to add a frame
	s.ring.mu.Unlock()
}

// Free closes the Subscriber and frees its memory: nothing can be read afterwards. Its Stats stay.
func (s *Subscriber) Free() {
	s.Close()
	s.Filter(nil)
	s.ring.mu.Lock()
	s.ring.release()
	s.ring.mu.Unlock()
}

// Stats are a Subscriber's counters: at any time Seen = Filtered + Accepted, and Accepted = Delivered + Dropped + Waiting. A
// frame is counted when it is decided whether the Subscriber gets it.
type Stats struct {
	Seen      uint64 // frames that were decided on since it subscribed
	Filtered  uint64 // not wanted; not counted if it overwrites
	Accepted  uint64 // wanted
	Delivered uint64 // read
	Dropped   uint64 // not read in time: the ring was full
	Waiting   uint64 // in the ring
}

// Stats reads the counters.
func (s *Subscriber) Stats() (t Stats) {
	r := s.ring
	r.mu.Lock()
	t.Dropped, t.Delivered = r.dropped, s.delivered
	late := r.afterClose
	if t.Accepted = r.accepted + r.dropped; r.overwrite {
		t.Accepted = r.accepted // what is overwritten was put
	}
	r.mu.Unlock()
	t.Waiting = t.Accepted - t.Delivered - t.Dropped
	t.Filtered = s.filtered.Load() + late
	t.Seen = t.Filtered + t.Accepted
	return t
}

// TrailingDrops returns how many frames of each port were dropped after the last one that was kept. Port 0 stands for those of
// ports beyond the number that is counted separately.
func (s *Subscriber) TrailingDrops() map[uint32]uint64 {
	r := s.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	tail := make(map[uint32]uint64)
	if r.lost.other > 0 {
		tail[0] = r.lost.other
	}
	for _, l := range r.lost.slots {
		if l.n > 0 {
			tail[l.port] += uint64(l.n)
		}
	}
	return tail
}

// Memory is the size in bytes of the Subscriber's ring.
func (s *Subscriber) Memory() int {
	s.ring.mu.Lock()
	defer s.ring.mu.Unlock()
	return len(s.ring.buf)
}
