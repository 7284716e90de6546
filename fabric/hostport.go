package fabric

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/fabric/state"
)

// The host's own port on a network is an endpoint that follows from the network's record, that Docker knows nothing of,
// and that no container ends.

// HostPortID is the id of the host's endpoint on a network. Docker's ids are hexadecimal, so none is alike.
func HostPortID(network string) string { return "host" + network }

// isHostPort tells the host's endpoint from containers'.
func (n *network) isHostPort(e *endpoint) bool { return n.HostPort != nil && e.ID == n.HostPort.ID }

// kind is PortView's, of an endpoint.
func (n *network) kind(e *endpoint) string {
	if n.isHostPort(e) {
		return "host"
	}
	return "container"
}

// dockerEndpoint is an endpoint that Docker may know; nil if there is none.
func (n *network) dockerEndpoint(id string) *endpoint {
	if e := n.endpoints[id]; e != nil && !n.isHostPort(e) {
		return e
	}
	return nil
}

// containers is the number of endpoints that are containers'.
func (n *network) containers() int {
	if n.HostPort != nil && n.endpoints[n.HostPort.ID] != nil {
		return len(n.endpoints) - 1
	}
	return len(n.endpoints)
}

// plugHostPort makes what is missing of the host's port, if the network has one, and announces its addresses.
func (f *Fabric) plugHostPort(n *network) (err error) {
	if n.HostPort == nil {
		return nil
	}
	e := n.endpoints[n.HostPort.ID]
	if e == nil {
		e = &endpoint{EndpointRecord: state.EndpointRecord{Endpoint: *n.HostPort}}
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

// unplugHostPort removes the host's port from the switch and the kernel.
func (f *Fabric) unplugHostPort(n *network) error {
	if n.HostPort == nil {
		return nil
	}
	e := n.endpoints[n.HostPort.ID]
	if e == nil {
		return nil
	}
	err := f.unplug(e)
	delete(n.endpoints, e.ID)
	return errors.Join(err, f.links.Remove(f.spec(n, e)))
}

// fixHostPort brings the host's port back, or what others took away of its addresses, routes and rules: those are the
// host's, and whoever manages its network may think that they are nobody's.
func (f *Fabric) fixHostPort(n *network) {
	if n.HostPort == nil {
		return
	}
	log := f.log.With("network", n.ID)
	e := n.endpoints[n.HostPort.ID]
	if e == nil || e.dev == nil {
		if err := f.plugHostPort(n); err != nil {
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

// checkHostPort refuses an endpoint that would have what is the host's.
func (n *network) checkHostPort(want Endpoint) error {
	if n.HostPort == nil {
		return nil
	}
	for _, p := range want.Addrs {
		if slices.ContainsFunc(n.HostPort.Addrs, func(h netip.Prefix) bool { return h.Addr() == p.Addr() }) {
			return inUsef("address %s is this host's own on network %s (tapestry.host): reserve it with --aux-address when you create the network, or give this container another",
				p.Addr(), short(n.ID))
		}
	}
	if want.MAC == n.HostPort.MAC {
		return inUsef("MAC address %s is this host's own on network %s: give this container another", want.MAC, short(n.ID))
	}
	return nil
}
