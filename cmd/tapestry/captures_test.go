package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// A lens is a daemon's captures with one network of three ports: web and db, stations 1 and 2, and a remote host.
type lens struct {
	*captures
	client *client
	sw     *vswitch.Switch
	ports  [4]*vswitch.Port
	log    *lockedBuffer
	end    func()
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

type nowhere struct{}

func (nowhere) Send(frames []*ether.Frame) (sent, bytes int) { return len(frames), 0 }

func newLens(t *testing.T) *lens {
	t.Helper()
	hub := capture.NewHub()
	l := &lens{sw: vswitch.New(vswitch.Config{}), log: &lockedBuffer{}}
	hub.Add(wideID, l.sw)
	for i, name := range []string{webID, farID, "192.0.2.2"} {
		p := l.plug(hub, name, byte(i+1))
		l.ports[i+1] = p
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.captures = newCaptures(hub, slog.New(slog.NewTextHandler(l.log, nil)), ctx.Done())
	mux := http.NewServeMux()
	l.routes(mux)
	socket := filepath.Join(t.TempDir(), "t.sock")
	listener, err := listenAPI(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- plugin.Serve(ctx, listener, mux) }()
	l.end = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(l.end)
	l.client = &client{socket: socket}
	return l
}

const farID = "db1d555555555555555555555555555555555555555555555555555555555555"

func (l *lens) plug(hub *capture.Hub, name string, station byte) *vswitch.Port {
	remote := strings.Contains(name, ".")
	p := l.sw.Attach(name, nowhere{}, remote, 1514)
	if !remote {
		p.Pin(ether.MAC{2, 0, 0, 0, 0, station})
	}
	hub.Plug(capture.Port{Number: p.Number, Network: wideID, VNI: 80, Name: name, Remote: remote, MAC: ether.MAC{2, 0, 0, 0, 0, station}})
	return p
}

// send lets numbered frames from one station to another in, one by one.
func (l *lens) send(from, to byte, numbers ...byte) {
	for _, n := range numbers {
		room := make([]byte, ether.Headroom+60)
		b := room[ether.Headroom:]
		copy(b, []byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x08, 0x06, n}) // ARP: the recorder keeps what follows
		l.ports[from].Ingress([]ether.Frame{ether.Lend(room, ether.Offload{})})
	}
}

func (l *lens) open(t *testing.T, want captureRequest) *stream {
	t.Helper()
	s, err := l.client.openStream(t.Context(), "/v1/captures", want)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// rest reads a stream to its end: the names of the ports, the numbers of the frames, the last books.
func rest(t *testing.T, s *stream) (ports []string, numbers []byte, delivered, dropped uint64) {
	t.Helper()
	books := map[int]pcapng.Stats{}
	for {
		b, err := s.Next()
		switch b := b.(type) {
		case *pcapng.Interface:
			ports = append(ports, b.Name)
		case *pcapng.Packet:
			numbers = append(numbers, b.Data[14])
		case *pcapng.Stats:
			books[b.Interface] = *b
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			for _, b := range books {
				delivered, dropped = delivered+b.Delivered, dropped+b.Dropped
			}
			return ports, numbers, delivered, dropped
		}
	}
}

func TestCaptureStream(t *testing.T) {
	l := newLens(t)
	for _, c := range []struct {
		name  string
		want  captureRequest
		ports int
		got   []byte
	}{
		{"all", captureRequest{}, 3, []byte{1, 2, 3, 4}},
		{"web", captureRequest{Targets: captureTargets{Endpoints: []string{webID}}}, 2, []byte{1, 2, 3, 4}},
		{"a peer", captureRequest{Targets: captureTargets{Peers: []string{"192.0.2.2"}}}, 3, []byte{3, 4}},
		{"network", captureRequest{Targets: captureTargets{Networks: []string{wideID}}}, 3, []byte{1, 2, 3, 4}},
		{"no network", captureRequest{Targets: captureTargets{Networks: []string{localID}}}, 0, nil},
		{"nothing", captureRequest{Targets: captureTargets{Some: true}}, 0, nil},
		{"drops", captureRequest{Drops: true}, 3, []byte{2}},
		{"filter", captureRequest{Filter: captureFilter{Expr: "ether[14] > 2"}}, 3, []byte{3, 4}},
		{"two frames", captureRequest{Frames: 2}, 3, []byte{1, 2}},
		{"in", captureRequest{Point: "in", Targets: captureTargets{Endpoints: []string{farID}}}, 1, []byte{4}},
		{"out", captureRequest{Point: "out"}, 3, []byte{1, 3, 3, 4, 4}},
	} {
		s := l.open(t, c.want)
		l.send(1, 2, 1) // web → db
		l.send(1, 1, 2) // hairpin
		l.send(1, 9, 3) // flooded
		l.send(2, 9, 4)
		if c.want.Frames == 0 {
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ports, numbers, delivered, dropped := rest(t, s)
		frames := slices.Compact(slices.Clone(numbers))
		if len(ports) != c.ports || !bytes.Equal(numbers, c.got) || dropped != 0 {
			t.Errorf("%s: ports %.4q, frames %v, %d dropped, want %d ports and %v", c.name, ports, numbers, dropped, c.ports, c.got)
		}
		b, err := s.Books(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.Seen != 4 || b.Seen != b.Filtered+b.Accepted || b.Accepted != b.Delivered+b.Dropped || b.Waiting != 0 || c.want.Point == "" && b.Delivered != uint64(len(frames)) ||
			b.Packets != uint64(len(numbers)) {
			t.Errorf("%s: %+v, %d in the stream", c.name, b, delivered)
		}
		if state := map[bool]string{true: "limit", false: "stopped"}[c.want.Frames > 0]; b.State != state {
			t.Errorf("%s: it is %s, want %s", c.name, b.State, state)
		}
	}
	who := fmt.Sprintf("uid=%d pid=%d", os.Getuid(), os.Getpid())
	if text := l.log.text(); strings.Count(text, "capture ended") != 11 || !strings.Contains(text, who) || !strings.Contains(text, `filter="ether[14] > 2"`) {
		t.Errorf("the log has no line for each, by %s:\n%s", who, text)
	}
}

// A port that comes is told of before its first frame, and looked at if it was asked for.
func TestCaptureGrows(t *testing.T) {
	l := newLens(t)
	const lateID = "1a7e666666666666666666666666666666666666666666666666666666666666"
	byName := l.open(t, captureRequest{Targets: captureTargets{Endpoints: []string{lateID}}})
	fresh := l.open(t, captureRequest{Targets: captureTargets{New: true}})
	other := l.open(t, captureRequest{Targets: captureTargets{Endpoints: []string{webID}}})
	l.ports[3] = l.plug(l.hub, lateID, 3)
	l.send(3, 2, 7)
	for name, s := range map[string]*stream{"by name": byName, "new": fresh} {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		ports, numbers, _, _ := rest(t, s)
		if len(ports) == 0 || ports[0] != lateID || !bytes.Equal(numbers, []byte{7}) {
			t.Errorf("%s: ports %.4q, frames %v", name, ports, numbers)
		}
	}
	// A running capture is aimed anew, and gets another filter.
	if err := other.Change(t.Context(), captureChange{Targets: &captureTargets{Endpoints: []string{lateID}}, Filter: &captureFilter{Expr: "ether[14] = 9"}}); err != nil {
		t.Fatal(err)
	}
	l.send(3, 2, 8, 9)
	l.send(1, 2, 9)
	if err := other.Change(t.Context(), captureChange{Filter: &captureFilter{Expr: "nonsense"}}); exitCode(err) != exitUsage {
		t.Errorf("a wrong filter: %v", err)
	}
	if err := other.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, numbers, _, _ := rest(t, other); !bytes.Equal(numbers, []byte{9}) {
		t.Errorf("after the change: frames %v", numbers)
	}
}

// A reader that does not read costs nobody a frame; what it loses is counted, for each port.
func TestCaptureStuck(t *testing.T) {
	l := newLens(t)
	s := l.open(t, captureRequest{Ring: 1 << 18, Bytes: -1})
	const frames = 40_000 // more than ring and socket hold
	for i := range frames {
		l.send(1+byte(i%2), 2-byte(i%2), byte(i))
	}
	if n := l.sw.Tally()[vswitch.Forwarded]; n != frames {
		t.Errorf("%d frames were forwarded, want %d", n, frames)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	drops := uint64(0)
	last := map[int]uint64{}
	packets := uint64(0)
	for {
		b, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch b := b.(type) {
		case *pcapng.Packet:
			packets++
			drops += b.Drops
		case *pcapng.Stats:
			last[b.Interface] = b.Dropped
		}
	}
	b, err := s.Books(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var told uint64
	for _, n := range last {
		told += n
	}
	if b.Dropped == 0 || b.Seen != frames || b.Accepted != b.Delivered+b.Dropped || b.Delivered != packets || told != b.Dropped || drops > told {
		t.Errorf("%+v; in the stream %d packets, %d lost told by packets, %d by the books", b, packets, drops, told)
	}
}

// When the reader hangs up or the daemon ends, the capture ends.
func TestCaptureEnds(t *testing.T) {
	l := newLens(t)
	gone, left := l.open(t, captureRequest{}), l.open(t, captureRequest{})
	l.send(1, 2, 1)
	must(t, gone.Close())
	for deadline := time.Now().Add(time.Minute); ; {
		if b, err := gone.Books(t.Context()); err != nil {
			t.Fatal(err)
		} else if b.State == "gone" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("its reader is gone, and it is %s", b.State)
		}
		time.Sleep(time.Millisecond)
	}
	go l.end()
	if _, numbers, delivered, _ := rest(t, left); !bytes.Equal(numbers, []byte{1}) || delivered != 1 {
		t.Errorf("of the one that was left: frames %v, %d in its books", numbers, delivered)
	}
	l.end()
	if !strings.Contains(l.log.text(), "why=shutdown") {
		t.Error(l.log.text())
	}
}

// Books that are asked for while a frame beyond the limit is read balance.
func TestCaptureBooksAtLimit(t *testing.T) {
	l := newLens(t)
	s := newSession(&asked{}, credentials{})
	var err error
	s.sink, err = l.hub.Subscribe(capture.Options{})
	must(t, err)
	defer s.sink.Free()
	l.send(1, 2, 1)
	balance := func(when string, filtered uint64) {
		if b := s.books(); b.Seen != 1 || b.Filtered != filtered || b.Accepted != 1-filtered || b.Delivered != 0 || b.Waiting != 1-filtered {
			t.Errorf("%s: %+v", when, b)
		}
	}
	s.sink.Read(func(*capture.Record) {
		s.beyond.Add(1)
		balance("meanwhile", 0)
	})
	balance("then", 1)
}

func TestCaptureRefused(t *testing.T) {
	l := newLens(t)
	for want, r := range map[string]captureRequest{
		"ring 5": {Ring: 5}, "snap -1": {Snap: -1}, `point "on"`: {Point: "on"}, `view "x"`: {View: "x"}, `offload mode "off"`: {Offload: "off"},
		`annotate "some"`: {Annotate: "some"}, `format "pcap"`: {Format: "pcap"}, `filter "host"`: {Filter: captureFilter{Expr: "host"}},
		`address of "web"`: {Filter: captureFilter{Expr: "host web", Names: map[string][]string{"web": {"x"}}}},
	} {
		if _, err := l.client.openStream(t.Context(), "/v1/captures", r); exitCode(err) != exitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if err := l.client.call(t.Context(), http.MethodGet, "/v1/captures/77", nil, nil); exitCode(err) != exitNoTarget {
		t.Errorf("an unknown capture: %v", err)
	}
	var all []*stream
	for range maxCaptures {
		all = append(all, l.open(t, captureRequest{Ring: 1 << 18}))
	}
	if _, err := l.client.openStream(t.Context(), "/v1/captures", captureRequest{}); err == nil || !strings.Contains(err.Error(), "32 captures") {
		t.Errorf("one too many: %v", err)
	}
	var running []captureBooks
	must(t, l.client.call(t.Context(), http.MethodGet, "/v1/captures", nil, &running))
	if len(running) != maxCaptures {
		t.Errorf("%d are listed", len(running))
	}
	for _, s := range all {
		must(t, s.Close())
	}
	for range 4 {
		s, err := l.client.openStream(t.Context(), "/v1/captures", captureRequest{Ring: maxRing})
		for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); { // until those before have ended
			time.Sleep(time.Millisecond)
			s, err = l.client.openStream(t.Context(), "/v1/captures", captureRequest{Ring: maxRing})
		}
		must(t, err)
		defer s.Close()
	}
	if _, err := l.client.openStream(t.Context(), "/v1/captures", captureRequest{Ring: 1 << 18}); err == nil || !strings.Contains(err.Error(), "1 GiB") {
		t.Errorf("more memory than there is: %v", err)
	}
}

func TestRecorderAPI(t *testing.T) {
	l := newLens(t)
	if _, err := l.client.openStream(t.Context(), "/v1/recorder/dump", captureRequest{}); err == nil || !strings.Contains(err.Error(), "recorder is off") {
		t.Errorf("a dump of nothing: %v", err)
	}
	var state recorderReply
	must(t, l.client.call(t.Context(), http.MethodPut, "/v1/recorder", recorderChange{1 << 21}, &state))
	if !state.On || state.Bytes != 1<<21 || state.Since == nil {
		t.Errorf("switched on: %+v", state)
	}
	l.send(1, 2, 1)
	l.send(1, 1, 2)
	l.send(2, 9, 3)
	for name, c := range map[string]struct {
		want captureRequest
		got  []byte
	}{
		"all": {captureRequest{}, []byte{1, 2, 3}}, "drops": {captureRequest{Drops: true}, []byte{2}}, "one": {captureRequest{Frames: 1}, []byte{1}},
		"db": {captureRequest{Targets: captureTargets{Endpoints: []string{farID}}, Last: 3600}, []byte{1, 3}}, "filter": {captureRequest{Filter: captureFilter{Expr: "ether[14] != 3"}}, []byte{1, 2}},
	} {
		s, err := l.client.openStream(t.Context(), "/v1/recorder/dump", c.want)
		must(t, err)
		if _, numbers, _, _ := rest(t, s); !bytes.Equal(numbers, c.got) {
			t.Errorf("%s: %v, want %v", name, numbers, c.got)
		}
		must(t, s.Close())
	}
	if err := l.client.call(t.Context(), http.MethodPut, "/v1/recorder", recorderChange{3}, nil); exitCode(err) != exitUsage {
		t.Errorf("a wrong size: %v", err)
	}
	must(t, l.client.call(t.Context(), http.MethodPut, "/v1/recorder", recorderChange{}, &state))
	if state.On || l.recorder.Size() != 0 {
		t.Errorf("switched off: %+v", state)
	}
}

// The stream as JSON, for programs that read no pcapng.
func TestCaptureNDJSON(t *testing.T) {
	l := newLens(t)
	c, err := net.Dial("unix", l.client.socket)
	must(t, err)
	defer c.Close()
	body := `{"format":"ndjson","frames":1}`
	fmt.Fprintf(c, "POST /v1/captures HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for looks := false; !looks; {
		l.mu.Lock()
		looks = len(l.all) > 0
		l.mu.Unlock()
	}
	l.send(1, 1, 5)
	text, err := io.ReadAll(c)
	must(t, err)
	for _, want := range []string{`"port":{"index":0,"name":"9b1d4`, `"verdict":"drop","reason":"hairpin"`, `"books":{"port":0,"delivered":1,"dropped":0}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What an ended capture has cost is given back; its books stay. A change of a running one is in the log, with who asked.
func TestCaptureLeavesNothing(t *testing.T) {
	l := newLens(t)
	s := l.open(t, captureRequest{Targets: captureTargets{Endpoints: []string{webID}}, Ring: 1 << 22})
	l.send(1, 2, 1)
	must(t, s.Change(t.Context(), captureChange{Targets: &captureTargets{}, Filter: &captureFilter{Expr: "ether[14] = 7"}}))
	l.send(2, 9, 7)
	must(t, s.Stop(t.Context()))
	if _, numbers, _, _ := rest(t, s); !bytes.Equal(numbers, []byte{1, 7}) {
		t.Errorf("frames %v", numbers)
	}
	who := fmt.Sprintf("uid=%d pid=%d", os.Getuid(), os.Getpid())
	if want := `msg="capture changed" capture=1 ` + who + ` targets=all filter="ether[14] = 7"`; !strings.Contains(l.log.text(), want) {
		t.Errorf("no %s in\n%s", want, l.log.text())
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(l.log.text(), "capture ended"); {
		if time.Now().After(deadline) {
			t.Fatal("it does not end")
		}
		time.Sleep(time.Millisecond)
	}
	if n := l.all["1"].sink.Memory(); n != 0 {
		t.Errorf("an ended capture keeps %d bytes", n)
	}
	if b, err := s.Books(t.Context()); err != nil || b.Delivered != 2 || b.Seen != 2 || b.State != "stopped" {
		t.Errorf("its books are %+v, %v", b, err)
	}
}

// Names in a filter are bounded: each address is looked for in every frame.
func TestCaptureNames(t *testing.T) {
	l := newLens(t)
	var many []string
	for i := range 600 {
		many = append(many, fmt.Sprintf("10.0.%d.%d", i/250, i%250))
	}
	names := map[string][]string{"web": many}
	s := l.open(t, captureRequest{Filter: captureFilter{Expr: "host web", Names: names}})
	must(t, s.Close())
	_, err := l.client.openStream(t.Context(), "/v1/captures", captureRequest{Filter: captureFilter{Expr: "src web or dst web", Names: names}})
	if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "1024 at most") {
		t.Errorf("twice 600 addresses: %v", err)
	}
}

// A super-frame is cut also if only the first bytes of its pieces are kept.
func TestCaptureSegmentSnap(t *testing.T) {
	l := newLens(t)
	s := l.open(t, captureRequest{Offload: "segment", Snap: 100, Frames: 1})
	const payload = 10 * 1000
	room := make([]byte, ether.Headroom+54+payload)
	b := room[ether.Headroom:]
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, byte((40 + payload) >> 8), byte((40 + payload) & 0xff), 0, 0, 0, 0, 64, 6})
	copy(b[26:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	b[46] = 0x50
	l.ports[1].Ingress([]ether.Frame{ether.Lend(room, ether.Offload{Kind: ether.TCP4, Segment: 1000, Head: 54, PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16})})
	n := 0
	for {
		b, err := s.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if p, ok := b.(*pcapng.Packet); ok {
			if n++; p.Len != 1054 || len(p.Data) != 100 {
				t.Errorf("piece %d: %d bytes, %d kept", n, p.Len, len(p.Data))
			}
		}
	}
	if n != 10 {
		t.Errorf("%d pieces, want 10", n)
	}
	if _, err := l.client.openStream(t.Context(), "/v1/captures", captureRequest{Offload: "segment", Headers: true}); exitCode(err) != exitUsage {
		t.Errorf("headers cannot be cut: %v", err)
	}
}

// The recorder's frames of a container are also those from before it was started again: another endpoint, the same address.
func TestRecorderRestart(t *testing.T) {
	l := newLens(t)
	must(t, l.recorder.Resize(1<<21))
	defer l.recorder.Close()
	port := func(id string, addr string) *vswitch.Port {
		p := l.sw.Attach(id, nowhere{}, false, 1514)
		p.Pin(ether.MAC{2, 0, 0, 0, 0, 7})
		l.hub.Plug(capture.Port{Number: p.Number, Network: wideID, Name: id, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}})
		return p
	}
	for i, end := range []struct{ id, addr string }{{"0ther", "10.0.0.8/24"}, {"first", "10.0.0.7/24"}, {"again", "10.0.0.7/24"}} {
		p := port(end.id, end.addr)
		l.ports[3] = p
		room := make([]byte, ether.Headroom+60)
		copy(room[ether.Headroom:], []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 7, 0x08, 0x06, byte(i)})
		p.Ingress([]ether.Frame{ether.Lend(room, ether.Offload{})})
		if i < 2 {
			p.Detach()
			l.hub.Unplug(p.Number)
		}
	}
	s, err := l.client.openStream(t.Context(), "/v1/recorder/dump", captureRequest{Targets: captureTargets{Endpoints: []string{"again"}}})
	must(t, err)
	if _, numbers, _, _ := rest(t, s); !bytes.Equal(numbers, []byte{1, 2}) {
		t.Errorf("frames %v, want those of both endpoints", numbers)
	}
	must(t, s.Close())
}

// A container that has stopped is known by its network namespace: its frames are dumped, under its name.
func TestRecorderStopped(t *testing.T) {
	l := newLens(t)
	must(t, l.recorder.Resize(1<<21))
	defer l.recorder.Close()
	for i, id := range []string{"0ther", "crashed"} {
		p := l.sw.Attach(id, nowhere{}, false, 1514)
		p.Pin(ether.MAC{2, 0, 0, 0, 0, byte(7 + i)})
		to := looker{Hub: l.hub}
		to.Plug(fabric.PortView{Number: p.Number, Network: wideID, Kind: "container", Name: id,
			Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", 7+i))}}, netip.AddrPort{}, netip.AddrPort{})
		to.SetSandbox(p.Number, "/var/run/docker/netns/of-"+id)
		room := make([]byte, ether.Headroom+60)
		copy(room[ether.Headroom:], []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, byte(7 + i), 0x08, 0x06, byte(i)})
		p.Ingress([]ether.Frame{ether.Lend(room, ether.Offload{})})
		p.Detach()
		to.Unplug(p.Number)
	}
	n := &names{stopped: map[string]string{"of-crashed": "web"}}
	// Its address is another's now.
	heir := namedEnd{network: wideID, container: dbContainer, name: "heir", addrs: []netip.Addr{netip.MustParseAddr("10.0.0.8")}}
	n.now.Store(&directory{endpoints: map[string]namedEnd{"heir": heir}, networks: map[string]string{}})
	if err := n.forgotten(); exitCode(err) != exitNoTarget || !strings.Contains(err.Error(), "container web was started before this daemon") {
		t.Errorf("before the dump: %v", err)
	}
	s, err := l.client.openStream(t.Context(), "/v1/recorder/dump", captureRequest{Targets: captureTargets{Sandboxes: []string{"of-crashed"}}})
	must(t, err)
	s.names = n
	ports, numbers, _, _ := rest(t, s)
	if !bytes.Equal(numbers, []byte{1}) || len(ports) != 1 {
		t.Errorf("frames %v of %q, want that of the crashed one", numbers, ports)
	}
	if n.Container("crashed") != "web" || n.Addr(netip.MustParseAddr("10.0.0.8")) != "web" || n.Container("0ther") != "" {
		t.Errorf("names are %+v", n.now.Load())
	}
	if err := n.forgotten(); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
	if text := (captureTargets{Sandboxes: []string{"of-crashed"}}).String(); text != "sandbox:of-crashed" {
		t.Errorf("the log says %q", text)
	}
}
