package fabric

import (
	"context"
	"errors"
	"time"

	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/tap"
)

// A parked network is one of the Swarm that no container of this host uses. Docker creates it on a node with the first task
// and removes it with the last one, but a dockerd that was killed never does. So after the grace period its VNI, its switch
// and its links to other hosts are freed, and its record moves to swarm.json. If Docker uses it after all (pulling a task's
// image took long), it is created again.

// parkedFor is how long a parked network is remembered.
const parkedFor = 30 * 24 * time.Hour

// parkIdle parks networks of the Swarm that no container uses, and forgets those that were parked long ago. found is what
// Links.List returned for this daemon.
func (f *Fabric) parkIdle(now time.Duration, found map[string]tap.Found) {
	for _, n := range f.sorted() {
		switch {
		case !n.Swarm || n.used(found):
			n.idle = 0
		case f.expired(&n.idle, now, f.cfg.SweepAfter) && n.containers() == 0: // the sweep removes dead containers' endpoints first
			f.parkNetwork(n)
		}
	}
	old := false
	for id, p := range f.swarm.Parked {
		if time.Since(p.Since) >= parkedFor && now >= parkedFor/30 { // not at boot, when the clock may be wrong
			delete(f.swarm.Parked, id)
			old = true
		}
	}
	if old {
		f.swarm.Save()
	}
}

// used tells whether a container has one of the network's links, or may get one soon.
func (n *network) used(found map[string]tap.Found) bool {
	for _, e := range n.endpoints {
		if l := found[e.ID]; !n.isHostPort(e) && (l.Outer || l.TAP && n.Attach == tap.Direct || n.alive(e, found)) {
			return true
		}
	}
	return false
}

// parkNetwork parks a network. It writes swarm.json first and then removes the record: a crash between leaves both.
func (f *Fabric) parkNetwork(n *network) {
	r := n.record()
	if f.swarm.Parked == nil {
		f.swarm.Parked = make(map[string]state.Parked)
	}
	f.swarm.Parked[n.ID] = state.Parked{Record: r, Since: time.Now().UTC().Truncate(time.Second)}
	f.swarm.Save()
	var err error
	if f.swarm.Unsaved {
		err = errors.New("its record cannot be kept")
	} else {
		err = f.dir.Remove(n.ID)
	}
	if err != nil {
		delete(f.swarm.Parked, n.ID)
		f.log.Debug("network of the Swarm that no container here uses is not freed yet", "network", n.ID, "err", err)
		return
	}
	err = f.unplugHostPort(n)
	f.disconnect(n)
	f.unregister(n.ID)
	f.log.Info("network of the Swarm is freed, since no container here uses it; the next one brings it back", "network", n.ID, "vni", n.VNI)
	if err = errors.Join(err, f.closeIdleVTEP()); err != nil {
		f.log.Warn("a part of a freed network stays", "network", n.ID, "err", err)
	}
}

// unpark restores a parked network that Docker uses. If there is none of that id, it does nothing.
func (f *Fabric) unpark(ctx context.Context, id string) error {
	p, ok := f.swarm.Parked[id]
	if !ok {
		return nil
	}
	n := newNetwork(p.Record.Network, f.now())
	n.peers, n.names = p.Record.Peers, p.Record.PeerNames
	return f.create(ctx, n)
}

// freeStaleVNI parks the network of the Swarm that has a VNI which a new network is to get, if no container here uses it:
// Docker has removed it, and dockerd was killed before it could say so.
func (f *Fabric) freeStaleVNI(vni uint32) {
	for _, n := range f.sorted() {
		if vni == 0 || n.VNI != vni || !n.Swarm {
			continue
		}
		found, err := f.links.List(f.tag())
		if err != nil || n.used(found) {
			return
		}
		for _, e := range n.endpoints {
			if !n.isHostPort(e) {
				err = errors.Join(err, f.removeEndpoint(n, e))
			}
		}
		if err == nil {
			f.parkNetwork(n)
		}
	}
}
