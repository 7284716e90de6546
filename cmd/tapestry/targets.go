package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/capture"
)

// targets are the ports that a command looks at, as words say them.
type targets struct {
	all       bool
	networks  map[string]bool  // ids
	peers     map[string]bool  // addresses, without port
	endpoints map[string]bool  // ids, that were named by it
	sandboxes map[string]bool  // of containers that have stopped
	born      map[string]int64 // when those of the past were made, ns since 1970: by endpoint or sandbox
	notes     []string         // what to say of them before the first frame, without the end of the line
	follows   bool             // there are containers, and a Docker that tells which endpoints are theirs

	mu         sync.Mutex
	names      map[string]bool // of containers
	containers map[string]bool // ids; who once had one of the names stays a target when it is renamed
	n          *names
}

// A tense says which containers a command takes that do not run.
type tense uint8

const (
	present tense = iota // none
	future               // those that will: they are awaited
	past                 // those that did
)

// targets reads the words of a command. The caller prints its notes.
func (c *client) targets(ctx context.Context, n *names, words []string, of tense) (*targets, error) {
	t := newTargets(n)
	look := &lookup{c: c, n: n, d: n.now.Load(), of: of}
	for _, word := range words {
		if err := look.add(ctx, t, word); err != nil {
			return nil, err
		}
	}
	if of == past && n.docker.answered {
		look.born(ctx, t)
	}
	t.all = t.all || len(words) == 0
	t.follows = n.docker.answered && len(t.names)+len(t.containers) > 0
	return t, nil
}

func newTargets(n *names) *targets {
	return &targets{n: n, networks: make(map[string]bool), peers: make(map[string]bool), endpoints: make(map[string]bool),
		sandboxes: make(map[string]bool), born: make(map[string]int64), names: make(map[string]bool), containers: make(map[string]bool)}
}

// Request is what to ask of the daemon. With New the request must ask for details, too: by them followed judges frames.
func (t *targets) Request() captureTargets {
	if t.all {
		return captureTargets{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ends := maps.Clone(t.endpoints)
	for _, id := range t.n.now.Load().ends(t.isTarget) {
		ends[id] = true
	}
	return captureTargets{Endpoints: sortedKeys(ends), Networks: sortedKeys(t.networks), Peers: sortedKeys(t.peers),
		Sandboxes: sortedKeys(t.sandboxes), Born: t.born, New: t.follows, Some: true}
}

// tell prints the notes.
func (t *targets) tell(w io.Writer) {
	for _, note := range t.notes {
		fmt.Fprintln(w, note)
	}
}

// isTarget tells whether an endpoint is that of a container which is a target, and remembers the container. It needs
// the lock.
func (t *targets) isTarget(id string, e namedEnd) bool {
	if t.names[e.name] && e.container != "" {
		t.containers[e.container] = true
	}
	return t.names[e.name] || t.containers[e.container]
}

// A judgement says whether a port is a target.
type judgement uint8

const (
	unwanted judgement = iota
	unknown            // until Docker has said whose it is
	nameless           // wanted, and Docker will say in a moment what it is called
	wanted
)

// judge says whether a port is a target.
func (t *targets) judge(p *capture.Port) judgement {
	if t.all || t.networks[p.Network] || !p.Remote && t.endpoints[p.Name] || p.Remote && t.peers[hostOf(p.Name)] {
		return wanted
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

// hostOf is an address without its port.
func hostOf(text string) string {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().String()
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.String()
	}
	return text
}

// completeTarget offers containers, networks, peers and all, without those that were given.
func (c *client) completeTarget(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	n, err := c.names(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	l := &lookup{c: c, n: n, d: n.now.Load()}
	_ = errors.Join(l.askNetworks(ctx), l.askPeers(ctx)) // nothing of it to offer when the daemon does not answer
	about := map[string]string{"all": "every port"}
	for _, e := range l.d.endpoints {
		if word := e.name; e.gone == 0 {
			if word == "all" {
				word = containerWord + word
			}
			about[word] = "container"
		}
	}
	for _, w := range l.networks {
		about["network:"+n.docker.label(w.ID)] = "network"
		if len(w.Host) > 0 {
			about[hostWord+n.docker.label(w.ID)] = "this host"
		}
	}
	for _, host := range l.peers {
		about["peer:"+host] = "another host"
	}
	for _, given := range args {
		delete(about, given)
	}
	words := each(sortedKeys(about), func(word string) string { return cobra.CompletionWithDesc(word, about[word]) })
	return words, cobra.ShellCompDirectiveNoFileComp
}
