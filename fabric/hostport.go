package fabric

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/fabric/state"
)

// The host port is this host's own port on a network. It is an endpoint that follows from the network's record: Docker does
// not know it, and no container's end removes it.

// HostPortID is the id of a network's host port. It cannot be one of Docker's, which are hexadecimal.
func HostPortID(network string) string { return "host" + network }

// isHostPort tells whether an endpoint is the host port, and not a container's.
func (n *network) isHostPort(e *endpoint) bool { return n.HostPort != nil && e.ID == n.HostPort.ID }

// kind is PortView.Kind of an endpoint.
func (n *network) kind(e *endpoint) string {
	if n.isHostPort(e) {
		return "host"
	}
	return "container"
}

// dockerEndpoint is an endpoint that Docker may ask for: a container's. nil: there is none of that id.
func (n *network) dockerEndpoint(id string) *endpoint {
	if e := n.endpoints[id]; e != nil && !n.isHostPort(e) {
		return e
	}
	return nil
}

// containers is the number of containers' endpoints.
func (n *network) containers() int {
	if n.HostPort != nil && n.endpoints[n.HostPort.ID] != nil {
		return len(n.endpoints) - 1
	}
	return len(n.endpoints)
}

// plugHostPort creates what is missing of the host port, if the network has one, and announces its addresses.
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
	e.announce()
	return nil
}

// unplugHostPort removes the host port from the switch and from the kernel.
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

// fixHostPort creates the host port again if it is missing, or those of its addresses, routes and rules that somebody removed:
// a network manager of the host may remove what it does not know.
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
	err := f.links.RepairHostPort(f.spec(n, e))
	if (err == nil) != (e.down == nil) {
		log.Warn("the host's port is not whole", "err", err)
	}
	e.down = err
}

// checkHostPort refuses an endpoint with an address of the host port.
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
