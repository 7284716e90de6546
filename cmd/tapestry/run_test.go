package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/tap"
)

func TestLockState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockState(dir)
	if err == nil || !strings.Contains(err.Error(), "already running with --state-dir "+dir+" (pid "+strconv.Itoa(os.Getpid())+")") {
		t.Errorf("a second daemon gets %v", err)
	}
	first.Close()
	again, err := lockState(dir)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.Close()
}

// daemon starts `tapestry run` in a directory of its own and waits until it is ready.
func daemon(t *testing.T) (args []string, dir string, stop func() int) {
	t.Helper()
	if err := tap.CheckTUN(); err != nil {
		cannot(t, err)
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

func TestStateDirForOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if f, err := lockState(dir); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a state directory that all may write is taken: %v, %v", f, err)
	}
}

func TestRun(t *testing.T) {
	args, dir, stop := daemon(t)
	api, driver := filepath.Join(dir, "run", "api.sock"), filepath.Join(dir, "plugins", args[2]+".sock")
	for _, path := range []string{api, driver} {
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("%s is %v, want a socket of mode 0600 (%v)", path, info.Mode(), err)
		}
	}
	if info, err := os.Stat(filepath.Dir(api)); err != nil || info.Mode().Perm()&^0o755 != 0 {
		t.Errorf("the socket's directory has mode %v, want 0755 or less (%v)", info.Mode(), err)
	}

	var s statusReply
	r := tapestry(t, "status", "--json", "--api-socket", api, "--docker-host", "unix:///nonexistent")
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || s.PID != os.Getpid() || s.Tunnel != "closed" {
		t.Errorf("status is %q, %q: %v", r.out, r.stderr, err)
	}
	if r := tapestry(t, "ports", "mynet", "--api-socket", api, "--docker-host", "unix:///nonexistent"); r.code != exitNoTarget {
		t.Errorf("ports of an unknown network: exit %d, %s", r.code, r.stderr)
	}
	if r := tapestry(t, args...); r.code != exitNo || !strings.Contains(r.stderr, "already running") {
		t.Errorf("a second daemon: exit %d, %s", r.code, r.stderr)
	}

	// Nor one of the same name with everything else of its own: it would sweep this one's links.
	twin := append([]string(nil), args...)
	twin[4], twin[6], twin[8] = filepath.Join(dir, "twin", "plugins"), filepath.Join(dir, "twin", "state"), filepath.Join(dir, "twin", "api.sock")
	if r := tapestry(t, twin...); r.code != exitNo || !strings.Contains(r.stderr, "a tapestry with --name "+args[2]+" runs on this host already") {
		t.Errorf("a second daemon of the same name: exit %d, %s", r.code, r.stderr)
	}

	// A start that fails late, because the API socket is taken, leaves no driver socket behind.
	other := append([]string(nil), args...)
	other[2], other[6] = "u"+args[2], filepath.Join(dir, "other")
	if r := tapestry(t, other...); r.code != exitNo || !strings.Contains(r.stderr, "another daemon answers at --api-socket "+api) {
		t.Errorf("a daemon with the same API socket: exit %d, %s", r.code, r.stderr)
	}
	if _, err := os.Lstat(filepath.Join(dir, "plugins", other[2]+".sock")); err == nil {
		t.Error("the driver socket of a daemon that did not start is still there")
	}

	if code := stop(); code != exitFine {
		t.Errorf("a stopped daemon exits %d, want 0", code)
	}
	for _, path := range []string{api, driver} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
}

func TestTellReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := tellReady(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	if n, err := c.Read(got); err != nil || string(got[:n]) != "READY=1" {
		t.Errorf("systemd hears %q, %v", got[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := tellReady(); err != nil {
		t.Errorf("without systemd: %v", err)
	}
}

func TestNewLogger(t *testing.T) {
	var b bytes.Buffer
	log := newLogger(&b, "warn", "json")
	log.Info("quiet")
	log.Warn("loud", "network", "n1")
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["msg"] != "loud" || line["network"] != "n1" {
		t.Errorf("logged %q: %v", b.String(), err)
	}
}
