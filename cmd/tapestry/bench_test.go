package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cmd/exit"
)

// asTapestry runs this test's own binary as tapestry in dir (main_test.go), with another directory as its PATH.
func asTapestry(t *testing.T, dir, path string, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "tapestry")
	if _, err := os.Stat(program); err != nil {
		text, err := os.ReadFile(self)
		if err == nil {
			err = os.WriteFile(program, text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{runAsTapestry + "=1", "PATH=" + path}
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err = cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// bench writes a tapestry-bench that says its arguments, and what it is called.
func bench(t *testing.T, dir, name string) {
	t.Helper()
	script := "#!/bin/sh\nprintf '%s' " + name + "\nfor arg; do printf ' [%s]' \"$arg\"; done\nexit 3\n"
	if err := os.WriteFile(filepath.Join(dir, benchProgram), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// `tapestry bench` is tapestry-bench: its output and its exit code, for whatever arguments, help and completion too.
func TestBenchRunsTheProgram(t *testing.T) {
	dir, path := t.TempDir(), t.TempDir()
	bench(t, path, "path")
	if r := asTapestry(t, dir, path, "bench", "--quick"); r.out != "path [--quick]" || r.code != 3 {
		t.Errorf("with one in PATH: exit %d, %q, %q", r.code, r.out, r.stderr)
	}
	bench(t, dir, "beside")
	for _, c := range []struct{ args, want string }{
		{"bench", "beside"},
		{"bench --json --only TCP,|1|flow --pairs 5", "beside [--json] [--only] [TCP, 1 flow] [--pairs] [5]"},
		{"bench quick", "beside [quick]"},
		{"bench --help", "beside [--help]"},
		{"bench -h", "beside [-h]"},
		{"help bench", "beside [--help]"},
		{"--api-socket /run/x.sock bench --check", "beside [--api-socket] [/run/x.sock] [--check]"},
		{"bench --merge one.json -- two.json", "beside [--merge] [one.json] [--] [two.json]"},
		{"__complete bench --pa", "beside [__complete] [--pa]"},
		{"__complete bench --merge one.json |", "beside [__complete] [--merge] [one.json] []"},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			if args[i] = strings.ReplaceAll(args[i], "|", " "); args[i] == " " {
				args[i] = ""
			}
		}
		if r := asTapestry(t, dir, path, args...); r.out != c.want || r.code != 3 || r.stderr != "" {
			t.Errorf("%s: exit %d, %q, want %q; %q", c.args, r.code, r.out, c.want, r.stderr)
		}
	}
}

func TestBenchWithoutTheProgram(t *testing.T) {
	dir := t.TempDir()
	want := "tapestry: tapestry bench needs the program tapestry-bench, which is neither at " + dir + "/tapestry-bench nor in PATH: " +
		"install it from the same release (install.sh), or build it from the source (make install)\n"
	for _, args := range []string{"bench --quick", "bench --help", "help bench"} {
		if r := asTapestry(t, dir, "", strings.Fields(args)...); r.code != exit.Failure || r.stderr != want || r.out != "" {
			t.Errorf("%s: exit %d, %q, %q, want %q", args, r.code, r.out, r.stderr, want)
		}
	}
	if r := asTapestry(t, dir, "", "__complete", "bench", ""); r.code != exit.OK || r.out != ":4\n" {
		t.Errorf("completion: exit %d, %q", r.code, r.out)
	}
}
