package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// daemonNamed is the API of a daemon whose status has this name.
func daemonNamed(name string) http.Handler {
	return (&daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler), Name: name, Version: "devel", Scope: plugin.Global}).Handler()
}

// dockerWith answers each path with a value.
func dockerWith(t *testing.T, answers map[string]any) (dockerHost string) {
	t.Helper()
	return "unix://" + fake.ServeUnix(t, "docker.sock", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
}

func pluginCalled(id, name string) docker.Plugin {
	p := docker.Plugin{ID: id, Name: name, Enabled: true}
	p.Config.Entrypoint = []string{"/tapestry", "run", "--scope", "global", "--vxlan-port", "8472"}
	p.Config.Interface.Types, p.Config.Interface.Socket = []string{"docker.networkdriver/1.0"}, "tapestry.sock"
	return p
}

func TestFindDaemon(t *testing.T) {
	known := dockerWith(t, map[string]any{
		"/plugins/" + fake.PluginID + "/json": pluginCalled(fake.PluginID, "tapestry:latest"),
		"/plugins/" + fake.SecondID + "/json": pluginCalled(fake.SecondID, "acme/tapestry:v2"),
	})
	const unit = "usual/tapestry.sock"
	at := func(id string) string { return filepath.Join("plugins", id, client.PluginSocketName) }
	for name, tt := range map[string]struct {
		live, stale []string // paths
		socket      string   // --api-socket
		found       string   // path; "": none
		code        int
		said        []string // DIR stands for the test's directory
	}{
		"the usual path":                        {live: []string{unit}, found: unit},
		"the usual path before a plugin":        {live: []string{unit, at(fake.PluginID)}, found: unit},
		"a plugin":                              {live: []string{at(fake.PluginID)}, found: at(fake.PluginID)},
		"a plugin beside what a unit has left":  {live: []string{at(fake.PluginID)}, stale: []string{unit, at(fake.SecondID)}, found: at(fake.PluginID)},
		"other plugins have no such socket":     {live: []string{at(fake.PluginID)}, stale: []string{"plugins/" + fake.SecondID + "/other.sock", "plugins/x.sock"}, found: at(fake.PluginID)},
		"--api-socket before all":               {live: []string{unit, at(fake.PluginID), "other.sock"}, socket: "other.sock", found: "other.sock"},
		"--api-socket and nothing else":         {live: []string{unit, at(fake.PluginID)}, socket: "other.sock", code: exit.NoDaemon, said: []string{"no daemon answers at DIR/other.sock: start one: "}},
		"--api-socket of a plugin that is gone": {live: []string{unit}, stale: []string{at(fake.PluginID)}, socket: at(fake.PluginID), code: exit.NoDaemon, said: []string{"no daemon answers at DIR/" + at(fake.PluginID)}},
		"two plugins": {live: []string{at(fake.PluginID), at(fake.SecondID)}, code: exit.Usage, said: []string{"several daemons run on this host: ",
			"DIR/" + at(fake.PluginID) + " (plugin tapestry:latest)", "DIR/" + at(fake.SecondID) + " (plugin acme/tapestry:v2)", ": name one by --api-socket PATH"}},
		"two plugins of which Docker knows one": {live: []string{at(fake.PluginID), at(fake.ThirdID)}, code: exit.Usage, said: []string{"(plugin tapestry:latest), DIR/" + at(fake.ThirdID) + ": name one"}},
		"none": {stale: []string{unit, at(fake.PluginID)}, code: exit.NoDaemon, said: []string{"no daemon answers at DIR/usual/tapestry.sock, nor as a plugin of Docker (DIR/plugins/*/tapestry-api.sock): ",
			"`tapestry run` as root", "`systemctl start tapestry`", "`docker plugin enable tapestry`"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fake.ShortDir(t)
			for _, path := range tt.stale {
				fake.LeaveStaleSocket(t, filepath.Join(dir, path))
			}
			count := map[string]*atomic.Int64{}
			for _, path := range tt.live {
				count[path] = fake.ServeAt(t, filepath.Join(dir, path), daemonNamed(path))
			}
			c := &client.Client{SearchPaths: client.SearchPaths{Socket: filepath.Join(dir, unit), PluginDir: filepath.Join(dir, "plugins")}, DockerHost: known}
			c.PluginNames = func(ctx context.Context, ids []string) ([]string, error) { return docker.PluginNames(ctx, c, ids) }
			if tt.socket != "" {
				c.Socket = filepath.Join(dir, tt.socket)
			}
			for range 2 { // the second one does not search
				s, err := c.Status(t.Context())
				if exit.Code(err) != tt.code || s.Name != tt.found || tt.found != "" && c.SocketPath() != filepath.Join(dir, tt.found) {
					t.Fatalf("exit %d, want %d: %v; found %q at %s, want %q", exit.Code(err), tt.code, err, s.Name, c.SocketPath(), tt.found)
				}
				for _, want := range tt.said {
					if !strings.Contains(err.Error(), strings.ReplaceAll(want, "DIR", dir)) {
						t.Errorf("no %q in %v", want, err)
					}
				}
			}
			if tt.found != "" && count[tt.found].Load() != 2 {
				t.Errorf("%d connections for 2 questions", count[tt.found].Load())
			}
			if n := count[at(fake.PluginID)]; tt.found == unit && n != nil && n.Load() != 0 {
				t.Errorf("the plugin's daemon got %d connections", n.Load())
			}
		})
	}
}

// A command that has found a daemon stays with it until it ends.
func TestFindSticks(t *testing.T) {
	dir := fake.ShortDir(t)
	c := &client.Client{SearchPaths: client.SearchPaths{Socket: filepath.Join(dir, "u.sock"), PluginDir: filepath.Join(dir, "p")}}
	fake.ServeAt(t, filepath.Join(dir, "p", fake.PluginID, client.PluginSocketName), daemonNamed("plugin"))
	if s, err := c.Status(t.Context()); err != nil || s.Name != "plugin" {
		t.Fatalf("%q, %v", s.Name, err)
	}
	fake.ServeAt(t, filepath.Join(dir, "u.sock"), daemonNamed("unit"))
	if s, err := c.Status(t.Context()); err != nil || s.Name != "plugin" {
		t.Errorf("%q, %v", s.Name, err)
	}
}

// Streams find it too, also as the first that is asked.
func TestFindStream(t *testing.T) {
	dir := fake.ShortDir(t)
	c := &client.Client{SearchPaths: client.SearchPaths{Socket: filepath.Join(dir, "u.sock"), PluginDir: filepath.Join(dir, "p")}}
	fake.ServeAt(t, filepath.Join(dir, "p", fake.PluginID, client.PluginSocketName), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusConflict)
		fake.WriteJSON(w, api.Error{Error: "found"})
	}))
	if _, err := c.OpenStream(t.Context(), api.CapturesPath, api.CaptureRequest{}); err == nil || err.Error() != "found" {
		t.Errorf("%v", err)
	}
}

// A user who may not read the directory of plugins' sockets is told so.
func TestFindUnseen(t *testing.T) {
	dir := fake.ShortDir(t)
	hidden := filepath.Join(dir, "p")
	testhost.Must(t, os.WriteFile(hidden, nil, 0o600)) // as little a directory that can be read as root's is to others
	c := &client.Client{SearchPaths: client.SearchPaths{Socket: filepath.Join(dir, "u.sock"), PluginDir: hidden}}
	_, err := c.Status(t.Context())
	if exit.Code(err) != exit.NoDaemon || !strings.Contains(err.Error(), "only root sees: run this as root") || !strings.Contains(err.Error(), "systemctl start tapestry") {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
}

// A network of another daemon of this host: the error names that one.
func TestElsewhere(t *testing.T) {
	dir := fake.ShortDir(t)
	at := filepath.Join(dir, "p", fake.PluginID, client.PluginSocketName)
	fake.ServeAt(t, filepath.Join(dir, "u.sock"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fake.WriteJSON(w, []api.Network{{ID: fake.LocalID}}) }))
	fake.ServeAt(t, at, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fake.WriteJSON(w, []api.Network{{ID: fake.WideID}}) }))
	known := dockerWith(t, map[string]any{
		"/networks": []docker.Network{{ID: fake.LocalID, Name: "mynet", Driver: "tapestry"}, {ID: fake.WideID, Name: "wide", Driver: "tapestry:latest"},
			{ID: fake.OtherID, Name: "other", Driver: "tapestry:latest"}},
		"/plugins/" + fake.PluginID + "/json": pluginCalled(fake.PluginID, "tapestry:latest"),
	})
	where := client.SearchPaths{Socket: filepath.Join(dir, "u.sock"), PluginDir: filepath.Join(dir, "p")}
	for _, tt := range []struct{ socket, word, want string }{
		{"", "wide", "network wide exists but its driver is tapestry:latest, and this daemon does not have it: the plugin tapestry:latest has it, say --api-socket " + at},
		{at, "mynet", "network mynet exists but its driver is tapestry, and this daemon does not have it: the daemon that is no plugin has it, say --api-socket " + where.Socket},
		{"", "other", "network other exists but its driver is tapestry:latest, and this daemon does not have it"},
	} {
		c := &client.Client{SearchPaths: where, Socket: tt.socket, DockerHost: known}
		if _, err := docker.FindNetwork(t.Context(), c, tt.word); exit.Code(err) != exit.NoTarget || err.Error() != tt.want {
			t.Errorf("%s: exit %d\ngot  %v\nwant %s", tt.word, exit.Code(err), err, tt.want)
		}
	}
}

// The commands that are suggested fit a systemd unit or a plugin.
func TestSupervisor(t *testing.T) {
	p := pluginCalled(fake.PluginID, "acme/tapestry:v2")
	set, off := p, p
	set.Settings.Args = []string{"--vtep=192.0.2.1", "", "--peer", "192.0.2.2", "--finish-checksums"}
	off.Enabled, off.Settings.Args = false, []string{"--vxlan-port", "4789", "--peer=192.0.2.2"}
	for name, tt := range map[string]struct{ got, want string }{
		"log of a unit":         {docker.Supervisor{}.LogCommand(), "journalctl -u tapestry"},
		"log of a plugin":       {docker.Supervisor{Plugin: p}.LogCommand(), "journalctl -u docker | grep plugin=3f2b1c0d9e8f"},
		"restart a unit":        {docker.Supervisor{}.Restart(), "systemctl restart tapestry: containers keep their connections"},
		"restart a plugin":      {docker.Supervisor{Plugin: p}.Restart(), "docker plugin disable -f acme/tapestry:v2 && docker plugin enable acme/tapestry:v2: containers keep their connections"},
		"flags of a unit":       {docker.Supervisor{}.Flags("--vtep ADDR", "--vxlan-port PORT"), "tapestry run --vtep ADDR --vxlan-port PORT"},
		"flags of a plugin":     {docker.Supervisor{Plugin: p}.Flags("--vtep ADDR"), `docker plugin disable -f acme/tapestry:v2 && docker plugin set acme/tapestry:v2 args="--vtep ADDR" && docker plugin enable acme/tapestry:v2`},
		"flags keep the others": {docker.Supervisor{Plugin: set}.Flags("--vtep ADDR"), `docker plugin disable -f acme/tapestry:v2 && docker plugin set acme/tapestry:v2 args="--peer 192.0.2.2 --finish-checksums --vtep ADDR" && docker plugin enable acme/tapestry:v2`},
		"flags of a disabled":   {docker.Supervisor{Plugin: off}.Flags("--vxlan-port 8472"), `docker plugin set acme/tapestry:v2 args="--peer=192.0.2.2 --vxlan-port 8472" && docker plugin enable acme/tapestry:v2`},
		"driver of a unit":      {docker.Supervisor{}.Driver("tapestry"), "tapestry"},
		"driver of a plugin":    {docker.Supervisor{Plugin: p}.Driver("tapestry"), "acme/tapestry:v2"},
		"without Docker's word": {docker.Supervisor{Plugin: docker.Plugin{ID: fake.PluginID}}.Start(), "docker plugin enable 3f2b1c0d9e8f"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, tt.got, tt.want)
		}
	}
	for path, want := range map[string]string{
		"/run/docker/plugins/" + fake.PluginID + "/tapestry-api.sock": fake.PluginID,
		"/run/docker/plugins/" + fake.PluginID + "/tapestry.sock":     "",
		"/run/docker/plugins/tapestry-api.sock":                       "",
		"/run/tapestry/tapestry.sock":                                 "",
		"":                                                            "",
	} {
		if got := client.PluginID(path); got != want {
			t.Errorf("%q is of plugin %q, want %q", path, got, want)
		}
	}
}

// If the daemon closes the connection or does not answer, the error says where its log is.
func TestLogOfPlugin(t *testing.T) {
	dir := fake.ShortDir(t)
	at := filepath.Join(dir, fake.PluginID, client.PluginSocketName)
	fake.ServeAt(t, at, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	r := tapestry(t, "networks", "--api-socket", at, "--docker-host", "unix:///nonexistent")
	if r.code != exit.NoDaemon || !strings.Contains(r.stderr, "hangs up: see the daemon's log (journalctl -u docker | grep plugin=3f2b1c0d9e8f)") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

// Status shows what Docker calls the driver, and as what its daemon runs.
func TestStatusOfPlugin(t *testing.T) {
	at := filepath.Join(fake.ShortDir(t), fake.PluginID, client.PluginSocketName)
	fake.ServeAt(t, at, daemonNamed("tapestry"))
	known := dockerWith(t, map[string]any{"/networks": []docker.Network{}, "/plugins/" + fake.PluginID + "/json": pluginCalled(fake.PluginID, "tapestry:latest")})
	r := tapestry(t, "status", "--api-socket", at, "--docker-host", known)
	if want := "driver     tapestry:latest, scope global\nruns as    plugin tapestry:latest of Docker, id 3f2b1c0d9e8f\n"; !strings.HasPrefix(r.out, want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	var s api.Status
	r = tapestry(t, "status", "--json", "--api-socket", at, "--docker-host", known)
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.Plugin != "tapestry:latest" || s.PluginID != fake.PluginID || s.Scope != "global" || s.Name != "tapestry" {
		t.Errorf("%v, %s", err, r.out)
	}
	r = tapestry(t, "status", "--api-socket", at, "--docker-host", "unix:///nonexistent")
	if want := "runs as    a plugin of Docker, id 3f2b1c0d9e8f\n"; !strings.Contains(r.out, want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	r = tapestry(t, "status", "--api-socket", fake.Daemon(t, fake.NewFabric()), "--docker-host", known)
	if want := "runs as    a unit of systemd, or a process of its own\n"; !strings.Contains(r.out, want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
}

// In its own namespace a plugin's daemon is process 1.
func TestStatusPID(t *testing.T) {
	at := filepath.Join(fake.ShortDir(t), fake.PluginID, client.PluginSocketName)
	fake.ServeAt(t, at, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fake.WriteJSON(w, api.Status{PID: 1}) }))
	if s, err := (&client.Client{Socket: at}).Status(t.Context()); err != nil || s.PID != os.Getpid() {
		t.Errorf("pid %d, want %d (%v)", s.PID, os.Getpid(), err)
	}
}

func TestEmptySocket(t *testing.T) {
	if r := tapestry(t, "status", "--api-socket", ""); r.code != exit.Usage || !strings.Contains(r.stderr, `--api-socket "": want a path`) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"status", "--help"})
	root.SetOut(&out)
	testhost.Must(t, root.Execute())
	if want := "(default /run/tapestry/tapestry.sock, else that of the plugin that runs)"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in %s", want, out.String())
	}
}
