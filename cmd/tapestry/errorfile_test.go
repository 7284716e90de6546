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
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/tap"
)

// Why tapestry run ended stands in the error file as on standard error, with the time; of other commands nothing does.
func TestErrorFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "error")
	t.Setenv(errorFileEnv, path)
	wide := filepath.Join(dir, "wide")
	must(t, os.Mkdir(wide, 0o700))
	must(t, os.Chmod(wide, 0o777)) // whatever the umask is
	for _, tt := range []struct{ args, want string }{
		{"run --vxlan-prot 4790", "no flag --vxlan-prot, did you mean --vxlan-port?"},
		{"run --vxlan-port 0", `--vxlan-port "0": want a port from 1 to 65535`},
		{"run now", `"now" is one argument too many, want: tapestry run [flags]`},
		{"run --vtep 127.0.0.1 --peer 192.0.2.2", "start tapestry with another --vtep"},
		{"run --state-dir " + wide, "others than root can write into --state-dir"},
	} {
		r := tapestry(t, strings.Fields(tt.args)...)
		text, err := os.ReadFile(path)
		must(t, err)
		if !regexp.MustCompile(`^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ tapestry: .+\n$`).Match(text) || !strings.Contains(string(text), tt.want) || !strings.HasSuffix(string(text), " "+r.stderr) || r.code == exitFine {
			t.Errorf("%s: exit %d, %q, said %q", tt.args, r.code, text, r.stderr)
		}
		if sentence, when := readErrorFile(path); !strings.Contains(sentence, tt.want) || strings.Contains(sentence, "tapestry: ") || !strings.HasPrefix(when, "20") {
			t.Errorf("%s: read back as %q, %q", tt.args, sentence, when)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", tt.args, info.Mode(), err)
		}
		must(t, os.Chmod(path, 0o666)) // the next one makes it anew
	}
	must(t, os.Remove(path))
	for _, args := range []string{"run --help", "prots", "status --jsn", "completion tcsh"} {
		tapestry(t, strings.Fields(args)...)
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: there is an error file", args)
		}
	}
	t.Setenv(errorFileEnv, filepath.Join(wide, "error", "no", "directory"))
	must(t, os.WriteFile(filepath.Join(wide, "error"), nil, 0o600))
	if r := tapestry(t, "run", "now"); r.code != exitUsage || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
}

// A daemon that is ready has no error.
func TestErrorFileOfReady(t *testing.T) {
	if err := tap.CheckTUN(); err != nil {
		cannot(t, err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "error")
	must(t, os.WriteFile(path, []byte("2026-01-02T03:04:05Z tapestry: UDP port 8472 is taken\n"), 0o600))
	t.Setenv(errorFileEnv, path)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := runDaemon(ctx, settings{Config: fabric.Config{Name: "e" + strconv.Itoa(os.Getpid()), Dir: filepath.Join(dir, "state"), Port: 8472, SweepAfter: time.Minute},
			pluginDir: dir, apiSocket: filepath.Join(dir, "api.sock"), scope: plugin.Local, logLevel: "info", logFormat: "text"}, w)
		w.Close()
		ended <- err
	}()
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if strings.Contains(lines.Text(), "msg=ready") {
			cancel()
		}
	}
	must(t, <-ended)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the error file is still there")
	}
}

func FuzzErrorFile(f *testing.F) {
	for _, seed := range []string{"", "torn", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z tapestry: a\x1b[2Jb\nc", "2026-01-02T03:04:05Z é\xff", "tapestry: tapestry: x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sentence, when := parseErrorFile(text)
		if len(sentence)+len(when) > 3*len(text) || !utf8.ValidString(sentence) || strings.ContainsFunc(sentence+when, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is read as %q, %q", text, sentence, when)
		}
		if _, err := time.Parse(time.RFC3339, when); when != "" && err != nil {
			t.Errorf("%q has the time %q", text, when)
		}
	})
}

// What a plugin has left is read as text of one line, and never as another file.
func TestReadErrorFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "error")
	for text, want := range map[string]string{
		"":     "",
		"torn": "torn",
		"2026-01-02T03:04:05Z tapestry: a\x1b[2Jb\nc": "a [2Jb c",
		strings.Repeat("é", mostErrorFile):            strings.Repeat("é", mostErrorFile/2),
	} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if got, _ := readErrorFile(path); got != want {
			t.Errorf("%.40q is read as %.40q (%d)", text, got, len(got))
		}
	}
	must(t, os.Symlink("/etc/passwd", path+"-link"))
	must(t, unix.Mkfifo(path+"-fifo", 0o600))
	for _, other := range []string{path + "-none", path + "-link", path + "-fifo", dir} {
		if got, when := readErrorFile(other); got != "" || when != "" {
			t.Errorf("%s is read as %q, %q", other, got, when)
		}
	}
}
