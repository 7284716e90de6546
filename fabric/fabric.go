// Package fabric holds this host's networks and endpoints. It connects TAPs and VXLAN links to switches, and both to the
// workers, and keeps on the disk what it was asked for.
//
// networks.go and endpoints.go do what Docker asks for, swarm.go what it tells of its Swarm, peers.go says who the other hosts
// are, and remotes.go connects them; sweep.go is the periodic work, view.go the answers to people. Package state reads and writes
// the disk, package swarm remembers what Docker told of its Swarm.
//
// Every change is made in the same order: first the record, then the kernel, then the switch; a removal in the reverse
// order. So wherever the process dies, the record names at least what may exist, and Open completes the rest with the same
// functions that create it.
package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric/links"
	"github.com/tapestry-net/tapestry/fabric/lookup"
	"github.com/tapestry-net/tapestry/fabric/paths"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fabric/swarm"
	"github.com/tapestry-net/tapestry/fabric/view"
	"github.com/tapestry-net/tapestry/fabric/vtep"
	"github.com/tapestry-net/tapestry/poll"
	"github.com/tapestry-net/tapestry/tap"
)

// Errors that callers test for; the methods wrap them with the ids.
var (
	ErrNoNetwork  = errors.New("no such network")
	ErrNoEndpoint = errors.New("no such endpoint")
	ErrNoPeer     = errors.New("no such peer")
	ErrInUse      = errors.New("in use")
)

// inUse is an ErrInUse with its own text.
type inUse string

func inUsef(format string, args ...any) error { return inUse(fmt.Sprintf(format, args...)) }
func (e inUse) Error() string                 { return string(e) }
func (e inUse) Is(target error) bool          { return target == ErrInUse }

// Config is read once by Open.
type Config struct {
	Name              string           // the driver's name; part of the tag on every link
	Dir               string           // state directory
	VTEP              netip.Addr       // this host's underlay address; zero: that of the default route
	Second            netip.Addr       // another one, of the other IP version; zero: none, as without VTEP
	Port              uint16           // VXLAN UDP port, here and by default at peers
	Peers             []netip.AddrPort // of networks that name none
	PeerNames         []PeerName       // of these networks too
	CompleteChecksums bool             // complete inner checksums also for peers that would do it themselves
	Managed           bool             // this is a managed plugin: on a host of a Swarm, the tunnel uses the address that Docker tells
	SweepAfter        time.Duration    // grace period before an orphan is removed
	Cluster           *Cluster         // nil: this host is in none
	Poller            *poll.Poller
	Links             links.Links // nil: the kernel's
	Observer          Observer    // nil: nobody
	Events            *events.Bus // nil: only the log is told
	Log               *slog.Logger
}

// Fabric holds this host's networks. Its methods may be called by several goroutines.
type Fabric struct {
	cfg         Config
	links       links.Links
	names       *lookup.Table // of peers
	paths       *paths.Table  // to other hosts: the only place where path MTUs and unreachable hosts are kept
	dir         state.Dir
	events      *events.Bus
	log         *slog.Logger
	started     time.Time
	drops       vtep.Drops    // datagrams that no tunnel took
	fatal       chan error    // the error that ends Run
	strangers   chan struct{} // hosts that are not known have sent to a network with a group
	unmonitored atomic.Bool   // rtnetlink does not report changes of links and routes: each tick looks for them

	containerExitWait time.Duration // how long CreateEndpoint waits for the end of a container that has the same MAC

	// lock is a mutex that acquire can give up waiting for: a channel that holds one token. It guards all fields below, with
	// the networks, endpoints and remotes that they lead to.
	lock        chan struct{}
	networks    map[string]*network      // by id
	swarm       *swarm.Swarm             // what Docker has told of its Swarm
	sparse      map[netip.Addr]bool      // nodes of swarm that left and are silent: few floods are sent to them
	warnedVTEP  netip.Addr               // the address that moveVTEP has warned of
	vtep        *vtep.VTEP               // open while a network needs it; nil: closed
	vtepWhy     error                    // why it could not be opened
	places      map[string]uint64        // by key: what placed has seen last; only ClusterChanged uses it
	orphanSince map[string]time.Duration // by endpoint id, of links without a record
	warnedLinks map[string]bool          // by endpoint id: links without a record, used by a container, that the log has warned of
	lastFix     time.Duration            // when tick last called fix, by its own clock; so are the two below
	lastSweep   time.Duration            // when it last called sweep
	lastProbe   time.Duration            // when it last probed, see probeEvery
	ticked      chan struct{}            // closed by the next tick
}

// Open reads the state directory and restores what it names: switches, links to other hosts, the ports of containers that
// still run. A record that cannot be read is an error that names the file; a tunnel or a port that cannot be opened is
// logged, shown by Status and Ports, and tried again by Run.
func Open(cfg Config) (*Fabric, error) {
	f := &Fabric{
		cfg: cfg, links: cfg.Links, log: cfg.Log, started: time.Now(),
		dir: state.Dir(cfg.Dir), fatal: make(chan error, 1), strangers: make(chan struct{}, 1), containerExitWait: 3 * time.Second, lock: make(chan struct{}, 1), ticked: make(chan struct{}),
		networks: make(map[string]*network), paths: paths.New(), places: make(map[string]uint64), orphanSince: make(map[string]time.Duration), warnedLinks: make(map[string]bool),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.events = cfg.Events; f.events == nil {
		f.events = events.New(f.log)
	}
	if f.links == nil {
		f.links = links.Kernel{}
	}
	if f.cfg.Observer == nil {
		f.cfg.Observer = view.NoObserver{}
	}
	records, err := f.dir.Load()
	if err == nil {
		err = f.dir.Prepare()
	}
	if err == nil {
		f.swarm, err = swarm.Load(f.dir, f.log, f.cfg.Observer.SetNodes)
	}
	if err != nil {
		return nil, err
	}
	f.loadNames(records)
	for _, r := range records {
		delete(f.swarm.Parked, r.Network.ID) // parkNetwork was interrupted between writing swarm.json and removing the record
		f.restore(r)
	}
	f.publish()
	f.lock <- struct{}{}
	return f, nil
}

// acquire takes the lock, or gives up when ctx ends.
func (f *Fabric) acquire(ctx context.Context) error {
	select {
	case <-f.lock:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another request to end: %w", ctx.Err())
	}
}

func (f *Fabric) release() { f.lock <- struct{}{} }

// now is the time since the daemon's start: a monotonic clock.
func (f *Fabric) now() time.Duration { return time.Since(f.started) }

// Run does the periodic work, once a second and after changes of links and routes, until ctx ends. It returns an error if the
// tunnel's socket fails.
func (f *Fabric) Run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var looking sync.WaitGroup
	changed, end := paths.Watch(f.monitorFailed)
	defer end()
	names, ended := context.WithCancel(ctx)
	defer func() { ended(); looking.Wait() }()
	looking.Go(func() { f.names.Run(names, func() { f.namesChanged(names) }) })
	const pause = 100 * time.Millisecond // a routing daemon changes thousands of routes at once; hosts are many, or made up
	events, strangers, resume := changed, f.strangers, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-f.fatal:
			return fmt.Errorf("the tunnel's socket broke: %w", err)
		case <-events:
			events, resume = nil, time.After(pause)
			f.linksChanged(ctx)
		case <-strangers:
			strangers, resume = nil, time.After(pause)
			f.learnHosts(ctx)
		case <-resume:
			events, strangers = changed, f.strangers
		case <-t.C:
			if f.acquire(ctx) != nil {
				continue
			}
			update := f.tick(f.now())
			f.release()
			if update {
				f.updatePaths(ctx)
			}
		}
	}
}

// Close closes every device. The containers' links stay in the kernel: the next Open adopts them.
func (f *Fabric) Close() error {
	if err := f.acquire(context.Background()); err != nil {
		return err
	}
	defer f.release()
	var errs []error
	for _, n := range f.sorted() {
		for _, e := range n.endpoints {
			errs = append(errs, f.unplug(e))
		}
		f.disconnect(n)
	}
	errs = append(errs, f.closeVTEP())
	for id := range f.networks {
		f.unregister(id)
	}
	return errors.Join(errs...)
}

func (f *Fabric) sorted() []*network {
	return slices.SortedFunc(maps.Values(f.networks), func(a, b *network) int { return strings.Compare(a.ID, b.ID) })
}

// restore restores one recorded network.
func (f *Fabric) restore(r state.Record) {
	n := newNetwork(r.Network, f.now())
	n.peers, n.names = r.Peers, r.PeerNames
	f.register(n)
	log := f.log.With("network", n.ID)
	if n.Key != "" && f.cfg.Cluster == nil {
		log.Warn("the network is shared with other hosts, but this host is in no cluster: it reaches none of them; start tapestry with --cluster", "key", n.Key)
	}
	if n.VNI != 0 {
		if err := f.connect(n); err != nil {
			log.Error("network has no tunnel for now", "err", err)
		}
		f.setPlaces(n)
	}
	for _, re := range r.Endpoints {
		e := &endpoint{EndpointRecord: re, joined: re.Sandbox, groups: re.Groups}
		n.endpoints[e.ID] = e
		if err := f.startCapture(n, e.Endpoint); err != nil {
			log.Warn("container goes on without its capture", "endpoint", e.ID, "err", err)
		}
		err := f.plug(n, e, f.links.Adopt)
		switch {
		case errors.Is(err, tap.ErrGone):
			log.Info("container's link is gone, to be swept", "endpoint", e.ID)
		case err != nil:
			log.Warn("endpoint is down", "endpoint", e.ID, "err", err)
		default:
			e.started = true
			log.Info("endpoint is back", "endpoint", e.ID)
		}
	}
	if err := f.plugHostPort(n); err != nil {
		log.Error("the host's port is down for now", "err", err)
	}
}
