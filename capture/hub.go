package capture

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A Hub shows the frames of all networks of this host to those who look: the Sinks. While there is none, a switch is
// not watched.
type Hub struct {
	frames atomic.Uint64 // IDs that were given

	mu          sync.Mutex
	networks    map[string]*watcher
	subscribers []*Subscriber
	ports       portTable
}

// An watcher is the Watcher of one network's switch.
type watcher struct {
	hub         *Hub
	network     string
	sw          *vswitch.Switch
	subscribers atomic.Pointer[[]*Subscriber] // replaced whole
}

// NewHub makes a Hub without networks.
func NewHub() *Hub { return &Hub{networks: make(map[string]*watcher), ports: newPortTable()} }

// Add lets the network's frames be seen.
func (h *Hub) Add(network string, sw *vswitch.Switch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.networks[network] = &watcher{hub: h, network: network, sw: sw}
	h.updateWatchers()
}

// Remove ends that.
func (h *Hub) Remove(network string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.networks[network]; o != nil {
		o.sw.Watch(nil)
		delete(h.networks, network)
	}
}

// updateWatchers gives every observer the sinks that there are. It needs the lock.
func (h *Hub) updateWatchers() {
	for _, o := range h.networks {
		sinks := slices.Clone(h.subscribers)
		o.subscribers.Store(&sinks)
		if len(sinks) == 0 {
			o.sw.Watch(nil)
		} else {
			o.sw.Watch(o)
		}
	}
}

// Watch copies the frame to each Sink that wants it.
func (o *watcher) Watch(in, out *vswitch.Port, v vswitch.Verdict, f *ether.Frame) {
	for _, s := range *o.subscribers.Load() {
		o.copyTo(s, in, out, v, f)
	}
}

// copyTo copies the frame to a Sink if it wants it.
func (o *watcher) copyTo(s *Subscriber, in, out *vswitch.Port, v vswitch.Verdict, f *ether.Frame) {
	if !s.wants(o.network, in, out, v, f) {
		if !s.ring.overwrite { // the recorder's frames need no books; workers that count together wait for each other
			s.filtered.Add(1)
		}
		return
	}
	if f.ID == 0 {
		f.ID = o.hub.frames.Add(1)
	}
	leaves := uint32(0)
	if out != nil {
		leaves = out.Number
	}
	comes := uint32(0)
	if in != nil {
		comes = in.Number
	}
	snap := s.snap
	if s.headers {
		snap = min(snap, f.HeadersLen())
	}
	s.ring.add(comes, leaves, v, f, snap)
}

// WatchRun is Watch for frames that came together and are forwarded one way.
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

// Options say what a Sink takes.
type Options struct {
	Targets   Targets
	Ring      int   // bytes of memory, a power of two; 0: DefaultRing
	Snap      int   // bytes of each frame; 0: all
	Headers   bool  // of these the headers only, see ether.Frame.HeadersLen
	DropsOnly bool  // frames that went nowhere
	Match     Match // nil: every frame
	Overwrite bool  // a full ring forgets its oldest frames, for a Recorder: every frame that is forwarded gets into it
}

// A Match tells if a frame is wanted. It is called by several goroutines.
type Match func(frame []byte, wireLen int) bool

// DefaultRing holds 8 MiB: a few thousand frames of 1,500 bytes, or some hundred super-frames.
const DefaultRing = 8 << 20

// A Subscriber is one who looks. What it does not read in time is dropped and counted.
type Subscriber struct {
	hub      *Hub
	ring     *ring
	snap     int
	headers  bool
	drops    bool
	match    atomic.Pointer[Match]
	selected atomic.Pointer[selection]

	filtered  atomic.Uint64
	delivered uint64 // guarded by the ring's lock

	// Of these the hub's lock takes care.
	targets  Targets
	since    uint32  // Number of the newest port when it was opened
	newPorts []*Port // that were not told yet
}

// Subscribe lets a new Sink look until it is closed.
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

// wants judges a frame for the Sink.
func (s *Subscriber) wants(network string, in, out *vswitch.Port, v vswitch.Verdict, f *ether.Frame) bool {
	if s.drops && !v.Drop() {
		return false
	}
	if only := s.selected.Load(); !only.all {
		here := in != nil && only.ports[in.Number] || out != nil && only.ports[out.Number] ||
			v == vswitch.Flooded && only.networks[network]
		if !here {
			return false
		}
	}
	match := *s.match.Load()
	return match == nil || match(f.Bytes(), f.Len())
}

// Filter changes which of the ports' frames are wanted; nil: all.
func (s *Subscriber) Filter(m Match) { s.match.Store(&m) }

// Ready holds a token when there is something to Read.
func (s *Subscriber) Ready() <-chan struct{} { return s.ring.ready }

// Read lends fn what has come since it was last called, in the order of time, and gives the number.
func (s *Subscriber) Read(fn func(*Record)) int {
	n := s.ring.read(fn)
	s.ring.mu.Lock()
	s.delivered += uint64(n)
	s.ring.mu.Unlock()
	return n
}

// Close ends the looking. What has come before may still be read. A second Close does nothing.
func (s *Subscriber) Close() {
	h := s.hub
	h.mu.Lock()
	h.subscribers = slices.DeleteFunc(h.subscribers, func(x *Subscriber) bool { return x == s })
	h.updateWatchers()
	h.mu.Unlock()
	s.ring.mu.Lock()
	s.ring.closed = true // somebody may still be watching for it
	s.ring.mu.Unlock()
}

// Free closes the Sink and gives its memory back; there is nothing to read any more. Its books stay.
func (s *Subscriber) Free() {
	s.Close()
	s.Filter(nil)
	s.ring.mu.Lock()
	s.ring.release()
	s.ring.mu.Unlock()
}

// Stats are a Sink's books: Seen = Filtered + Accepted, and Accepted = Delivered + Dropped + Waiting, at every time: a
// frame gets into them when it is judged for the Sink.
type Stats struct {
	Seen      uint64 // frames that were judged while it looked
	Filtered  uint64 // not wanted; not counted if it overwrites
	Accepted  uint64 // wanted
	Delivered uint64 // read
	Dropped   uint64 // not read in time: the ring was full
	Waiting   uint64 // in the ring
}

// Stats reads the books.
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

// TrailingDrops gives the frames that were dropped since the last one that was kept, by port; 0 stands for ports that were too
// many to be told apart.
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

// Memory is the bytes that the Sink has for frames.
func (s *Subscriber) Memory() int {
	s.ring.mu.Lock()
	defer s.ring.mu.Unlock()
	return len(s.ring.buf)
}
