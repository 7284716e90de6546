package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/client"
)

// Targets are the ports that a command looks at, as words say them.
type Targets struct {
	all       bool
	networks  map[string]bool  // ids
	peers     map[string]bool  // addresses, without port
	Endpoints map[string]bool  // ids, that were named by it
	sandboxes map[string]bool  // of containers that have stopped
	others    map[string]bool  // words for containers on other hosts
	created   map[string]int64 // when those of the past were made, ns since 1970: by endpoint or sandbox
	notes     []string         // what to say of them before the first frame, without the end of the line
	follows   bool             // there are containers, and a Docker that tells which endpoints are theirs

	n *Names

	mu         sync.Mutex
	names      map[string]bool // of containers; guarded by mu
	containers map[string]bool // ids; guarded by mu; a container that had one of the names stays a target after it is renamed
}

// An Include says which containers that do not run a command takes.
type Include uint8

const (
	OnlyRunning Include = iota // none
	Awaited                    // those that will: they are awaited
	Stopped                    // those that did
)

// FindTargets reads the words of a command; none of them means every port. The caller prints the notes. The error says what a word
// may have meant, with exit.NoTarget, or exit.Usage of one that no target is written like.
func FindTargets(ctx context.Context, c *client.Client, n *Names, words []string, of Include) (*Targets, error) {
	t := NewTargets(n)
	r := &resolver{c: c, n: n, d: n.now.Load(), include: of}
	for _, word := range words {
		if err := r.add(ctx, t, word); err != nil {
			return nil, err
		}
	}
	if of == Stopped && n.engine.Answered {
		r.recordCreated(ctx, t)
	}
	t.all = t.all || len(words) == 0
	t.follows = n.engine.Answered && len(t.names)+len(t.containers) > 0
	return t, nil
}

// NewTargets are targets without any port yet.
func NewTargets(n *Names) *Targets {
	return &Targets{n: n, networks: make(map[string]bool), peers: make(map[string]bool), Endpoints: make(map[string]bool),
		sandboxes: make(map[string]bool), others: make(map[string]bool), created: make(map[string]int64), names: make(map[string]bool), containers: make(map[string]bool)}
}

// Request is what to ask of the daemon. With New the request must ask for details, too: by them the Follower judges frames.
func (t *Targets) Request() api.Targets {
	if t.all {
		return api.Targets{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ends := maps.Clone(t.Endpoints)
	for _, id := range t.n.now.Load().endpointIDs(t.isTarget) {
		ends[id] = true
	}
	return api.Targets{Endpoints: slices.Sorted(maps.Keys(ends)), Networks: slices.Sorted(maps.Keys(t.networks)), Peers: slices.Sorted(maps.Keys(t.peers)),
		Sandboxes: slices.Sorted(maps.Keys(t.sandboxes)), CreatedAt: t.created, Behind: t.behind(), New: t.follows, Some: true}
}

// PrintNotes prints the notes.
func (t *Targets) PrintNotes(w io.Writer) {
	for _, note := range t.notes {
		fmt.Fprintln(w, note)
	}
}

// isTarget tells whether an endpoint is that of a container which is a target, and remembers the container. It needs
// the lock.
func (t *Targets) isTarget(id string, e endpointInfo) bool {
	if t.names[e.name] && e.container != "" {
		t.containers[e.container] = true
	}
	return t.names[e.name] || t.containers[e.container]
}

// A judgement says whether a port is a target.
type judgement uint8

const (
	unwanted judgement = iota
	unknown            // until Docker has named its container
	nameless           // wanted; Docker will name its container soon
	wanted
)

// judge says whether a port is a target.
func (t *Targets) judge(p *capture.Port) judgement {
	if t.all || t.networks[p.Network] || !p.Remote && t.Endpoints[p.Name] || p.Remote && t.peers[api.WithoutPort(p.Name)] {
		return wanted
	}
	if p.Remote && t.partOf(p) != nil {
		return wanted // some of its frames
	}
	if p.Remote || p.HostPort || !t.follows {
		return unwanted
	}
	e := t.n.now.Load().endpoints[p.Name]
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.isTarget(p.Name, e):
		return wanted
	case e.container == "":
		return unknown
	}
	return unwanted
}

// TargetWords are the words that a command's targets can be, with what each is.
func TargetWords(ctx context.Context, c *client.Client) (about map[string]string, err error) {
	n, err := LoadNames(ctx, c)
	if err != nil {
		return nil, err
	}
	l := &resolver{c: c, n: n, d: n.now.Load()}
	_ = errors.Join(l.askNetworks(ctx), l.askPeers(ctx)) // nothing of it to offer when the daemon does not answer
	about = map[string]string{"all": "every port"}
	for _, e := range l.d.endpoints {
		if word := e.name; e.gone == 0 {
			if word == "all" {
				word = containerPrefix + word
			}
			about[word] = "container"
		}
	}
	for _, o := range l.d.others {
		about[o.Label] = "container on " + o.Host
	}
	for _, w := range l.networks {
		about["network:"+n.engine.NetworkLabel(w.ID)] = "network"
		if len(w.Host) > 0 {
			about[api.HostPrefix+n.engine.NetworkLabel(w.ID)] = "this host"
		}
	}
	for _, host := range l.peers {
		about["peer:"+host] = "another host"
	}
	return about, nil
}
