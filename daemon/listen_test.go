package daemon

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
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

func TestStateDirForOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if f, err := lockState(dir); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a state directory that everybody can write is accepted: %v, %v", f, err)
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
		t.Errorf("systemd is told %q, %v", got[:n], err)
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
