package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// From version 27 on Docker forgets the endpoints, addresses and network namespace of a container that stops. It still
// tells when the container ran and on which networks, and the daemon when its ports came and went: only one network
// namespace may fit, and then that was it.

// runSlack is how far from the beginning of a run its ports may come, and after its end go, where no event of Docker's
// says when they did. Docker makes them before or after it notes the beginning; which depends on its version.
const runSlack = int64(15 * time.Second)

// A lastRun is what Docker tells of a stopped container's last run. Times are in ns since 1970.
type lastRun struct {
	started, finished int64
	stays             map[string]*stay // by network id; those of the daemon's that it has
}

// A stay is a container's on one network. Docker tells of its beginning and end when the port has come and gone.
type stay struct {
	name   string       // the network's
	fixed  []netip.Addr // addresses that it has each time
	joined int64        // 0: not known, as is left
	left   int64
}

// lastRun asks Docker for what it still tells of x's last run.
func (l *lookup) lastRun(ctx context.Context, x *dockerContainer) *lastRun {
	r := &lastRun{started: x.State.StartedAt.UnixNano(), finished: x.State.FinishedAt.UnixNano(), stays: make(map[string]*stay)}
	for name, on := range x.NetworkSettings.Networks {
		if _, ours := l.d.networks[on.NetworkID]; ours {
			r.stays[on.NetworkID] = &stay{name: name}
			if on.IPAMConfig != nil {
				r.stays[on.NetworkID].fixed = parseAddrs(on.IPAMConfig.IPv4Address, on.IPAMConfig.IPv6Address)
			}
		}
	}
	for _, e := range l.n.docker.past(ctx, x.State.StartedAt.Add(-time.Duration(runSlack))) {
		on := r.stays[e.Actor.ID]
		switch {
		case on == nil || e.Actor.Attributes.Container != x.ID:
		case e.Action == "connect" && e.TimeNano <= r.finished:
			on.joined = e.TimeNano // the last one
		case e.Action == "disconnect" && e.TimeNano >= r.finished && on.left == 0:
			on.left = e.TimeNano // the first one
		}
	}
	return r
}

// had tells whether a port may have been the run's when that ended.
func (r *lastRun) had(p recordedPort) bool {
	on := r.stays[p.Network]
	if on == nil || p.Gone == 0 {
		return false
	}
	for _, a := range on.fixed {
		if !slices.ContainsFunc(p.Addresses, func(has netip.Prefix) bool { return has.Addr() == a }) {
			return false
		}
	}
	return p.Came >= r.started-runSlack && p.Came <= min(r.finished, cmp.Or(on.joined, r.started+runSlack)) &&
		p.Gone >= r.finished && p.Gone <= cmp.Or(on.left, r.finished+runSlack)
}

// among gives, for each network namespace that may have been the run's, its ports when that ended.
func (r *lastRun) among(ports []recordedPort) (found [][]recordedPort) {
	sandboxes := make(map[string][]recordedPort)
	for _, p := range ports {
		of := cmp.Or(p.Sandbox, p.Endpoint)
		sandboxes[of] = append(sandboxes[of], p)
	}
	var whole [][]recordedPort // with a port on each of the networks
	for _, of := range sortedKeys(sandboxes) {
		var had []recordedPort
		other := false // it was there after the run, or on a network that the container has not
		for _, p := range sandboxes[of] {
			if r.had(p) {
				had = append(had, p)
			} else if p.Gone == 0 || p.Gone >= r.finished {
				other = true
			}
		}
		if len(had) == 0 || other {
			continue
		}
		if found = append(found, had); len(had) == len(r.stays) {
			whole = append(whole, had)
		}
	}
	if len(whole) > 0 {
		return whole
	}
	return found
}

// lastSandbox finds the network namespace of a stopped container's last run, and notes what was taken for it. The network
// is one of the container's.
func (l *lookup) lastSandbox(ctx context.Context, t *targets, x *dockerContainer, network string) (string, error) {
	ports, err := of[recordedPort](ctx, l.c, "recorder/ports", "")
	if err != nil {
		return "", err
	}
	r := l.lastRun(ctx, x)
	found := r.among(ports)
	if len(found) == 1 && found[0][0].Sandbox != "" {
		as := each(found[0], func(p recordedPort) string { return p.addr() + " on " + r.stays[p.Network].name })
		t.notes = append(t.notes, fmt.Sprintf("%s has stopped: taken for %s, which came and went with its last run", x.name(), strings.Join(as, " and ")))
		return found[0][0].Sandbox, nil
	}
	know, ways := "none that this daemon knows since its start came and went with it", []string{"network:" + network + " -f 'host ADDRESS'"}
	if len(found) > 1 {
		know, ways = fmt.Sprintf("%d containers came and went with it", len(found)), nil
		for _, p := range slices.Concat(found...) {
			way := "network:" + r.stays[p.Network].name
			if len(p.Addresses) > 0 {
				way += " -f 'host " + p.addr() + "'"
			}
			ways = append(ways, way)
		}
	}
	return "", failf(exitNoTarget, "container %s has run, but Docker does not tell any more (since its version 27) which endpoint it had, and %s: "+
		"name its address instead, %s", x.name(), know, few(ways))
}

// addr is the first address, or words for a port that has none.
func (p *recordedPort) addr() string {
	if len(p.Addresses) == 0 {
		return "endpoint " + short(p.Endpoint)
	}
	return p.Addresses[0].Addr().String()
}
