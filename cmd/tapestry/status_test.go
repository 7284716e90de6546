package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/capture"
)

// lookedAt is a daemon with two captures that run and a recorder that is on.
func lookedAt(t *testing.T) (socket string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	looks := newCaptures(capture.NewHub(), log, nil)
	t.Cleanup(looks.recorder.Close)
	if err := looks.recorder.Resize(2 << 20); err != nil {
		t.Fatal(err)
	}
	for name, who := range map[string]credentials{"tapestry capture web -w x": {uid: 0, pid: 4711}, "mine\x1b[2J": {uid: -1}} {
		s, err := looks.open(&asked{captureRequest: captureRequest{Name: name}}, who)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { looks.close(s, nil) })
	}
	if err := looks.arm(wideID, webID, "tcp port 80"); err != nil {
		t.Fatal(err)
	}
	return serveUnix(t, "tapestry.sock", (&api{host: newFakeHost(), log: log, name: "tapestry", captures: looks}).handler())
}

func TestStatusOfLooks(t *testing.T) {
	r := tapestry(t, "status", "--api-socket", lookedAt(t), "--docker-host", fakeDocker(t))
	for _, want := range []string{"captures   3: ", `uid 0 pid 4711 "tapestry capture web -w x" `, " ms, 0 frames, 0 lost",
		`somebody "mine [2J" `, ` of web, from its start on, "tcp port 80": 0 frames to read, 0 lost (tapestry capture --attach `, "recorder   on, 2 MiB, since "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	r = tapestry(t, "status", "--api-socket", fakeDaemon(t, newFakeHost()), "--docker-host", fakeDocker(t))
	if strings.Contains(r.out, "captures") || !strings.Contains(r.out, "recorder   off: tapestry recorder on\n") {
		t.Errorf("a daemon that nobody looks through shows\n%s", r.out)
	}
}

// A port that is down is seen at a glance.
func TestPortsDownInStatus(t *testing.T) {
	for down, want := range map[int]bool{0: false, 2: true} {
		var out bytes.Buffer
		if err := printStatus(&out, statusReply{PortsDown: down}, &docker{}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "ports      2 down, see tapestry ports\n") != want {
			t.Errorf("%d down: %s", down, out.String())
		}
	}
}
