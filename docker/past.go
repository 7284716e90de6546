package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// From version 27 on Docker forgets the endpoints, addresses and network namespace of a container that stops. It still
// tells when the container ran and on which networks, and the daemon when its ports came and went. So one network namespace after
// the other is ruled out, and if one is left, it was that. What only makes one less likely rules nothing out: a container that
// was started and stopped with this one, as by Compose, fits as well.

// runSlack is how far from the beginning of a run its ports may come, and after its end go. Docker makes them before or
// after it notes the beginning, which depends on its version, and a slow disk is between both.
const runSlack = int64(2 * time.Minute)

// A lastRun is what Docker tells of a stopped container's last run. Times are in ns since 1970.
type lastRun struct {
	started, finished int64
	attachments       map[string]*attachment // by network id; those of the daemon's that it has
}

// An attachment is that of a container to one network. Docker tells of its beginning and end when the port has come and gone.
type attachment struct {
	name   string       // the network's
	fixed  []netip.Addr // addresses that it has each time
	joined int64        // 0: not known, as is left
	left   int64
}

// lastRun asks Docker for what it still tells of x's last run.
func (l *resolver) lastRun(ctx context.Context, x *containerInfo) *lastRun {
	r := &lastRun{started: x.State.StartedAt.UnixNano(), finished: x.State.FinishedAt.UnixNano(), attachments: make(map[string]*attachment)}
	for name, on := range x.NetworkSettings.Networks {
		if _, ours := l.d.networks[on.NetworkID]; ours {
			r.attachments[on.NetworkID] = &attachment{name: name}
			if on.IPAMConfig != nil {
				r.attachments[on.NetworkID].fixed = parseAddrs(on.IPAMConfig.IPv4Address, on.IPAMConfig.IPv6Address)
			}
		}
	}
	for _, e := range l.n.engine.pastEvents(ctx, x.State.StartedAt.Add(-time.Duration(runSlack))) {
		on := r.attachments[e.Actor.ID]
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

// couldBe tells whether a port may have been the run's when that ended, as far as its network and its times tell. Docker tells of a
// connection when the port has come, and of its end when it has gone.
func (r *lastRun) couldBe(p api.RecordedPort) bool {
	on := r.attachments[p.Network]
	if on == nil {
		return false
	}
	for _, a := range on.fixed {
		if !slices.ContainsFunc(p.Addresses, func(has netip.Prefix) bool { return has.Addr() == a }) {
			return false
		}
	}
	return p.AttachedAt >= r.started-runSlack && p.AttachedAt <= min(r.finished, cmp.Or(on.joined, r.finished)) &&
		(p.DetachedAt == 0 || p.DetachedAt >= r.finished && p.DetachedAt <= cmp.Or(on.left, r.finished+runSlack))
}

// candidates gives, for each network namespace that may have been the run's, its ports when that ended. runs tells whether
// Docker knows a port as that of a container that runs.
func (r *lastRun) candidates(ports []api.RecordedPort, runs func(api.RecordedPort) bool) (found [][]api.RecordedPort) {
	sandboxes := make(map[string][]api.RecordedPort)
	for _, p := range ports {
		of := cmp.Or(p.Sandbox, p.Endpoint)
		// A port that was repaired was attached anew, and its endpoint stayed.
		if i := slices.IndexFunc(sandboxes[of], func(q api.RecordedPort) bool { return q.Endpoint == p.Endpoint }); i >= 0 {
			q := &sandboxes[of][i]
			q.AttachedAt = min(q.AttachedAt, p.AttachedAt)
			if p.DetachedAt == 0 || q.DetachedAt == 0 {
				q.DetachedAt = 0
			} else {
				q.DetachedAt = max(q.DetachedAt, p.DetachedAt)
			}
			continue
		}
		sandboxes[of] = append(sandboxes[of], p)
	}
	for _, of := range slices.Sorted(maps.Keys(sandboxes)) {
		all := sandboxes[of]
		had := slices.DeleteFunc(slices.Clone(all), func(p api.RecordedPort) bool { return !r.couldBe(p) })
		if len(had) == 0 || slices.ContainsFunc(all, func(p api.RecordedPort) bool { return p.DetachedAt == 0 && runs(p) }) || r.misses(had) {
			continue
		}
		found = append(found, had)
	}
	return found
}

// misses tells whether ports of one network namespace lack one on a network that the container certainly was on.
func (r *lastRun) misses(had []api.RecordedPort) bool {
	for id, on := range r.attachments {
		if on.joined != 0 && !slices.ContainsFunc(had, func(p api.RecordedPort) bool { return p.Network == id }) {
			return true
		}
	}
	return false
}

// lastSandbox finds the network namespace of a stopped container's last run, and notes what was taken for it. The network
// is one of the container's.
func (l *resolver) lastSandbox(ctx context.Context, t *Targets, x *containerInfo, network string) (string, error) {
	ports, err := client.List[api.RecordedPort](ctx, l.c, api.RecorderPortsPath, "")
	if err != nil {
		return "", err
	}
	r := l.lastRun(ctx, x)
	found := r.candidates(ports, func(p api.RecordedPort) bool {
		return l.d.endpoints[p.Endpoint].container != "" && l.d.endpoints[p.Endpoint].gone == 0
	})
	if len(found) == 1 && found[0][0].Sandbox != "" {
		as := api.Map(found[0], func(p api.RecordedPort) string { return portAddr(&p) + " on " + r.attachments[p.Network].name })
		t.notes = append(t.notes, fmt.Sprintf("%s has stopped: its last run was %s, no other container fits", x.name(), strings.Join(as, " and ")))
		return found[0][0].Sandbox, nil
	}
	know, ways := "no port that this daemon knows came and went with its last run", []string{"network:" + network + " -f 'host ADDRESS'"}
	if len(found) > 0 { // one: of a container that is older than the daemon, which then knows no network namespace
		know, ways = fmt.Sprintf("%d containers may have been it, by when they came and went", len(found)), nil
		if len(found) == 1 {
			know = "one container may have been it, by when it came and went"
		}
		for _, p := range slices.Concat(found...) {
			way := "network:" + r.attachments[p.Network].name
			if len(p.Addresses) > 0 {
				way += " -f 'host " + portAddr(&p) + "'"
			}
			ways = append(ways, way)
		}
	}
	return "", exit.Errorf(exit.NoTarget, "container %s has run, but Docker does not tell any more (since its version 27) which endpoint it had, and %s: "+
		"name its address instead, %s", x.name(), know, firstFew(ways))
}

// portAddr is the first address, or words for a port that has none.
func portAddr(p *api.RecordedPort) string {
	if len(p.Addresses) == 0 {
		return "endpoint " + api.ShortID(p.Endpoint)
	}
	return p.Addresses[0].Addr().String()
}
