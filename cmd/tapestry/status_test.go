package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/docker"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// statusDaemon is a daemon with three captures, of which one waits for a reader, and a recorder that is on.
func statusDaemon(t *testing.T) (socket string) {
	t.Helper()
	captures := daemon.NewCaptures(capture.NewHub(), "devel", slog.New(slog.DiscardHandler), nil)
	t.Cleanup(captures.Recorder.Close)
	testhost.Must(t, captures.Recorder.Resize(2<<20))
	whole := (&daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel", Captures: captures}).Handler()
	return fake.ServeUnix(t, "tapestry.sock", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/status" {
			whole.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		whole.ServeHTTP(answer, r)
		var s api.Status
		if err := json.Unmarshal(answer.Body.Bytes(), &s); err != nil {
			t.Error(err)
		}
		s.Captures = []api.CaptureStats{{ID: "1", Name: "tapestry capture web -w x", UID: 0, PID: 4711, State: "running", Seconds: 0.04},
			{ID: "2", Name: "mine\x1b[2J", UID: -1, PID: -1, State: "running", Seconds: 0.04},
			{ID: "3", Name: "tapestry.capture=tcp port 80", UID: -1, PID: -1, State: "armed", Network: fake.WideID, Endpoint: fake.WebID}}
		if err := json.NewEncoder(w).Encode(s); err != nil {
			t.Error(err)
		}
	}))
}

func TestStatusOfCaptures(t *testing.T) {
	r := tapestry(t, "status", "--api-socket", statusDaemon(t), "--docker-host", fake.Docker(t))
	for _, want := range []string{"captures   3: ", `uid 0 pid 4711 "tapestry capture web -w x" `, " ms, 0 frames, 0 lost",
		`somebody "mine [2J" `, ` of web, from its start on, "tcp port 80": 0 frames to read, 0 lost (tapestry capture --attach `, "recorder   on, 2 MiB, since "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	r = tapestry(t, "status", "--api-socket", fake.Daemon(t, fake.NewFabric()), "--docker-host", fake.Docker(t))
	if strings.Contains(r.out, "captures") || !strings.Contains(r.out, "recorder   off: tapestry recorder on\n") {
		t.Errorf("a daemon that nobody looks through shows\n%s", r.out)
	}
}

// status shows that a port is down.
func TestPortsDownInStatus(t *testing.T) {
	for down, want := range map[int]bool{0: false, 2: true} {
		var out bytes.Buffer
		if err := printStatus(&out, api.Status{PortsDown: down}, &docker.Engine{}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "ports      2 down, see tapestry ports\n") != want {
			t.Errorf("%d down: %s", down, out.String())
		}
	}
}
