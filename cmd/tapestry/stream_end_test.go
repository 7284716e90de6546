package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// A faultyWriter fails once so many bytes were written; the connection stays as it is.
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

// filled is a lens whose recorder has so many frames.
func filled(t *testing.T, frames int) *lens {
	l := newLens(t)
	must(t, l.recorder.Resize(1<<23))
	t.Cleanup(l.recorder.Close)
	for i := range frames {
		l.send(1, 2, byte(i))
	}
	return l
}

// awaitLog waits until the daemon's log has what is wanted.
func (l *lens) awaitLog(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(l.log.text(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in the log:\n%s", want, l.log.text())
		}
	}
}

// A stream that could not be written whole has no end, and the log does not say that it was.
func TestStreamsBreakOff(t *testing.T) {
	const frames = 10_000
	for path, log := range map[string]string{"/v1/recorder/dump": "recorder dump broke off", "/v1/captures": "why=gone"} {
		for _, format := range []string{"pcapng", "ndjson"} {
			l := filled(t, frames)
			mux := http.NewServeMux()
			l.routes(mux)
			socket := serveUnix(t, "faulty.sock", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mux.ServeHTTP(&faultyWriter{w, 500_000}, r)
			}))
			go func() {
				if path == "/v1/captures" {
					l.awaitCapture()
					for i := range frames {
						l.send(1, 2, byte(i))
					}
				}
			}()
			resp, err := (&client{socket: socket}).openStream(t.Context(), path, captureRequest{Format: format, Ring: 1 << 23})
			must(t, err)
			read, err := io.Copy(io.Discard, resp.body)
			must(t, resp.Close())
			if !errors.Is(err, io.ErrUnexpectedEOF) || read == 0 || read > 500_000 {
				t.Errorf("%s as %s: %d bytes, and then %v", path, format, read, err)
			}
			l.awaitLog(t, log)
			if strings.Contains(l.log.text(), "recorder dumped") {
				t.Errorf("%s as %s: the log says\n%s", path, format, l.log.text())
			}
		}
	}
}

// awaitCapture waits until one runs.
func (l *lens) awaitCapture() {
	for {
		if l.mu.Lock(); len(l.all) > 0 {
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// A dump that is one too many is refused, and says what to do. It goes when those before have been read.
func TestDumpRefused(t *testing.T) {
	l := filled(t, 40_000) // more than the sockets hold
	var all []*stream
	for range 4 {
		s, err := l.client.openStream(t.Context(), "/v1/recorder/dump", captureRequest{})
		must(t, err)
		defer s.Close()
		all = append(all, s)
	}
	if _, err := l.client.openStream(t.Context(), "/v1/recorder/dump", captureRequest{}); exitCode(err) != exitNo ||
		!strings.Contains(err.Error(), "4 dumps of the recorder are being read, which is the most: try again when one of them has ended") {
		t.Errorf("the fifth: %v", err)
	}
	if _, numbers, _, _ := rest(t, all[0]); len(numbers) == 0 {
		t.Error("the first has no frames")
	}
	l.awaitLog(t, "recorder dumped")
	s, err := l.client.openStream(t.Context(), "/v1/recorder/dump", captureRequest{Bytes: 10_000})
	must(t, err)
	counted := &counter{Reader: s.body}
	for r := pcapng.NewReader(counted); err == nil; _, err = r.Next() {
	}
	if err != io.EOF || counted.n.Load() > 10_000 || counted.n.Load() < 9_000 {
		t.Errorf("of a dump of 10,000 bytes at most %d came, and then %v", counted.n.Load(), err)
	}
	must(t, s.Close())
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

// Who looks at a dump a page at a time gets all of it, and the daemon does not keep it meanwhile.
func TestDumpSlowly(t *testing.T) {
	l := filled(t, 40_000)
	look := &look{want: captureRequest{Detail: true}}
	s, _, err := look.openDump(t.Context(), l.client, 0)
	must(t, err)
	defer s.Close()
	l.awaitLog(t, "recorder dumped") // nothing was read
	if _, numbers, _, _ := rest(t, s); len(numbers) != 40_000 {
		t.Errorf("%d frames came, want 40,000", len(numbers))
	}
}

// The reader of a spool gets what it has, then its error; its end may come at any time.
func TestSpool(t *testing.T) {
	r, w := io.Pipe()
	s := newSpool(r)
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(i * i >> 7)
	}
	for part := range slices.Chunk(want, 70_001) {
		if _, err := w.Write(part); err != nil { // a pipe: it was read
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	w.CloseWithError(broken)
	got, err := io.ReadAll(s)
	if !bytes.Equal(got, want) || err != broken {
		t.Errorf("%d bytes of %d, and then %v", len(got), len(want), err)
	}
	must(t, s.Close())

	r, _ = io.Pipe()
	s = newSpool(r)
	must(t, s.Close())
	if _, err := s.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Errorf("after its end: %v", err)
	}
}

// Captures that have ended take little, however many there were, and are not changed any more.
func TestEndedCaptures(t *testing.T) {
	l := newLens(t)
	var last *stream
	for range 2 * maxEnded {
		last = l.open(t, captureRequest{Ring: minRing, Filter: captureFilter{Expr: "host web", Names: map[string][]string{"web": {"10.0.0.1"}}}})
		must(t, last.Stop(t.Context()))
		rest(t, last)
	}
	l.awaitLog(t, fmt.Sprintf(`msg="capture ended" capture=%s `, last.id))
	l.open(t, captureRequest{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.all); n > maxEnded+1 {
		t.Errorf("%d captures are remembered", n)
	}
	ended := l.all[last.id]
	if ended == nil || ended.sink.Memory() != 0 {
		t.Errorf("of the last one there is %+v", ended)
	}
	l.mu.Unlock()
	err := last.Change(t.Context(), captureChange{Filter: &captureFilter{Expr: "icmp"}})
	l.mu.Lock()
	if exitCode(err) != exitNo || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("it was changed: %v", err)
	}
}
