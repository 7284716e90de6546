package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

var recordingEnd = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *time.Time {
	t := recordingEnd.Add(-d)
	return &t
}

// A fakeRecorder is a daemon's recorder and captures: both send the packets that the test sets, of web's port and of a remote host.
type fakeRecorder struct {
	recorder    api.Recorder
	covers      time.Duration // of the recorder, until now
	packets     []pcapng.Packet
	lost        uint64
	breaksOff   bool
	stays       bool   // the stream ends when it is stopped
	state       string // of the capture, when it has ended
	sent        chan struct{}
	stopped     chan struct{}
	stoppedOnce sync.Once

	mu      sync.Mutex
	asked   []api.CaptureRequest
	resized []int
}

func newFakeRecorder(packets ...pcapng.Packet) *fakeRecorder {
	return &fakeRecorder{recorder: api.Recorder{On: true, Bytes: 32 << 20, Since: ago(time.Hour), Frames: 12, Kept: 7, DropsKept: 1}, covers: 12400 * time.Millisecond,
		packets: packets, state: "limit", sent: make(chan struct{}), stopped: make(chan struct{})}
}

// serve serves them, and the real API of a fake host for the rest.
func (e *fakeRecorder) serve(t *testing.T) (socket string) {
	mux := http.NewServeMux()
	mux.Handle("/", (&daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel"}).Handler())
	mux.HandleFunc("GET /v1/recorder", func(w http.ResponseWriter, _ *http.Request) { fake.WriteJSON(w, e.recorder) })
	mux.HandleFunc("PUT /v1/recorder", func(w http.ResponseWriter, r *http.Request) {
		var c api.RecorderChange
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			t.Error(err)
		}
		e.resized = append(e.resized, c.Bytes)
		e.recorder.On, e.recorder.Bytes = c.Bytes > 0, c.Bytes
		fake.WriteJSON(w, e.recorder)
	})
	mux.HandleFunc("POST /v1/recorder/dump", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Tapestry-Since", strconv.FormatInt(recordingEnd.Add(-e.covers).UnixNano(), 10))
		w.Header().Set("X-Tapestry-Until", strconv.FormatInt(recordingEnd.UnixNano(), 10))
		e.stream(t, w, r)
	})
	mux.HandleFunc("POST /v1/captures", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Capture-Id", "7")
		e.stream(t, w, r)
	})
	mux.HandleFunc("GET /v1/captures/7", func(w http.ResponseWriter, _ *http.Request) {
		fake.WriteJSON(w, api.CaptureStats{ID: "7", State: e.state})
	})
	mux.HandleFunc("DELETE /v1/captures/7", func(w http.ResponseWriter, _ *http.Request) {
		e.stoppedOnce.Do(func() { close(e.stopped) })
		fake.WriteJSON(w, struct{}{})
	})
	return fake.ServeUnix(t, "tapestry.sock", mux)
}

func (e *fakeRecorder) stream(t *testing.T, to http.ResponseWriter, r *http.Request) {
	var want api.CaptureRequest
	if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
		t.Error(err)
	}
	e.mu.Lock()
	e.asked = append(e.asked, want)
	e.mu.Unlock()
	w := pcapng.NewWriter(to, pcapng.Section{Application: "tapestry"})
	ports := []pcapng.Interface{
		{Name: fake.WebID, Description: "port=1 kind=container network=" + fake.WideID + " vni=80 link=tp9b1d", MAC: ether.MAC{2, 0x42, 10, 80, 1, 2}, SnapLen: 128, LinkType: pcapng.Ethernet},
		{Name: "192.0.2.2", Description: "port=2 kind=remote network=" + fake.WideID + " vni=80", SnapLen: 128, LinkType: pcapng.Ethernet}}
	for i := range ports {
		if _, err := w.AddInterface(&ports[i]); err != nil {
			t.Error(err)
		}
	}
	for i := range e.packets {
		if err := w.WritePacket(&e.packets[i]); err != nil {
			t.Error(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	_ = http.NewResponseController(to).Flush() // fails only when the command is gone
	if e.stays {
		close(e.sent)
		select {
		case <-e.stopped:
		case <-r.Context().Done():
			return
		}
	}
	if e.breaksOff {
		panic(http.ErrAbortHandler)
	}
	if e.lost > 0 {
		if err := w.Statistics(&pcapng.Stats{Interface: 0, Dropped: e.lost}); err != nil {
			t.Error(err)
		}
	}
	_ = w.Flush() // as above
}

// seen is a packet as the daemon sends it, ms milliseconds before recordingEnd.
func seen(port, ms int, v vswitch.Verdict, length int, b []byte) pcapng.Packet {
	d := capture.Detail{Verdict: v, In: port, Out: -1}
	if length > 1514 {
		d.Kind, d.Segment = ether.TCP4, 1000
	}
	if v == vswitch.Forwarded {
		d.Out = 1 - port
	}
	return pcapng.Packet{Interface: port, Time: recordingEnd.Add(-time.Duration(ms) * time.Millisecond).UnixNano(), Data: b, Len: length, Verdict: d.AppendTo(nil)}
}

func arpFrame() []byte {
	b := make([]byte, 42)
	copy(b, []byte{255, 255, 255, 255, 255, 255, 2, 0x42, 10, 80, 1, 2, 8, 6})
	return b
}

// conversation is the packets of most tests: a connection with a super-frame of three segments, a dropped frame, and ARP.
func conversation() []pcapng.Packet {
	const syn, ack = 2, 16
	return []pcapng.Packet{
		seen(1, 9000, vswitch.Forwarded, 54, fake.TCPFrame(false, syn|ack)),
		seen(0, 8000, vswitch.Forwarded, 54, fake.TCPFrame(true, syn)),
		seen(0, 7000, vswitch.Forwarded, 54+3000, fake.TCPFrame(true, ack)),
		seen(0, 6000, vswitch.MTU, 1514, fake.TCPFrame(true, ack)),
		seen(0, 3000, vswitch.Flooded, 42, arpFrame()),
	}
}
