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
// says when the container ran and on which networks, and the daemon knows when its ports came and went. So network namespaces that
// cannot have been the container's are ruled out, and if a single one is left, it is taken. What only makes one less likely
// rules nothing out: a container that was started and stopped together with this one, as by Compose, fits as well.

// runSlack is how long before the start of a run its ports may come, and how long after its end they may go. Depending on its
// version Docker makes them before or after it records the start, and a slow disk may delay the record.
const runSlack = int64(2 * time.Minute)

// A lastRun is what Docker says about a stopped container's last run. Times are in ns since 1970.
type lastRun struct {
	started, finished int64
	attachments       map[string]*attachment // to networks of this daemon, by network id
}

// An attachment is a container's connection to one network. Docker's events of it come after the port has come, and after it has gone.
type attachment struct {
	name   string       // the network's
	fixed  []netip.Addr // addresses that the user gave it: it has them in each run
	joined int64        // 0: not known
	left   int64        // 0: not known
}

// lastRun asks Docker for what it still knows about x's last run.
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

// couldBe tells whether a port may have belonged to the run when that ended, judged by its network, its addresses and its times.
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

// candidates returns, for each network namespace that may have been the run's, its ports when the run ended. runs tells whether
// Docker knows a port as that of a running container.
func (r *lastRun) candidates(ports []api.RecordedPort, runs func(api.RecordedPort) bool) (found [][]api.RecordedPort) {
	sandboxes := make(map[string][]api.RecordedPort)
	for _, p := range ports {
		of := cmp.Or(p.Sandbox, p.Endpoint)
		// A port that was repaired was attached again, with the same endpoint.
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

// misses tells whether the ports of one network namespace lack one on a network that the container was certainly on.
func (r *lastRun) misses(had []api.RecordedPort) bool {
	for id, on := range r.attachments {
		if on.joined != 0 && !slices.ContainsFunc(had, func(p api.RecordedPort) bool { return p.Network == id }) {
			return true
		}
	}
	return false
}

// lastSandbox finds the network namespace of a stopped container's last run, and adds a note about it to t. network is the name of
// one of the container's networks, for the error.
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
	result, suggestions := "no port that this daemon knows came and went with its last run", []string{"network:" + network + " -f 'host ADDRESS'"}
	if len(found) > 0 { // one: of a container that is older than the daemon, which then knows no network namespace
		result, suggestions = fmt.Sprintf("%d containers may have been it, by when they came and went", len(found)), nil
		if len(found) == 1 {
			result = "one container may have been it, by when it came and went"
		}
		for _, p := range slices.Concat(found...) {
			suggestion := "network:" + r.attachments[p.Network].name
			if len(p.Addresses) > 0 {
				suggestion += " -f 'host " + portAddr(&p) + "'"
			}
			suggestions = append(suggestions, suggestion)
		}
	}
	return "", exit.Errorf(exit.NoTarget, "container %s has run, but Docker does not tell any more (since its version 27) which endpoint it had, and %s: "+
		"name its address instead, %s", x.name(), result, firstFew(suggestions))
}

// portAddr is a port's first address, or the endpoint's id if it has none.
func portAddr(p *api.RecordedPort) string {
	if len(p.Addresses) == 0 {
		return "endpoint " + api.ShortID(p.Endpoint)
	}
	return p.Addresses[0].Addr().String()
}
