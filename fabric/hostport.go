package fabric

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/fabric/state"
)

// The host's own port on a network is an endpoint that follows from the network's record, that Docker knows nothing of,
// and that no container ends.

// HostPort is the id of the host's endpoint on a network. Docker's ids are hexadecimal, so none is alike.
func HostPort(network string) string { return "host" + network }

// isHost tells the host's endpoint from containers'.
func (n *network) isHost(e *endpoint) bool { return n.Host != nil && e.ID == n.Host.ID }

// kind is PortView's, of an endpoint.
func (n *network) kind(e *endpoint) string {
	if n.isHost(e) {
		return "host"
	}
	return "container"
}

// ofDocker is an endpoint that Docker may know; nil if there is none.
func (n *network) ofDocker(id string) *endpoint {
	if e := n.endpoints[id]; e != nil && !n.isHost(e) {
		return e
	}
	return nil
}

// containers is the number of endpoints that are containers'.
func (n *network) containers() int {
	if n.Host != nil && n.endpoints[n.Host.ID] != nil {
		return len(n.endpoints) - 1
	}
	return len(n.endpoints)
}

// plugHost makes what is missing of the host's port, if the network has one, and announces its addresses.
func (f *Fabric) plugHost(n *network) (err error) {
	if n.Host == nil {
		return nil
	}
	e := n.endpoints[n.Host.ID]
	if e == nil {
		e = &endpoint{EndpointRecord: state.EndpointRecord{Endpoint: *n.Host}}
		n.endpoints[e.ID] = e
	}
	if e.MTU, err = f.linkMTU(n); err != nil {
		e.down = err
		return err
	}
	if err := f.plug(n, e, f.links.Create); err != nil {
		return err
	}
	e.port.Ingress(announcements(e.Endpoint))
	return nil
}

// unplugHost removes the host's port from the switch and the kernel.
func (f *Fabric) unplugHost(n *network) error {
	if n.Host == nil {
		return nil
	}
	e := n.endpoints[n.Host.ID]
	if e == nil {
		return nil
	}
	err := f.unplug(e)
	delete(n.endpoints, e.ID)
	return errors.Join(err, f.links.Remove(f.spec(n, e)))
}

// mendHost brings the host's port back, or what others took away of its addresses, routes and rules: those are the
// host's, and whoever manages its network may think that they are nobody's.
func (f *Fabric) mendHost(n *network) {
	if n.Host == nil {
		return
	}
	log := f.log.With("network", n.ID)
	e := n.endpoints[n.Host.ID]
	if e == nil || e.dev == nil {
		if err := f.plugHost(n); err != nil {
			log.Debug("the host's port is still down", "err", err)
			return
		}
		log.Info("the host's port is up again")
		return
	}
	err := f.links.Settle(f.spec(n, e))
	if (err == nil) != (e.down == nil) {
		log.Warn("the host's port is not whole", "err", err)
	}
	e.down = err
}

// asHost refuses an endpoint that would have what is the host's.
func (n *network) asHost(want Endpoint) error {
	if n.Host == nil {
		return nil
	}
	for _, p := range want.Addrs {
		if slices.ContainsFunc(n.Host.Addrs, func(h netip.Prefix) bool { return h.Addr() == p.Addr() }) {
			return inUsef("address %s is this host's own on network %s (tapestry.host): reserve it with --aux-address when you create the network, or give this container another",
				p.Addr(), short(n.ID))
		}
	}
	if want.MAC == n.Host.MAC {
		return inUsef("MAC address %s is this host's own on network %s: give this container another", want.MAC, short(n.ID))
	}
	return nil
}
