package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
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

// Another command gives a running capture another filter. The one that began it, which renews the names in its own, does
// not undo that.
func TestCaptureChangeCommand(t *testing.T) {
	l := newLens(t)
	socket := serveUnix(t, "all.sock", (&api{host: newFakeHost(), log: slog.New(slog.DiscardHandler), captures: l.captures}).handler())
	s := l.open(t, captureRequest{Filter: captureFilter{Expr: "ether[14] = 1"}, Frames: 2})
	change := func(args ...string) result {
		return tapestry(t, append([]string{"capture", "change", "--api-socket", socket, "--docker-host", "unix:///nowhere"}, args...)...)
	}
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{s.id, "no filter: want -f EXPR", exitUsage}, {"-f icmp", "0 captures: want one ID", exitUsage},
		{"99 -f icmp", `no capture "99"`, exitNoTarget}, {s.id + " -f tcp -f prot", "cannot be read", exitUsage},
		{s.id + " -- ether[14] = 2", "", exitFine},
	} {
		if r := change(strings.Fields(c.args)...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: exit %d, %s", c.args, r.code, r.stderr)
		}
	}
	l.send(1, 2, 1, 2)
	was := "ether[14] = 1"
	must(t, s.Change(t.Context(), captureChange{Filter: &captureFilter{Expr: was, Was: &was}}))
	if b, err := s.Books(t.Context()); err != nil || b.Filter != "ether[14] = 2" {
		t.Errorf("the books are %+v, %v", b, err)
	}
	if r := tapestry(t, "status", "--api-socket", socket, "--docker-host", "unix:///nowhere"); !strings.Contains(r.out, "capture "+s.id+" of ") {
		t.Errorf("status does not tell its ID:\n%s", r.out)
	}
	l.send(1, 2, 1, 2)
	if _, numbers, _, _ := rest(t, s); !bytes.Equal(numbers, []byte{2, 2}) {
		t.Errorf("frames %v", numbers)
	}
}

// --bytes ends a capture before its frames take more; --json prints what watch --json does.
func TestCaptureBytesAndJSON(t *testing.T) {
	l := newLens(t)
	socket := serveUnix(t, "all.sock", (&api{host: newFakeHost(), log: slog.New(slog.DiscardHandler), captures: l.captures}).handler())
	path := filepath.Join(t.TempDir(), "x.pcapng")
	done := make(chan result)
	run := func(args ...string) {
		go func() {
			done <- tapestry(t, append([]string{"capture", "--api-socket", socket, "--docker-host", "unix:///nowhere"}, args...)...)
		}()
		for len(l.running()) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	run("-w", path, "--bytes", "20kB")
	l.send(1, 2, make([]byte, 1000)...)
	r := <-done
	info, err := os.Stat(path)
	if r.code != exitFine || err != nil || info.Size() > 21_000 || info.Size() < 12_000 || !strings.Contains(r.stderr, ", at most 20 kB and 1h") {
		t.Errorf("exit %d, %v, %v: %s", r.code, info, err, r.stderr)
	}
	l.awaitLog(t, "capture ended")
	run("--json", "-n", "2")
	l.send(1, 2, 1, 2)
	r = <-done
	var f map[string]any
	if lines := strings.Split(strings.TrimSpace(r.out), "\n"); len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &f) != nil || f["verdict"] != "forwarded" {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	must(t, l.recorder.Resize(1<<21))
	defer l.recorder.Close()
	l.send(1, 2, 1, 2, 3)
	r = tapestry(t, "recorder", "dump", "--json", "--api-socket", socket, "--docker-host", "unix:///nowhere")
	if r.code != exitFine || strings.Count(r.out, `"verdict":"forwarded"`) != 3 {
		t.Errorf("recorder dump --json: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	r = tapestry(t, "recorder", "dump", "--json", "-w", path, "--api-socket", socket)
	if r.code != exitUsage || !strings.Contains(r.stderr, "--json with --write") {
		t.Errorf("both: exit %d, %s", r.code, r.stderr)
	}
}

// Of a capture that streams more than is wanted the bounds are those of what is let through.
func TestBoundedBytes(t *testing.T) {
	s := newFakeStream()
	s.port("container", wideID, "web")
	for range 10 {
		s.frame(0, 0, "frame")
	}
	close(s.blocks)
	stopped, packets := 0, 0
	for b := (&bounded{blocks: s, mostBytes: 4 * (5 + packetRoom), stop: func() { stopped++ }}); ; {
		x, err := b.Next()
		if err == io.EOF {
			break
		}
		if _, ok := x.(*pcapng.Packet); ok {
			packets++
		}
	}
	if stopped != 1 || packets != 4 {
		t.Errorf("%d packets, stopped %d times", packets, stopped)
	}
}
