package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"syscall"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric/guard"
	"github.com/tapestry-net/tapestry/fabric/links"
	"github.com/tapestry-net/tapestry/fabric/neighbour"
	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/fault"
	"github.com/tapestry-net/tapestry/poll"
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/vlan"
)

// endpoint is an Endpoint with its port. Its fields are guarded by Fabric.lock.
type endpoint struct {
	state.EndpointRecord
	dev            links.Device   // nil: the port is down
	handles        []*poll.Handle // of dev's queues
	port           *vswitch.Port
	faults         *fault.Point   // between dev and port
	down           error          // why dev is nil, or what is missing of the host port
	wasInContainer bool           // the sweep has seen its link in a container
	up             bool           // its link is, as it was told
	started        bool           // its link has been up, or in a container for a while: only then is a missing carrier an error
	noCarrier      error          // why the kernel drops frames to the container, as of checkCarrier
	joined         string         // the sandbox that Join was given; after a restart the record's, which may be ""
	groups         []netip.Prefix // routes that Join gave the container, see groupRoutes
	orphanSince    time.Duration  // since when the kernel shows no sign of its container; 0: it does
	conflicts      uint64         // frames from other ports with its address, as last logged
}

// CreateEndpoint creates a container's port and returns the MAC in force. A repeated call with equal data succeeds, and
// creates what is missing after a crash in the middle. It is ErrInUse if the endpoint exists with other data, or if another
// endpoint of the network has the MAC.
func (f *Fabric) CreateEndpoint(ctx context.Context, network string, want Endpoint) (ether.MAC, error) {
	for until := f.now() + f.containerExitWait; ; {
		mac, err := f.createEndpoint(ctx, network, want)
		var taken macInUse
		if !errors.As(err, &taken) || f.now() >= until || ctx.Err() != nil {
			return mac, err
		}
		select { // the kernel needs a moment to remove a namespace whose last process has ended
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (f *Fabric) createEndpoint(ctx context.Context, network string, want Endpoint) (ether.MAC, error) {
	if err := f.acquire(ctx); err != nil {
		return ether.MAC{}, err
	}
	defer f.release()
	if err := f.unpark(ctx, network); err != nil {
		return ether.MAC{}, err
	}
	n, err := f.network(network)
	if err != nil {
		return ether.MAC{}, err
	}
	if old, ok := n.endpoints[want.ID]; ok {
		if !reflect.DeepEqual(old.Endpoint, want) {
			return ether.MAC{}, inUsef("endpoint %s exists with another address", short(want.ID))
		}
		if old.dev == nil {
			if err := f.plug(n, old, f.links.Create); err != nil {
				return ether.MAC{}, err
			}
			old.orphanSince = 0
		}
		return old.MAC, nil
	}
	if err := n.checkHostPort(want); err != nil {
		return ether.MAC{}, err
	}
	if err := f.resolveConflicts(n, want); err != nil {
		return ether.MAC{}, err
	}
	mtu, err := f.linkMTU(n)
	if err != nil {
		return ether.MAC{}, err
	}
	if err := f.startCapture(n, want); err != nil {
		return ether.MAC{}, err
	}
	e := &endpoint{EndpointRecord: state.EndpointRecord{Endpoint: want, MTU: mtu}}
	if lanes, _ := e.lanes(); lanes.Access != 0 && n.VNI != 0 && n.MTU == 0 {
		e.MTU -= ether.TagLen // which every frame to another host has
	}
	if f.cfg.Cluster != nil { // chosen once: whoever got the address later is where it is now
		e.Seq = f.cfg.Cluster.Directory.NextSeq(n.Key, want.MAC, neighbour.Addrs(want))
	}
	n.endpoints[e.ID] = e
	err = f.dir.Save(n.record())
	if err == nil {
		err = f.plug(n, e, f.links.Create)
	}
	if err == nil {
		err = ctx.Err() // nobody waits for the answer any more: undo it
	}
	if err != nil {
		return ether.MAC{}, withUndo(err, f.removeEndpoint(n, e))
	}
	f.endpointsChanged(n)
	f.log.Info("endpoint created", "network", n.ID, "endpoint", e.ID, "mac", e.MAC)
	return e.MAC, nil
}

// withUndo adds to an error the one of undoing, unless both have the same errno.
func withUndo(err, undo error) error {
	var why syscall.Errno
	if undo == nil || errors.As(err, &why) && errors.Is(undo, why) {
		return err
	}
	return fmt.Errorf("%w; and it could not be undone: %w", err, undo)
}

// macInUse is the ErrInUse of a MAC whose endpoint still has its container. It may resolve itself: the container may be ending.
type macInUse struct{ error }

func (r macInUse) Unwrap() error { return r.error }

// resolveConflicts handles endpoints that have an address of a new one. There are two causes. A dockerd that was killed never
// says which of its endpoints are gone, and restarted containers get their old addresses at once. And dockerd 29 takes an
// address from a running container without telling, for the next one, when a sysctl disables the link's IPv6. So the old
// endpoint's link decides: if it shows no container, the endpoint is removed; else the endpoint keeps its link and loses the
// address. An equal MAC cannot be resolved while its container is there: that is macInUse.
func (f *Fabric) resolveConflicts(n *network, want Endpoint) error {
	wanted := func(p netip.Prefix) bool {
		return slices.ContainsFunc(want.Addrs, func(q netip.Prefix) bool { return p.Addr() == q.Addr() })
	}
	var dead, stripped []*endpoint
	var found map[string]tap.Found // listed at the first conflict
	for _, other := range n.endpoints {
		shared := slices.ContainsFunc(other.Addrs, wanted)
		if !shared && other.MAC != want.MAC {
			continue
		}
		if found == nil {
			var err error
			if found, err = f.links.List(f.tag()); err != nil {
				return err
			}
		}
		unjoined := found[other.ID].Inner || n.Attach == tap.Direct && found[other.ID].TAP
		switch alive := n.alive(other, found); {
		case other.MAC == want.MAC && alive && shared:
			return macInUse{inUsef("%s and MAC address %s belong to endpoint %s of this network, whose container is still there: stop that one, or give this container another --ip",
				want.Addrs[0].Addr(), want.MAC, short(other.ID))}
		case other.MAC == want.MAC && (alive || unjoined && !shared): // one that has not joined yet may still do so
			return macInUse{inUsef("MAC address %s belongs to endpoint %s of this network: give this container another", want.MAC, short(other.ID))}
		case alive:
			stripped = append(stripped, other)
		default:
			dead = append(dead, other)
		}
	}
	for _, other := range stripped {
		f.log.Info("endpoint loses an address that Docker has given to another", "network", n.ID, "endpoint", other.ID, "to", want.ID)
		other.Addrs = slices.DeleteFunc(slices.Clone(other.Addrs), wanted) // the record is written with the new endpoint's
		if other.port != nil {
			other.port.PinAddrs(neighbour.Addrs(other.Endpoint)...)
			f.cfg.Observer.SetAddrs(other.port.Number, other.Addrs)
		}
	}
	for _, other := range dead {
		f.log.Info("orphan endpoint is removed for a new one", "network", n.ID, "endpoint", other.ID, "for", want.ID)
		if err := f.removeEndpoint(n, other); err != nil {
			return err
		}
	}
	return nil
}

// startCapture starts the capture of the endpoint's tapestry.capture option, if it has one.
func (f *Fabric) startCapture(n *network, want Endpoint) error {
	if want.Capture == "" {
		return nil
	}
	if err := f.cfg.Observer.Arm(n.ID, want.ID, want.Capture); err != nil {
		return fmt.Errorf("tapestry.capture=%s: %w", want.Capture, err)
	}
	return nil
}

// plug opens the endpoint's device and connects it to the switch and the workers.
func (f *Fabric) plug(n *network, e *endpoint, open func(tap.Spec) (links.Device, error)) error {
	lanes, err := e.lanes()
	if err != nil {
		e.down = err
		return err
	}
	dev, err := open(f.spec(n, e))
	if err != nil {
		e.down = err
		return err
	}
	const header = 14 + 4 // a VLAN tag does not count towards the MTU, as in the kernel
	point := fault.NewPoint(n.sw, n.ID, e.ID, lanes.Untagging(dev), false, e.MTU+header)
	port := point.Port
	port.SetVLANs(lanes.VLANs)
	guard.Set(port, &n.Network, &e.Endpoint)
	n.sw.Add(port)
	e.dev, e.port, e.faults, e.down, e.started, e.noCarrier = dev, port, point, nil, false, nil
	v := f.containerView(n, e)
	v.Number = port.Number
	f.cfg.Observer.Plug(v, dev, nil)
	dev.Bind(lanes.Tagging(point.Ingress))
	for i, q := range dev.Sources() {
		handle, err := f.cfg.Poller.Add(q, i, func(err error) { f.deviceFailed(n.ID, e.ID, dev, err) })
		if err != nil {
			e.down = errors.Join(err, f.unplug(e))
			return e.down
		}
		e.handles = append(e.handles, handle)
	}
	for _, r := range n.remotes {
		n.setSegmentMTU(r)
	}
	return nil
}

// lanes are the VLANs of the port.
func (e *endpoint) lanes() (s vlan.Spec, err error) {
	if e.VLAN != "" {
		s, err = vlan.Parse(e.VLAN)
	}
	return s, err
}

// announce has the port announce its container's addresses on the network.
func (e *endpoint) announce() {
	lanes, _ := e.lanes() // plug has read them
	lanes.Tagging(e.port.Ingress)(neighbour.Announcements(e.Endpoint))
}

// unplug disconnects the endpoint's device from the switch and closes it; its links stay in the kernel.
func (f *Fabric) unplug(e *endpoint) error {
	if e.dev == nil {
		return nil
	}
	for _, h := range e.handles {
		h.Remove()
	}
	f.clearFaults(e.faults)
	e.port.Detach()
	f.synchronize() // from here on nobody sends to it
	f.cfg.Observer.Unplug(e.port.Number)
	err := e.dev.Close()
	e.dev, e.port, e.faults, e.handles, e.noCarrier = nil, nil, nil, nil, nil
	return err
}

// deviceFailed is called when an endpoint's device fails: its TAP was deleted, or its container's namespace is gone. Only that
// endpoint goes down; the sweep reopens or removes it. A failure of a device that was replaced meanwhile is ignored.
func (f *Fabric) deviceFailed(network, id string, dev links.Device, why error) {
	if f.acquire(context.Background()) != nil {
		return
	}
	defer f.release()
	n := f.networks[network]
	if n == nil || n.endpoints[id] == nil || n.endpoints[id].dev != dev {
		return
	}
	e := n.endpoints[id]
	e.down = errors.Join(why, f.unplug(e))
	f.setUp(n, e, e.down)
	found, err := f.links.List(f.tag())
	if err != nil || n.alive(e, found) {
		f.log.Warn("endpoint's tap broke, trying to fix it", "network", network, "endpoint", id, "err", why)
	}
}

// DeleteEndpoint removes a container's port. One that is not there is fine.
func (f *Fabric) DeleteEndpoint(ctx context.Context, network, id string) error {
	if err := f.acquire(ctx); err != nil {
		return err
	}
	defer f.release()
	n := f.networks[network]
	if n == nil || n.dockerEndpoint(id) == nil {
		return nil
	}
	err := f.removeEndpoint(n, n.endpoints[id])
	f.log.Info("endpoint deleted", "network", network, "endpoint", id)
	return err
}

func (f *Fabric) removeEndpoint(n *network, e *endpoint) error {
	err := errors.Join(f.unplug(e), f.links.Remove(f.spec(n, e)))
	delete(n.endpoints, e.ID)
	f.setUp(n, e, errRemoved)
	f.cfg.Observer.Disarm(e.ID)
	f.endpointsChanged(n)
	return errors.Join(err, f.dir.Save(n.record()))
}

// Join returns the link that Docker moves into the container whose network namespace will be at sandbox, and announces the
// container's addresses on the network.
func (f *Fabric) Join(ctx context.Context, network, id, sandbox string) (Attachment, error) {
	if err := f.acquire(ctx); err != nil {
		return Attachment{}, err
	}
	defer f.release()
	n, err := f.network(network)
	if err != nil {
		return Attachment{}, err
	}
	e := n.dockerEndpoint(id)
	if e == nil {
		return Attachment{}, fmt.Errorf("endpoint %s of network %s: %w", short(id), short(network), ErrNoEndpoint)
	}
	if e.dev == nil {
		return Attachment{}, fmt.Errorf("endpoint %s is down: %w", short(id), e.down)
	}
	routes, cannotEnter := f.groupRoutes(e, sandbox), f.links.CheckEnter() != nil
	if e.Sandbox != sandbox && (n.Attach == tap.Direct || cannotEnter) {
		old := e.EndpointRecord
		e.Sandbox = sandbox // the TAP will be found there again
		if cannotEnter {
			e.Groups = routes // after a restart they can be known from here only
		}
		if err := f.dir.Save(n.record()); err != nil {
			e.EndpointRecord = old
			return Attachment{}, err
		}
	}
	e.groups = routes
	e.joined = sandbox
	f.cfg.Observer.SetSandbox(e.port.Number, sandbox)
	e.orphanSince = 0
	e.announce()
	spec := f.spec(n, e)
	return Attachment{Link: spec.Link(), Prefix: n.Prefix, IfName: e.IfName, External: n.External, Routes: e.groups}, nil
}

// groupDestinations are the IPv4 multicast and limited broadcast destinations.
var groupDestinations = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"),        // RFC 5771
	netip.MustParsePrefix("255.255.255.255/32"), // RFC 919
}

// groupRoutes are the routes that a container needs to send multicast and limited broadcast, and to join groups, without
// naming an interface. Without them that would use the default route, by docker_gwbridge, or fail. IPv6 has such a route on
// every link. dockerd fails if a container gets a route twice, so only the first of its networks has them.
func (f *Fabric) groupRoutes(e *endpoint, sandbox string) []netip.Prefix {
	if !slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		return nil
	}
	// A running container's routes are in its namespace; dockerd before 28 joins the networks before the namespace exists.
	taken, err := f.links.Routes(sandbox)
	if err != nil {
		f.log.Warn("a container gets no routes for multicast and broadcast: what names no interface leaves by docker_gwbridge, or fails without it; the rest of its network works",
			"endpoint", e.ID, "sandbox", sandbox, "err", err)
		return nil
	}
	for _, n := range f.networks {
		for _, other := range n.endpoints {
			if other != e && sandbox != "" && other.joined == sandbox {
				taken = append(taken, other.groups...)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(groupDestinations), func(p netip.Prefix) bool { return slices.Contains(taken, p) })
}

// Leave does nothing: Docker moves the link out of the container afterwards, and then calls DeleteEndpoint.
func (f *Fabric) Leave(ctx context.Context, network, id string) error {
	f.log.Debug("endpoint left", "network", network, "endpoint", id)
	return nil
}
