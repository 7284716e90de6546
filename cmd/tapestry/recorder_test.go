package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestRecorder(t *testing.T) {
	e := newFakeRecorder()
	since := time.Now().Add(-(2*time.Hour + 5*time.Minute + 5*time.Second)) // for the next 54 s this is 2h 5m
	e.recorder.Since = &since
	socket := e.serve(t)
	for _, c := range []struct {
		args, want string
		resized    []int
	}{
		{"status", "on, 32 MiB, since ", nil},
		{"status", "(2h 5m): 12 frames seen, 7 of them kept, 1 drops kept\n", nil},
		{"on", "it was on already: on, 32 MiB", nil},
		{"off", "off: tapestry recorder on\n", []int{0}},
		{"status", "off: tapestry recorder on\n", nil},
		{"on", "on, 32 MiB", []int{32 << 20}},
		{"size 64MiB", "on, 64 MiB", []int{64 << 20}},
		{"size 2097152", "on, 2 MiB", []int{2 << 20}},
		{"size 1gib", "on, 1 GiB", []int{1 << 30}},
		{"status --json", `"drops_kept": 1`, nil},
	} {
		e.resized = nil
		r := tapestry(t, append(strings.Fields("recorder "+c.args), "--api-socket", socket)...)
		if r.code != exit.OK || !strings.Contains(r.out, c.want) || !slices.Equal(e.resized, c.resized) {
			t.Errorf("%s: exit %d, %s%s, resized to %v", c.args, r.code, r.out, r.stderr, e.resized)
		}
	}
}

// countsOf counts the interfaces and packets of a file.
func countsOf(t *testing.T, file []byte) (interfaces, packets int) {
	t.Helper()
	for r := pcapng.NewReader(bytes.NewReader(file)); ; {
		b, err := r.Next()
		if err == io.EOF {
			return interfaces, packets
		}
		if err != nil {
			t.Fatal(err)
		}
		switch b := b.(type) {
		case *pcapng.Interface:
			interfaces++
		case *pcapng.Packet:
			if packets++; len(b.Verdict) > 0 {
				t.Error("a packet has a verdict that Wireshark's tools cannot save")
			}
		}
	}
}

func TestRecorderDump(t *testing.T) {
	e := newFakeRecorder(conversation()...)
	path := filepath.Join(t.TempDir(), "before.pcapng")
	socket, docker := e.serve(t), fake.Docker(t)
	dump := func(args ...string) result {
		return tapestry(t, append([]string{"recorder", "dump", "--api-socket", socket, "--docker-host", docker}, args...)...)
	}
	r := dump("--last", "30s", "-w", path, "web")
	if want := "asked for the last 30 s, have 12.4 s (older frames were overwritten): 5 frames into " + path + "\n"; r.code != exit.OK || r.out != "" || r.stderr != want {
		t.Errorf("exit %d, %q, %q", r.code, r.out, r.stderr)
	}
	file, err := os.ReadFile(path)
	testhost.Must(t, err)
	if interfaces, packets := countsOf(t, file); interfaces != 2 || packets != 5 {
		t.Errorf("%d interfaces, %d packets", interfaces, packets)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if asked := e.asked[0]; asked.Last != 30 || !slices.Equal(asked.Targets.Endpoints, []string{fake.WebID}) {
		t.Errorf("asked for %+v", asked)
	}
	r = dump("-w", "-")
	if interfaces, packets := countsOf(t, []byte(r.out)); interfaces != 2 || packets != 5 {
		t.Errorf("%d interfaces, %d packets on the standard output", interfaces, packets)
	}
	r = dump()
	if lines := strings.Split(r.out, "\n"); len(lines) != 6 || !strings.Contains(lines[3], "web → 10.80.2.9") || !strings.Contains(lines[3], "DROP mtu: too long for its path") {
		t.Errorf("lines are\n%s", r.out)
	}
	e.breaksOff = true
	r = dump("-w", path)
	if file, err = os.ReadFile(path); err != nil || r.code != exit.Failure || !strings.Contains(r.stderr, "broke off") {
		t.Errorf("exit %d, %v, %s", r.code, err, r.stderr)
	}
	if _, packets := countsOf(t, file); packets != 5 {
		t.Errorf("%d packets of a dump that broke off", packets)
	}
	e.recorder.On = false
	if r = dump(); r.code != exit.Failure || !strings.Contains(r.stderr, "tapestry recorder on") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
