package docker

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

const (
	refreshGap   = 100 * time.Millisecond // from one round of asking Docker to the next: many events are one round
	refreshAgain = time.Second            // when Docker or the daemon did not answer
	newPortWait  = 10 * time.Second       // how long Docker may take to name the container of a new port
	eventsAgain  = 100 * time.Millisecond // to the next attempt to read Docker's events, and twice as long each time
	eventsSeldom = 5 * time.Second        // but not longer
)

// Follower is a running capture that keeps up with Docker. One of its goroutines reads Docker's events, another asks Docker
// and tells the daemon; both end with the context, or when Next has returned an error.
//
// A container has another endpoint each time it is started, and the daemon knows the endpoint before Docker says which
// container has it. So if containers are among the targets, the daemon streams the frames of every new port, and Next judges
// them; see hold.go.
type Follower struct {
	s      running
	n      *Names
	t      *Targets
	expr   string
	judges bool // the daemon streams new ports that may not be targets
	holds  bool // Docker answers, and so will name new ports
	ctx    context.Context
	stop   context.CancelFunc
	kick   chan struct{} // holds a token when Docker must be asked
	others sync.Once
	holdQueue

	mu       sync.Mutex           // guards the five fields below
	ports    []*seenPort          // by Interface of the stream
	parts    []*seenPort          // of which only some frames are wanted
	flooded  map[string]*seenPort // by network: the port with the highest judgement, which counts for a flooded frame
	stale    map[string]bool      // networks that Docker must be asked about again
	allStale bool                 // Docker must be asked about everything again

	// What the daemon was told last. Only run uses them.
	asked  api.Targets
	filter api.Filter
}

// A running capture is a stream of the daemon's.
type running interface {
	Next() (pcapng.Block, error)
	Change(context.Context, api.CaptureChange) error
}

// A seenPort is a port that the stream has announced. Follower.mu guards judgement and part; the other fields do not change, but for index.
type seenPort struct {
	about *pcapng.Interface
	port  capture.Port
	ours  bool      // port is known
	came  time.Time // when the stream announced it
	judgement
	part  []*filter.Filter // nil: all its frames are judged so; else those that one of these matches, and the others are unwanted
	index int              // its number as an Interface that Next has returned; -1: not yet. Only the goroutine that calls Next uses it
}

// Follow returns the Follower of a capture of t with the filter expr, which was requested with t.Request and n.filter. It keeps
// the daemon's targets and filter up to date until ctx ends. A request with Targets.New must have Detail.
func Follow(ctx context.Context, s running, n *Names, t *Targets, expr string) *Follower {
	f := newFollower(ctx, s, n, t, expr)
	if n.engine.Answered {
		go f.watchEvents()
	}
	if n.engine.Answered || n.shares() {
		go f.run()
	}
	f.followOthers()
	return f
}

// followOthers begins to keep up with the names on other hosts, once this host has a network that hosts share.
func (f *Follower) followOthers() {
	if f.n.shares() {
		f.others.Do(func() { go f.n.watchOthers(f.ctx, func() { notify(f.kick) }) })
	}
}

func newFollower(ctx context.Context, s running, n *Names, t *Targets, expr string) *Follower {
	f := &Follower{s: s, n: n, t: t, expr: expr, judges: t.follows && !t.all, holds: n.engine.Answered,
		asked: t.Request(), kick: make(chan struct{}, 1), stale: make(map[string]bool), holdQueue: holdQueue{news: make(chan struct{}, 1)}}
	f.filter, _ = n.filter(expr) // it was compiled before
	f.ctx, f.stop = context.WithCancel(ctx)
	return f
}

// filter is what to request of the daemon for an expression: with the addresses of the names in it.
func (n *Names) filter(expr string) (api.Filter, error) {
	_, want, err := CompileFilter(expr, n.Addrs)
	return want, err
}

// notify puts a token into a channel that holds one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// watchEvents marks as stale what Docker's events change, and everything when some may have been missed.
func (f *Follower) watchEvents() {
	f.n.engine.watch(f.ctx, func() { f.markStale("") }, func(e event) {
		now := f.n.now.Load()
		switch _, ours := now.networks[e.Actor.ID]; {
		case e.Type == "network" && ours:
			f.markStale(e.Actor.ID)
		case e.Type == "container":
			for _, id := range now.networksOf(e.Actor.ID) {
				f.markStale(id)
			}
		}
	})
}

// markStale makes run ask Docker again about a network, or about everything ("").
func (f *Follower) markStale(network string) {
	f.mu.Lock()
	if network == "" {
		f.allStale = true
	} else {
		f.stale[network] = true
	}
	f.mu.Unlock()
	notify(f.kick)
}

// run asks Docker when something is stale, and tells the daemon what has changed by that.
func (f *Follower) run() {
	var again <-chan time.Time
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.kick:
		case <-again:
		}
		again = nil
		if wait := f.refreshStale(); wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-f.ctx.Done():
			return
		case <-time.After(refreshGap):
		}
	}
}

// refreshStale asks Docker and tells the daemon once. It returns when that is due again even if nothing happens; 0: not at all.
func (f *Follower) refreshStale() (again time.Duration) {
	f.mu.Lock()
	all, stale := f.allStale, f.stale
	f.allStale, f.stale = false, make(map[string]bool)
	for _, p := range f.ports {
		if age := time.Since(p.came); f.unnamed(p) && age < newPortWait+refreshAgain {
			stale[p.port.Network] = true
			if wait := min(max(age/2, refreshGap), refreshAgain); again == 0 || wait < again {
				again = wait
			}
		}
	}
	f.mu.Unlock()
	var err error
	if all {
		err = f.n.refreshAll(f.ctx)
		f.followOthers()
	} else if len(stale) > 0 {
		err = f.n.refresh(f.ctx, slices.Sorted(maps.Keys(stale)))
	}
	if err != nil {
		f.mu.Lock()
		f.allStale = f.allStale || all
		maps.Copy(f.stale, stale)
		f.mu.Unlock()
	}
	if told := f.tell(f.evaluate()); err != nil || told != nil {
		again = refreshAgain
	}
	return again
}

// unnamed tells whether a port is a container's, and Docker has not said which container's.
func (f *Follower) unnamed(p *seenPort) bool {
	return p.ours && !p.port.Remote && !p.port.HostPort && f.n.now.Load().endpoints[p.port.Name].container == ""
}

// evaluate judges the ports by what is known now. It returns the targets that the daemon should capture.
func (f *Follower) evaluate() (want api.Targets) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.judgeAll()
	want = f.t.Request()
	for _, p := range f.ports {
		want.Since = max(want.Since, p.port.Number)
		if p.judgement == unknown && !slices.Contains(want.Endpoints, p.port.Name) {
			want.Endpoints = append(want.Endpoints, p.port.Name)
		}
	}
	slices.Sort(want.Endpoints)
	return want
}

// tell gives the daemon other targets if it may lack one or captures more than is wanted, and the filter if addresses in it have changed.
func (f *Follower) tell(want api.Targets) error {
	var what api.CaptureChange
	if f.judges && (f.lacks(want) || f.surplus(want)) || !slices.Equal(want.Behind, f.asked.Behind) {
		what.Targets = &want
	}
	if now, err := f.n.filter(f.expr); err == nil && !maps.EqualFunc(now.Names, f.filter.Names, slices.Equal[[]string]) {
		now.Was = &f.expr
		what.Filter = &now
	}
	if what.Targets == nil && what.Filter == nil {
		return nil
	}
	if err := f.s.Change(f.ctx, what); err != nil {
		return err
	}
	if what.Targets != nil {
		f.asked = want
	}
	if what.Filter != nil {
		f.filter = *what.Filter
	}
	return nil
}

func (f *Follower) lacks(want api.Targets) bool {
	return slices.ContainsFunc(want.Endpoints, func(id string) bool { return !slices.Contains(f.asked.Endpoints, id) })
}

// surplus tells whether the daemon captures a port that is not wanted: as a new one, or since it was asked for by name while Docker had
// not named its container.
func (f *Follower) surplus(want api.Targets) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.ports, func(p *seenPort) bool {
		named := slices.Contains(f.asked.Endpoints, p.port.Name) && !slices.Contains(want.Endpoints, p.port.Name)
		return p.ours && p.judgement == unwanted && (named || p.port.Number > f.asked.Since)
	})
}

// judgeAll judges every port anew. It needs the lock.
func (f *Follower) judgeAll() {
	changed := false
	f.flooded, f.parts = make(map[string]*seenPort), nil
	for _, p := range f.ports {
		before := p.judgement
		p.judgement, p.part = f.judge(p), nil
		changed = changed || p.judgement != before
		if f.judges && p.port.Remote && p.judgement == wanted {
			if p.part = f.t.partOf(&p.port); p.part != nil {
				f.parts = append(f.parts, p)
				continue
			}
		}
		if best := f.flooded[p.port.Network]; best == nil || p.judgement >= best.judgement { // of unknown ones the newest
			f.flooded[p.port.Network] = p
		}
	}
	if changed {
		f.judged.Store(true)
		notify(f.news)
	}
}

func (f *Follower) judge(p *seenPort) judgement {
	if !p.ours {
		return wanted
	}
	j, age := wanted, time.Since(p.came)
	if f.judges {
		j = f.t.judge(&p.port)
	}
	switch {
	case j == unknown && age >= newPortWait:
		return unwanted // docker run has failed
	case j == wanted && age < orderWait && f.unnamed(p):
		return nameless
	}
	return j
}

// addPort adds a port that the stream announces, and has Docker asked for its name.
func (f *Follower) addPort(i *pcapng.Interface) {
	p := &seenPort{about: i, came: time.Now(), index: -1}
	p.port, p.ours = capture.ReadPort(i)
	if p.ours && f.n.addNetwork(p.port.Network) {
		f.markStale("") // hosts may share it
	}
	f.mu.Lock()
	f.ports = append(f.ports, p)
	f.judgeAll()
	ask := p.judgement == unwanted || f.unnamed(p)
	f.mu.Unlock()
	f.judged.Store(true)
	if ask {
		notify(f.kick)
	}
}
