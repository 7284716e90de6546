package fabric

import "github.com/tapestry-net/tapestry/tap"

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
		f.log.Debug("container's link has changed", "network", n.ID, "endpoint", e.ID, "down", errorText(why)) // at each stop of a container, too
		if why == tap.ErrGone {
			e.port.Unpin(e.MAC) // Docker may have given its addresses to a container of another host
		}
	}
	e.noCarrier = why
	if why == nil {
		e.port.SetDown(nil)
		return
	}
	e.port.SetDown(func() bool { return dev.Carrier() != nil })
}

// downReason tells why no frame reaches the endpoint; nil: frames do.
func (e *endpoint) downReason() error {
	if e.down != nil {
		return e.down
	}
	return e.noCarrier
}
