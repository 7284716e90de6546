package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tapestry-net/tapestry/plugin"
)

const (
	pluginID = "3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b"
	secondID = "4a2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b"
	thirdID  = "5b2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b1c0d9e8f3f2b"
)

// shortDir is a directory whose path leaves room for a plugin's id in a socket's (107 bytes, unix(7)).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "t")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serveAt serves h at path until the test ends, and counts the connections.
func serveAt(t *testing.T, path string, h http.Handler) *atomic.Int64 {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.Listen("unix", path)
	must(t, err)
	n := new(atomic.Int64)
	s := &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return n
}

// staleAt leaves a socket at which nobody listens.
func staleAt(t *testing.T, path string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
}

// called is a daemon of this name.
func called(name string) http.Handler {
	return (&api{host: newFakeHost(), log: slog.New(slog.DiscardHandler), name: name, scope: plugin.Global}).handler()
}

// dockerWith answers each path with a value.
func dockerWith(t *testing.T, answers map[string]any) (dockerHost string) {
	t.Helper()
	return "unix://" + serveUnix(t, "docker.sock", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
}

func pluginCalled(id, name string) dockerPlugin {
	p := dockerPlugin{ID: id, Name: name, Enabled: true}
	p.Config.Entrypoint = []string{"/tapestry", "run", "--scope", "global", "--vxlan-port", "8472"}
	p.Config.Interface.Types, p.Config.Interface.Socket = []string{"docker.networkdriver/1.0"}, "tapestry.sock"
	return p
}

func TestFindDaemon(t *testing.T) {
	docker := dockerWith(t, map[string]any{
		"/plugins/" + pluginID + "/json": pluginCalled(pluginID, "tapestry:latest"),
		"/plugins/" + secondID + "/json": pluginCalled(secondID, "acme/tapestry:v2"),
	})
	const unit = "usual/tapestry.sock"
	at := func(id string) string { return filepath.Join("plugins", id, pluginAPI) }
	for name, tt := range map[string]struct {
		live, stale []string // paths
		socket      string   // --api-socket
		found       string   // path; "": none
		code        int
		said        []string // DIR stands for the test's directory
	}{
		"the usual path":                        {live: []string{unit}, found: unit},
		"the usual path before a plugin":        {live: []string{unit, at(pluginID)}, found: unit},
		"a plugin":                              {live: []string{at(pluginID)}, found: at(pluginID)},
		"a plugin beside what a unit has left":  {live: []string{at(pluginID)}, stale: []string{unit, at(secondID)}, found: at(pluginID)},
		"other plugins have no such socket":     {live: []string{at(pluginID)}, stale: []string{"plugins/" + secondID + "/other.sock", "plugins/x.sock"}, found: at(pluginID)},
		"--api-socket before all":               {live: []string{unit, at(pluginID), "other.sock"}, socket: "other.sock", found: "other.sock"},
		"--api-socket and nothing else":         {live: []string{unit, at(pluginID)}, socket: "other.sock", code: exitNoDaemon, said: []string{"no daemon answers at DIR/other.sock: start one: "}},
		"--api-socket of a plugin that is gone": {live: []string{unit}, stale: []string{at(pluginID)}, socket: at(pluginID), code: exitNoDaemon, said: []string{"no daemon answers at DIR/" + at(pluginID)}},
		"two plugins": {live: []string{at(pluginID), at(secondID)}, code: exitUsage, said: []string{"several daemons run on this host: ",
			"DIR/" + at(pluginID) + " (plugin tapestry:latest)", "DIR/" + at(secondID) + " (plugin acme/tapestry:v2)", ": name one by --api-socket PATH"}},
		"two plugins of which Docker knows one": {live: []string{at(pluginID), at(thirdID)}, code: exitUsage, said: []string{"(plugin tapestry:latest), DIR/" + at(thirdID) + ": name one"}},
		"none": {stale: []string{unit, at(pluginID)}, code: exitNoDaemon, said: []string{"no daemon answers at DIR/usual/tapestry.sock, nor as a plugin of Docker (DIR/plugins/*/tapestry-api.sock): ",
			"`tapestry run` as root", "`systemctl start tapestry`", "`docker plugin enable tapestry`"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			for _, path := range tt.stale {
				staleAt(t, filepath.Join(dir, path))
			}
			count := map[string]*atomic.Int64{}
			for _, path := range tt.live {
				count[path] = serveAt(t, filepath.Join(dir, path), called(path))
			}
			c := &client{places: places{filepath.Join(dir, unit), filepath.Join(dir, "plugins")}, dockerHost: docker}
			if tt.socket != "" {
				c.socket = filepath.Join(dir, tt.socket)
			}
			for range 2 { // the second one does not search
				s, err := c.status(t.Context())
				if exitCode(err) != tt.code || s.Name != tt.found || tt.found != "" && c.at() != filepath.Join(dir, tt.found) {
					t.Fatalf("exit %d, want %d: %v; found %q at %s, want %q", exitCode(err), tt.code, err, s.Name, c.at(), tt.found)
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
			if n := count[at(pluginID)]; tt.found == unit && n != nil && n.Load() != 0 {
				t.Errorf("the plugin's daemon got %d connections", n.Load())
			}
		})
	}
}

// Once found, it is the same daemon until the command ends.
func TestFindSticks(t *testing.T) {
	dir := shortDir(t)
	c := &client{places: places{filepath.Join(dir, "u.sock"), filepath.Join(dir, "p")}}
	serveAt(t, filepath.Join(dir, "p", pluginID, pluginAPI), called("plugin"))
	if s, err := c.status(t.Context()); err != nil || s.Name != "plugin" {
		t.Fatalf("%q, %v", s.Name, err)
	}
	serveAt(t, filepath.Join(dir, "u.sock"), called("unit"))
	if s, err := c.status(t.Context()); err != nil || s.Name != "plugin" {
		t.Errorf("%q, %v", s.Name, err)
	}
}

// Streams find it too, also as the first that is asked.
func TestFindStream(t *testing.T) {
	dir := shortDir(t)
	c := &client{places: places{filepath.Join(dir, "u.sock"), filepath.Join(dir, "p")}}
	serveAt(t, filepath.Join(dir, "p", pluginID, pluginAPI), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusConflict, errorReply{"found"})
	}))
	if _, err := c.openStream(t.Context(), "/v1/captures", captureRequest{}); err == nil || err.Error() != "found" {
		t.Errorf("%v", err)
	}
}

// Who may not look for plugins' sockets is told so.
func TestFindUnseen(t *testing.T) {
	dir := shortDir(t)
	hidden := filepath.Join(dir, "p")
	must(t, os.WriteFile(hidden, nil, 0o600)) // as little a directory that can be read as root's is to others
	c := &client{places: places{filepath.Join(dir, "u.sock"), hidden}}
	_, err := c.status(t.Context())
	if exitCode(err) != exitNoDaemon || !strings.Contains(err.Error(), "only root sees: run this as root") || !strings.Contains(err.Error(), "systemctl start tapestry") {
		t.Errorf("exit %d, %v", exitCode(err), err)
	}
}

// A network of another daemon of this host: the error names that one.
func TestElsewhere(t *testing.T) {
	dir := shortDir(t)
	at := filepath.Join(dir, "p", pluginID, pluginAPI)
	serveAt(t, filepath.Join(dir, "u.sock"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, []networkReply{{ID: localID}}) }))
	serveAt(t, at, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, []networkReply{{ID: wideID}}) }))
	docker := dockerWith(t, map[string]any{
		"/networks": []dockerNetwork{{ID: localID, Name: "mynet", Driver: "tapestry"}, {ID: wideID, Name: "wide", Driver: "tapestry:latest"},
			{ID: otherID, Name: "other", Driver: "tapestry:latest"}},
		"/plugins/" + pluginID + "/json": pluginCalled(pluginID, "tapestry:latest"),
	})
	where := places{filepath.Join(dir, "u.sock"), filepath.Join(dir, "p")}
	for _, tt := range []struct{ socket, word, want string }{
		{"", "wide", "network wide exists but its driver is tapestry:latest, and this daemon does not have it: the plugin tapestry:latest has it, say --api-socket " + at},
		{at, "mynet", "network mynet exists but its driver is tapestry, and this daemon does not have it: the daemon that is no plugin has it, say --api-socket " + where.usual},
		{"", "other", "network other exists but its driver is tapestry:latest, and this daemon does not have it"},
	} {
		c := &client{places: where, socket: tt.socket, dockerHost: docker}
		if _, err := c.find(t.Context(), tt.word); exitCode(err) != exitNoTarget || err.Error() != tt.want {
			t.Errorf("%s: exit %d\ngot  %v\nwant %s", tt.word, exitCode(err), err, tt.want)
		}
	}
}

// What to type is right for a unit and for a plugin.
func TestSupervisor(t *testing.T) {
	p := pluginCalled(pluginID, "acme/tapestry:v2")
	set, off := p, p
	set.Settings.Args = []string{"--vtep=192.0.2.1", "", "--peer", "192.0.2.2", "--finish-checksums"}
	off.Enabled, off.Settings.Args = false, []string{"--vxlan-port", "4789", "--peer=192.0.2.2"}
	for name, tt := range map[string]struct{ got, want string }{
		"log of a unit":         {supervisor{}.log(), "journalctl -u tapestry"},
		"log of a plugin":       {supervisor{p}.log(), "journalctl -u docker | grep plugin=3f2b1c0d9e8f"},
		"restart a unit":        {supervisor{}.restart(), "systemctl restart tapestry: containers keep their connections"},
		"restart a plugin":      {supervisor{p}.restart(), "docker plugin disable -f acme/tapestry:v2 && docker plugin enable acme/tapestry:v2: containers keep their connections"},
		"flags of a unit":       {supervisor{}.flags("--vtep ADDR", "--vxlan-port PORT"), "tapestry run --vtep ADDR --vxlan-port PORT"},
		"flags of a plugin":     {supervisor{p}.flags("--vtep ADDR"), `docker plugin disable -f acme/tapestry:v2 && docker plugin set acme/tapestry:v2 args="--vtep ADDR" && docker plugin enable acme/tapestry:v2`},
		"flags keep the others": {supervisor{set}.flags("--vtep ADDR"), `docker plugin disable -f acme/tapestry:v2 && docker plugin set acme/tapestry:v2 args="--peer 192.0.2.2 --finish-checksums --vtep ADDR" && docker plugin enable acme/tapestry:v2`},
		"flags of a disabled":   {supervisor{off}.flags("--vxlan-port 8472"), `docker plugin set acme/tapestry:v2 args="--peer=192.0.2.2 --vxlan-port 8472" && docker plugin enable acme/tapestry:v2`},
		"driver of a unit":      {supervisor{}.driver("tapestry"), "tapestry"},
		"driver of a plugin":    {supervisor{p}.driver("tapestry"), "acme/tapestry:v2"},
		"without Docker's word": {supervisor{dockerPlugin{ID: pluginID}}.start(), "docker plugin enable 3f2b1c0d9e8f"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, tt.got, tt.want)
		}
	}
	for path, want := range map[string]string{
		"/run/docker/plugins/" + pluginID + "/tapestry-api.sock": pluginID,
		"/run/docker/plugins/" + pluginID + "/tapestry.sock":     "",
		"/run/docker/plugins/tapestry-api.sock":                  "",
		"/run/tapestry/tapestry.sock":                            "",
		"":                                                       "",
	} {
		if got := pluginOf(path); got != want {
			t.Errorf("%q is of plugin %q, want %q", path, got, want)
		}
	}
}

// A daemon that hangs up or does not answer: the error names the log that it has.
func TestLogOfPlugin(t *testing.T) {
	dir := shortDir(t)
	at := filepath.Join(dir, pluginID, pluginAPI)
	serveAt(t, at, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	r := tapestry(t, "networks", "--api-socket", at, "--docker-host", "unix:///nonexistent")
	if r.code != exitNoDaemon || !strings.Contains(r.stderr, "hangs up: see the daemon's log (journalctl -u docker | grep plugin=3f2b1c0d9e8f)") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

// Status shows what Docker calls the driver, and as what its daemon runs.
func TestStatusOfPlugin(t *testing.T) {
	at := filepath.Join(shortDir(t), pluginID, pluginAPI)
	serveAt(t, at, called("tapestry"))
	docker := dockerWith(t, map[string]any{"/networks": []dockerNetwork{}, "/plugins/" + pluginID + "/json": pluginCalled(pluginID, "tapestry:latest")})
	r := tapestry(t, "status", "--api-socket", at, "--docker-host", docker)
	if want := "driver     tapestry:latest, scope global\nruns as    plugin tapestry:latest of Docker, id 3f2b1c0d9e8f\n"; !strings.HasPrefix(r.out, want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	var s statusReply
	r = tapestry(t, "status", "--json", "--api-socket", at, "--docker-host", docker)
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.Plugin != "tapestry:latest" || s.PluginID != pluginID || s.Scope != "global" || s.Name != "tapestry" {
		t.Errorf("%v, %s", err, r.out)
	}
	r = tapestry(t, "status", "--api-socket", at, "--docker-host", "unix:///nonexistent")
	if want := "runs as    a plugin of Docker, id 3f2b1c0d9e8f\n"; !strings.Contains(r.out, want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	r = tapestry(t, "status", "--api-socket", fakeDaemon(t, newFakeHost()), "--docker-host", docker)
	if want := "runs as    a unit of systemd, or a process of its own\n"; !strings.Contains(r.out, want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
}

// In its own namespace a plugin's daemon is process 1.
func TestStatusPID(t *testing.T) {
	at := filepath.Join(shortDir(t), pluginID, pluginAPI)
	serveAt(t, at, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, statusReply{PID: 1}) }))
	if s, err := (&client{socket: at}).status(t.Context()); err != nil || s.PID != os.Getpid() {
		t.Errorf("pid %d, want %d (%v)", s.PID, os.Getpid(), err)
	}
}

func TestEmptySocket(t *testing.T) {
	if r := tapestry(t, "status", "--api-socket", ""); r.code != exitUsage || !strings.Contains(r.stderr, `--api-socket "": want a path`) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"status", "--help"})
	root.SetOut(&out)
	must(t, root.Execute())
	if want := "(default /run/tapestry/tapestry.sock, else that of the plugin that runs)"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in %s", want, out.String())
	}
}
