package fabric

import (
	"context"
	"errors"
	"time"

	"github.com/tapestry-net/tapestry/fabric/state"
	"github.com/tapestry-net/tapestry/tap"
)

// A parked network is one of the Swarm that no container here uses. Docker makes it on a node with the first task and
// removes it with the last, but never says so when dockerd was killed. So after the grace period its VNI, its switch and
// its links to other hosts are freed, and its record goes to swarm.json: should Docker use it after all (a task's image took
// long to come), it is made again.

// parkedFor is how long a parked network is remembered.
const parkedFor = 30 * 24 * time.Hour

// parkIdle frees networks of the Swarm that nobody uses, and forgets those that were freed long ago. found are all links of ours.
func (f *Fabric) parkIdle(now time.Duration, found map[string]tap.Found) {
	for _, n := range f.sorted() {
		switch {
		case !n.Swarm || n.used(found):
			n.idle = 0
		case f.expired(&n.idle, now, f.cfg.SweepAfter) && n.containers() == 0: // those of dead containers are the sweep's
			f.parkNetwork(n)
		}
	}
	old := false
	for id, p := range f.swarm.Parked {
		if time.Since(p.Since) >= parkedFor && now >= parkedFor/30 { // a clock may be wrong at boot
			delete(f.swarm.Parked, id)
			old = true
		}
	}
	if old {
		f.saveSwarm()
	}
}

// used tells whether a container may have one of the network's links, or get it soon.
func (n *network) used(found map[string]tap.Found) bool {
	for _, e := range n.endpoints {
		if l := found[e.ID]; !n.isHostPort(e) && (l.Outer || l.TAP && n.Attach == tap.Direct || n.alive(e, found)) {
			return true
		}
	}
	return false
}

// parkNetwork frees a network. Its record is in swarm.json before it is nowhere else.
func (f *Fabric) parkNetwork(n *network) {
	r := n.record()
	if f.swarm.Parked == nil {
		f.swarm.Parked = make(map[string]state.Parked)
	}
	f.swarm.Parked[n.ID] = state.Parked{Record: r, Since: time.Now().UTC().Truncate(time.Second)}
	f.saveSwarm()
	var err error
	if f.swarmUnsaved {
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

// unpark brings a parked network back that Docker uses. Without one it does nothing.
func (f *Fabric) unpark(ctx context.Context, id string) error {
	p, ok := f.swarm.Parked[id]
	if !ok {
		return nil
	}
	n := newNetwork(p.Record.Network, f.now())
	n.peers = p.Record.Peers
	return f.create(ctx, n)
}

// freeStaleVNI frees the network of the Swarm that has a VNI which another is to have, if no container here uses it: Docker has
// removed it, and dockerd was killed before it could say so.
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
