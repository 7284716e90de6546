package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/fabric"
)

const lateID = "77aa555555555555555555555555555555555555555555555555555555555555"

// late is a container that comes while captures run, and goes: its port is station 2's in the lens.
func (l *lens) late(t *testing.T, filter string) looker {
	t.Helper()
	to := looker{l.hub, l.captures}
	if err := to.Arm(wideID, lateID, filter); err != nil {
		t.Fatal(err)
	}
	l.hub.Unplug(l.ports[2].Number)
	l.ports[2].Detach()
	p := l.sw.Attach(lateID, nowhere{}, false, 1514)
	to.Plug(fabric.PortView{Number: p.Number, Network: wideID, VNI: 80, Kind: "container", Name: lateID, Link: "tpc77aa"}, netip.AddrPort{}, netip.AddrPort{})
	l.ports[2] = p
	return to
}

// attached reads a capture that waits for a reader, and gives the numbers of its frames.
func (l *lens) attached(t *testing.T, id string, frames uint64) (numbers string, state string) {
	t.Helper()
	s, err := l.client.openStream(t.Context(), "/v1/captures", captureRequest{Attach: id, Frames: frames})
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
	b, err := s.Books(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return numbers, b.State
}

// A container's own capture has its frames from the first on, of its filter only; it waits for one reader, who goes on with
// what comes until the container has gone.
func TestArmed(t *testing.T) {
	l := newLens(t)
	to := l.late(t, "ether[14] > 2")
	l.send(2, 1, 1, 2, 3)
	l.send(1, 2, 4)
	l.send(3, 1, 5) // not the container's
	all := l.running()
	if len(all) != 1 || all[0].State != "armed" || all[0].Waiting != 2 || all[0].Endpoint != lateID || all[0].Network != wideID || all[0].UID != -1 {
		t.Fatalf("captures: %+v", all)
	}
	if text := all[0].text(&docker{}); !strings.Contains(text, `capture 1 of 77aa55555555, from its start on, "ether[14] > 2": 2 frames to read, 0 lost (tapestry capture --attach 1)`) {
		t.Errorf("status says %s", text)
	}
	done := make(chan string)
	go func() {
		numbers, state := l.attached(t, "1", 0)
		done <- numbers + state
	}()
	limit := time.After(time.Minute)
	for l.running()[0].Delivered < 2 {
		select {
		case <-limit:
			t.Fatalf("captures: %+v", l.running())
		case <-time.After(time.Millisecond):
		}
	}
	if b := l.running()[0]; b.State != "running" || b.UID != 0 && b.UID == -1 {
		t.Errorf("it is %+v", b)
	}
	if err := l.client.post(t, captureRequest{Attach: "1"}); err == nil || !strings.Contains(err.Error(), "capture 1 does not wait for a reader") {
		t.Errorf("a second reader: %v", err)
	}
	l.send(2, 1, 6)
	to.Disarm(lateID)
	select {
	case got := <-done:
		if got != "3 4 6 container" {
			t.Errorf("the reader got %q", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("the capture does not end with its container")
	}
	if len(l.running()) != 0 {
		t.Errorf("captures: %+v", l.running())
	}
}

// post asks for a capture, and gives what the daemon refuses it with.
func (c *client) post(t *testing.T, want captureRequest) error {
	t.Helper()
	s, err := c.openStream(t.Context(), "/v1/captures", want)
	if err == nil {
		s.Close()
	}
	return err
}

// What a container that has gone sent is kept for a reader; of one that sent nothing, nothing is.
func TestArmedKept(t *testing.T) {
	l := newLens(t)
	to := l.late(t, "all")
	l.send(2, 1, 1, 2)
	to.Disarm(lateID)
	to.Disarm(lateID)
	l.send(2, 1, 3)
	if all := l.running(); len(all) != 1 || all[0].State != "kept" || all[0].Waiting != 2 {
		t.Fatalf("captures: %+v", all)
	}
	if numbers, state := l.attached(t, "1", 0); numbers != "1 2 " || state != "container" {
		t.Errorf("the reader got %q, %s", numbers, state)
	}
	to = l.late(t, "ether[14] = 99")
	l.send(2, 1, 4)
	to.Disarm(lateID)
	if all := l.running(); len(all) != 0 {
		t.Errorf("captures: %+v", all)
	}
	if err := l.client.post(t, captureRequest{Attach: "2"}); err == nil {
		t.Error("a capture without frames was kept")
	}
}

// A reader may want fewer frames than there are; the capture ends with him.
func TestArmedLimit(t *testing.T) {
	l := newLens(t)
	l.late(t, "all")
	l.send(2, 1, 1, 2, 3)
	if numbers, state := l.attached(t, "1", 2); numbers != "1 2 " || state != "limit" {
		t.Errorf("the reader got %q, %s", numbers, state)
	}
	if all := l.running(); len(all) != 0 {
		t.Errorf("captures: %+v", all)
	}
}

// There is room for so many; the oldest of containers that have gone make way, and those of living ones do not.
func TestArmedBound(t *testing.T) {
	l := newLens(t)
	to := l.late(t, "all")
	id := func(i int) string { return fmt.Sprintf("%064x", i) }
	l.send(2, 1, 1)
	to.Disarm(lateID)
	for i := range maxArmed {
		if err := to.Arm(wideID, id(i), "all"); err != nil {
			t.Fatalf("capture %d: %v", i, err)
		}
	}
	if all := l.running(); len(all) != maxArmed || all[0].Endpoint != id(0) {
		t.Errorf("%d captures, want %d, the kept one gone: %+v", len(all), maxArmed, all[0])
	}
	err := to.Arm(wideID, id(maxArmed), "all")
	if err == nil || !strings.Contains(err.Error(), "16 containers have a capture of their own already") {
		t.Errorf("it says %v", err)
	}
	if _, err := l.captures.open(&asked{}, credentials{}); err != nil {
		t.Errorf("an ordinary capture has no room: %v", err)
	}
	// By hand.
	r, err := http.NewRequest(http.MethodDelete, "http://tapestry/v1/captures/2", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := &recordedAnswer{header: http.Header{}}
	r.SetPathValue("id", "2")
	l.one(func(_ http.ResponseWriter, _ *http.Request, s *session) { l.cancel(s) })(answer, r)
	if err := to.Arm(wideID, id(maxArmed), "all"); err != nil {
		t.Error(err)
	}
	if err := to.Arm(wideID, id(maxArmed), "all"); err != nil { // again, as after a crash
		t.Error(err)
	}
}

type recordedAnswer struct{ header http.Header }

func (r *recordedAnswer) Header() http.Header         { return r.header }
func (r *recordedAnswer) Write(b []byte) (int, error) { return len(b), nil }
func (r *recordedAnswer) WriteHeader(int)             {}

// A filter that cannot be is refused, with what is wrong.
func TestArmedRefused(t *testing.T) {
	l := newLens(t)
	to := looker{l.hub, l.captures}
	for filter, want := range map[string]string{" ": "want a filter", "tcp prt 80": "filter", "host web": "web"} {
		if err := to.Arm(wideID, lateID, filter); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", filter, err)
		}
	}
	l.late(t, "all")
	for _, bad := range []captureRequest{{Attach: "9"}, {Attach: "1", Drops: true}, {Attach: "1", Filter: captureFilter{Expr: "tcp"}},
		{Attach: "1", Targets: captureTargets{Networks: []string{wideID}}}} {
		if err := l.client.post(t, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		} else {
			t.Log(err)
		}
	}
}
