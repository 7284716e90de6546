package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/doctor"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// pluginHost is a host on which tapestry is a managed plugin of Docker.
type pluginHost struct {
	dir    string
	docker map[string]any // Docker's answers
}

func newPluginHost(t *testing.T, plugins ...docker.Plugin) *pluginHost {
	h := &pluginHost{dir: fake.ShortDir(t)}
	var info docker.Info
	info.ServerVersion, info.DockerRootDir, info.Swarm.LocalNodeState = "29.7.2", filepath.Join(h.dir, "docker"), "inactive"
	h.docker = map[string]any{"/version": map[string]string{"Version": "29.7.2"}, "/info": info, "/plugins": plugins, "/networks": []docker.Network{}}
	for _, p := range plugins {
		h.docker["/plugins/"+p.ID+"/json"] = p
	}
	return h
}

func (h *pluginHost) plugins() string { return filepath.Join(h.dir, "p") }

func (h *pluginHost) state(id string) string {
	return filepath.Join(h.dir, "docker", "plugins", id, "propagated-mount")
}

// writeErrorFile writes the reason of a failed start to the error file of a plugin.
func (h *pluginHost) writeErrorFile(t *testing.T, id, reason string) {
	t.Helper()
	testhost.Must(t, os.MkdirAll(h.state(id), 0o755))
	testhost.Must(t, os.WriteFile(filepath.Join(h.state(id), "error"), []byte("2026-11-29T12:00:00Z tapestry: "+reason+"\n"), 0o600))
}

// serveDaemon has a daemon answer as plugin id.
func (h *pluginHost) serveDaemon(t *testing.T, id string, host *fake.Fabric) {
	t.Helper()
	fake.ServeAt(t, filepath.Join(h.plugins(), id, client.PluginSocketName), (&daemon.API{Fabric: host, Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel", Scope: plugin.Global}).Handler())
	h.serveDriver(t, filepath.Join(h.plugins(), id, "tapestry.sock"))
	testhost.Must(t, os.MkdirAll(h.state(id), 0o755))
}

// serveDriver has a network driver answer at path.
func (h *pluginHost) serveDriver(t *testing.T, path string) {
	t.Helper()
	fake.ServeAt(t, path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"Implements":["NetworkDriver"]}`))
	}))
}

func (h *pluginHost) doctor(t *testing.T, args ...string) (int, []doctor.Finding, string) {
	t.Helper()
	return runDoctor(t, healthyMachine(t), append(args, "--plugin-dir", h.plugins(), "--docker-host", dockerWith(t, h.docker))...)
}

// hasFinding returns an error unless one of the findings of a check has this state and these words.
func hasFinding(found []doctor.Finding, check, state, seen, remedy string) error {
	for _, f := range found {
		if f.Check == check && f.State == state && strings.Contains(f.Seen, seen) && strings.Contains(f.Remedy, remedy) {
			return nil
		}
	}
	return fmt.Errorf("no %s of %s with %q and %q in %+v", state, check, seen, remedy, found)
}

func TestDoctorPlugin(t *testing.T) {
	on := pluginCalled(fake.PluginID, "tapestry:latest")
	on.Settings.Args = []string{""}
	set, off, typo := on, on, on
	set.Settings.Args = []string{"--peer", "192.0.2.2"}
	off.Enabled, typo.Enabled, typo.Settings.Args = false, false, []string{"--vxlan-prot", "4790"}
	const start, again = "docker plugin enable tapestry:latest", "docker plugin disable -f tapestry:latest && docker plugin enable tapestry:latest"
	type want struct{ check, state, seen, remedy string }
	for name, tt := range map[string]struct {
		plugin docker.Plugin
		make   func(*testing.T, *pluginHost)
		code   int
		want   []want
		never  string // words that no line has
	}{
		"enabled": {plugin: set, make: func(t *testing.T, h *pluginHost) { h.serveDaemon(t, fake.PluginID, &fake.Fabric{Empty: true}) }, code: exit.OK, want: []want{
			{"plugin", doctor.OK, `tapestry:latest (id 3f2b1c0d9e8f) is enabled and answers, args "--peer 192.0.2.2"`, ""},
			{"state", doctor.OK, "docker/plugins/" + fake.PluginID + "/propagated-mount, 0 networks", ""},
			{"space", doctor.OK, "/propagated-mount", ""},
			{"daemon", doctor.OK, "tapestry:latest, version", ""},
		}, never: "systemctl"},
		"enabled and mute": {plugin: on, make: func(*testing.T, *pluginHost) {}, code: exit.Failure, want: []want{
			{"plugin", doctor.Fail, "is enabled and does not answer: dial unix", again},
			{"plugin", doctor.Fail, "", "journalctl -u docker | grep plugin=3f2b1c0d9e8f"},
			{"port", doctor.OK, "UDP 8472 is free", ""},
			{"daemon", doctor.Warn, "does not run", start},
		}, never: "systemctl"},
		"enabled and failing": {plugin: on, make: func(t *testing.T, h *pluginHost) { h.writeErrorFile(t, fake.PluginID, "UDP port 8472 is taken") }, code: exit.Failure, want: []want{
			{"plugin", doctor.Fail, "is enabled and does not answer: its start failed at 2026-11-29T12:00:00Z: UDP port 8472 is taken", "docker plugin set tapestry:latest args="},
		}, never: "systemctl"},
		"disabled": {plugin: off, make: func(*testing.T, *pluginHost) {}, code: exit.OK, want: []want{
			{"plugin", doctor.Warn, "tapestry:latest (id 3f2b1c0d9e8f) is disabled", start},
			{"daemon", doctor.Warn, "does not run", start},
			{"state", doctor.OK, "propagated-mount is not there yet", ""},
		}, never: "systemctl"},
		"disabled after a start that failed": {plugin: off, make: func(t *testing.T, h *pluginHost) {
			h.writeErrorFile(t, fake.PluginID, "there is no /dev/net/tun: mknod …")
		}, code: exit.Failure, want: []want{
			{"plugin", doctor.Fail, "is disabled: its start failed at 2026-11-29T12:00:00Z: there is no /dev/net/tun: mknod …", "put that right, then " + start},
		}, never: "systemctl"},
		"disabled with flags that do not parse": {plugin: typo, make: func(*testing.T, *pluginHost) {}, code: exit.Failure, want: []want{
			{"plugin", doctor.Fail, "is disabled: no flag --vxlan-prot, did you mean --vxlan-port?", "docker plugin set tapestry:latest args="},
		}, never: "systemctl"},
		"beside a daemon that is no plugin": {plugin: on, make: func(t *testing.T, h *pluginHost) {
			h.serveDaemon(t, fake.PluginID, &fake.Fabric{Empty: true})
			h.serveDriver(t, filepath.Join(h.plugins(), "tapestry.sock"))
		}, code: exit.OK, want: []want{
			{"plugin", doctor.OK, "tapestry.sock answers", ""},
			{"plugin", doctor.Warn, "runs beside the plugin tapestry:latest", "docker plugin disable tapestry:latest, or systemctl disable --now tapestry"},
		}},
		"beside what a daemon has left": {plugin: on, make: func(t *testing.T, h *pluginHost) {
			h.serveDaemon(t, fake.PluginID, &fake.Fabric{Empty: true})
			fake.LeaveStaleSocket(t, filepath.Join(h.plugins(), "tapestry.sock"))
		}, code: exit.Failure, want: []want{
			{"plugin", doctor.OK, "is enabled and answers", ""},
			{"plugin", doctor.Fail, "tapestry.sock is stale", "/p/tapestry.sock, if the plugin has taken its place"},
		}},
		"networks that are lost": {plugin: on, make: func(t *testing.T, h *pluginHost) {
			h.serveDaemon(t, fake.PluginID, fake.NewFabric())
			const idle, used = "swarmnetworkidle000000000", "swarmnetworkused000000000"
			h.docker["/networks"] = []docker.Network{{ID: fake.WideID, Name: "wide", Driver: "tapestry:latest", Scope: "global"}, {ID: fake.WebID, Name: "lost", Driver: "tapestry:latest", Scope: "global"},
				{ID: idle, Name: "idle", Driver: "tapestry:latest", Scope: "swarm"}, {ID: used, Name: "used", Driver: "tapestry:latest", Scope: "swarm"},
				{ID: fake.SecondID, Name: "old", Driver: "tapestry"}, {ID: fake.ThirdID, Name: "acme", Driver: "host:5000/acme/tapestry:v2"}, {ID: fake.PluginID, Name: "bridge", Driver: "bridge"}}
			h.docker["/networks/"+used] = docker.Network{Containers: map[string]docker.Endpoint{"c": {}}}
			h.docker["/networks/"+idle] = docker.Network{}
		}, code: exit.Failure, want: []want{
			{"networks", doctor.Fail, "lost: Docker has it with driver tapestry:latest, the daemon does not", "docker network rm lost"},
			{"networks", doctor.Fail, "used of the Swarm: the daemon does not have it, and containers here use it", "--availability drain"},
			{"networks", doctor.Fail, "old: its driver is tapestry, which is a unit or a process, and none runs", "create it with -d tapestry:latest"},
			{"networks", doctor.Fail, "acme: its driver is host:5000/acme/tapestry:v2, and Docker has no such plugin", "docker network rm acme"},
		}, never: "idle"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newPluginHost(t, tt.plugin)
			tt.make(t, h)
			code, found, _ := h.doctor(t)
			if code != tt.code {
				t.Errorf("exit %d, want %d: %+v", code, tt.code, found)
			}
			for _, w := range tt.want {
				if err := hasFinding(found, w.check, w.state, w.seen, w.remedy); err != nil {
					t.Error(err)
				}
			}
			for _, f := range found {
				if tt.never != "" && (strings.Contains(f.Seen, tt.never) || strings.Contains(f.Remedy, tt.never)) {
					t.Errorf("%q in %+v", tt.never, f)
				}
			}
		})
	}
}

// After docker plugin rm -f Docker still has the networks, but no plugin, and no daemon runs.
func TestDoctorPluginRemoved(t *testing.T) {
	h := newPluginHost(t)
	h.docker["/networks"] = []docker.Network{{ID: fake.WideID, Name: "wide", Driver: "tapestry:latest", Scope: "global"}}
	code, found, _ := h.doctor(t, "--state-dir", t.TempDir())
	if err := hasFinding(found, "networks", doctor.Fail, "wide: its driver is tapestry:latest, and Docker has no such plugin, as after docker plugin rm -f", "docker network rm wide"); err != nil || code != exit.Failure {
		t.Errorf("exit %d, %v", code, err)
	}
	h.docker["/plugins"] = "what is no list" // then nothing is known of plugins
	code, found, _ = h.doctor(t, "--state-dir", t.TempDir())
	if err := hasFinding(found, "networks", doctor.Fail, "", ""); err == nil || code != exit.OK {
		t.Errorf("exit %d, %+v", code, found)
	}
}

// Flags that were given to doctor stay what they are.
func TestDoctorPluginFlags(t *testing.T) {
	p := pluginCalled(fake.PluginID, "tapestry:latest")
	p.Enabled, p.Settings.Args = false, []string{"--vtep", "192.0.2.7", "--vxlan-port", "4790"}
	h := newPluginHost(t, p)
	_, found, _ := h.doctor(t)
	if err := errors.Join(hasFinding(found, "port", doctor.OK, "UDP 4790 is free", ""), hasFinding(found, "underlay", doctor.OK, "192.0.2.7 by", "")); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	_, found, _ = h.doctor(t, "--vxlan-port", "5000", "--vtep", "192.0.2.8", "--state-dir", dir)
	if err := errors.Join(hasFinding(found, "port", doctor.OK, "UDP 5000 is free", ""), hasFinding(found, "underlay", doctor.OK, "192.0.2.8 by", ""), hasFinding(found, "state", doctor.OK, dir, "")); err != nil {
		t.Error(err)
	}
}

func TestRunFlags(t *testing.T) {
	p := pluginCalled(fake.PluginID, "tapestry:latest")
	for _, tt := range []struct {
		args []string
		port string
		err  string
	}{
		{nil, "8472", ""},
		{[]string{""}, "8472", ""},
		{[]string{"--vxlan-port", "4790", "--peer=192.0.2.2"}, "4790", ""},
		{[]string{"--vxlan-port", "x"}, "", "want a port from 1 to 65535"},
		{[]string{"now"}, "", `"now" is one argument too many`},
		{[]string{"--state-dir", "/x"}, "", "--state-dir cannot be set in a managed plugin"},
	} {
		p.Settings.Args = tt.args
		flags, err := runFlags(p)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v, want %s", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil || flags("vxlan-port") != tt.port || flags("none") != "" {
			t.Errorf("%q: %v", tt.args, err)
		}
	}
	for _, entry := range [][]string{nil, {"/tapestry"}, {"/other", "serve"}} {
		p.Config.Entrypoint, p.Settings.Args = entry, nil
		if _, err := runFlags(p); err == nil {
			t.Errorf("%q runs", entry)
		}
	}
}

// swarmOf is a node of a Swarm of four, whose daemon knows nodes; a manager, or else a worker.
func swarmOf(t *testing.T, manager bool, nodes ...string) (*pluginHost, *fake.Fabric) {
	h := newPluginHost(t, pluginCalled(fake.PluginID, "tapestry:latest"))
	host := fake.NewFabric()
	for _, n := range nodes {
		host.Known = append(host.Known, netip.MustParseAddr(n))
	}
	h.serveDaemon(t, fake.PluginID, host)
	i := h.docker["/info"].(docker.Info)
	i.Swarm.LocalNodeState, i.Swarm.NodeID, i.Swarm.NodeAddr, i.Swarm.ControlAvailable = "active", "me", "192.0.2.1", manager
	i.Swarm.RemoteManagers = []struct{ NodeID, Addr string }{{"m1", "192.0.2.2:2377"}, {"me", "192.0.2.1:2377"}}
	h.docker["/info"] = i
	i.Swarm.Cluster = &struct{ DataPathPort uint16 }{7777} // the daemon has 4789
	h.docker["/info"] = i
	if manager {
		node := func(id, state, addr, manager string) any {
			return map[string]any{"ID": id, "Status": map[string]string{"State": state, "Addr": addr}, "ManagerStatus": map[string]string{"Addr": manager}}
		}
		h.docker["/nodes"] = []any{node("m1", "ready", "0.0.0.0", "192.0.2.2:2377"), node("me", "ready", "0.0.0.0", "192.0.2.1:2377"), node("w1", "ready", "192.0.2.3", ""),
			node("w2", "ready", "::ffff:192.0.2.4", ""), node("w3", "unknown", "", ""), node("w4", "down", "192.0.2.8", "")}
	}
	const net = "swarmnetwork0000000000000"
	h.docker["/networks"] = []docker.Network{{ID: net, Name: "net", Driver: "tapestry:latest", Scope: "swarm"}, {ID: fake.WideID, Name: "over", Driver: "overlay", Scope: "swarm"}}
	h.docker["/networks/"+net] = map[string]any{"Id": net, "Peers": []map[string]string{{"IP": "192.0.2.1"}, {"IP": "192.0.2.3"}}}
	h.docker["/networks/"+fake.WideID] = map[string]any{"Id": fake.WideID, "Peers": []map[string]string{{"IP": "192.0.2.9"}}}
	return h, host
}

func TestDoctorNodes(t *testing.T) {
	for name, tt := range map[string]struct {
		manager bool
		known   []string
		state   string
		seen    string
	}{
		"a manager that was told of all":  {true, []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"}, doctor.OK, "knows the Swarm's other nodes that Docker knows (3)"},
		"a manager that was told of none": {true, nil, doctor.Warn, "has not told the daemon of 3 nodes of the Swarm, so its networks do not reach them: 192.0.2.2, 192.0.2.3, 192.0.2.4"},
		"a worker that was told of one":   {false, []string{"192.0.2.2", "192.0.2.7"}, doctor.Warn, "has not told the daemon of 1 node of the Swarm, so its networks do not reach it: 192.0.2.3"},
		"a worker that was told of all":   {false, []string{"192.0.2.2", "192.0.2.3"}, doctor.OK, "(2)"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := swarmOf(t, tt.manager, tt.known...)
			_, found, _ := h.doctor(t)
			if err := hasFinding(found, "nodes", tt.state, tt.seen, map[string]string{doctor.Warn: "tapestry peers learn"}[tt.state]); err != nil {
				t.Error(err)
			}
			if err := hasFinding(found, "swarm", doctor.OK, "this host is a node at 192.0.2.1", ""); err != nil && tt.manager {
				t.Error(err)
			}
		})
	}
}

func TestPeersLearn(t *testing.T) {
	learn := func(h *pluginHost, args ...string) result {
		return tapestry(t, append([]string{"peers", "learn", "--api-socket", filepath.Join(h.plugins(), fake.PluginID, client.PluginSocketName), "--docker-host", dockerWith(t, h.docker)}, args...)...)
	}
	h, host := swarmOf(t, true, "192.0.2.2")
	r := learn(h)
	if want := "Docker knows 3 other nodes of the Swarm: 192.0.2.2, 192.0.2.3, 192.0.2.4\nnew to the daemon: 192.0.2.3, 192.0.2.4\n"; r.code != exit.OK || r.out != want || r.stderr != "" {
		t.Errorf("exit %d, %q, %q", r.code, r.out, r.stderr)
	}
	if !slices.Equal(api.Map(host.Nodes(), netip.Addr.String), []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"}) {
		t.Errorf("the daemon knows %v", host.Nodes())
	}
	if r := learn(h); !strings.HasSuffix(r.out, "\nnone is new to the daemon\n") {
		t.Errorf("again: %q", r.out)
	}

	h, _ = swarmOf(t, false)
	r = learn(h, "--json")
	var v any
	testhost.Must(t, json.Unmarshal([]byte(r.out), &v))
	if got, want := fake.JSONKeys(v, ""), slices.Sorted(slices.Values(fake.DocumentedKeys(t)["peers learn"])); !slices.Equal(got, want) {
		t.Errorf("--json has %v, docs/json.md says %v", got, want)
	}
	var l api.Learned
	testhost.Must(t, json.Unmarshal([]byte(r.out), &l))
	if want := []string{"192.0.2.2", "192.0.2.3"}; !slices.Equal(l.Found, want) || !slices.Equal(l.New, want) || !slices.Equal(l.Nodes, want) || !strings.Contains(r.stderr, "this node is a worker") {
		t.Errorf("%+v, %s", l, r.stderr)
	}

	h.docker["/networks"] = []docker.Network{}
	i := h.docker["/info"].(docker.Info)
	i.Swarm.RemoteManagers, i.Swarm.NodeAddr = nil, "198.51.100.1"
	h.docker["/info"] = i
	if r := learn(h); r.code != exit.OK || r.out != "Docker knows 0 other nodes of the Swarm\nnone is new to the daemon\n" || !strings.Contains(r.stderr, "in the Swarm is 198.51.100.1, its VTEP 192.0.2.1") {
		t.Errorf("exit %d, %q, %q", r.code, r.out, r.stderr)
	}
	i.Swarm.RemoteManagers = []struct{ NodeID, Addr string }{{"m", "192.0.2.66:2377"}}
	h.docker["/info"] = i
	if r := learn(h); r.code != exit.Failure || !strings.Contains(r.stderr, "no space left") {
		t.Errorf("a full disk: exit %d, %q", r.code, r.stderr)
	}
	i.Swarm.LocalNodeState = "inactive"
	h.docker["/info"] = i
	if r := learn(h); r.code != exit.Failure || !strings.Contains(r.stderr, `this host is in no Swarm that works: docker info says "inactive"`) {
		t.Errorf("off a Swarm: exit %d, %q", r.code, r.stderr)
	}
	delete(h.docker, "/networks")
	if r := learn(h); r.code != exit.Failure || !strings.Contains(r.stderr, "Docker does not answer") {
		t.Errorf("without Docker: exit %d, %q", r.code, r.stderr)
	}

	h, _ = swarmOf(t, true)
	r = tapestry(t, "peers", "learn", "--api-socket", fake.Daemon(t, fake.NewFabric()), "--docker-host", dockerWith(t, h.docker))
	if r.code != exit.Failure || !strings.Contains(r.stderr, "the daemon is no managed plugin of Docker") {
		t.Errorf("a unit: exit %d, %q", r.code, r.stderr)
	}
}

// If one of the nodes is no address, the daemon takes none of them.
func TestLearnRefuses(t *testing.T) {
	h := fake.NewFabric()
	c := &client.Client{Socket: fake.Daemon(t, h)}
	tooMany := make([]string, 4097)
	for _, nodes := range [][]string{{"192.0.2.2", "web"}, {"192.0.2.2", "fe80::1"}, {"192.0.2.2", "0.0.0.0"}, {"192.0.2.2", ""}, tooMany} {
		if err := c.Call(t.Context(), http.MethodPost, "/v1/nodes", api.Nodes{Nodes: nodes}, nil); exit.Code(err) != exit.Usage || len(h.Nodes()) > 0 {
			t.Errorf("%.60q: exit %d, %v; knows %v", nodes, exit.Code(err), err, h.Nodes())
		}
	}
	if err := c.Call(t.Context(), http.MethodPost, "/v1/nodes", "x", nil); exit.Code(err) != exit.Usage {
		t.Errorf("what is no request: %v", err)
	}
}
