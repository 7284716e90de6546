package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"
)

// A captureDaemon answers a request for a capture with a stream that the test writes.
type captureDaemon struct {
	socket string
	feed   func(f *feed)

	mu      sync.Mutex
	asked   []api.CaptureRequest
	counts  api.CaptureStats
	stopped chan struct{} // closed by DELETE
	stop    sync.Once
	gone    chan struct{} // closed when the last feed has ended
}

// feed is one stream.
type feed struct {
	*pcapng.Writer
	t     *testing.T
	d     *captureDaemon
	want  api.CaptureRequest
	flush func()
	hang  func() // ends the connection, in the middle of a block if one was begun
	gone  <-chan struct{}
	raw   io.Writer
	n     uint64
}

func newCaptureDaemon(t *testing.T, run func(f *feed)) *captureDaemon {
	t.Helper()
	return newCaptureDaemonOf(t, fake.NewFabric(), run)
}

func newCaptureDaemonOf(t *testing.T, h daemon.Fabric, run func(f *feed)) *captureDaemon {
	t.Helper()
	d := &captureDaemon{feed: run, stopped: make(chan struct{}), gone: make(chan struct{}), counts: api.CaptureStats{ID: "c1", State: "stopped"}}
	mux := http.NewServeMux()
	mux.Handle("/", (&daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler)}).Handler())
	mux.HandleFunc("POST /v1/captures", func(w http.ResponseWriter, r *http.Request) {
		var want api.CaptureRequest
		if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
			t.Error(err)
		}
		d.mu.Lock()
		d.asked = append(d.asked, want)
		d.mu.Unlock()
		w.Header().Set("X-Capture-Id", "c1")
		control := http.NewResponseController(w)
		_ = control.Flush()
		f := &feed{Writer: pcapng.NewWriter(w, pcapng.Section{Application: "daemon"}), t: t, d: d, want: want, gone: r.Context().Done(), raw: w}
		f.flush = func() { _, _ = f.Writer.Flush(), control.Flush() }
		f.hang = func() { _ = control.Flush(); panic(http.ErrAbortHandler) }
		defer f.flush()
		d.feed(f)
	})
	mux.HandleFunc("DELETE /v1/captures/c1", func(w http.ResponseWriter, _ *http.Request) {
		d.stop.Do(func() { close(d.stopped) })
		_, _ = w.Write([]byte("{}"))
	})
	mux.HandleFunc("GET /v1/captures/c1", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		_ = json.NewEncoder(w).Encode(d.counts)
	})
	d.socket = fake.ServeUnix(t, "tapestry.sock", mux)
	return d
}

func (d *captureDaemon) setCounts(b api.CaptureStats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts = b
}

// ports sends the interfaces of a container on two networks and of a remote host.
func (f *feed) ports() {
	for i, p := range []struct{ name, text string }{
		{fake.WebID, "port=1 kind=container network=" + fake.WideID + " vni=80 link=tp9b1d"},
		{fake.WebID, "port=2 kind=container network=" + fake.LocalID + " vni=0 link=tp9b1e"},
		{"192.0.2.2:4789", "port=3 kind=remote network=" + fake.WideID + " vni=80"},
	} {
		_, err := f.AddInterface(&pcapng.Interface{Name: p.name, Description: p.text, SnapLen: f.want.Snap, LinkType: pcapng.Ethernet,
			MAC: ether.MAC{2, 0x42, 10, 80, 1, byte(i)}, Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}})
		if err != nil {
			f.t.Error(err)
		}
	}
}

const feedStart = 1_780_000_000_123456789

// packet sends a frame of UDP from 10.80.1.2 to 10.80.1.3.
func (f *feed) packet(length int, change func(*pcapng.Packet)) {
	f.n++
	p := pcapng.Packet{Time: feedStart + int64(f.n)*1e6, Data: fake.UDPFrame(length), ID: f.n, Queue: -1}
	if change != nil {
		change(&p)
	}
	if err := f.WritePacket(&p); err != nil {
		f.t.Error(err)
	}
}

func (f *feed) stats(received, dropped uint64) {
	_ = f.Statistics(&pcapng.Stats{Interface: 0, Start: feedStart, End: feedStart + 9e9, Received: received, Accepted: f.n + dropped,
		Delivered: f.n, Dropped: dropped})
}

func (d *captureDaemon) args(t *testing.T, words ...string) []string {
	at := len(words)
	for i, w := range words {
		if w == "--" {
			at = i
			break
		}
	}
	all := append([]string{}, words[:at]...)
	return append(append(all, "--api-socket", d.socket, "--docker-host", fake.Docker(t)), words[at:]...)
}

// blocksOf reads a file, which must be complete.
func blocksOf(t *testing.T, path string) (all []pcapng.Block) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := pcapng.NewReader(f); ; {
		b, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if p, ok := b.(*pcapng.Packet); ok {
			q := *p
			q.Data = bytes.Clone(p.Data)
			b = &q
		}
		all = append(all, b)
	}
}

func pick[B pcapng.Block](all []pcapng.Block) (some []B) {
	for _, b := range all {
		if x, ok := b.(B); ok {
			some = append(some, x)
		}
	}
	return some
}
