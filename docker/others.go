package docker

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/spell"
)

// An Other is a container on another host of the cluster, on one network that hosts share, as that host tells.
type Other struct {
	Network string // this host's id of the network
	Key     string // the network's name in the cluster
	Name    string // the container's own
	Host    string // name
	VTEP    string // the host's address as a peer, without port
	MAC     string // "": not known
	Addrs   []netip.Addr
	Gone    bool   // the host is gone, as the cluster says
	Label   string // Name; with @Host if several hosts have that name, or this one has
}

// Is tells whether word names the container: NAME, NAME.KEY, NAME@HOST, NAME.KEY@HOST.
func (o *Other) Is(word string) bool {
	rest, ok := strings.CutPrefix(word, o.Name)
	if !ok {
		return false
	}
	rest = strings.TrimSuffix(rest, "@"+o.Host)
	return rest == "" || rest == "."+o.Key
}

// expr matches the container's frames. An IPv6 neighbour solicitation for it is found by its sender only.
func (o *Other) expr() string {
	words := api.Map(o.Addrs, func(a netip.Addr) string { return "host " + a.String() })
	if o.MAC != "" {
		words = append(words, "ether host "+o.MAC)
	}
	return strings.Join(words, " or ")
}

// keysOf returns the ids of the networks that hosts share, by key.
func keysOf(networks []api.Network) map[string]string {
	keys := make(map[string]string)
	for _, n := range networks {
		if n.Key != "" {
			keys[n.Key] = n.ID
		}
	}
	return keys
}

// askNames asks the daemon for the names that changed after a version; "": for all, at once.
func askNames(ctx context.Context, c *client.Client, after string, gone bool) (told api.Names, err error) {
	q := url.Values{"after": {after}}
	if gone {
		q.Set("gone", "yes")
	}
	return told, c.Call(ctx, http.MethodGet, api.NamesPath+"?"+q.Encode(), nil, &told)
}

// mergeOthers returns others with what the daemon has told since. Of a container's names its own counts, which is the first one.
func mergeOthers(others []Other, told *api.Names) []Other {
	others = slices.DeleteFunc(slices.Clone(others), func(o Other) bool {
		return !slices.Contains(told.Keys, o.Key) || slices.Contains(told.Changed, o.Key)
	})
	type place struct {
		key, host string
		addr      netip.Addr
	}
	seen := make(map[place]bool)
	for _, n := range told.Names {
		alias := len(n.Addrs) > 0
		for _, a := range n.Addrs {
			at := place{n.Key, n.VTEP, a}
			alias, seen[at] = alias && seen[at], true
		}
		if !alias {
			others = append(others, Other{Key: n.Key, Name: n.Name, Host: n.Host, VTEP: n.VTEP, MAC: n.MAC, Addrs: n.Addrs, Gone: n.Gone})
		}
	}
	return others
}

// labelled returns those of told that are on networks of this host, with Network and Label. present are the names of this host's
// containers.
func labelled(told []Other, keys map[string]string, present map[string]bool) (others []Other) {
	hosts := make(map[string]string) // name → host
	several := make(map[string]bool)
	for _, o := range told {
		if o.Network = keys[o.Key]; o.Network == "" {
			continue
		}
		others = append(others, o)
		if h, ok := hosts[o.Name]; ok && h != o.Host {
			several[o.Name] = true
		}
		hosts[o.Name] = o.Host
	}
	for i := range others {
		o := &others[i]
		if o.Label = o.Name; present[o.Name] || several[o.Name] {
			o.Label += "@" + o.Host
		}
	}
	return others
}

// loadOthers reads what changed in the names of other hosts' containers after a version, and returns the version to go on from.
func (n *Names) loadOthers(ctx context.Context, after string) (string, error) {
	told, err := askNames(ctx, n.c, after, false)
	if err != nil {
		return after, err
	}
	n.update(func(d *snapshot) { d.told = mergeOthers(d.told, &told) })
	return told.Version, nil
}

// watchOthers keeps the names of other hosts' containers until ctx ends, and calls changed after each answer of the daemon, which
// comes when there are others. While the daemon is away they stay.
func (n *Names) watchOthers(ctx context.Context, changed func()) {
	after := n.version
	for ctx.Err() == nil {
		var err error
		if after, err = n.loadOthers(ctx, after); err == nil {
			changed()
		}
		select {
		case <-ctx.Done():
		case <-time.After(refreshAgain): // many changes are one
		}
	}
}

// findOthers returns those of others that a word names. Those of several hosts are an error.
func findOthers(others []Other, word string) (found []Other, err error) {
	var words []string
	for _, o := range others {
		if o.Is(word) {
			found = append(found, o)
			words = append(words, word+"@"+o.Host)
		}
	}
	slices.Sort(words)
	if words = slices.Compact(words); len(words) > 1 {
		return found, exit.Errorf(exit.Usage, "%s is the name of a container on several hosts, name one: %s", word, strings.Join(words, " or "))
	}
	return found, nil
}

// other adds the container on another host that word names. A container of this host that has the name, though it has no port,
// comes first.
func (l *resolver) other(ctx context.Context, t *Targets, word string) (found bool, err error) {
	all, err := findOthers(l.d.others, word)
	if len(all) == 0 {
		return false, nil
	}
	if l.n.engine.Answered {
		if x, err := l.n.engine.container(ctx, word); err == nil && x.name() == word {
			l.elsewhere = fmt.Sprintf("; the one on another host is %s", firstFew(api.Map(all, func(o Other) string { return word + "@" + o.Host })))
			return false, nil
		}
	}
	if err != nil {
		return false, err
	}
	t.others[word] = true
	return true, nil
}

// behind are the targets on other hosts.
func (t *Targets) behind() (all []api.Behind) {
	if len(t.others) == 0 {
		return nil
	}
	for _, o := range t.n.now.Load().others {
		for word := range t.others {
			if o.Is(word) {
				all = append(all, api.Behind{Network: o.Network, Peer: o.VTEP, Expr: o.expr()})
				break
			}
		}
	}
	return all[:min(len(all), api.MaxBehind)]
}

// partOf returns which frames of a port to another host are those of targets there; nil: none, or all.
func (t *Targets) partOf(p *capture.Port) (part []*filter.Filter) {
	if t.all || t.networks[p.Network] || t.peers[api.WithoutPort(p.Name)] {
		return nil
	}
	for _, b := range t.behind() {
		if b.Network == p.Network && b.Peer == api.WithoutPort(p.Name) {
			if f, err := filter.Compile(b.Expr, nil); err == nil { // else the daemon has refused it
				part = append(part, f)
			}
		}
	}
	return part
}

// Elsewhere is what the cluster tells of containers on other hosts, for a command that asks once.
type Elsewhere struct {
	Others []Other // also of hosts that are gone
	c      *client.Client
	keys   map[string]string // network id → key
}

// FindElsewhere asks the daemon. On a host without a network that hosts share it is empty. d has the names of this host's containers.
func FindElsewhere(ctx context.Context, c *client.Client, d *Engine) (*Elsewhere, error) {
	networks, err := c.Networks(ctx)
	if err != nil {
		return nil, err
	}
	keys, e := keysOf(networks), &Elsewhere{c: c, keys: make(map[string]string)}
	if len(keys) == 0 {
		return e, nil
	}
	for key, id := range keys {
		e.keys[id] = key
	}
	told, err := askNames(ctx, c, "", true)
	if err != nil {
		return nil, err
	}
	present := make(map[string]bool)
	for _, name := range d.Containers {
		present[name] = true
	}
	e.Others = labelled(mergeOthers(nil, &told), keys, present)
	return e, nil
}

// Find returns the container that word names, on each network that it is on. Those of several hosts are an error.
func (e *Elsewhere) Find(word string) ([]Other, error) {
	return findOthers(e.Others, strings.TrimPrefix(word, containerPrefix))
}

// Suggest returns err, which is that word names nothing here, with what it may mean on other hosts.
func (e *Elsewhere) Suggest(err error, word string) error {
	means := make(map[string]string)
	for _, o := range e.Others {
		means[o.Name], means[o.Name+"@"+o.Host], means[o.Name+"."+o.Key] = o.Label, o.Label, o.Label
	}
	near := api.Map(spell.Nearest(strings.TrimPrefix(word, containerPrefix), slices.Sorted(maps.Keys(means))), func(w string) string { return means[w] })
	if exit.Code(err) != exit.NoTarget || len(near) == 0 {
		return err
	}
	slices.Sort(near)
	return exit.Errorf(exit.NoTarget, "%w; on another host there is %s", err, strings.Join(slices.Compact(near), " and "))
}

// At returns the container on another host that has an address on a network of this host; ok is false if the cluster does not tell.
func (e *Elsewhere) At(ctx context.Context, network string, addr netip.Addr) (o Other, ok bool, err error) {
	for _, o := range e.Others {
		if o.Network == network && slices.Contains(o.Addrs, addr) {
			return o, true, nil
		}
	}
	key := e.keys[network]
	if key == "" {
		return o, false, nil
	}
	var p api.Place
	err = e.c.Call(ctx, http.MethodGet, api.ClusterPlacePath+"?"+url.Values{"key": {key}, "addr": {addr.String()}}.Encode(), nil, &p)
	if exit.Code(err) == exit.NoTarget {
		return o, false, nil
	}
	return Other{Network: network, Key: key, Name: addr.String(), Label: addr.String(), Host: p.Host, VTEP: p.VTEP, MAC: p.MAC, Addrs: []netip.Addr{addr}, Gone: p.Gone}, err == nil, err
}
