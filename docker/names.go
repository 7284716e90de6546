package docker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// Names is what Docker calls the networks, endpoints and addresses of this daemon. It may be asked by many goroutines,
// for every frame: what it knows is in a snapshot that is never changed, only replaced.
//
// A container that has stopped keeps its names: its frames may still be on their way to the reader. Its address is
// shown under another container's name as soon as that has it, unless the command named the stopped one.
type Names struct {
	c      *client.Client
	engine *Engine
	now    atomic.Pointer[snapshot]

	// Not changed after FindTargets.
	asked   map[string]int64  // when the containers whose past the command reads were created, ns since 1970, by name
	stopped map[string]string // names of those that have no port, by sandbox

	version string // of the names on other hosts, when they were first read; not changed after LoadNames

	mu sync.Mutex // held while the snapshot in now is replaced
}

// departedNames is how many endpoints that have gone are remembered.
const departedNames = 4096

// A snapshot is what was known at one time.
type snapshot struct {
	version   uint64
	networks  map[string]string       // of the daemon: id → Docker's name, "" not known
	endpoints map[string]endpointInfo // that Docker has or had on them, by id
	ports     map[string][]netip.Addr // the daemon's, of containers, when all was read last: endpoint → addresses
	keys      map[string]string       // of networks that hosts share: key → id
	told      []Other                 // containers on other hosts, without Network and Label

	// These follow from those above.
	others      []Other // containers on other hosts, on networks of this one
	addrs       map[netip.Addr]string
	addrsByName map[string][]netip.Addr // of this host's containers
	present     map[string]bool         // names of this host's containers that are there
}

// An endpointInfo is a container's end of a network.
type endpointInfo struct {
	network   string
	container string // id; "" not known, the container is joining
	name      string // of the container
	addrs     []netip.Addr
	gone      uint64 // the version since which it has been gone; 0: it is there
	recalled  bool   // the command named it: frames of its time are shown under its name
}

// LoadNames asks the daemon for its networks and ports, and Docker for their names. An unreachable Docker is no error.
func LoadNames(ctx context.Context, c *client.Client) (*Names, error) {
	d, err := Load(ctx, c)
	if err != nil {
		return nil, err
	}
	n := &Names{c: c, engine: d, asked: make(map[string]int64), stopped: make(map[string]string)}
	n.now.Store(&snapshot{})
	// What Docker does not answer in time stays unknown. It is asked again when something happens.
	if err := n.refreshAll(ctx); err != nil && !errors.Is(err, errDockerAway) {
		return nil, err
	}
	if n.shares() { // without the names on other hosts nothing fails
		n.version, _ = n.loadOthers(ctx, "")
	}
	return n, nil
}

// errDockerAway: Docker does not answer.
var errDockerAway = errors.New("no answer from Docker")

// Container returns the name of the container that has or had this endpoint, "" if it is not known. For the host's own port it
// returns host:NETWORK.
func (n *Names) Container(endpoint string) string {
	if id := hostNetwork(endpoint); id != "" {
		return api.HostPrefix + cmp.Or(n.Network(id), api.ShortID(id))
	}
	return n.now.Load().endpoints[endpoint].name
}

// Born returns when a container that the command named was created, in ns since 1970.
func (n *Names) Born(container string) (ns int64, asked bool) {
	ns, asked = n.asked[container]
	return ns, asked
}

// Network gives the name of a network, "" if it is not known.
func (n *Names) Network(id string) string { return n.now.Load().networks[id] }

// Addr gives the name of the container that has an address, or had it last; "" if none is known. Of several networks
// with that address the first by name counts.
func (n *Names) Addr(a netip.Addr) string { return n.now.Load().addrs[a.Unmap()] }

// Addrs gives all addresses of the container with this name, sorted; if this host has none, of those on other hosts. It is a filter.Names.
func (n *Names) Addrs(name string) []netip.Addr {
	d := n.now.Load()
	all := slices.Clone(d.addrsByName[name])
	for i := range d.others {
		if !d.present[name] && d.others[i].Is(name) {
			all = append(all, d.others[i].Addrs...)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// shares tells whether this host has networks that hosts share.
func (n *Names) shares() bool { return len(n.now.Load().keys) > 0 }

// Since gives, if the version is another by now, the name of every address, sorted by address.
func (n *Names) Since(version uint64) pcapng.Names {
	d := n.now.Load()
	if d.version == version {
		return nil
	}
	all := make(pcapng.Names, 0, len(d.addrs))
	for a, name := range d.addrs {
		all = append(all, pcapng.Name{Addr: a, Name: name})
	}
	slices.SortFunc(all, func(x, y pcapng.Name) int { return x.Addr.Compare(y.Addr) })
	return all
}

// Version rises with every change of what the other methods give.
func (n *Names) Version() uint64 { return n.now.Load().version }

// refreshAll asks again for everything.
func (n *Names) refreshAll(ctx context.Context) error {
	networks, err := n.c.Networks(ctx)
	if err != nil {
		return err
	}
	ports, err := client.List[api.Port](ctx, n.c, api.PortsPath, "")
	if err != nil {
		return err
	}
	n.update(func(d *snapshot) {
		d.networks, d.ports, d.keys = make(map[string]string), make(map[string][]netip.Addr), keysOf(networks)
		for _, w := range networks {
			d.networks[w.ID] = cmp.Or(n.Network(w.ID), n.engine.NetworkName(w.ID))
		}
		for _, p := range ports {
			if p.Kind == "container" {
				d.ports[p.Name] = parseAddrs(p.Addresses...)
			}
		}
		for id, e := range d.endpoints {
			if _, ours := d.networks[e.network]; !ours {
				e.gone = cmp.Or(e.gone, d.version)
				d.endpoints[id] = e
			}
		}
	})
	return n.refresh(ctx, slices.Sorted(maps.Keys(n.now.Load().networks)))
}

// refresh asks Docker again for these networks, one request each; those that are not the daemon's are left out.
func (n *Names) refresh(ctx context.Context, ids []string) error {
	if !n.engine.Answered {
		return errDockerAway
	}
	ctx, cancel := context.WithTimeout(ctx, 2*Timeout)
	defer cancel()
	told, gone := make(map[string]Network), make(map[string]bool)
	var failed error
	for _, id := range ids {
		if _, ours := n.now.Load().networks[id]; !ours {
			continue
		}
		switch w, err := n.engine.network(ctx, id); {
		case err == nil:
			told[id] = w
		case errors.Is(err, errNotInDocker):
			gone[id] = true
		default:
			failed = errDockerAway
		}
	}
	n.update(func(d *snapshot) { d.learn(told, gone) })
	return failed
}

// addNetwork adds a network of the daemon's, and tells whether it is new.
func (n *Names) addNetwork(id string) bool {
	_, known := n.now.Load().networks[id]
	if !known {
		n.update(func(d *snapshot) { d.networks[id] = "" })
	}
	return !known
}

// AddPort takes what the stream of a dump tells of a port.
func (n *Names) AddPort(i *pcapng.Interface) {
	if p, ok := capture.ReadPort(i); ok {
		n.remember(&p)
	}
}

// remember stores the name of a stopped container's port, and the addresses of a port that is leaving: Docker does not list them
// any more.
func (n *Names) remember(p *capture.Port) {
	name := n.stopped[p.Sandbox]
	e, known := n.now.Load().endpoints[p.Name]
	if known && (len(e.addrs) > 0 || len(p.Addrs) == 0) || !known && name == "" {
		return
	}
	n.update(func(d *snapshot) {
		if e, known = d.endpoints[p.Name]; !known {
			e = endpointInfo{network: p.Network, name: name, gone: d.version, recalled: true}
		}
		for _, a := range p.Addrs {
			e.addrs = append(e.addrs, a.Addr())
		}
		d.endpoints[p.Name] = e
	})
}

// CheckStopped returns an error if the daemon knew no port of a stopped container that the command named.
func (n *Names) CheckStopped() error {
	for _, name := range slices.Sorted(maps.Values(n.stopped)) {
		found := false
		for _, e := range n.now.Load().endpoints {
			found = found || e.recalled && e.name == name
		}
		if !found {
			return exit.Errorf(exit.NoTarget, "container %s was started before this daemon, or long ago: "+
				"its frames are found by its address only, -f 'host ADDR'", name)
		}
	}
	return nil
}

// learn stores the networks that Docker listed; those in gone do not exist in Docker.
func (d *snapshot) learn(told map[string]Network, gone map[string]bool) {
	for id, e := range d.endpoints {
		if _, asked := told[e.network]; asked || gone[e.network] {
			e.gone = cmp.Or(e.gone, d.version)
			d.endpoints[id] = e
		}
	}
	for id, w := range told {
		d.networks[id] = w.Name
		for container, c := range w.Containers {
			e := endpointInfo{network: id, container: container, name: c.Name}
			if strings.HasPrefix(container, "ep-") {
				e.container = d.endpoints[c.EndpointID].container
			}
			e.addrs = append(parseAddrs(c.IPv4Address, c.IPv6Address), d.ports[c.EndpointID]...)
			d.endpoints[c.EndpointID] = e
		}
	}
}

// update makes the next snapshot from the one there is. It is the next version only if something is different.
func (n *Names) update(change func(*snapshot)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now.Load()
	next := &snapshot{version: now.version + 1, ports: now.ports, keys: now.keys, told: now.told,
		networks: maps.Clone(now.networks), endpoints: maps.Clone(now.endpoints)}
	if next.endpoints == nil {
		next.networks, next.endpoints = make(map[string]string), make(map[string]endpointInfo)
	}
	change(next)
	next.derive()
	same := *next
	same.version = now.version
	if !reflect.DeepEqual(&same, now) {
		n.now.Store(next)
	}
}

// derive fills addrs and addrsByName, and forgets the endpoints that went first if there are more than departedNames.
func (d *snapshot) derive() {
	ids := slices.SortedFunc(maps.Keys(d.endpoints), func(x, y string) int {
		a, b := d.endpoints[x], d.endpoints[y]
		if a.recalled != b.recalled {
			return map[bool]int{true: -1, false: 1}[a.recalled] // its address was its own then
		}
		if a.gone != b.gone {
			return cmp.Compare(b.gone-1, a.gone-1) // present ones first (gone is 0, and 0-1 is the largest uint64), then the one that went last
		}
		return cmp.Or(strings.Compare(d.networks[a.network], d.networks[b.network]),
			strings.Compare(a.network, b.network), strings.Compare(x, y))
	})
	d.addrs, d.addrsByName, d.present = make(map[netip.Addr]string), make(map[string][]netip.Addr), make(map[string]bool)
	for _, e := range d.endpoints {
		d.present[e.name] = d.present[e.name] || e.gone == 0
	}
	d.others = labelled(d.told, d.keys, d.present)
	last := make(map[string]uint64) // when the container of this name went last; 0: it is there
	departed, named := 0, false
	for _, id := range ids {
		e := d.endpoints[id]
		if e.gone != 0 && !e.recalled && !named {
			named = true
			d.nameOthers()
		}
		if e.gone != 0 {
			if departed++; departed > departedNames {
				delete(d.endpoints, id)
				continue
			}
		}
		if _, known := last[e.name]; !known {
			last[e.name] = e.gone
		}
		for _, a := range e.addrs {
			if _, taken := d.addrs[a]; !taken {
				d.addrs[a] = e.name
			}
			// An address that a container had before it was restarted is no longer its own, nor is one that is another's now.
			if e.gone == last[e.name] && (e.gone == 0 || d.addrs[a] == e.name) {
				d.addrsByName[e.name] = append(d.addrsByName[e.name], a)
			}
		}
	}
	d.nameOthers()
	for name, addrs := range d.addrsByName {
		slices.SortFunc(addrs, netip.Addr.Compare)
		d.addrsByName[name] = slices.Compact(addrs)
	}
}

// nameOthers names the addresses of containers on other hosts, but those that have a name.
func (d *snapshot) nameOthers() {
	for i := range d.others {
		o := &d.others[i]
		for _, a := range o.Addrs {
			if _, taken := d.addrs[a]; !taken {
				d.addrs[a] = o.Label
			}
		}
	}
}

// endpointIDs returns the sorted ids of the present endpoints for which match is true.
func (d *snapshot) endpointIDs(match func(id string, e endpointInfo) bool) (ids []string) {
	for id, e := range d.endpoints {
		if e.gone == 0 && match(id, e) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// networksOf gives the networks that a container is on, sorted.
func (d *snapshot) networksOf(container string) (ids []string) {
	for _, e := range d.endpoints {
		if e.gone == 0 && e.container == container {
			ids = append(ids, e.network)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// parseAddrs reads addresses as Docker and the daemon write them, with or without the length of their prefix.
func parseAddrs(texts ...string) (addrs []netip.Addr) {
	for _, text := range texts {
		text, _, _ = strings.Cut(text, "/")
		if a, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// Engine is what is known now, as tables want it.
func (n *Names) Engine() *Engine {
	now := n.now.Load()
	d := &Engine{Address: n.engine.Address, Answered: n.engine.Answered, Containers: make(map[string]string, len(now.endpoints))}
	for id, e := range now.endpoints {
		d.Containers[id] = e.name
	}
	for id, name := range now.networks {
		d.Networks = append(d.Networks, Network{ID: id, Name: name})
	}
	return d
}
