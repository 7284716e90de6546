package fabric

import "github.com/tapestry-net/tapestry/tap"

// Links that are down. The kernel takes what is sent to a container whose link is down, and drops it in silence; a TAP in the
// container, or the host's, refuses it. So links are looked at when rtnetlink tells of a change, and each second: nobody
// tells of those in containers' namespaces. A port that was found down asks the kernel again for each batch of frames, and
// believes those that come from it: what is told late loses nothing that would arrive.

// checkCarriers looks at every container's link.
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
	case !e.started:
		return // Docker brings it up when it has moved it into the container
	case n.isHostPort(e) && why == tap.ErrDown:
		why = tap.ErrHostEnd
	}
	if why != e.noCarrier {
		f.log.Debug("container's link has changed", "network", n.ID, "endpoint", e.ID, "down", errorText(why)) // at each stop of a container, too
	}
	e.noCarrier = why
	if why == nil {
		e.port.SetDown(nil)
		return
	}
	e.port.SetDown(func() bool { return dev.Carrier() != nil })
}

// downReason tells why nothing gets to the endpoint; nil: it does.
func (e *endpoint) downReason() error {
	if e.down != nil {
		return e.down
	}
	return e.noCarrier
}
