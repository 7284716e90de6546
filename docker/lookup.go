package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/spell"
)

// containerName is what Docker allows as one.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// A resolver finds the targets that words name. It asks for networks and peers when the first word needs them.
type resolver struct {
	c        *client.Client
	n        *Names
	d        *snapshot
	include  Include
	networks []api.Network // the daemon's; nil: not asked for yet
	peers    []string      // addresses without port, sorted; nil: not asked for yet

	elsewhere string // what to say of containers on other hosts that have the name of one that does not run here; "": there is none
}

func (l *resolver) add(ctx context.Context, t *Targets, word string) error {
	switch kind, name, is := strings.Cut(word, ":"); {
	case word == "":
		return exit.Errorf(exit.Usage, "TARGET is empty: want a container, network:NAME, peer:HOST, host:NAME, an endpoint's id or all")
	case word == "all":
		t.all = true
		return nil
	case !is: // network, peer and host may be containers' names
	case kind == "network":
		return l.network(ctx, t, name)
	case kind == "peer":
		return l.peer(ctx, t, name)
	case kind == "host":
		return l.hostPort(ctx, t, name)
	case kind == "container" && name == "":
		return exit.Errorf(exit.Usage, "container: names none: want container:NAME")
	case kind == "container":
		return l.container(ctx, t, name)
	}
	return l.container(ctx, t, word)
}

func (l *resolver) network(ctx context.Context, t *Targets, name string) error {
	if name == "" {
		return exit.Errorf(exit.Usage, "network: names none: want network:NAME, with its name, id or VNI")
	}
	if err := l.askNetworks(ctx); err != nil {
		return err
	}
	found, err := resolve(l.n.engine, name, l.networks)
	if err == nil {
		t.networks[found.ID] = true
	}
	return err
}

func (l *resolver) askNetworks(ctx context.Context) (err error) {
	if l.networks == nil {
		l.networks, err = l.c.Networks(ctx)
	}
	return err
}

func (l *resolver) askPeers(ctx context.Context) error {
	if l.peers != nil {
		return nil
	}
	all, err := client.List[api.Peer](ctx, l.c, api.PeersPath, "")
	if err != nil {
		return err
	}
	l.peers = slices.Compact(slices.Sorted(slices.Values(api.Map(all, func(p api.Peer) string { return api.WithoutPort(p.Addr) }))))
	l.peers = slices.DeleteFunc(l.peers, func(addr string) bool { return addr == "" }) // of a DNS name that is not found
	return nil
}

func (l *resolver) peer(ctx context.Context, t *Targets, host string) error {
	if err := l.askPeers(ctx); err != nil {
		return err
	}
	switch found := api.WithoutPort(host); {
	case host == "":
		return exit.Errorf(exit.Usage, "peer: names none: want peer:HOST, with an address that tapestry peers shows")
	case slices.Contains(l.peers, found):
		t.peers[found] = true
		return nil
	case len(l.peers) == 0:
		return exit.Errorf(exit.NoTarget, "no peer %q: this daemon has none", host)
	}
	if near := spell.Nearest(host, l.peers); len(near) > 0 {
		return exit.Errorf(exit.NoTarget, "no peer %q, did you mean peer:%s?", host, strings.Join(near, " or peer:"))
	}
	return exit.Errorf(exit.NoTarget, "no peer %q, there are: %s", host, firstFew(l.peers))
}

// container adds the container that word names; in this order word is: a container's name, that of one on another host, a whole endpoint
// id, the beginning of a container's or an endpoint's id.
func (l *resolver) container(ctx context.Context, t *Targets, word string) error {
	name := strings.TrimPrefix(word, "/")
	if ends := l.d.endpointIDs(func(_ string, e endpointInfo) bool { return e.name == name }); len(ends) > 0 {
		t.names[name] = true
		return nil
	}
	if found, err := l.other(ctx, t, name); found || err != nil {
		return err
	}
	if isID(word) {
		if found, err := l.byID(t, word); found || err != nil {
			return err
		}
	}
	if !l.n.engine.Answered {
		return l.notFound(ctx, word, fmt.Sprintf(" (Docker does not answer at %s, so only endpoints are known, by their ids)",
			l.n.engine.Address))
	}
	x, err := l.n.engine.container(ctx, name)
	if err == nil {
		owner, shares, err := l.n.engine.owner(ctx, x)
		if err != nil {
			return err
		}
		if shares != "" {
			return l.shared(ctx, t, &owner, shares)
		}
	}
	switch {
	case err == nil && l.include == Awaited:
		t.names[x.name()], t.containers[x.ID] = true, true
		return nil
	case err == nil:
		if err = l.withoutPort(ctx, t, &x); err != nil && l.elsewhere != "" {
			return exit.Errorf(exit.Code(err), "%w%s", err, l.elsewhere)
		}
		return err
	case l.include == Awaited && containerName.MatchString(name):
		t.names[name] = true
		return nil
	}
	return l.notFound(ctx, word, "")
}

// shared adds the container whose network namespace another one shares. It is kept by its id, not by its name, which another
// container may get later.
func (l *resolver) shared(ctx context.Context, t *Targets, owner *containerInfo, shares string) error {
	ends := l.d.endpointIDs(func(_ string, e endpointInfo) bool { return e.container == owner.ID })
	if len(ends) > 0 || l.include == Awaited {
		t.containers[owner.ID] = true
	} else if err := l.withoutPort(ctx, t, owner); err != nil {
		return exit.Errorf(exit.Code(err), "%s: %w", shares, err)
	}
	t.notes = append(t.notes, shares+": looking at "+owner.name())
	return nil
}

// recordCreated asks Docker when the containers that are targets were created: before that, others had their addresses.
func (l *resolver) recordCreated(ctx context.Context, t *Targets) {
	known := make(map[string]int64)
	for id, e := range l.d.endpoints {
		if e.container == "" || e.gone != 0 || !t.Endpoints[id] && !t.isTarget(id, e) {
			continue
		}
		if _, asked := known[e.container]; !asked {
			x, err := l.n.engine.container(ctx, e.container)
			if err != nil {
				continue
			}
			known[e.container] = x.Created.UnixNano()
		}
		t.created[id], l.n.asked[e.name] = known[e.container], known[e.container]
	}
}

// isID tells whether a word can be the beginning of an id. (A whole id may have another form.)
func isID(word string) bool { return len(word) >= 4 && strings.Trim(word, "0123456789abcdef") == "" }

// byID adds the endpoint or container whose id is word, or begins with it. found is false if there is none.
func (l *resolver) byID(t *Targets, word string) (found bool, err error) {
	containers, ends := make(map[string]bool), make(map[string]bool)
	var choices []string
	add := func(to map[string]bool, id, about string) {
		if strings.HasPrefix(id, word) && !to[id] {
			to[id] = true
			choices = append(choices, id+" ("+about+")")
		}
	}
	for id := range l.d.ports {
		if id == word { // whole: nothing else is meant
			t.Endpoints[id] = true
			return true, nil
		}
		add(ends, id, "endpoint of "+cmp.Or(l.d.endpoints[id].name, "a container"))
	}
	for id, e := range l.d.endpoints {
		if e.gone == 0 {
			add(ends, id, "endpoint of "+e.name)
			add(containers, e.container, "container "+e.name)
		}
	}
	if len(choices) > 1 {
		slices.Sort(choices)
		return false, exit.Errorf(exit.Usage, "%q can be %s: name one by more of its id", word, strings.Join(choices, " or "))
	}
	maps.Copy(t.containers, containers)
	maps.Copy(t.Endpoints, ends)
	return len(choices) == 1, nil
}

// withoutPort adds a container for which Docker shows no port. If l.include allows a stopped one, it is found by its network
// namespace; else the error says what state the container is in.
func (l *resolver) withoutPort(ctx context.Context, t *Targets, x *containerInfo) (err error) {
	name, sandbox := x.name(), api.SandboxName(x.NetworkSettings.SandboxKey)
	on := slices.Sorted(maps.Keys(x.NetworkSettings.Networks))
	ours := slices.IndexFunc(on, func(w string) bool {
		id := x.NetworkSettings.Networks[w].NetworkID
		if id == "" { // it has not been started yet, and Docker knows the network by name only
			return slices.Contains(slices.Collect(maps.Values(l.d.networks)), w)
		}
		_, ours := l.d.networks[id]
		return ours
	})
	hasRun := sandbox != "" || !x.State.StartedAt.IsZero()
	hint := ""
	if hasRun {
		hint = "; what it did: tapestry recorder dump " + name
	}
	switch {
	case len(on) == 0:
		return exit.Errorf(exit.NoTarget, "container %s is on no network of this daemon, it has: no network", name)
	case ours < 0:
		return exit.Errorf(exit.NoTarget, "container %s is on no network of this daemon, it has: %s", name, strings.Join(on, ", "))
	case x.State.Running && !x.State.Restarting:
		return exit.Errorf(exit.Failure, "container %s is on %s, but Docker does not tell yet as what: try again", name, on[ours])
	case l.include == Stopped && !hasRun:
		return exit.Errorf(exit.NoTarget, "container %s has never run", name)
	case l.include == Stopped:
		if sandbox == "" {
			if sandbox, err = l.lastSandbox(ctx, t, x, on[ours]); err != nil {
				return err
			}
		}
		t.sandboxes[sandbox], l.n.stopped[sandbox] = true, name
		t.created[sandbox], l.n.asked[name] = x.Created.UnixNano(), x.Created.UnixNano()
		return nil
	case x.State.Restarting:
		return exit.Errorf(exit.NoTarget, "container %s ended and waits to be started again: await its first frame with --wait%s", name, hint)
	}
	return exit.Errorf(exit.NoTarget, "container %s does not run: start it, or await its first frame with --wait%s", name, hint)
}

// kinds are the words that targets begin with, and the form of such a target.
var kinds = map[string]string{"network": "network:NAME", "peer": "peer:HOST", "host": "host:NAME", "container": "container:NAME"}

// notFound is the error for a word that names nothing; it says what may have been meant.
func (l *resolver) notFound(ctx context.Context, word, why string) error {
	if err := errors.Join(l.askNetworks(ctx), l.askPeers(ctx)); err != nil {
		return err
	}
	means := make(map[string]string) // what looks like the word → the target
	for i := range l.d.others {
		o := &l.d.others[i]
		means[o.Name], means[o.Name+"@"+o.Host], means[o.Name+"."+o.Key] = o.Label, o.Label, o.Label
	}
	var containers []string
	for _, e := range l.d.endpoints {
		if e.gone == 0 {
			means[e.name], containers = e.name, append(containers, e.name)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.d.ports)) {
		means[id[:min(len(id), max(len(word), 4))]] = api.ShortID(id)
	}
	for _, w := range l.networks {
		label := l.n.engine.NetworkLabel(w.ID)
		means["network:"+label] = "network:" + label
		if len(w.Host) > 0 {
			means["host"], means[api.HostPrefix+label] = api.HostPrefix+label, api.HostPrefix+label
		}
		if _, taken := means[label]; !taken {
			means[label] = "network:" + label
		}
	}
	if form := kinds[word]; form != "" && means[word] == "" {
		return exit.Errorf(exit.NoTarget, "no container %q, did you mean %s?%s", word, form, why)
	}
	for _, host := range l.peers {
		means["peer:"+host], means[host] = "peer:"+host, "peer:"+host
	}
	if a, err := netip.ParseAddr(word); err == nil && l.n.Addr(a) != "" {
		return exit.Errorf(exit.NoTarget, "no target %q, did you mean %s? It has that address.", word, l.n.Addr(a))
	}
	if near := spell.Nearest(word, slices.Sorted(maps.Keys(means))); len(near) > 0 {
		near = slices.Compact(api.Map(near, func(w string) string { return means[w] }))
		return exit.Errorf(exit.NoTarget, "no container %q, did you mean %s?%s", word, strings.Join(near, " or "), why)
	}
	if l.include == Stopped {
		why += "; one that was removed has lost its name: network:NAME, or its address with -f 'host ADDR'"
	}
	if len(containers) == 0 {
		containers = api.Map(l.d.others, func(o Other) string { return o.Label })
	}
	if len(containers) == 0 {
		return exit.Errorf(exit.NoTarget, "no container %q: this daemon's networks have none that is known%s", word, why)
	}
	slices.Sort(containers)
	return exit.Errorf(exit.NoTarget, "no container %q, there are: %s%s", word, firstFew(slices.Compact(containers)), why)
}

// firstFew lists five of words at most.
func firstFew(words []string) string {
	if len(words) > 5 {
		words = append(words[:5:5], "…")
	}
	return strings.Join(words, ", ")
}
