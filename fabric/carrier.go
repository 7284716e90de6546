package fabric

import "github.com/tapestry-net/tapestry/tap"

// Links that are down. The kernel takes what is sent to a container whose link is down, and drops it in silence; a TAP in the
// container, or the host's, refuses it. So links are looked at when rtnetlink tells of a change, and each second: nobody
// tells of those in containers' namespaces. A port that was found down asks the kernel again for each batch of frames, and
// believes those that come from it: what is told late loses nothing that would arrive.

// lookAtLinks looks at every container's link.
func (f *Fabric) lookAtLinks() {
	for _, n := range f.networks {
		for _, e := range n.endpoints {
			f.lookAtLink(n, e)
		}
	}
}

func (f *Fabric) lookAtLink(n *network, e *endpoint) {
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
	case n.isHost(e) && why == tap.ErrDown:
		why = tap.ErrHostEnd
	}
	if why != e.cut {
		f.log.Debug("container's link has changed", "network", n.ID, "endpoint", e.ID, "down", text(why)) // at each stop of a container, too
	}
	e.cut = why
	if why == nil {
		e.port.SetDown(nil)
		return
	}
	e.port.SetDown(func() bool { return dev.Carrier() != nil })
}

// why tells why nothing gets to the endpoint; nil: it does.
func (e *endpoint) why() error {
	if e.down != nil {
		return e.down
	}
	return e.cut
}
