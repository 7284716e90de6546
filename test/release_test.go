package test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fakeRelease is a release whose binaries are shell scripts of a few lines.
func fakeRelease(t *testing.T) (dir, binary, bench string) {
	t.Helper()
	dir = t.TempDir()
	binary, bench = "tapestry-linux-"+runtime.GOARCH, "tapestry-bench-linux-"+runtime.GOARCH
	for name, text := range map[string]string{
		binary:                      "#!/bin/sh\necho \"fake $*\"\n",
		bench:                       "#!/bin/sh\necho \"fake bench $*\"\n",
		"tapestry.service":          "ExecStart=/usr/local/bin/tapestry run\n",
		"tapestry-resolver.service": "ExecStart=/usr/local/bin/tapestry resolver\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("../packaging/sums.sh", dir, "v9.9.9").CombinedOutput(); err != nil {
		t.Fatalf("sums.sh: %v\n%s", err, out)
	}
	return dir, binary, bench
}

// install runs a release's install.sh as a user would, into a root of the test's own.
func install(t *testing.T, script, root string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("sh", script)
	cmd.Env = append(os.Environ(), append(env, "DESTDIR="+root, "PREFIX=/opt/t")...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReleaseInstall: a release's script installs only files with the right checksums, from its directory or from the network.
func TestReleaseInstall(t *testing.T) {
	dir, binary, bench := fakeRelease(t)
	t.Run("from beside", func(t *testing.T) {
		root := t.TempDir()
		if out, err := install(t, filepath.Join(dir, "install.sh"), root); err != nil || !strings.Contains(out, "tapestry v9.9.9 is in") {
			t.Fatalf("%v: %s", err, out)
		}
		if got := read(t, root+"/opt/t/bin/tapestry"); got != read(t, filepath.Join(dir, binary)) {
			t.Errorf("installed %q", got)
		}
		if got := read(t, root+"/opt/t/bin/tapestry-bench"); got != read(t, filepath.Join(dir, bench)) {
			t.Errorf("installed %q as tapestry-bench", got)
		}
		if got := read(t, root+"/opt/t/lib/systemd/system/tapestry.service"); got != "ExecStart=/opt/t/bin/tapestry run\n" {
			t.Errorf("unit: %q", got)
		}
		if got := read(t, root+"/opt/t/lib/systemd/system/tapestry-resolver.service"); got != "ExecStart=/opt/t/bin/tapestry resolver\n" {
			t.Errorf("the resolver's unit: %q", got)
		}
		if got := read(t, root+"/opt/t/share/bash-completion/completions/tapestry"); got != "fake completion bash\n" {
			t.Errorf("completion: %q", got)
		}
	})
	t.Run("from the network", func(t *testing.T) {
		if _, err := exec.LookPath("curl"); err != nil {
			if _, err := exec.LookPath("wget"); err != nil {
				t.Setenv("PATH", withBusyboxWget(t)+":"+os.Getenv("PATH"))
			}
		}
		server := httptest.NewServer(http.FileServer(http.Dir(dir)))
		defer server.Close()
		alone := t.TempDir() + "/install.sh"
		if err := os.WriteFile(alone, []byte(read(t, dir+"/install.sh")), 0o644); err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		if out, err := install(t, alone, root, "TAPESTRY_RELEASE="+server.URL, "http_proxy=", "HTTP_PROXY="); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := read(t, root+"/opt/t/bin/tapestry"); got != read(t, filepath.Join(dir, binary)) {
			t.Errorf("installed %q", got)
		}
		if got := read(t, root+"/opt/t/bin/tapestry-bench"); got != read(t, filepath.Join(dir, bench)) {
			t.Errorf("installed %q as tapestry-bench", got)
		}
		server.Close()
		out, err := install(t, alone, root, "TAPESTRY_RELEASE="+server.URL, "http_proxy=", "HTTP_PROXY=")
		if err == nil || !strings.Contains(out, "put "+binary+" beside this script") {
			t.Errorf("no network: %v: %s", err, out)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		for _, name := range []string{binary, bench, "tapestry.service", "tapestry-resolver.service"} {
			dir, _, _ := fakeRelease(t)
			root := t.TempDir()
			if err := os.MkdirAll(root+"/opt/t/bin", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(root+"/opt/t/bin/tapestry", []byte("the old one"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte("evil"), 0o755); err != nil {
				t.Fatal(err)
			}
			out, err := install(t, filepath.Join(dir, "install.sh"), root)
			if err == nil || !strings.Contains(out, name+" has the SHA-256 sum") {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			if got := read(t, root+"/opt/t/bin/tapestry"); got != "the old one" {
				t.Errorf("%s: the old binary is now %q", name, got)
			}
			if _, err := os.Stat(root + "/opt/t/lib"); err == nil {
				t.Errorf("%s: something was installed", name)
			}
		}
	})
	t.Run("template", func(t *testing.T) {
		if out, err := install(t, "../packaging/install.sh", t.TempDir()); err == nil || !strings.Contains(out, "make release") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// withBusyboxWget is a directory with a wget in it, for machines that have none.
func withBusyboxWget(t *testing.T) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		need(t)
	}
	dir := t.TempDir()
	if err := os.Symlink(busybox, dir+"/wget"); err != nil {
		t.Fatal(err)
	}
	return dir
}
