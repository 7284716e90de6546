package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// networkOption is the -o of a network that hosts share: its value is the key (docs/options.md).
const networkOption = "tapestry.network"

// SharedNames reads the names of this host's containers on networks that hosts share: those that Docker's own DNS gives them
// there. One goroutine uses it.
type SharedNames struct {
	engine *Engine
	known  map[Endpoint][]string // names of those that there were when it read last
}

// NewSharedNames is a reader of Docker's answers.
func NewSharedNames(d *Engine) *SharedNames { return &SharedNames{engine: d} }

// Changed calls changed whenever Docker's names may have changed, until ctx ends: at first and after each event.
func (s *SharedNames) Changed(ctx context.Context, changed func()) {
	s.engine.watch(ctx, changed, func(event) { changed() })
}

// Read asks Docker. Of each container its own name comes first. whole is false if Docker has not told all names of a container,
// which may be starting: then ask again. Without an answer of Docker's networks it is an error.
func (s *SharedNames) Read(ctx context.Context) (names []api.Name, whole bool, err error) {
	var networks []Network
	if err := s.engine.Get(ctx, "/networks", &networks); err != nil {
		return nil, false, fmt.Errorf("ask Docker at %s for its networks: %w", s.engine.Address, exit.WithoutURL(err))
	}
	slices.SortFunc(networks, func(a, b Network) int { return cmp.Compare(a.ID, b.ID) })
	known := make(map[Endpoint][]string)
	whole = true
	for _, n := range networks {
		key := n.Options[networkOption]
		if key == "" {
			continue
		}
		full, err := s.engine.network(ctx, n.ID)
		if errors.Is(err, errNotInDocker) {
			continue // it has just gone
		}
		if err != nil {
			return nil, false, fmt.Errorf("ask Docker at %s for network %s: %w", s.engine.Address, n.Name, exit.WithoutURL(err))
		}
		for id, e := range full.Containers {
			addrs := parseAddrs(e.IPv4Address, e.IPv6Address)
			if strings.HasPrefix(id, "ep-") || len(addrs) == 0 {
				continue // it joins or leaves, of which an event tells
			}
			called, ok := s.known[e]
			if !ok {
				x, err := s.engine.container(ctx, id)
				called, ok = x.namesOn(n.ID, id, e.Name), err == nil
				whole = whole && ok
			}
			if ok {
				known[e] = called
			}
			for _, name := range called {
				names = append(names, api.Name{Key: key, Name: name, Addrs: addrs})
			}
		}
	}
	s.known = known
	slices.SortStableFunc(names, func(a, b api.Name) int { return cmp.Or(cmp.Compare(a.Key, b.Key), a.Addrs[0].Compare(b.Addrs[0])) })
	return names, whole, nil
}

// namesOn are the names by which Docker's DNS knows a container on a network, its own one first: of an x that Docker has not told,
// that one and the id's beginning.
func (x *containerInfo) namesOn(network, id, name string) []string {
	all := []string{name}
	for _, on := range x.NetworkSettings.Networks {
		if on.NetworkID == network {
			all = append(append(all, on.DNSNames...), on.Aliases...)
		}
	}
	all = append(all, id[:min(len(id), 12)])
	seen := make(map[string]bool)
	return slices.DeleteFunc(all, func(n string) bool {
		lower := strings.ToLower(n)
		twice := seen[lower]
		seen[lower] = true
		return twice || n == ""
	})
}
