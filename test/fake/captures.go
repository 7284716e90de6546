package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/plugin"
	"github.com/tapestry-net/tapestry/test/testhost"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A CaptureDaemon serves a daemon's captures, with one network (WideID) of three ports: web and db, which are stations 1 and 2, and a
// remote host, station 3. Station n has the MAC address 02:00:00:00:00:0n.
type CaptureDaemon struct {
	*daemon.Captures
	Client *client.Client   // of its socket
	Sw     *vswitch.Switch  // of the network
	Ports  [4]*vswitch.Port // by station; [0] is nil
	Log    *testhost.Log    // what the daemon logs
	End    func()           // ends the daemon, once; also called when the test ends
}

// DiscardPort is a port whose device takes every frame and drops it.
type DiscardPort struct{}

// Send reports all frames as sent.
func (DiscardPort) Send(frames []*ether.Frame) (sent, bytes int) { return len(frames), 0 }

// NewCaptureDaemon serves captures on a socket of its own until the test ends.
func NewCaptureDaemon(t *testing.T) *CaptureDaemon {
	t.Helper()
	hub := capture.NewHub()
	l := &CaptureDaemon{Sw: vswitch.New(vswitch.Config{}), Log: new(testhost.Log)}
	hub.Add(WideID, l.Sw)
	for i, name := range []string{WebID, FarID, "192.0.2.2"} {
		p := l.Plug(hub, name, byte(i+1))
		l.Ports[i+1] = p
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.Captures = daemon.NewCaptures(hub, "devel", slog.New(slog.NewTextHandler(l.Log, nil)), ctx.Done())
	mux := http.NewServeMux()
	l.Register(mux)
	socket := filepath.Join(t.TempDir(), "t.sock")
	listener, err := daemon.ListenAPI(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- plugin.Serve(ctx, listener, mux) }()
	l.End = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(l.End)
	l.Client = &client.Client{Socket: socket}
	return l
}

// FarID is station 2's endpoint on CaptureDaemon's network, the container db's.
const FarID = "db1d555555555555555555555555555555555555555555555555555555555555"

// Plug attaches a port to the network; a name with a dot is a remote's.
func (l *CaptureDaemon) Plug(hub *capture.Hub, name string, station byte) *vswitch.Port {
	remote := strings.Contains(name, ".")
	p := l.Sw.Attach(name, DiscardPort{}, remote, 1514)
	if !remote {
		p.Pin(ether.MAC{2, 0, 0, 0, 0, station})
	}
	hub.Plug(capture.Port{Number: p.Number, Network: WideID, VNI: 80, Name: name, Remote: remote, MAC: ether.MAC{2, 0, 0, 0, 0, station}})
	return p
}

// Send makes the switch receive numbered frames from one station to another, one by one. The number is byte 14, behind the Ethernet header.
func (l *CaptureDaemon) Send(from, to byte, numbers ...byte) {
	for _, n := range numbers {
		room := make([]byte, ether.Headroom+60)
		b := room[ether.Headroom:]
		copy(b, []byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x08, 0x06, n}) // ARP: the recorder keeps what follows
		l.Ports[from].Ingress([]ether.Frame{ether.Lend(room, ether.Offload{})})
	}
}

// Open starts a capture, and closes its stream when the test ends.
func (l *CaptureDaemon) Open(t *testing.T, want api.CaptureRequest) *client.Stream {
	t.Helper()
	s, err := l.Client.OpenStream(t.Context(), api.CapturesPath, want)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ReadRest reads a stream to its end. It returns the names of the ports, the numbers of the frames (see CaptureDaemon.Send), and the
// sums of the last statistics of all ports.
func ReadRest(t *testing.T, s *client.Stream) (ports []string, numbers []byte, delivered, dropped uint64) {
	t.Helper()
	stats := map[int]pcapng.Stats{}
	for {
		b, err := s.Next()
		switch b := b.(type) {
		case *pcapng.Interface:
			ports = append(ports, b.Name)
		case *pcapng.Packet:
			numbers = append(numbers, b.Data[14])
		case *pcapng.Stats:
			stats[b.Interface] = *b
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for _, b := range stats {
				delivered, dropped = delivered+b.Delivered, dropped+b.Dropped
			}
			return ports, numbers, delivered, dropped
		}
	}
}

// NewFilledRecorder returns a CaptureDaemon whose flight recorder holds so many frames from station 1 to 2.
func NewFilledRecorder(t *testing.T, frames int) *CaptureDaemon {
	l := NewCaptureDaemon(t)
	testhost.Must(t, l.Recorder.Resize(1<<23))
	t.Cleanup(l.Recorder.Close)
	for i := range frames {
		l.Send(1, 2, byte(i))
	}
	return l
}

// AwaitLog waits until the daemon's log contains want.
func (l *CaptureDaemon) AwaitLog(t *testing.T, want string) {
	t.Helper()
	testhost.Eventually(t, testhost.Patience, func() error {
		if text := l.Log.String(); !strings.Contains(text, want) {
			return fmt.Errorf("no %q in the log:\n%s", want, text)
		}
		return nil
	})
}

// AwaitCapture waits until a capture runs.
func (l *CaptureDaemon) AwaitCapture() {
	for {
		if len(l.Running()) > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
