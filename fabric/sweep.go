package fabric

import (
	"errors"
	"maps"
	"time"

	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/tap"
)

const (
	probeEvery = 10 * time.Second // for path MTUs, and offloads that were refused
	fixEvery   = 5 * time.Second  // for what could not be opened
)

// tick is called once a second with the lock held. It tells whether to call updatePaths now.
func (f *Fabric) tick(now time.Duration) (update bool) {
	probe := now-f.lastProbe >= probeEvery
	if probe {
		f.lastProbe = now
		f.checkVTEP()
		f.checkSecond()
	}
	f.checkCarriers()
	update = probe || f.unmonitored.Load() // rtnetlink does not report a path MTU that a router sent
	for _, n := range f.networks {
		n.sw.Tick(now)
		for _, r := range n.remotes {
			if rx := r.link.Stats().WireRx; rx != r.rx {
				r.rx, r.lastRx = rx, now
			}
			update = r.link.Narrowed() || update
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
		f.forgetHosts(n, now)
	}
	f.updateSparse()
	f.updateGone(now)
	if now-f.lastFix >= fixEvery {
		f.lastFix = now
		f.fix()
	}
	if now-f.lastSweep >= max(time.Second, min(f.cfg.SweepAfter/6, 10*time.Second)) {
		f.lastSweep = now
		f.sweep(now)
	}
	f.vtep.Continue(now, f.log)
	f.drops.Read(f.vtep)
	close(f.ticked)
	f.ticked = make(chan struct{})
	return update
}

// fix tries again what has failed: the tunnel, links to nodes, host ports, and the Swarm's file.
func (f *Fabric) fix() {
	f.openSecond()
	f.wantNames() // the tunnel may have an address of the other IP version now
	if f.swarm.Unsaved {
		f.swarm.Save()
	}
	for _, n := range f.networks {
		f.fixHostPort(n)
		if n.down == nil && (n.usesNodes() || n.usesCluster()) && n.VNI != 0 && len(n.remotes) < len(f.peersOf(n)) {
			f.connectTold(n) // to the hosts that failed before
		}
		if n.down == nil || n.VNI == 0 {
			continue
		}
		if f.connect(n) == nil {
			f.log.Info("network has its tunnel again", "network", n.ID)
		}
	}
}

// watchConflicts logs each new address conflict once: frames with an endpoint's MAC arrive by another port, from a spoofer or
// since two hosts gave out the same address.
func (f *Fabric) watchConflicts(n *network) {
	for entry := range n.sw.Entries() {
		e := n.endpoints[entry.Port.Name]
		if e == nil || !entry.Pinned {
			continue
		}
		if entry.SpoofedBy != nil && e.conflicts == 0 {
			f.events.Warn(events.AddressConflict, "address conflict: frames with a station's address come by another port and are dropped",
				"network", n.ID, "mac", entry.MAC, "addresses", e.Addrs, "endpoint", e.ID, "rival", entry.SpoofedBy.Name)
		}
		e.conflicts = entry.Spoofed // 0 again when the rival has left
	}
}

// alive tells whether an endpoint's container may exist, as the kernel shows: the endpoint's link was moved out of the daemon's
// namespace and still exists.
func (n *network) alive(e *endpoint, found map[string]tap.Found) bool {
	l := found[e.ID]
	if n.Attach == tap.Direct {
		return !l.TAP && e.dev != nil
	}
	return l.Outer && !l.Inner
}

// sweep removes orphans. Docker forgets endpoints without a request (dockerd was killed, or this daemon was down when a
// container ended). So an endpoint is an orphan if for the whole grace period its link was gone, or lay unused in the daemon's
// namespace. The same holds for links with our tag that no record names. But links without a record that a container uses
// stay, whatever happened to the record.
func (f *Fabric) sweep(now time.Duration) {
	found, err := f.links.List(f.tag())
	if err != nil {
		f.log.Warn("sweep put off", "err", err)
		return
	}
	rest := maps.Clone(found) // will be those that no record names
	for _, n := range f.networks {
		for _, e := range n.endpoints {
			if n.isHostPort(e) {
				delete(rest, e.ID)
				continue
			}
			if n.Attach == tap.Direct { // only an open device shows whether the container exists
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

// grace is how long an endpoint may be without its container. It is longer after Join, while the link waits to be moved: a
// busy host takes long to start a container.
func (e *endpoint) grace(found map[string]tap.Found, usual time.Duration) time.Duration {
	if e.joined != "" && !e.wasInContainer && found[e.ID].Inner {
		return 10 * usual
	}
	return usual
}

// expired starts the grace period at its first call, and tells whether it is over.
func (f *Fabric) expired(since *time.Duration, now, grace time.Duration) bool {
	if *since == 0 {
		*since = now
		return false
	}
	return now-*since >= grace
}

// reopen opens the port of a container again if it is down.
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
