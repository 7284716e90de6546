package daemon_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A stream that could not be written completely is cut off, and the log does not say that it is complete.
func TestStreamsBreakOff(t *testing.T) {
	const frames = 10_000
	for path, log := range map[string]string{"/v1/recorder/dump": "recorder dump broke off", "/v1/captures": "why=gone"} {
		for _, format := range []string{"pcapng", "ndjson"} {
			l := fake.NewFilledRecorder(t, frames)
			mux := http.NewServeMux()
			l.Register(mux)
			socket := fake.ServeUnix(t, "faulty.sock", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mux.ServeHTTP(&faultyWriter{w, 500_000}, r)
			}))
			go func() {
				if path == "/v1/captures" {
					l.AwaitCapture()
					for i := range frames {
						l.Send(1, 2, byte(i))
					}
				}
			}()
			resp, err := (&client.Client{Socket: socket}).OpenStream(t.Context(), path, api.CaptureRequest{Format: format, Ring: 1 << 23})
			testhost.Must(t, err)
			read, err := io.Copy(io.Discard, resp.Body)
			testhost.Must(t, resp.Close())
			if !errors.Is(err, io.ErrUnexpectedEOF) || read == 0 || read > 500_000 {
				t.Errorf("%s as %s: %d bytes, and then %v", path, format, read, err)
			}
			l.AwaitLog(t, log)
			if strings.Contains(l.Log.String(), "recorder dumped") {
				t.Errorf("%s as %s: the log says\n%s", path, format, l.Log.String())
			}
		}
	}
}

// One dump too many is refused, with what to do. It is possible when those before have been read.
func TestDumpRefused(t *testing.T) {
	l := fake.NewFilledRecorder(t, 40_000) // more than the sockets hold
	var all []*client.Stream
	for range 4 {
		s, err := l.Client.OpenStream(t.Context(), api.RecorderDumpPath, api.CaptureRequest{})
		testhost.Must(t, err)
		defer s.Close()
		all = append(all, s)
	}
	if _, err := l.Client.OpenStream(t.Context(), api.RecorderDumpPath, api.CaptureRequest{}); exit.Code(err) != exit.Failure ||
		!strings.Contains(err.Error(), "4 dumps of the recorder are being read, which is the most: try again when one of them has ended") {
		t.Errorf("the fifth: %v", err)
	}
	if _, numbers, _, _ := fake.ReadRest(t, all[0]); len(numbers) == 0 {
		t.Error("the first has no frames")
	}
	l.AwaitLog(t, "recorder dumped")
	s, err := l.Client.OpenStream(t.Context(), api.RecorderDumpPath, api.CaptureRequest{Bytes: 10_000})
	testhost.Must(t, err)
	counted := &counter{Reader: s.Body}
	for r := pcapng.NewReader(counted); err == nil; _, err = r.Next() {
	}
	if err != io.EOF || counted.n.Load() > 10_000 || counted.n.Load() < 9_000 {
		t.Errorf("of a dump of 10,000 bytes at most %d came, and then %v", counted.n.Load(), err)
	}
	testhost.Must(t, s.Close())
}

// Ended captures take little memory, however many there were, and cannot be changed.
func TestEndedCaptures(t *testing.T) {
	const most = 64 // that have ended
	l := fake.NewCaptureDaemon(t)
	var last *client.Stream
	for range 2 * most {
		last = l.Open(t, api.CaptureRequest{Ring: api.MinRing, Filter: api.Filter{Expr: "host web", Names: map[string][]string{"web": {"10.0.0.1"}}}})
		testhost.Must(t, last.Stop(t.Context()))
		fake.ReadRest(t, last)
	}
	l.AwaitLog(t, fmt.Sprintf(`msg="capture ended" capture=%s `, last.ID))
	l.Open(t, api.CaptureRequest{})
	all := daemon.Memories(l.Captures)
	if len(all) > most+1 {
		t.Errorf("%d ended captures are kept", len(all))
	}
	if memory, there := all[last.ID]; !there || memory != 0 {
		t.Errorf("of the last one there is %t, with %d bytes", there, memory)
	}
	err := last.Change(t.Context(), api.CaptureChange{Filter: &api.Filter{Expr: "icmp"}})
	if exit.Code(err) != exit.Failure || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("it was changed: %v", err)
	}
}

// A faultyWriter fails after so many bytes; the connection stays open.
type faultyWriter struct {
	http.ResponseWriter
	left int
}

func (w *faultyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *faultyWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, errors.New("no more")
	}
	return w.ResponseWriter.Write(b)
}

type counter struct {
	io.Reader
	n atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}
