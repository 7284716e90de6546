package docker

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestLastRun: which network namespaces may have been that of a run from 1,000 to 1,060 s, judged by when their ports came and went.
func TestLastRun(t *testing.T) {
	const s = int64(time.Second)
	const began, ended = 1000 * s, 1060 * s
	port := func(sandbox, network string, host byte, came, gone int64) api.RecordedPort {
		return api.RecordedPort{Network: network, Endpoint: fmt.Sprint(sandbox, network), Sandbox: sandbox, AttachedAt: came, DetachedAt: gone,
			Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 80, 0, host}), 24)}}
	}
	job := port("job", "wide", 2, began+s/5, ended+s/5)
	one := func() map[string]*attachment { return map[string]*attachment{"wide": {}} }
	both := func() map[string]*attachment { return map[string]*attachment{"wide": {}, "mynet": {}} }
	runs := func(p api.RecordedPort) bool { return p.Sandbox != "stuck" } // if it is there
	told := map[string]*attachment{"wide": {joined: began + s/2, left: ended + s/2}}
	for _, c := range []struct {
		what  string
		stays map[string]*attachment
		ports []api.RecordedPort
		want  string
	}{
		{"exactly one", one(), []api.RecordedPort{job, port("heir", "wide", 2, ended+s, 0), port("before", "wide", 2, began-90*s, began-s)}, "job"},
		{"plugged before Docker notes the start", one(), []api.RecordedPort{port("job", "wide", 2, began-2*s, ended+s)}, "job"},
		{"at the very same ns", one(), []api.RecordedPort{port("job", "wide", 2, began, ended)}, "job"},
		{"gone before the end: another's", one(), []api.RecordedPort{port("other", "wide", 2, began, ended-1)}, ""},
		{"several", one(), []api.RecordedPort{job, port("other", "wide", 3, began-s, ended+3*s)}, "job other"},
		{"none", one(), nil, ""},
		{"none of its network", one(), []api.RecordedPort{port("other", "far", 3, began, ended)}, ""},
		{"none that came then", one(), []api.RecordedPort{port("other", "wide", 3, began-121*s, ended+s), port("other2", "wide", 3, ended+1, ended+s)}, ""},
		{"none that went then", one(), []api.RecordedPort{port("other", "wide", 3, began, ended+121*s)}, ""},
		{"one that is there", one(), []api.RecordedPort{port("other", "wide", 3, began, 0)}, ""},
		{"started before the daemon", one(), []api.RecordedPort{port("", "wide", 2, began+600*s, ended+s)}, ""},
		{"perhaps started before the daemon", one(), []api.RecordedPort{job, port("", "wide", 2, began+s, ended+s)}, " job"},

		{"Docker tells when it joined and left", told, []api.RecordedPort{job, port("other", "wide", 3, began+s, ended+s/5), port("third", "wide", 4, began+s/5, ended+s)}, "job"},
		{"… however slow it was", map[string]*attachment{"wide": {joined: began + 50*s, left: ended + 50*s}}, []api.RecordedPort{port("job", "wide", 2, began+49*s, ended+49*s)}, "job"},
		{"… and not enough", told, []api.RecordedPort{job, port("other", "wide", 3, began+s/3, ended+s/3)}, "job other"},
		{"joined after the end: another's", one(), []api.RecordedPort{port("other", "wide", 3, ended+1, ended+s)}, ""},

		{"two networks", both(), []api.RecordedPort{job, port("job", "mynet", 9, began+s, ended+s)}, "job job"},
		{"two networks, others had one each", both(), []api.RecordedPort{job, port("job", "mynet", 9, began+s, ended+s),
			port("other", "wide", 3, began, ended+s), port("third", "mynet", 3, began, ended+s)}, "job job other third"},
		{"… and it was on both, as Docker tells", map[string]*attachment{"wide": {joined: began + 2*s}, "mynet": {joined: began + 2*s}}, []api.RecordedPort{job,
			port("job", "mynet", 9, began+s, ended+s), port("other", "wide", 3, began, ended+s), port("third", "mynet", 3, began, ended+s)}, "job job"},
		{"two networks, and it was on one of them only", both(), []api.RecordedPort{job, port("other", "wide", 3, began, ended+s), port("other", "mynet", 3, began, ended+s)}, "job other other"},
		{"one of two, which it left before it ended", both(), []api.RecordedPort{job, port("job", "mynet", 9, began+s, ended-s)}, "job"},
		{"one network, another had two", one(), []api.RecordedPort{job, port("other", "wide", 3, began, ended+s), port("other", "mynet", 3, began, ended+s)}, "job other"},
		{"it was on one more, and was taken off that when it had stopped", one(), []api.RecordedPort{job, port("job", "mynet", 9, began+s, ended+s), port("other", "wide", 3, began, ended+s)}, "job other"},
		{"connected late, and one that came and went with it", one(), []api.RecordedPort{port("job", "wide", 2, began+40*s, ended+s), port("other", "wide", 3, began, ended+s)}, "job other"},
		{"slow to start, slow to stop", one(), []api.RecordedPort{port("job", "wide", 2, began-16*s, ended+16*s), port("other", "wide", 3, began, ended+s)}, "job other"},
		{"reattached meanwhile", told, []api.RecordedPort{port("job", "wide", 2, began+s/5, began+9*s), port("job", "wide", 2, began+20*s, ended+s/5), port("other", "wide", 3, began+s, ended+s/5)}, "job"},
		{"one that has not gone, and no container that runs", one(), []api.RecordedPort{job, port("stuck", "wide", 3, began, 0)}, "job stuck"},
		{"a network more for a while", one(), []api.RecordedPort{job, port("job", "mynet", 9, began+s, began+2*s)}, "job"},
		{"left one network, lives on another", one(), []api.RecordedPort{job, port("other", "wide", 3, began, ended+s), port("other", "wide2", 3, began, 0)}, "job"},

		{"its address is its own", map[string]*attachment{"wide": {fixed: parseAddrs("10.80.0.2")}}, []api.RecordedPort{job, port("other", "wide", 3, began, ended+s)}, "job"},
		{"its address was another's", map[string]*attachment{"wide": {fixed: parseAddrs("10.80.0.2")}}, []api.RecordedPort{port("other", "wide", 3, began, ended+s)}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			for range 2 { // in either order
				slices.Reverse(c.ports)
				var got []string
				for _, had := range (&lastRun{started: began, finished: ended, attachments: c.stays}).candidates(c.ports, runs) {
					got = append(got, api.Map(had, func(p api.RecordedPort) string { return p.Sandbox })...)
				}
				if slices.Sort(got); strings.Join(got, " ") != c.want {
					t.Errorf("the run may be that of %q, want %q", got, c.want)
				}
			}
		})
	}
}

// TestStoppedContainer: a stopped container is found by what Docker 27 and later still says about it, and by what the daemon
// knows of its ports.
func TestStoppedContainer(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	hub := capture.NewHub()
	a := &daemon.API{Fabric: fake.NewFabric(), Log: log, Name: "tapestry", Version: "devel", Started: time.Now(), Captures: daemon.NewCaptures(hub, "devel", log, nil)}
	c := &client.Client{Socket: fake.ServeUnix(t, "tapestry.sock", a.Handler())}
	d := fake.NewLiveDocker(t)
	c.DockerHost = d.At
	// begin is when a run starts, end when it ends.
	number := uint32(0)
	begin := func(sandbox string, addrs map[string]string) (end func(), came time.Time) {
		var ends []func()
		for _, id := range slices.Sorted(maps.Keys(addrs)) {
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
		d.Mu.Lock()
		defer d.Mu.Unlock()
		d.Containers[name] = fmt.Sprintf(`{"Id":"id of %s","Name":"/%s","Created":%q,"State":{"StartedAt":%q,"FinishedAt":%q},"NetworkSettings":{"SandboxKey":"","Networks":{%s}}}`,
			name, name, "2026-03-01T08:00:00.5Z", came.Format(time.RFC3339Nano), gone.Format(time.RFC3339Nano), networks)
	}
	wide, mynet := `"wide":{"NetworkID":"`+fake.WideID+`","IPAMConfig":null}`, `"mynet":{"NetworkID":"`+fake.LocalID+`"}`
	find := func(word string) (*Targets, error) {
		t.Helper()
		return FindTargets(t.Context(), c, mustNames(t, c), []string{word}, Stopped)
	}
	wants := func(word, request, note string) {
		t.Helper()
		if found, err := find(word); err != nil || targetText(found) != request || strings.Join(found.notes, "") != note {
			t.Errorf("%s: %v, %+v", word, err, found)
		}
	}
	refuses := func(word, want string) {
		t.Helper()
		if _, err := find(word); exit.Code(err) != exit.NoTarget || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", word, err, want)
		}
	}
	const lost = " has run, but Docker does not tell any more (since its version 27) which endpoint it had, and "

	end, began := begin("beef", map[string]string{fake.WideID: "10.80.1.2/16", fake.LocalID: "10.81.0.2/24"})
	ended := time.Now()
	end()
	inspect("pair", began, ended, wide+","+mynet)
	wants("pair", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`,
		"pair has stopped: its last run was 10.80.1.2 on wide and 10.81.0.2 on mynet, no other container fits")
	d.Mu.Lock()
	d.Containers["side"] = `{"Id":"ab15","Name":"/side","State":{"Running":true},"HostConfig":{"NetworkMode":"container:pair"}}`
	d.Mu.Unlock()
	wants("side", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`,
		"pair has stopped: its last run was 10.80.1.2 on wide and 10.81.0.2 on mynet, no other container fitsside shares the network of pair: looking at pair")
	if _, err := FindTargets(t.Context(), c, mustNames(t, c), []string{"pair"}, OnlyRunning); err == nil || !strings.HasSuffix(err.Error(), "; what it did: tapestry recorder dump pair") {
		t.Errorf("a present pair: %v", err)
	}
	inspect("looping", began, ended, wide+","+mynet)
	d.Mu.Lock()
	d.Containers["looping"] = strings.Replace(d.Containers["looping"], `"State":{`, `"State":{"Running":true,"Restarting":true,`, 1)
	d.Mu.Unlock()
	wants("looping", `{"sandboxes":["beef"],"born":{"beef":1772352000500000000},"some":true}`,
		"looping has stopped: its last run was 10.80.1.2 on wide and 10.81.0.2 on mynet, no other container fits")

	// Another container comes and goes with it. Docker's events distinguish them.
	end, began = begin("cafe", map[string]string{fake.WideID: "10.80.1.3/16"})
	endOther, _ := begin("babe", map[string]string{fake.WideID: "10.80.1.4/16"})
	ended = time.Now()
	end()
	inspect("job", began, ended, wide)
	refuses("job", "2 containers may have been it") // the other is there, and Docker knows of no container that it is of
	known := time.Now()
	endOther()
	refuses("job", "container job"+lost+"2 containers may have been it, by when they came and went: name its address instead, network:wide -f 'host 10.80.1.4', network:wide -f 'host 10.80.1.3'")
	event := func(action, container string, at time.Time) {
		d.Mu.Lock()
		defer d.Mu.Unlock()
		d.Past = append(d.Past, fmt.Sprintf(`{"Type":"network","Action":%q,"Actor":{"ID":%q,"Attributes":{"container":%q,"name":"wide"}},"time":%d,"timeNano":%d}`,
			action, fake.WideID, container, at.Unix(), at.UnixNano()))
	}
	event("connect", "id of another", began.Add(-time.Hour))
	event("connect", "id of job", began)
	event("disconnect", "id of another", ended)
	event("disconnect", "id of job", known)
	wants("job", `{"sandboxes":["cafe"],"born":{"cafe":1772352000500000000},"some":true}`,
		"job has stopped: its last run was 10.80.1.3 on wide, no other container fits")

	// No port fits, and none ever did.
	old := time.Now().Add(-time.Hour)
	inspect("job", old, old.Add(time.Second), wide)
	refuses("job", "container job"+lost+"no port that this daemon knows came and went with its last run: name its address instead, network:wide -f 'host ADDRESS'")
	inspect("job", time.Time{}, time.Time{}, wide)
	refuses("job", "container job has never run")
	// Docker sends no events, or the connection breaks off.
	d.Mu.Lock()
	d.Past = []string{"{"}
	d.Mu.Unlock()
	inspect("job", began, ended, wide)
	refuses("job", "2 containers may have been it, by when they came and went")
}

func mustNames(t *testing.T, c *client.Client) *Names {
	t.Helper()
	n, err := LoadNames(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRecorderPorts: the daemon lists ports of containers only, present ones and those that are gone.
func TestRecorderPorts(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	before, err := client.List[api.RecordedPort](t.Context(), l.Client, api.RecorderPortsPath, "")
	testhost.Must(t, err)
	l.Hub.Plug(capture.Port{Number: 71, Network: fake.WideID, Name: "gone", Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}})
	l.Hub.SetSandbox(71, "beef")
	l.Hub.Unplug(71)
	l.Hub.Plug(capture.Port{Number: 72, Network: fake.WideID, Name: "there"})
	l.Hub.Plug(capture.Port{Number: 73, Network: fake.WideID, Name: "192.0.2.2", Remote: true})
	l.Hub.Plug(capture.Port{Number: 74, Network: fake.WideID, Name: "host", HostPort: true})
	all, err := client.List[api.RecordedPort](t.Context(), l.Client, api.RecorderPortsPath, "")
	testhost.Must(t, err)
	all = slices.DeleteFunc(all, func(p api.RecordedPort) bool {
		return slices.ContainsFunc(before, func(q api.RecordedPort) bool { return q.Endpoint == p.Endpoint })
	})
	if len(all) != 2 || all[0].Endpoint != "gone" || all[0].Sandbox != "beef" || portAddr(&all[0]) != "10.80.1.2" || all[0].AttachedAt == 0 || all[0].DetachedAt < all[0].AttachedAt ||
		all[1].Endpoint != "there" || all[1].DetachedAt != 0 || portAddr(&all[1]) != "endpoint there" {
		t.Errorf("ports are %+v", all)
	}
}
