package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/events"
)

const (
	maxCaptures = 32          // that run at once
	maxRings    = 1 << 30     // bytes of memory for the rings of all captures
	maxAddrs    = 1024        // addresses in a filter's names
	keepEnded   = time.Minute // how long the counts of a capture are kept after its end
	maxEnded    = 64          // of how many captures they are kept at most
)

// How long a reader may take. They are variables for tests, in which nobody is stuck, only slow.
var (
	endWait      = 10 * time.Second // for a part of a capture that has ended
	shutdownWait = 2 * time.Second  // for a part of a capture when the daemon ends
	readWait     = 10 * time.Second // for an answer, or a part of a dump
)

// Captures are the captures that run, as the daemon's API serves them.
type Captures struct {
	Hub      *capture.Hub
	Events   *events.Bus // is told of captures; NewCaptures makes one that only writes to the log
	version  string      // of this binary, for the files
	Recorder *capture.Recorder
	log      *slog.Logger
	ending   <-chan struct{} // closed when the daemon begins to end

	mu    sync.Mutex
	last  int                       // the latest id; guarded by mu
	all   map[string]*activeCapture // by id; guarded by mu
	ended ended                     // guarded by mu
}

// NewCaptures makes the captures of a hub; none runs yet. They end when ending is closed.
func NewCaptures(hub *capture.Hub, version string, log *slog.Logger, ending <-chan struct{}) *Captures {
	return &Captures{Hub: hub, Events: events.New(log), version: version, Recorder: hub.NewRecorder(), log: log, ending: ending, all: make(map[string]*activeCapture)}
}

// Register adds the paths of captures and of the recorder to mux.
func (c *Captures) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+api.CapturesPath, c.start)
	mux.HandleFunc("GET "+api.CapturesPath, c.list)
	mux.HandleFunc("GET "+api.CapturesPath+"/{id}", c.withCapture(func(w http.ResponseWriter, _ *http.Request, s *activeCapture) {
		reply(w, http.StatusOK, s.stats())
	}))
	mux.HandleFunc("PATCH "+api.CapturesPath+"/{id}", c.withCapture(c.change))
	mux.HandleFunc("DELETE "+api.CapturesPath+"/{id}", c.withCapture(func(w http.ResponseWriter, _ *http.Request, s *activeCapture) {
		c.cancel(s)
		reply(w, http.StatusOK, struct{}{})
	}))
	mux.HandleFunc("GET "+api.RecorderPath, c.recorderState)
	mux.HandleFunc("PUT "+api.RecorderPath, c.recorderSet)
	mux.HandleFunc("POST "+api.RecorderDumpPath, c.dump)
	mux.HandleFunc("GET "+api.RecorderPortsPath, c.recorderPorts)
}

// start answers with the stream of a new capture.
func (c *Captures) start(w http.ResponseWriter, r *http.Request) {
	ask, err := parseRequest(w, r)
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
		return
	}
	begin := c.open
	if ask.Attach != "" {
		begin = c.attach
	}
	s, err := begin(ask, credentialsOf(r))
	if err != nil {
		reply(w, http.StatusConflict, api.Error{Error: err.Error()})
		return
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		c.Close(s, err)
		if err != nil {
			panic(http.ErrAbortHandler) // cuts the stream off, so that its reader sees that it is not complete
		}
	}()
	c.Events.Info(events.CaptureBegun, "capture began", "capture", s.id, "uid", s.who.UID, "pid", s.who.PID, "command", s.name, "filter", *s.filter.Load())
	err = c.run(w, r, s)
}

func (c *Captures) open(ask *captureSpec, who api.Credentials) (*activeCapture, error) {
	s := newActiveCapture(ask, who)
	c.mu.Lock()
	defer c.mu.Unlock()
	runs, memory := 0, ringOf(ask)
	for _, other := range c.all {
		if memory += other.sub.Memory(); other.lasted.Load() == 0 && !other.awaitsReader() {
			runs++
		}
	}
	c.forget()
	if n := len(c.armed()); ask.endpoint != "" && n >= maxArmed {
		return nil, fmt.Errorf("%d containers have a capture of their own already: read or end one (tapestry status shows them)", n)
	}
	if runs >= maxCaptures && ask.endpoint == "" {
		return nil, fmt.Errorf("%d captures run already: end one (tapestry status shows them, with the processes that asked)", runs)
	}
	if memory > maxRings {
		return nil, errors.New("the captures that run have all of the memory that there is for them, 1 GiB: stop one, or want a smaller ring")
	}
	var err error
	snap := ask.Snap
	if ask.encode.Mode == capture.Segment || ask.encode.View != capture.Inner {
		snap = 0 // a super-frame can be cut only if it is whole; the encoder then keeps the first bytes of each segment
	}
	if s.sub, err = c.Hub.Subscribe(capture.Options{Targets: ask.targets, Ring: ask.Ring, Snap: snap, Headers: ask.Headers,
		DropsOnly: ask.Drops, Match: ask.match}); err != nil {
		return nil, err
	}
	c.last++
	s.id = strconv.Itoa(c.last)
	c.all[s.id] = s
	return s, nil
}

// forget removes captures that have ended, but keeps the latest ones for a while. The caller holds c.mu.
func (c *Captures) forget() {
	var ended []*activeCapture
	for id, s := range c.all {
		switch n := s.lasted.Load(); {
		case n == 0:
		case time.Since(s.began)-time.Duration(n) > keepEnded:
			delete(c.all, id)
		default:
			ended = append(ended, s)
		}
	}
	slices.SortFunc(ended, func(a, b *activeCapture) int { return b.end().Compare(a.end()) })
	for _, s := range ended[min(maxEnded, len(ended)):] {
		delete(c.all, s.id)
	}
}

// ringOf is the size in bytes of the ring that a capture asks for.
func ringOf(a *captureSpec) int { return cmp.Or(a.Ring, capture.DefaultRing) }

// run streams the capture to w until it ends, for whatever reason.
func (c *Captures) run(w http.ResponseWriter, r *http.Request, s *activeCapture) error {
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Time{}) // the server's deadline was for the request, which has been read
	w.Header().Set(api.CaptureIDHeader, s.id)
	out := c.newOutput(w, conn, &s.spec.CaptureRequest)
	enc := c.Hub.NewEncoder(out.Writer, s.spec.encode, s.sub.Selects)

	seconds := s.spec.Seconds
	if seconds == 0 {
		seconds = api.DefaultCaptureSeconds
	}
	var end <-chan time.Time
	if seconds > 0 {
		t := time.NewTimer(time.Duration(seconds * float64(time.Second)))
		defer t.Stop()
		end = t.C
	}
	// If the reader is stuck, so is a Write to it, which only a deadline ends.
	watch, stopWatch := context.WithCancel(context.Background())
	defer stopWatch()
	go func() {
		select {
		case <-end:
			s.stop("limit")
		case <-c.ending:
			s.stop("shutdown")
		case <-r.Context().Done():
			s.stop("gone")
		case <-s.done:
		case <-watch.Done():
		}
		grace := endWait
		if *s.state.Load() == "shutdown" {
			grace = shutdownWait
		}
		out.setFlushTimeout(grace)
	}()

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	err := out.flush()
	reported := uint64(0) // lost frames
	for running := true; running && err == nil; {
		busy := false
		select {
		case <-s.sub.Ready():
			busy = true
		case <-tick.C:
			if lost := s.sub.Stats().Dropped; lost != reported {
				reported = lost
				err = enc.Statistics(s.sub.TrailingDrops())
			}
		case <-s.done:
			running = false
			s.sub.Close()
		}
		n := 0
		if err == nil {
			err = enc.AddPorts(s.sub.NewPorts())
		}
		if err == nil {
			n, err = c.pump(s, enc, out)
		}
		if err == nil && (n > 0 || !busy) {
			err = out.flush()
		}
		s.packets.Store(enc.Packets)
		s.bytes.Store(out.Size())
		if n > 16 { // many frames come: collect some, rather than be woken for each
			time.Sleep(2 * time.Millisecond)
		}
	}
	s.sub.Close()
	if err == nil {
		err = enc.Statistics(s.sub.TrailingDrops())
	}
	if err == nil {
		err = out.flush()
	}
	s.bytes.Store(out.Size())
	return err
}

// pump writes the frames that are in the ring, up to the capture's limits, and returns how many it read.
func (c *Captures) pump(s *activeCapture, enc *capture.Encoder, out *output) (n int, err error) {
	most := s.spec.Bytes
	if most == 0 {
		most = api.DefaultCaptureBytes
	}
	written := s.sub.Stats().Delivered - s.beyondLimit.Load()
	n = s.sub.Read(func(r *capture.Record) {
		if err != nil {
			return
		}
		full := s.spec.Frames > 0 && written >= s.spec.Frames || most > 0 && out.Size()+int64(len(r.Data))+api.PacketOverhead > most
		if full {
			s.beyondLimit.Add(1)
			s.stop("limit")
			return
		}
		written++
		err = enc.Write(r)
		if err == nil && out.waiting() > 1<<18 {
			err = out.flush()
		}
		if s.spec.Frames > 0 && written == s.spec.Frames {
			s.stop("limit")
		}
	})
	return n, err
}

// Close ends a capture, frees its memory, and logs who captured what. err is what ended its stream; nil: it is complete.
func (c *Captures) Close(s *activeCapture, err error) {
	s.sub.Close()
	s.stop("stopped")
	broke := ""
	switch {
	case errors.Is(err, errReaderGone):
		broke = "gone"
	case err != nil:
		broke = "failed"
		c.log.Error("capture failed", "capture", s.id, "err", err)
	}
	if broke != "" { // whatever else ended it: its reader did not get everything
		s.state.Store(&broke)
	}
	s.lasted.Store(int64(max(1, time.Since(s.began))))
	b := s.stats()
	s.sub.Free()
	c.countEnded(s, b.Delivered, b.Dropped)
	c.Events.Info(events.CaptureEnded, "capture ended", "capture", s.id, "uid", s.who.UID, "pid", s.who.PID, "command", s.spec.Name,
		"targets", targetsText(s.spec.Targets), "filter", *s.filter.Load(),
		"took", time.Duration(s.lasted.Load()).Round(time.Millisecond), "frames", b.Delivered, "lost", b.Dropped, "bytes", b.Bytes, "why", b.State)
	s.spec = nil
}

func (c *Captures) list(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, c.Running()) }

// Running returns the counts of the captures that run, oldest first.
func (c *Captures) Running() []api.CaptureStats {
	c.dropKept()
	c.mu.Lock()
	all := []api.CaptureStats{}
	for _, s := range c.all {
		if s.lasted.Load() == 0 {
			all = append(all, s.stats())
		}
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b api.CaptureStats) int { return cmp.Or(len(a.ID)-len(b.ID), strings.Compare(a.ID, b.ID)) })
	return all
}

// withCapture is a handler of requests about one capture, which the path names by its id.
func (c *Captures) withCapture(do func(http.ResponseWriter, *http.Request, *activeCapture)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		s := c.all[r.PathValue("id")]
		c.mu.Unlock()
		if s == nil {
			reply(w, http.StatusNotFound, api.Error{Error: fmt.Sprintf("no capture %q", r.PathValue("id"))})
			return
		}
		do(w, r, s)
	}
}

func (c *Captures) change(w http.ResponseWriter, r *http.Request, s *activeCapture) {
	var want api.CaptureChange
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20))
	d.DisallowUnknownFields()
	err := d.Decode(&want)
	var match capture.Match
	var targets capture.Targets
	if err == nil && want.Filter != nil {
		match, err = compileFilter(want.Filter)
	}
	if err == nil && want.Targets != nil {
		targets, err = parseTargets(want.Targets)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
		return
	}
	if s.lasted.Load() != 0 {
		reply(w, http.StatusConflict, api.Error{Error: fmt.Sprintf("capture %s has ended", s.id)})
		return
	}
	if want.Filter != nil && !s.setFilter(want.Filter, match) {
		want.Filter = nil
	}
	if want.Targets == nil && want.Filter == nil {
		reply(w, http.StatusOK, struct{}{})
		return
	}
	if want.Targets != nil {
		s.sub.SetTargets(targets)
	}
	who := credentialsOf(r)
	log := c.log.With("capture", s.id, "uid", who.UID, "pid", who.PID)
	if want.Targets != nil {
		log = log.With("targets", targetsText(*want.Targets))
	}
	if want.Filter != nil {
		log = log.With("filter", want.Filter.Expr)
	}
	log.Info("capture changed")
	reply(w, http.StatusOK, struct{}{})
}

// errReaderGone is returned when nobody reads the stream any more.
var errReaderGone = errors.New("the reader is gone")
