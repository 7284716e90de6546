package fabric

import (
	"errors"
	"maps"
	"time"

	"github.com/tapestry-net/tapestry/tap"
)

// How often, besides the clock of the switches, things are looked after.
const (
	probeEvery = 10 * time.Second // paths' MTUs, offloads that were refused
	fixEvery   = 5 * time.Second  // a tunnel that could not be opened
)

// tick is called once a second with the lock held.
func (f *Fabric) tick(now time.Duration) {
	probe := now-f.lastProbe >= probeEvery
	if probe {
		f.lastProbe = now
		f.checkVTEP()
	}
	f.checkCarriers()
	look := probe || f.unmonitored.Load()
	for _, n := range f.networks {
		n.sw.Tick(now)
		for _, r := range n.remotes {
			if rx := r.link.Stats().WireRx; rx != r.rx {
				r.rx, r.lastRx = rx, now
			}
			look = r.link.Narrowed() || look
			if probe {
				r.link.Retry()
			}
		}
		for _, e := range n.endpoints {
			if probe && e.dev != nil {
				e.dev.Retry()
			}
		}
		f.watchConflicts(n)
	}
	f.updateSparse()
	if look { // what a router complains of is told by nobody
		f.updatePaths()
	}
	if now-f.lastFix >= fixEvery {
		f.lastFix = now
		f.fix()
	}
	if now-f.lastSweep >= max(time.Second, min(f.cfg.SweepAfter/6, 10*time.Second)) {
		f.lastSweep = now
		f.sweep(now)
	}
	f.testTrains(now)
	close(f.ticked)
	f.ticked = make(chan struct{})
}

// fix tries again what did not come up: tunnels, and taps whose container is still there.
func (f *Fabric) fix() {
	if f.swarmUnsaved {
		f.saveSwarm()
	}
	for _, n := range f.networks {
		f.fixHostPort(n)
		if n.down == nil && n.usesNodes() && n.VNI != 0 && len(n.remotes) < len(f.peersOf(n)) {
			_ = f.connect(n) // to the nodes that could not be reached
		}
		if n.down == nil || n.VNI == 0 {
			continue
		}
		if f.connect(n) == nil {
			f.log.Info("network has its tunnel again", "network", n.ID)
		}
	}
}

// watchConflicts says, once for each new one, that a station's address is used at another place too:
// a spoofer, or the same address given out on two hosts.
func (f *Fabric) watchConflicts(n *network) {
	for entry := range n.sw.Entries() {
		e := n.endpoints[entry.Port.Name]
		if e == nil || !entry.Pinned {
			continue
		}
		if entry.SpoofedBy != nil && e.conflicts == 0 {
			f.log.Warn("address conflict: frames with a station's address come by another port and are dropped",
				"network", n.ID, "mac", entry.MAC, "addresses", e.Addrs, "endpoint", e.ID, "rival", entry.SpoofedBy.Name)
		}
		e.conflicts = entry.Spoofed // 0 again when the rival has left
	}
}

// alive tells, from what the kernel shows, whether an endpoint's container may be there: its link
// has been moved away from the daemon's namespace and still exists.
func (n *network) alive(e *endpoint, found map[string]tap.Found) bool {
	l := found[e.ID]
	if n.Attach == tap.Direct {
		return !l.TAP && e.dev != nil
	}
	return l.Outer && !l.Inner
}

// sweep removes what nobody will ever ask to be removed. Docker forgets endpoints (dockerd killed, or
// this daemon down when a container ended) and never tells: so an endpoint is dead when for the whole
// grace period its link was gone, or lay unused in the daemon's namespace. The same goes for links
// with our tag that no record names; but those that a container has are left to it, whoever lost the
// record.
func (f *Fabric) sweep(now time.Duration) {
	found, err := f.links.List(f.tag())
	if err != nil {
		f.log.Warn("sweep put off", "err", err)
		return
	}
	rest := maps.Clone(found) // what no record names
	for _, n := range f.networks {
		for _, e := range n.endpoints {
			if n.isHostPort(e) {
				delete(rest, e.ID)
				continue
			}
			if n.Attach == tap.Direct { // only an open device shows that the container is there
				f.reopen(n, e)
			}
			if n.alive(e, found) {
				e.orphanSince = 0
				f.reopen(n, e)
				e.started, e.wasInContainer = e.dev != nil, true
			} else if f.expired(&e.orphanSince, now, e.grace(found, f.cfg.SweepAfter)) {
				if err := f.removeEndpoint(n, e); err != nil {
					f.log.Warn("orphan endpoint not removed", "network", n.ID, "endpoint", e.ID, "err", err)
				} else {
					f.log.Info("orphan endpoint swept", "network", n.ID, "endpoint", e.ID)
				}
			}
			delete(rest, e.ID)
		}
	}
	f.parkIdle(now, found)
	for id := range f.orphanSince {
		if _, there := rest[id]; !there {
			delete(f.orphanSince, id)
		}
	}
	for id, l := range rest {
		if l.Outer && !l.Inner {
			if !f.warnedLinks[id] {
				f.warnedLinks[id] = true
				f.log.Warn("a container has links that no record names: they are left alone", "endpoint", id)
			}
			delete(f.orphanSince, id)
			continue
		}
		since := f.orphanSince[id]
		if f.expired(&since, now, f.cfg.SweepAfter) {
			err := f.links.Remove(tap.Spec{ID: id, Tag: f.tag() + id})
			f.log.Info("orphan links swept", "endpoint", id, "err", err)
			delete(f.orphanSince, id)
			continue
		}
		f.orphanSince[id] = since
	}
}

// grace is how long an endpoint may be without its container. One that Docker has joined and whose link waits is of a container
// that is being started, which takes a busy host its time.
func (e *endpoint) grace(found map[string]tap.Found, usual time.Duration) time.Duration {
	if e.joined != "" && !e.wasInContainer && found[e.ID].Inner {
		return 10 * usual
	}
	return usual
}

// expired starts the grace period at the first call and tells whether it has run out.
func (f *Fabric) expired(since *time.Duration, now, grace time.Duration) bool {
	if *since == 0 {
		*since = now
		return false
	}
	return now-*since >= grace
}

// reopen mends the port of a container that is there.
func (f *Fabric) reopen(n *network, e *endpoint) {
	if e.dev != nil {
		return
	}
	err := f.plug(n, e, f.links.Adopt)
	switch {
	case err == nil:
		f.log.Info("endpoint is up again", "network", n.ID, "endpoint", e.ID)
	case !errors.Is(err, tap.ErrGone):
		f.log.Debug("endpoint is still down", "network", n.ID, "endpoint", e.ID, "err", err)
	}
}
