package daemon_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"
)

const lateID = "77aa555555555555555555555555555555555555555555555555555555555555"

// addContainer arms the capture of a container, station 2 of the daemon, and adds its port. The Observer can end it.
func addContainer(t *testing.T, l *fake.CaptureDaemon, filter string) daemon.Observer {
	t.Helper()
	to := daemon.Observer{Hub: l.Hub, Captures: l.Captures}
	if err := to.Arm(fake.WideID, lateID, filter); err != nil {
		t.Fatal(err)
	}
	l.Hub.Unplug(l.Ports[2].Number)
	l.Ports[2].Detach()
	p := l.Sw.Attach(lateID, fake.DiscardPort{}, false, 1514)
	to.Plug(fabric.PortView{Number: p.Number, Network: fake.WideID, VNI: 80, Kind: "container", Name: lateID, Link: "tpc77aa"}, nil, nil)
	l.Ports[2] = p
	return to
}

// attached reads a capture that waits for a reader, and returns the numbers of its frames.
func attached(t *testing.T, l *fake.CaptureDaemon, id string, frames uint64) (numbers string, state string) {
	t.Helper()
	s, err := l.Client.OpenStream(t.Context(), api.CapturesPath, api.CaptureRequest{Attach: id, Frames: frames})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		b, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := b.(*pcapng.Packet); ok {
			numbers += fmt.Sprintf("%d ", p.Data[14])
		}
	}
	b, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return numbers, b.State
}

// A container's own capture has its frames from the first one on, if they match its filter; it waits for one reader, which then gets
// new frames too until the container is gone.
func TestArmed(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	to := addContainer(t, l, "ether[14] > 2")
	l.Send(2, 1, 1, 2, 3)
	l.Send(1, 2, 4)
	l.Send(3, 1, 5) // not the container's
	all := l.Running()
	if len(all) != 1 || all[0].State != "armed" || all[0].Waiting != 2 || all[0].Endpoint != lateID || all[0].Network != fake.WideID || all[0].UID != -1 {
		t.Fatalf("captures: %+v", all)
	}
	done := make(chan string)
	go func() {
		numbers, state := attached(t, l, "1", 0)
		done <- numbers + state
	}()
	limit := time.After(time.Minute)
	for l.Running()[0].Delivered < 2 {
		select {
		case <-limit:
			t.Fatalf("captures: %+v", l.Running())
		case <-time.After(time.Millisecond):
		}
	}
	if b := l.Running()[0]; b.State != "running" || b.UID != 0 && b.UID == -1 {
		t.Errorf("it is %+v", b)
	}
	if err := post(l.Client, t, api.CaptureRequest{Attach: "1"}); err == nil || !strings.Contains(err.Error(), "capture 1 does not wait for a reader") {
		t.Errorf("a second reader: %v", err)
	}
	l.Send(2, 1, 6)
	to.Disarm(lateID)
	select {
	case got := <-done:
		if got != "3 4 6 container" {
			t.Errorf("the reader got %q", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("the capture does not end with its container")
	}
	if len(l.Running()) != 0 {
		t.Errorf("captures: %+v", l.Running())
	}
}

// post requests a capture, and returns the daemon's refusal.
func post(c *client.Client, t *testing.T, want api.CaptureRequest) error {
	t.Helper()
	s, err := c.OpenStream(t.Context(), api.CapturesPath, want)
	if err == nil {
		s.Close()
	}
	return err
}

// Frames of a container that is gone are kept for a reader; if there are none, neither is the capture.
func TestArmedKept(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	to := addContainer(t, l, "all")
	l.Send(2, 1, 1, 2)
	to.Disarm(lateID)
	to.Disarm(lateID)
	l.Send(2, 1, 3)
	if all := l.Running(); len(all) != 1 || all[0].State != "kept" || all[0].Waiting != 2 {
		t.Fatalf("captures: %+v", all)
	}
	if numbers, state := attached(t, l, "1", 0); numbers != "1 2 " || state != "container" {
		t.Errorf("the reader got %q, %s", numbers, state)
	}
	to = addContainer(t, l, "ether[14] = 99")
	l.Send(2, 1, 4)
	to.Disarm(lateID)
	if all := l.Running(); len(all) != 0 {
		t.Errorf("captures: %+v", all)
	}
	if err := post(l.Client, t, api.CaptureRequest{Attach: "2"}); err == nil {
		t.Error("a capture without frames was kept")
	}
}

// A reader may want fewer frames than there are; the capture ends when it has them.
func TestArmedLimit(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	addContainer(t, l, "all")
	l.Send(2, 1, 1, 2, 3)
	if numbers, state := attached(t, l, "1", 2); numbers != "1 2 " || state != "limit" {
		t.Errorf("the reader got %q, %s", numbers, state)
	}
	if all := l.Running(); len(all) != 0 {
		t.Errorf("captures: %+v", all)
	}
}

// The number of armed captures is limited. The oldest one whose container is gone is removed for a new one; those of running containers are not.
func TestArmedBound(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	const most = 16 // at once
	to := addContainer(t, l, "all")
	id := func(i int) string { return fmt.Sprintf("%064x", i) }
	l.Send(2, 1, 1)
	to.Disarm(lateID)
	for i := range most {
		if err := to.Arm(fake.WideID, id(i), "all"); err != nil {
			t.Fatalf("capture %d: %v", i, err)
		}
	}
	if all := l.Running(); len(all) != most || all[0].Endpoint != id(0) {
		t.Errorf("%d captures, want %d, the kept one gone: %+v", len(all), most, all[0])
	}
	err := to.Arm(fake.WideID, id(most), "all")
	if err == nil || !strings.Contains(err.Error(), "16 containers have a capture of their own already") {
		t.Errorf("it says %v", err)
	}
	l.Open(t, api.CaptureRequest{}) // an ordinary capture has room
	// Ended by a user.
	if err := l.Client.Call(t.Context(), http.MethodDelete, "/v1/captures/2", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := to.Arm(fake.WideID, id(most), "all"); err != nil {
		t.Error(err)
	}
	if err := to.Arm(fake.WideID, id(most), "all"); err != nil { // again, as after a crash
		t.Error(err)
	}
}

// An invalid filter is refused, with what is wrong.
func TestArmedRefused(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	to := daemon.Observer{Hub: l.Hub, Captures: l.Captures}
	for filter, want := range map[string]string{" ": "want a filter", "tcp prt 80": "filter", "host web": "web"} {
		if err := to.Arm(fake.WideID, lateID, filter); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", filter, err)
		}
	}
	addContainer(t, l, "all")
	for _, bad := range []api.CaptureRequest{{Attach: "9"}, {Attach: "1", Drops: true}, {Attach: "1", Filter: api.Filter{Expr: "tcp"}},
		{Attach: "1", Targets: api.Targets{Networks: []string{fake.WideID}}}} {
		if err := post(l.Client, t, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		} else {
			t.Log(err)
		}
	}
}
