package fabric

import (
	"errors"

	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/tap"
)

// Links without carrier. If a container's link is down, the kernel accepts frames for it and drops them uncounted (a TAP in
// the container, or the host's, refuses them). So links are checked when rtnetlink reports a change, and each second, since it
// does not report changes in containers' namespaces. A port that was found down asks the kernel again for each batch of
// frames, and is up as soon as a frame comes from it: so late news loses no frame that would have arrived.

// checkCarriers checks every container's link.
func (f *Fabric) checkCarriers() {
	for _, n := range f.networks {
		for _, e := range n.endpoints {
			f.checkCarrier(n, e)
		}
	}
}

func (f *Fabric) checkCarrier(n *network, e *endpoint) {
	if e.dev == nil {
		return
	}
	dev := e.dev
	why := dev.Carrier()
	switch {
	case why == nil:
		e.started = true
	case !e.started && why != tap.ErrGone:
		return // Docker sets it up after moving it into the container
	case n.isHostPort(e) && why == tap.ErrDown:
		why = tap.ErrHostEnd
	}
	if why != e.noCarrier {
		if why == tap.ErrGone {
			e.port.Unpin(e.MAC) // Docker may have given its addresses to a container of another host
		}
	}
	e.noCarrier = why
	f.setUp(n, e, why)
	if why == nil {
		e.port.SetDown(nil)
		return
	}
	e.port.SetDown(func() bool { return dev.Carrier() != nil })
}

// setUp tells when an endpoint's link comes up and goes down: at each start and stop of a container.
func (f *Fabric) setUp(n *network, e *endpoint, why error) {
	switch up := why == nil; {
	case up == e.up:
	case up:
		f.events.Debug(events.PortUp, "port is up", "network", n.ID, "endpoint", e.ID)
	default:
		f.events.Debug(events.PortDown, "port is down", "network", n.ID, "endpoint", e.ID, "why", why)
	}
	e.up = why == nil
}

// errRemoved is why the port of an endpoint is down that is removed.
var errRemoved = errors.New("it is removed")

// downReason tells why no frame reaches the endpoint; nil: frames do.
func (e *endpoint) downReason() error {
	if e.down != nil {
		return e.down
	}
	return e.noCarrier
}
