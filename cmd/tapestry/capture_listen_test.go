package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestCaptureTerminal(t *testing.T) {
	master, slave := openTerminal(t)
	defer master.Close()
	defer slave.Close()
	var stderr bytes.Buffer
	if code := execute(t.Context(), []string{"capture", "web", "-w", "-"}, slave, &stderr); code != exit.Usage ||
		!strings.Contains(stderr.String(), "stdout is a terminal: want a pipe or a file, such as: tapestry capture --write - web | wireshark -k -i -") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}

// listening runs capture --listen until the test interrupts it, and returns the address that it listens on.
func listening(t *testing.T, d *captureDaemon) (at string, interrupt func() (code int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	line, code := make(chan string, 100), make(chan int)
	args := d.args(t, "capture", "--listen", "127.0.0.1:0", "web")
	go func() { code <- execute(ctx, args, io.Discard, writing(func(b []byte) { line <- string(b) })) }()
	found := regexp.MustCompile(`TCP@(\S+)`).FindStringSubmatch(<-line)
	return found[1], func() int { cancel(); return <-code }
}

// onePacket sends a packet and waits until the command disconnects, or stops the capture, when it sends another one.
func onePacket(f *feed) {
	f.ports()
	f.packet(100, nil)
	f.flush()
	select {
	case <-f.gone:
	case <-f.d.stopped:
		f.packet(100, nil)
	}
}

// Each connection has a capture of its own. One that disconnects ends only its own; Ctrl-C ends all, with what was seen.
func TestCaptureListen(t *testing.T) {
	d := newCaptureDaemon(t, onePacket)
	at, interrupt := listening(t, d)
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		for r := pcapng.NewReader(conn); ; {
			b, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := b.(*pcapng.Packet); ok {
				return conn
			}
		}
	}
	first, second := connect(), connect()
	if len(d.asked) != 2 || d.asked[1].Targets.Endpoints[0] != fake.WebID {
		t.Errorf("asked %+v", d.asked)
	}
	first.Close()
	rest := make(chan int)
	go func() {
		b, err := io.ReadAll(second)
		if err != nil {
			t.Error(err)
		}
		rest <- len(b)
	}()
	if code := interrupt(); code != exit.OK {
		t.Errorf("exit %d", code)
	}
	if n := <-rest; n < 100 {
		t.Errorf("after the end %d bytes, want the second packet", n)
	}
	second.Close()
}

func TestCaptureListenWireshark(t *testing.T) {
	at, interrupt := listening(t, newCaptureDaemon(t, onePacket))
	defer interrupt()
	if out := testhost.Output(t, "tshark", "-i", "TCP@"+at, "-c", "1", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.len"); out != "web@wide\t100\n" {
		t.Errorf("tshark reads %q", out)
	}
}

// On a terminal a line shows the progress.
func TestCaptureProgress(t *testing.T) {
	master, slave := openTerminal(t)
	defer master.Close()
	defer slave.Close()
	d := newCaptureDaemon(t, func(f *feed) {
		f.ports()
		f.packet(100, nil)
		f.flush()
		<-f.d.stopped
	})
	d.setCounts(api.CaptureStats{State: "stopped", Delivered: 1})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	code := make(chan int)
	args := d.args(t, "capture", "-w", filepath.Join(t.TempDir(), "x.pcapng"))
	go func() { code <- execute(ctx, args, io.Discard, slave) }()
	var seen strings.Builder
	for b := make([]byte, 1000); !strings.Contains(seen.String(), "\r1 frame, 100 B, 0 lost, "); {
		n, err := master.Read(b)
		if err != nil {
			t.Fatalf("%v after %q", err, seen.String())
		}
		seen.Write(b[:n])
	}
	interrupt()
	<-code
}

// What Wireshark's extcap gives is a named pipe.
func TestCaptureNamedPipe(t *testing.T) {
	d := newCaptureDaemon(t, func(f *feed) { f.ports(); f.packet(100, nil); f.flush(); <-f.gone })
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		testhost.Cannot(t, err)
	}
	args := d.args(t, "capture", "-w", path)
	code := make(chan int)
	go func() { code <- execute(t.Context(), args, io.Discard, io.Discard) }()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for r, n := pcapng.NewReader(f), 0; n < 1; {
		b, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := b.(*pcapng.Packet); ok {
			n++
		}
	}
	f.Close()
	if c := <-code; c != exit.OK {
		t.Errorf("exit %d", c)
	}
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		testhost.Cannot(t, "needs a pseudo-terminal: ", err)
	}
	slave, err = grantTerminal(master)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func grantTerminal(master *os.File) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
}
