package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// What Wireshark asks before it captures (extcap(4)).
func TestExtcapQuestions(t *testing.T) {
	d := newCaptureDaemon(t, func(*feed) {})
	docker := fake.Docker(t)
	for _, c := range []struct {
		args string
		code int
		want string // of standard output, in this order
	}{
		{"--extcap-interfaces --extcap-version=4.0", exit.OK, "extcap {version=|{display=tapestry}\ninterface {value=tapestry-all}{display=tapestry: all containers of this host}\n" +
			"interface {value=tapestry-web}{display=tapestry: container web on wide}\n|interface {value=tapestry-network:mynet}|interface {value=tapestry-network:wide}{display=tapestry: network wide}"},
		{"--extcap-interface tapestry-web --extcap-dlts", exit.OK, "dlt {number=1}{name=EN10MB}{display=Ethernet}\n"},
		{"--extcap-interface tapestry-web --extcap-config", exit.OK, "arg {number=0}{call=--view}|value {arg=0}{value=inner}|{default=true}|arg {number=1}{call=--offload}|arg {number=3}{call=--drops}"},
		{"--extcap-interface tapestry-web --extcap-capture-filter=tcp", exit.OK, ""},
		{"--extcap-interface tapestry-web --extcap-capture-filter=host --extcap-version=4.0", exit.OK, "the filter cannot be read:\nhost\n    ^ "},
		{"--extcap-interface eth0 --extcap-dlts", exit.NoTarget, ""},
		{"--extcap-interface tapestry-web --capture", exit.Usage, ""},
		{"--extcap-interface tapestry-web --capture --fifo /nonexistent/x", exit.Failure, ""},
		{"", exit.OK, "Usage:"},
	} {
		r := tapestry(t, append([]string{"extcap", "--api-socket", d.socket, "--docker-host", docker}, strings.Fields(c.args)...)...)
		rest, ok := r.out, r.code == c.code && (c.want != "" || r.out == "")
		for _, part := range strings.Split(c.want, "|") {
			at := strings.Index(rest, part)
			ok = ok && at >= 0
			rest = rest[max(at, 0):]
		}
		if !ok {
			t.Errorf("%s: exit %d, want %d; %s%s\nwant %s", c.args, r.code, c.code, r.out, r.stderr, c.want)
		}
	}
	// Without a daemon Wireshark starts all the same.
	r := tapestry(t, "extcap", "--extcap-interfaces", "--api-socket", filepath.Join(t.TempDir(), "none.sock"), "--docker-host", docker)
	if r.code != exit.OK || strings.Contains(r.out, "interface") || !strings.Contains(r.stderr, "no interfaces: no daemon answers") {
		t.Errorf("without a daemon: exit %d, %s%s", r.code, r.out, r.stderr)
	}
}

// A capture for Wireshark goes into its pipe.
func TestExtcapCapture(t *testing.T) {
	d := newCaptureDaemon(t, func(f *feed) {
		f.ports()
		f.packet(100, nil)
	})
	pipe := filepath.Join(t.TempDir(), "pipe")
	testhost.Must(t, syscall.Mkfifo(pipe, 0o600))
	file := make(chan []byte)
	go func() {
		b, err := os.ReadFile(pipe)
		if err != nil {
			t.Error(err)
		}
		file <- b
	}()
	r := tapestry(t, "extcap", "--extcap-interface", "tapestry-web", "--capture", "--extcap-capture-filter", "udp", "--fifo", pipe, "--view", "both", "--drops",
		"--api-socket", d.socket, "--docker-host", fake.Docker(t))
	b := <-file
	if r.code != exit.OK || r.out != "" || r.stderr != "" {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	names, packets := "", 0
	for reader := pcapng.NewReader(bytes.NewReader(b)); ; {
		block, err := reader.Next()
		if err == io.EOF {
			break
		}
		testhost.Must(t, err)
		switch x := block.(type) {
		case *pcapng.Interface:
			names += x.Name + " "
		case *pcapng.Packet:
			packets++
		}
	}
	if names != "web@wide web@mynet " || packets != 1 {
		t.Errorf("the pipe has %d packets of %s", packets, names)
	}
	if a := d.asked[0]; a.View != "both" || !a.Drops || a.Filter.Expr != "udp" || a.Bytes >= 0 || a.Seconds >= 0 {
		t.Errorf("the daemon was asked for %+v", a)
	}
}

func TestExtcapInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "extcap")
	path := filepath.Join(dir, "tapestry")
	socket := filepath.Join(t.TempDir(), "it's.sock")
	if r := tapestry(t, "extcap", "remove", "--dir", dir); r.code != exit.Failure || !strings.Contains(r.stderr, "not installed") {
		t.Errorf("remove what is not there: exit %d, %s", r.code, r.stderr)
	}
	for range 2 { // again over the old one
		if r := tapestry(t, "extcap", "install", "--dir", dir, "--api-socket", socket); r.code != exit.OK || r.out != "installed "+path+"; start Wireshark again, or try: tshark -D\n" {
			t.Fatalf("exit %d, %s%s", r.code, r.out, r.stderr)
		}
	}
	info, err := os.Stat(path)
	testhost.Must(t, err)
	self, err := os.Executable()
	testhost.Must(t, err)
	text, err := os.ReadFile(path)
	testhost.Must(t, err)
	want := "exec '" + self + `' extcap --api-socket '` + strings.ReplaceAll(socket, "'", `'\''`) + `' "$@"` + "\n"
	if info.Mode().Perm() != 0o755 || !strings.HasSuffix(string(text), want) {
		t.Errorf("%v %s", info.Mode(), text)
	}
	if out, err := exec.Command("sh", "-n", path).CombinedOutput(); err != nil {
		t.Errorf("no shell reads it: %s", out)
	}
	if r := tapestry(t, "extcap", "remove", "--dir", dir); r.code != exit.OK {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	testhost.Must(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755))
	for _, command := range []string{"install", "remove"} {
		if r := tapestry(t, "extcap", command, "--dir", dir); r.code != exit.Failure || !strings.Contains(r.stderr, "is not tapestry's") {
			t.Errorf("%s over another's: exit %d, %s", command, r.code, r.stderr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// Without --api-socket the script has none either: it finds the daemon each time, as another plugin tomorrow.
func TestExtcapInstallFinds(t *testing.T) {
	dir := t.TempDir()
	if r := tapestry(t, "extcap", "install", "--dir", dir); r.code != exit.OK {
		t.Fatalf("exit %d, %s", r.code, r.stderr)
	}
	text, err := os.ReadFile(filepath.Join(dir, "tapestry"))
	testhost.Must(t, err)
	if !strings.HasSuffix(string(text), `' extcap "$@"`+"\n") || strings.Contains(string(text), "--api-socket") {
		t.Errorf("%s", text)
	}
}
