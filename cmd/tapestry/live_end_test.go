package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// Whatever ends flows, top or trace --live, the last line says what was seen and why it ended, and the exit code says whether it
// ended as it was asked to.
func TestViewEndings(t *testing.T) {
	docker := fake.Docker(t)
	commands := map[string][]string{"top": {"top", "--every", "1h"}, "flows": {"flows", "--for", "1h"}, "trace": {"trace", "--live", "-n", "9", "--for", "1h"}}
	for _, c := range []struct {
		name   string
		change func(*fakeRecorder)
		code   int
		want   map[string]string // in what each command says; "-" begins what it must not say
	}{
		{"time was up", func(*fakeRecorder) {}, exit.OK, map[string]string{"top": "s: 5 frames, 4.8 kB\n", "flows": "2 flows, 5 frames, 4.8 kB in ", "trace": "1 of 5 frames dropped\n"}},
		{"time was up, frames were lost", func(e *fakeRecorder) { e.lost = 3 }, exit.OK,
			map[string]string{"top": "4.8 kB; 3 frames LOST", "flows": "; 3 frames LOST", "trace": "1 of 5 frames dropped\n"}},
		{"nothing was seen", func(e *fakeRecorder) { e.packets = nil }, exit.OK,
			map[string]string{"top": "s: 0 frames, 0 B\n", "flows": "0 flows, 0 frames, 0 B in ", "trace": "no such frame has passed\n"}},
		{"nothing was seen, but lost", func(e *fakeRecorder) { e.packets, e.lost = nil, 2 }, exit.OK,
			map[string]string{"top": "0 frames, 0 B; 2 frames LOST", "flows": "; 2 frames LOST", "trace": "tapestry: no such frame was seen; 2 frames LOST, more came than were read in time\n"}},
		{"the daemon was stopped", func(e *fakeRecorder) { e.state = "shutdown" }, exit.Failure,
			map[string]string{"top": "5 frames, 4.8 kB\ntapestry: the daemon was stopped\n", "flows": " (the daemon went away)\ntapestry: the daemon was stopped\n",
				"trace": "tapestry: 1 of 5 frames dropped, and the daemon was stopped\n"}},
		{"the daemon was stopped, nothing was seen", func(e *fakeRecorder) { e.state, e.packets = "shutdown", nil }, exit.Failure,
			map[string]string{"top": "0 frames, 0 B\ntapestry: the daemon was stopped\n", "flows": "tapestry: the daemon was stopped\n", "trace": "tapestry: the daemon was stopped\n"}},
		{"the daemon was killed", func(e *fakeRecorder) { e.breaksOff = true }, exit.Failure,
			map[string]string{"top": "5 frames, 4.8 kB\ntapestry: the frames broke off", "flows": " (the daemon went away)\ntapestry: the frames broke off", "trace": "tapestry: the daemon went away in the middle"}},
		{"the capture failed", func(e *fakeRecorder) { e.state = "failed" }, exit.Failure,
			map[string]string{"top": "tapestry: the capture failed in the daemon: see its log", "flows": "tapestry: the capture failed in the daemon: see its log",
				"trace": "1 of 5 frames dropped, and the capture failed in the daemon"}},
	} {
		for name, args := range commands {
			e := newFakeRecorder(conversation()...)
			c.change(e)
			r := tapestry(t, append(slices.Clone(args), "--api-socket", e.serve(t), "--docker-host", docker)...)
			code := c.code
			if name == "trace" && c.want[name] != "no such frame has passed\n" {
				code = exit.Failure // frames were dropped, or it cannot tell
			}
			if said := r.out + r.stderr; r.code != code || !strings.Contains(said, c.want[name]) {
				t.Errorf("%s, %s: exit %d\n%s\nwant %q", name, c.name, r.code, said, c.want[name])
			}
		}
	}
}

// An interrupt prints what was seen up to then, and is no failure.
func TestViewInterrupted(t *testing.T) {
	docker := fake.Docker(t)
	for name, want := range map[string]string{"top --every 1h": " frames, ", "flows --for 1h": " (interrupted)", "trace --live -n 9": ""} {
		e := newFakeRecorder(slices.Repeat(conversation()[:3], 10000)...) // so much that they are sent only when most of it has been read
		e.stays, e.state = true, "stopped"
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		out, stderr := &notifyingBuffer{first: func() {}}, bytes.Buffer{}
		if strings.HasPrefix(name, "trace") {
			e.packets, out.first = conversation()[:3], interrupt
		} else {
			go func() {
				<-e.sent
				interrupt()
			}()
		}
		code := execute(ctx, append(strings.Fields(name), "--api-socket", e.serve(t), "--docker-host", docker), out, &stderr)
		if code != exit.OK || !strings.Contains(out.String(), want) || strings.Contains(stderr.String(), "daemon") {
			t.Errorf("%s: exit %d, %s%s", name, code, out.String(), stderr.String())
		}
	}
}

// A notifyingBuffer calls first at each write.
type notifyingBuffer struct {
	bytes.Buffer
	first func()
}

func (h *notifyingBuffer) Write(b []byte) (int, error) {
	h.first()
	return h.Buffer.Write(b)
}

// A fullDisk accepts a number of writes, and then returns errFull.
type fullDisk struct {
	bytes.Buffer
	left int
}

var errFull = errors.New("no space left on device")

func (f *fullDisk) Write(b []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return f.Buffer.Write(b)
}

// A failed write is an error, even of the last line, and does not undo what was done before.
func TestViewFullDisk(t *testing.T) {
	docker := fake.Docker(t)
	for _, args := range [][]string{{"top", "--every", "1h"}, {"flows", "--for", "1h"}, {"flows"}, {"trace", "--live", "-n", "5"}} {
		complete := 0
		for left := range 100 {
			e := newFakeRecorder(conversation()...)
			to, stderr := &fullDisk{left: left}, &bytes.Buffer{}
			code := execute(t.Context(), append(slices.Clone(args), "--api-socket", e.serve(t), "--docker-host", docker), to, stderr)
			if to.left >= 0 { // it needed no more
				complete = left
				break
			}
			if code != exit.Failure || !strings.Contains(stderr.String(), errFull.Error()) {
				t.Errorf("%v, room for %d writes: exit %d, %s", args, left, code, stderr)
			}
		}
		if complete == 0 {
			t.Errorf("%v never ends well", args)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	testhost.Must(t, err)
	defer full.Close()
	var stderr bytes.Buffer
	if code := execute(t.Context(), []string{"top", "--every", "1h", "--api-socket", newFakeRecorder().serve(t), "--docker-host", docker}, full, &stderr); code != exit.Failure ||
		!strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("top into /dev/full: exit %d, %s", code, stderr.String())
	}
}

// twoPorts is a host on which a container has two ports, and the second one takes no fault.
type twoPorts struct{ *fake.Fabric }

const lastID = "ffff444444444444444444444444444444444444444444444444444444444444"

func (h twoPorts) Ports(network string) []fabric.PortView {
	return append(h.Fabric.Ports(network), fabric.PortView{Network: fake.LocalID, Kind: "container", Name: lastID})
}

// If the daemon accepts a fault for some of several ports only, the output says for which.
func TestFaultHalfDone(t *testing.T) {
	d := fake.NewLiveDocker(t)
	d.Join(fake.WideID, fake.WebContainer, "both", fake.WebID, "10.80.1.2/16")
	d.Join(fake.LocalID, fake.WebContainer, "both", lastID, "10.81.1.2/16")
	h := twoPorts{fake.NewFabric()}
	socket := fake.ServeUnix(t, "tapestry.sock", (&daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler)}).Handler())
	run := func(args string) result {
		return tapestry(t, append(strings.Fields(args), "--api-socket", socket, "--docker-host", d.At)...)
	}
	r := run("fault set both --loss 2%")
	if r.code != exit.NoTarget || r.out != "fault set on both of wide, both directions: loss 2%\n" || !strings.HasPrefix(r.stderr, "tapestry: both of mynet: ") || len(h.Faults()) != 2 {
		t.Errorf("set: exit %d, %s%s, set %v", r.code, r.out, r.stderr, h.Faults())
	}
	r = run("fault clear both")
	if r.code != exit.NoTarget || r.out != "2 faults cleared\n" || !strings.HasPrefix(r.stderr, "tapestry: both of mynet: ") || len(h.Faults()) != 0 {
		t.Errorf("clear: exit %d, %s%s, set %v", r.code, r.out, r.stderr, h.Faults())
	}
	to, stderr := &fullDisk{}, &bytes.Buffer{}
	code := execute(t.Context(), []string{"fault", "set", "peer:192.0.2.2:4789", "--loss", "1%", "--api-socket", socket, "--docker-host", d.At}, to, stderr)
	if code != exit.Failure || !strings.Contains(stderr.String(), errFull.Error()) || len(h.Faults()) != 2 {
		t.Errorf("a full disk: exit %d, %s, set %v", code, stderr, h.Faults())
	}
}
