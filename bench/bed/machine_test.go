package bed

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Describe takes the version from the binary, and the rest from this machine.
func TestDescribe(t *testing.T) {
	fake := filepath.Join(t.TempDir(), "tapestry")
	script := "#!/bin/sh\n[ \"$*\" = 'version --json' ] && echo '{\"version\":\"v1\",\"commit\":\"abc\",\"modified\":true,\"go\":\"go1\",\"os\":\"linux\",\"arch\":\"amd64\"}'\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := Describe(t.Context(), fake, fake)
	if err != nil {
		t.Fatal(err)
	}
	if m.Version != "v1" || m.Commit != "abc" || !m.Modified || m.Arch != "amd64" {
		t.Errorf("the binary is %+v", m)
	}
	if m.Cores < 1 || m.MemoryMB < 16 || m.Kernel == "" || m.TCP == "" || !strings.Contains(m.Load, ".") {
		t.Errorf("the machine is %+v", m)
	}
	if _, err := Describe(t.Context(), fake+"-none", ""); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a binary that is not there: %v", err)
	}
}

// What a machine costs is of the right order, and names itself.
func TestCosts(t *testing.T) {
	c, err := measureCosts()
	if err != nil {
		t.Fatal(err)
	}
	if c.SyscallNS < 10 || c.CopyGBs < 0.01 || (c.WakeUS == 0) != (runtime.GOMAXPROCS(0) < 2) {
		t.Errorf("%+v", c)
	}
}

// A garbage collection stops all threads, also those that wait for each other.
func TestWakesBesideCollections(t *testing.T) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := wakeTime(200); err != nil {
			t.Error(err)
		}
	}()
	for {
		select {
		case <-ended:
			return
		default:
			runtime.GC()
		}
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]string{
		"Docker version 20.10.24+dfsg1, build 297e128\n": "20.10.24+dfsg1",
		"Docker version 28.1.1, build 4eba377":           "28.1.1",
		"ovs-vswitchd (Open vSwitch) 3.1.0\n":            "3.1.0",
		"VDE 2.3.2\nCopyright 2003,...,2011\n":           "2.3.2",
		"wireguard-go v0.0.20250522\n\nUserspace":        "v0.0.20250522",
		"": "",
	} {
		if got := versionIn(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestField(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(path, []byte("VmHWM:\t 200 kB\nVmRSS:\t 100 kB\nVmRSS:\t 1 kB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"VmRSS": "100 kB", "Vm": "", "": ""} {
		if got := fieldOf(path, key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
	if got := fieldOf(path+"-none", "VmRSS"); got != "" {
		t.Errorf("of no file: %q", got)
	}
}
