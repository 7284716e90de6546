package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/tap"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// The error that ended tapestry run is in the error file, with the time; the errors of other commands are not.
func TestErrorFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "error")
	t.Setenv(daemon.ErrorFileEnv, path)
	wide := filepath.Join(dir, "wide")
	testhost.Must(t, os.Mkdir(wide, 0o700))
	testhost.Must(t, os.Chmod(wide, 0o777)) // whatever the umask is
	for _, tt := range []struct{ args, want string }{
		{"run --vxlan-prot 4790", "no flag --vxlan-prot, did you mean --vxlan-port?"},
		{"run --vxlan-port 0", `--vxlan-port "0": want a port from 1 to 65535`},
		{"run now", `"now" is one argument too many, want: tapestry run [flags]`},
		{"run --vtep 127.0.0.1 --peer 192.0.2.2", "start tapestry with another --vtep"},
		{"run --state-dir " + wide, "others than root can write into --state-dir"},
	} {
		r := tapestry(t, strings.Fields(tt.args)...)
		text, err := os.ReadFile(path)
		testhost.Must(t, err)
		if !regexp.MustCompile(`^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ tapestry: .+\n$`).Match(text) || !strings.Contains(string(text), tt.want) || !strings.HasSuffix(string(text), " "+r.stderr) || r.code == exit.OK {
			t.Errorf("%s: exit %d, %q, said %q", tt.args, r.code, text, r.stderr)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", tt.args, info.Mode(), err)
		}
		testhost.Must(t, os.Chmod(path, 0o666)) // the next one makes it anew
	}
	testhost.Must(t, os.Remove(path))
	for _, args := range []string{"run --help", "prots", "status --jsn", "completion tcsh"} {
		tapestry(t, strings.Fields(args)...)
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: there is an error file", args)
		}
	}
	t.Setenv(daemon.ErrorFileEnv, filepath.Join(wide, "error", "no", "directory"))
	testhost.Must(t, os.WriteFile(filepath.Join(wide, "error"), nil, 0o600))
	if r := tapestry(t, "run", "now"); r.code != exit.Usage || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
}

// A daemon that is ready has no error.
func TestErrorFileOfReady(t *testing.T) {
	if err := tap.CheckTUN(); err != nil {
		testhost.Cannot(t, err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "error")
	testhost.Must(t, os.WriteFile(path, []byte("2026-01-02T03:04:05Z tapestry: UDP port 8472 is taken\n"), 0o600))
	t.Setenv(daemon.ErrorFileEnv, path)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := daemon.Run(ctx, daemon.Config{Config: fabric.Config{Name: "e" + strconv.Itoa(os.Getpid()), Dir: filepath.Join(dir, "state"), Port: 8472, SweepAfter: time.Minute},
			PluginDir: dir, APISocket: filepath.Join(dir, "api.sock"), Scope: plugin.Local, LogLevel: "info", LogFormat: "text"}, w)
		w.Close()
		ended <- err
	}()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if strings.Contains(lines.Text(), "msg=ready") {
			cancel()
		}
	}
	testhost.Must(t, <-ended)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the error file is still there")
	}
}
