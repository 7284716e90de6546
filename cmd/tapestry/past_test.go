package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture"
)

// TestLastRun: which network namespaces may have been that of a run from 1,000 to 1,060 s, by when their ports came and went.
func TestLastRun(t *testing.T) {
	const s = int64(time.Second)
	const began, ended = 1000 * s, 1060 * s
	port := func(sandbox, network string, host byte, came, gone int64) recordedPort {
		return recordedPort{Network: network, Endpoint: fmt.Sprint(sandbox, network), Sandbox: sandbox, Came: came, Gone: gone,
			Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 80, 0, host}), 24)}}
	}
	job := port("job", "wide", 2, began+s/5, ended+s/5)
	one := func() map[string]*stay { return map[string]*stay{"wide": {}} }
	both := func() map[string]*stay { return map[string]*stay{"wide": {}, "mynet": {}} }
	runs := func(p recordedPort) bool { return p.Sandbox != "stuck" } // if it is there
	heard := map[string]*stay{"wide": {joined: began + s/2, left: ended + s/2}}
	for _, c := range []struct {
		what  string
		stays map[string]*stay
		ports []recordedPort
		want  string
	}{
		{"exactly one", one(), []recordedPort{job, port("heir", "wide", 2, ended+s, 0), port("before", "wide", 2, began-90*s, began-s)}, "job"},
		{"plugged before Docker notes the start", one(), []recordedPort{port("job", "wide", 2, began-2*s, ended+s)}, "job"},
		{"at the very same ns", one(), []recordedPort{port("job", "wide", 2, began, ended)}, "job"},
		{"gone before the end: another's", one(), []recordedPort{port("other", "wide", 2, began, ended-1)}, ""},
		{"several", one(), []recordedPort{job, port("other", "wide", 3, began-s, ended+3*s)}, "job other"},
		{"none", one(), nil, ""},
		{"none of its network", one(), []recordedPort{port("other", "far", 3, began, ended)}, ""},
		{"none that came then", one(), []recordedPort{port("other", "wide", 3, began-121*s, ended+s), port("other2", "wide", 3, ended+1, ended+s)}, ""},
		{"none that went then", one(), []recordedPort{port("other", "wide", 3, began, ended+121*s)}, ""},
		{"one that is there", one(), []recordedPort{port("other", "wide", 3, began, 0)}, ""},
		{"started before the daemon", one(), []recordedPort{port("", "wide", 2, began+600*s, ended+s)}, ""},
		{"perhaps started before the daemon", one(), []recordedPort{job, port("", "wide", 2, began+s, ended+s)}, " job"},

		{"Docker tells when it joined and left", heard, []recordedPort{job, port("other", "wide", 3, began+s, ended+s/5), port("third", "wide", 4, began+s/5, ended+s)}, "job"},
		{"… however slow it was", map[string]*stay{"wide": {joined: began + 50*s, left: ended + 50*s}}, []recordedPort{port("job", "wide", 2, began+49*s, ended+49*s)}, "job"},
		{"… and not enough", heard, []recordedPort{job, port("other", "wide", 3, began+s/3, ended+s/3)}, "job other"},
		{"joined after the end: another's", one(), []recordedPort{port("other", "wide", 3, ended+1, ended+s)}, ""},

		{"two networks", both(), []recordedPort{job, port("job", "mynet", 9, began+s, ended+s)}, "job job"},
		{"two networks, others had one each", both(), []recordedPort{job, port("job", "mynet", 9, began+s, ended+s),
			port("other", "wide", 3, began, ended+s), port("third", "mynet", 3, began, ended+s)}, "job job other third"},
		{"… and it was on both, as Docker tells", map[string]*stay{"wide": {joined: began + 2*s}, "mynet": {joined: began + 2*s}}, []recordedPort{job,
			port("job", "mynet", 9, began+s, ended+s), port("other", "wide", 3, began, ended+s), port("third", "mynet", 3, began, ended+s)}, "job job"},
		{"two networks, and it was on one of them only", both(), []recordedPort{job, port("other", "wide", 3, began, ended+s), port("other", "mynet", 3, began, ended+s)}, "job other other"},
		{"one of two, which it left before it ended", both(), []recordedPort{job, port("job", "mynet", 9, began+s, ended-s)}, "job"},
		{"one network, another had two", one(), []recordedPort{job, port("other", "wide", 3, began, ended+s), port("other", "mynet", 3, began, ended+s)}, "job other"},
		{"it was on one more, and was taken off that when it had stopped", one(), []recordedPort{job, port("job", "mynet", 9, began+s, ended+s), port("other", "wide", 3, began, ended+s)}, "job other"},
		{"connected late, and one that came and went with it", one(), []recordedPort{port("job", "wide", 2, began+40*s, ended+s), port("other", "wide", 3, began, ended+s)}, "job other"},
		{"slow to start, slow to stop", one(), []recordedPort{port("job", "wide", 2, began-16*s, ended+16*s), port("other", "wide", 3, began, ended+s)}, "job other"},
		{"mended meanwhile", heard, []recordedPort{port("job", "wide", 2, began+s/5, began+9*s), port("job", "wide", 2, began+20*s, ended+s/5), port("other", "wide", 3, began+s, ended+s/5)}, "job"},
		{"one that has not gone, and no container that runs", one(), []recordedPort{job, port("stuck", "wide", 3, began, 0)}, "job stuck"},
		{"a network more for a while", one(), []recordedPort{job, port("job", "mynet", 9, began+s, began+2*s)}, "job"},
		{"left one network, lives on another", one(), []recordedPort{job, port("other", "wide", 3, began, ended+s), port("other", "wide2", 3, began, 0)}, "job"},

		{"its address is its own", map[string]*stay{"wide": {fixed: parseAddrs("10.80.0.2")}}, []recordedPort{job, port("other", "wide", 3, began, ended+s)}, "job"},
		{"its address was another's", map[string]*stay{"wide": {fixed: parseAddrs("10.80.0.2")}}, []recordedPort{port("other", "wide", 3, began, ended+s)}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			for range 2 { // in either order
				slices.Reverse(c.ports)
				var got []string
				for _, had := range (&lastRun{started: began, finished: ended, stays: c.stays}).among(c.ports, runs) {
					got = append(got, each(had, func(p recordedPort) string { return p.Sandbox })...)
				}
				if slices.Sort(got); strings.Join(got, " ") != c.want {
					t.Errorf("the run may be that of %q, want %q", got, c.want)
				}
			}
		})
	}
}

// TestStoppedContainer: what a Docker of version 27 and later tells of a container that has stopped, and the daemon of its
// ports, makes it a target.
func TestStoppedContainer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	hub := capture.NewHub()
	a := &api{host: newFakeHost(), log: log, name: "tapestry", started: time.Now(), captures: newCaptures(hub, log, nil)}
	c := &client{socket: serveUnix(t, "tapestry.sock", a.handler())}
	d := newLiveDocker(t)
	c.dockerHost = d.at
	// begin is a run's beginning, end its end.
	number := uint32(0)
	begin := func(sandbox string, addrs map[string]string) (end func(), came time.Time) {
		var ends []func()
		for _, id := range sortedKeys(addrs) {
			number++
			number := number
			hub.Plug(capture.Port{Number: number, Network: id, Name: fmt.Sprint(sandbox, number), Addrs: []netip.Prefix{netip.MustParsePrefix(addrs[id])}})
			hub.SetSandbox(number, sandbox)
			ends = append(ends, func() { hub.Unplug(number) })
		}
		return func() {
			for _, end := range ends {
				end()
			}
		}, time.Now()
	}
	inspect := func(name string, came, gone time.Time, networks string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.containers[name] = fmt.Sprintf(`{"Id":"id of %s","Name":"/%s","Created":%q,"State":{"StartedAt":%q,"FinishedAt":%q},"NetworkSettings":{"SandboxKey":"","Networks":{%s}}}`,
			name, name, "2026-03-01T08:00:00.5Z", came.Format(time.RFC3339Nano), gone.Format(time.RFC3339Nano), networks)
	}
	wide, mynet := `"wide":{"NetworkID":"`+wideID+`","IPAMConfig":null}`, `"mynet":{"NetworkID":"`+localID+`"}`
	find := func(word string) (*targets, error) {
		t.Helper()
		return c.targets(t.Context(), mustNames(t, c), []string{word}, past)
	}
	wants := func(word, request, note string) {
		t.Helper()
		if found, err := find(word); err != nil || targetText(found) != request || strings.Join(found.notes, "") != note {
			t.Errorf("%s: %v, %+v", word, err, found)
		}
	}
	refuses := func(word, want string) {
		t.Helper()
		if _, err := find(word); exitCode(err) != exitNoTarget || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", word, err, want)
		}
	}
	const lost = " has run, but Docker does not tell any more (since its version 27) which endpoint it had, and "

	end, began := begin("beef", map[string]string{wideID: "10.80.1.2/16", localID: "10.81.0.2/24"})
	ended := time.Now()
	end()
	inspect("pair", began, ended, wide+","+mynet)
	wants("pair", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`,
		"pair has stopped: its last run was 10.80.1.2 on wide and 10.81.0.2 on mynet, no other container fits")
	d.mu.Lock()
	d.containers["side"] = `{"Id":"ab15","Name":"/side","State":{"Running":true},"HostConfig":{"NetworkMode":"container:pair"}}`
	d.mu.Unlock()
	wants("side", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`,
		"pair has stopped: its last run was 10.80.1.2 on wide and 10.81.0.2 on mynet, no other container fitsside shares the network of pair: looking at pair")
	if _, err := c.targets(t.Context(), mustNames(t, c), []string{"pair"}, present); err == nil || !strings.HasSuffix(err.Error(), "; what it did: tapestry recorder dump pair") {
		t.Errorf("a present pair: %v", err)
	}
	inspect("looping", began, ended, wide+","+mynet)
	d.mu.Lock()
	d.containers["looping"] = strings.Replace(d.containers["looping"], `"State":{`, `"State":{"Running":true,"Restarting":true,`, 1)
	d.mu.Unlock()
	wants("looping", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`,
		"looping has stopped: its last run was 10.80.1.2 on wide and 10.81.0.2 on mynet, no other container fits")

	// Another comes and goes with it. Docker's events tell them apart.
	end, began = begin("cafe", map[string]string{wideID: "10.80.1.3/16"})
	endOther, _ := begin("babe", map[string]string{wideID: "10.80.1.4/16"})
	ended = time.Now()
	end()
	inspect("job", began, ended, wide)
	refuses("job", "2 containers may have been it") // the other is there, and Docker knows of no container that it is of
	known := time.Now()
	endOther()
	refuses("job", "container job"+lost+"2 containers may have been it, by when they came and went: name its address instead, network:wide -f 'host 10.80.1.4', network:wide -f 'host 10.80.1.3'")
	event := func(action, container string, at time.Time) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.past = append(d.past, fmt.Sprintf(`{"Type":"network","Action":%q,"Actor":{"ID":%q,"Attributes":{"container":%q,"name":"wide"}},"time":%d,"timeNano":%d}`,
			action, wideID, container, at.Unix(), at.UnixNano()))
	}
	event("connect", "id of another", began.Add(-time.Hour))
	event("connect", "id of job", began)
	event("disconnect", "id of another", ended)
	event("disconnect", "id of job", known)
	wants("job", `{"sandboxes":["cafe"],"born":{"cafe":1772352000500000000},"some":true}`,
		"job has stopped: its last run was 10.80.1.3 on wide, no other container fits")

	// None does, and none ever did.
	old := time.Now().Add(-time.Hour)
	inspect("job", old, old.Add(time.Second), wide)
	refuses("job", "container job"+lost+"no port that this daemon knows came and went with its last run: name its address instead, network:wide -f 'host ADDRESS'")
	inspect("job", time.Time{}, time.Time{}, wide)
	refuses("job", "container job has never run")
	// Docker tells no events, or breaks off.
	d.mu.Lock()
	d.past = []string{"{"}
	d.mu.Unlock()
	inspect("job", began, ended, wide)
	refuses("job", "2 containers may have been it, by when they came and went")
}

func mustNames(t *testing.T, c *client) *names {
	t.Helper()
	n, err := c.names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRecorderPorts: the daemon tells of containers' ports only, of those that are there and of those that have gone.
func TestRecorderPorts(t *testing.T) {
	l := newLens(t)
	before, err := of[recordedPort](t.Context(), l.client, "recorder/ports", "")
	must(t, err)
	l.hub.Plug(capture.Port{Number: 71, Network: wideID, Name: "gone", Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}})
	l.hub.SetSandbox(71, "beef")
	l.hub.Unplug(71)
	l.hub.Plug(capture.Port{Number: 72, Network: wideID, Name: "there"})
	l.hub.Plug(capture.Port{Number: 73, Network: wideID, Name: "192.0.2.2", Remote: true})
	l.hub.Plug(capture.Port{Number: 74, Network: wideID, Name: "host", HostPort: true})
	all, err := of[recordedPort](t.Context(), l.client, "recorder/ports", "")
	must(t, err)
	all = slices.DeleteFunc(all, func(p recordedPort) bool {
		return slices.ContainsFunc(before, func(q recordedPort) bool { return q.Endpoint == p.Endpoint })
	})
	if len(all) != 2 || all[0].Endpoint != "gone" || all[0].Sandbox != "beef" || all[0].addr() != "10.80.1.2" || all[0].Came == 0 || all[0].Gone < all[0].Came ||
		all[1].Endpoint != "there" || all[1].Gone != 0 || all[1].addr() != "endpoint there" {
		t.Errorf("ports are %+v", all)
	}
}
