package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// capture change gives a running capture another filter. The command that began the capture updates the addresses in its own
// filter, and must not undo that.
func TestCaptureChangeCommand(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	socket := fake.ServeUnix(t, "all.sock", (&daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler), Captures: l.Captures}).Handler())
	s := l.Open(t, api.CaptureRequest{Filter: api.Filter{Expr: "ether[14] = 1"}, Frames: 2})
	change := func(args ...string) result {
		return tapestry(t, append([]string{"capture", "change", "--api-socket", socket, "--docker-host", "unix:///nowhere"}, args...)...)
	}
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{s.ID, "no filter: want -f EXPR", exit.Usage}, {"-f icmp", "0 captures: want one ID", exit.Usage},
		{"99 -f icmp", `no capture "99"`, exit.NoTarget}, {s.ID + " -f tcp -f prot", "cannot be read", exit.Usage},
		{s.ID + " -- ether[14] = 2", "", exit.OK},
	} {
		if r := change(strings.Fields(c.args)...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: exit %d, %s", c.args, r.code, r.stderr)
		}
	}
	l.Send(1, 2, 1, 2)
	was := "ether[14] = 1"
	testhost.Must(t, s.Change(t.Context(), api.CaptureChange{Filter: &api.Filter{Expr: was, Was: &was}}))
	if b, err := s.Stats(t.Context()); err != nil || b.Filter != "ether[14] = 2" {
		t.Errorf("the counts are %+v, %v", b, err)
	}
	if r := tapestry(t, "status", "--api-socket", socket, "--docker-host", "unix:///nowhere"); !strings.Contains(r.out, "capture "+s.ID+" of ") {
		t.Errorf("status does not tell its ID:\n%s", r.out)
	}
	l.Send(1, 2, 1, 2)
	if _, numbers, _, _ := fake.ReadRest(t, s); !bytes.Equal(numbers, []byte{2, 2}) {
		t.Errorf("frames %v", numbers)
	}
}

// --bytes ends a capture before its frames take more; --json prints what watch --json does.
func TestCaptureBytesAndJSON(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	socket := fake.ServeUnix(t, "all.sock", (&daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler), Captures: l.Captures}).Handler())
	path := filepath.Join(t.TempDir(), "x.pcapng")
	done := make(chan result)
	run := func(args ...string) {
		go func() {
			done <- tapestry(t, append([]string{"capture", "--api-socket", socket, "--docker-host", "unix:///nowhere"}, args...)...)
		}()
		for len(l.Running()) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	run("-w", path, "--bytes", "20kB")
	l.Send(1, 2, make([]byte, 1000)...)
	r := <-done
	info, err := os.Stat(path)
	if r.code != exit.OK || err != nil || info.Size() > 21_000 || info.Size() < 12_000 || !strings.Contains(r.stderr, ", at most 20 kB and 1h") {
		t.Errorf("exit %d, %v, %v: %s", r.code, info, err, r.stderr)
	}
	l.AwaitLog(t, "capture ended")
	run("--json", "-n", "2")
	l.Send(1, 2, 1, 2)
	r = <-done
	var f map[string]any
	if lines := strings.Split(strings.TrimSpace(r.out), "\n"); len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &f) != nil || f["verdict"] != "forwarded" {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	testhost.Must(t, l.Recorder.Resize(1<<21))
	defer l.Recorder.Close()
	l.Send(1, 2, 1, 2, 3)
	r = tapestry(t, "recorder", "dump", "--json", "--api-socket", socket, "--docker-host", "unix:///nowhere")
	if r.code != exit.OK || strings.Count(r.out, `"verdict":"forwarded"`) != 3 {
		t.Errorf("recorder dump --json: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	r = tapestry(t, "recorder", "dump", "--json", "-w", path, "--api-socket", socket)
	if r.code != exit.Usage || !strings.Contains(r.stderr, "--json with --write") {
		t.Errorf("both: exit %d, %s", r.code, r.stderr)
	}
}
