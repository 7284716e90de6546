package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// startDaemon starts `tapestry run` in a directory of its own and waits until it is ready.
func startDaemon(t *testing.T) (args []string, dir string, stop func() int) {
	t.Helper()
	if err := tap.CheckTUN(); err != nil {
		testhost.Cannot(t, err)
	}
	dir = t.TempDir()
	args = []string{"run", "--name", "t" + strconv.Itoa(os.Getpid()), "--plugin-dir", filepath.Join(dir, "plugins"), "--state-dir", filepath.Join(dir, "state"),
		"--api-socket", filepath.Join(dir, "run", "api.sock"), "--log-format", "json"}
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := execute(ctx, args, io.Discard, w)
		w.Close()
		ended <- code
	}()
	lines := bufio.NewScanner(r)
	ready := false
	for !ready && lines.Scan() {
		var line struct{ Msg string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("the log has %q: %v", lines.Text(), err)
		}
		ready = line.Msg == "ready"
	}
	if !ready {
		cancel()
		t.Fatalf("the daemon ended with %d before it was ready", <-ended)
	}
	drained := make(chan struct{})
	go func() { io.Copy(io.Discard, r); close(drained) }()
	return args, dir, func() int {
		cancel()
		<-drained
		return <-ended
	}
}

func TestRun(t *testing.T) {
	args, dir, stop := startDaemon(t)
	socket, driver := filepath.Join(dir, "run", "api.sock"), filepath.Join(dir, "plugins", args[2]+".sock")
	for _, path := range []string{socket, driver} {
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("%s is %v, want a socket of mode 0600 (%v)", path, info.Mode(), err)
		}
	}
	if info, err := os.Stat(filepath.Dir(socket)); err != nil || info.Mode().Perm()&^0o755 != 0 {
		t.Errorf("the socket's directory has mode %v, want 0755 or less (%v)", info.Mode(), err)
	}

	var s api.Status
	r := tapestry(t, "status", "--json", "--api-socket", socket, "--docker-host", "unix:///nonexistent")
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.PID != os.Getpid() || s.Tunnel != "closed" {
		t.Errorf("status is %q, %q: %v", r.out, r.stderr, err)
	}
	if r := tapestry(t, "ports", "mynet", "--api-socket", socket, "--docker-host", "unix:///nonexistent"); r.code != exit.NoTarget {
		t.Errorf("ports of an unknown network: exit %d, %s", r.code, r.stderr)
	}
	if r := tapestry(t, args...); r.code != exit.Failure || !strings.Contains(r.stderr, "already running") {
		t.Errorf("a second daemon: exit %d, %s", r.code, r.stderr)
	}

	// Nor one of the same name with everything else of its own: it would sweep this one's links.
	twin := append([]string(nil), args...)
	twin[4], twin[6], twin[8] = filepath.Join(dir, "twin", "plugins"), filepath.Join(dir, "twin", "state"), filepath.Join(dir, "twin", "api.sock")
	if r := tapestry(t, twin...); r.code != exit.Failure || !strings.Contains(r.stderr, "a tapestry with --name "+args[2]+" runs on this host already") {
		t.Errorf("a second daemon of the same name: exit %d, %s", r.code, r.stderr)
	}

	// A start that fails late, because the API socket is taken, leaves no driver socket behind.
	other := append([]string(nil), args...)
	other[2], other[6] = "u"+args[2], filepath.Join(dir, "other")
	if r := tapestry(t, other...); r.code != exit.Failure || !strings.Contains(r.stderr, "another daemon answers at --api-socket "+socket) {
		t.Errorf("a daemon with the same API socket: exit %d, %s", r.code, r.stderr)
	}
	if _, err := os.Lstat(filepath.Join(dir, "plugins", other[2]+".sock")); err == nil {
		t.Error("the driver socket of a daemon that did not start is still there")
	}

	if code := stop(); code != exit.OK {
		t.Errorf("a stopped daemon exits %d, want 0", code)
	}
	for _, path := range []string{socket, driver} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
}
