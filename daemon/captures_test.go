package daemon_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

func TestCaptureStream(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	for _, c := range []struct {
		name  string
		want  api.CaptureRequest
		ports int
		got   []byte
	}{
		{"all", api.CaptureRequest{}, 3, []byte{1, 2, 3, 4}},
		{"web", api.CaptureRequest{Targets: api.Targets{Endpoints: []string{fake.WebID}}}, 2, []byte{1, 2, 3, 4}},
		{"a peer", api.CaptureRequest{Targets: api.Targets{Peers: []string{"192.0.2.2"}}}, 3, []byte{3, 4}},
		{"behind a peer", api.CaptureRequest{Targets: api.Targets{Behind: []api.Behind{{Network: fake.WideID, Peer: "192.0.2.2", Expr: "ether[14] == 4"}}}}, 2, []byte{4}},
		{"network", api.CaptureRequest{Targets: api.Targets{Networks: []string{fake.WideID}}}, 3, []byte{1, 2, 3, 4}},
		{"no network", api.CaptureRequest{Targets: api.Targets{Networks: []string{fake.LocalID}}}, 0, nil},
		{"nothing", api.CaptureRequest{Targets: api.Targets{Some: true}}, 0, nil},
		{"drops", api.CaptureRequest{Drops: true}, 3, []byte{2}},
		{"filter", api.CaptureRequest{Filter: api.Filter{Expr: "ether[14] > 2"}}, 3, []byte{3, 4}},
		{"two frames", api.CaptureRequest{Frames: 2}, 3, []byte{1, 2}},
		{"in", api.CaptureRequest{Point: "in", Targets: api.Targets{Endpoints: []string{fake.FarID}}}, 1, []byte{4}},
		{"out", api.CaptureRequest{Point: "out"}, 3, []byte{1, 3, 3, 4, 4}},
	} {
		s := l.Open(t, c.want)
		l.Send(1, 2, 1) // web → db
		l.Send(1, 1, 2) // hairpin
		l.Send(1, 9, 3) // flooded
		l.Send(2, 9, 4)
		if c.want.Frames == 0 {
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ports, numbers, delivered, dropped := fake.ReadRest(t, s)
		frames := slices.Compact(slices.Clone(numbers))
		if len(ports) != c.ports || !bytes.Equal(numbers, c.got) || dropped != 0 {
			t.Errorf("%s: ports %.4q, frames %v, %d dropped, want %d ports and %v", c.name, ports, numbers, dropped, c.ports, c.got)
		}
		b, err := s.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// With a limit it may have ended before the last frames were sent.
		if b.Seen != 4 && !(c.want.Frames > 0 && b.Seen >= c.want.Frames) || b.Seen != b.Filtered+b.Accepted || b.Accepted != b.Delivered+b.Dropped || b.Waiting != 0 || c.want.Point == "" && b.Delivered != uint64(len(frames)) ||
			b.Packets != uint64(len(numbers)) {
			t.Errorf("%s: %+v, %d in the stream", c.name, b, delivered)
		}
		if state := map[bool]string{true: "limit", false: "stopped"}[c.want.Frames > 0]; b.State != state {
			t.Errorf("%s: it is %s, want %s", c.name, b.State, state)
		}
	}
	who := fmt.Sprintf("uid=%d pid=%d", os.Getuid(), os.Getpid())
	if text := l.Log.String(); strings.Count(text, "capture ended") != 12 || !strings.Contains(text, who) || !strings.Contains(text, `filter="ether[14] > 2"`) {
		t.Errorf("the log has no line for each, by %s:\n%s", who, text)
	}
}

// A new port is announced before its first frame, and captured if it is a target.
func TestCaptureGrows(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	const lateID = "1a7e666666666666666666666666666666666666666666666666666666666666"
	byName := l.Open(t, api.CaptureRequest{Targets: api.Targets{Endpoints: []string{lateID}}})
	fresh := l.Open(t, api.CaptureRequest{Targets: api.Targets{New: true}})
	other := l.Open(t, api.CaptureRequest{Targets: api.Targets{Endpoints: []string{fake.WebID}}})
	l.Ports[3] = l.Plug(l.Hub, lateID, 3)
	l.Send(3, 2, 7)
	for name, s := range map[string]*client.Stream{"by name": byName, "new": fresh} {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		ports, numbers, _, _ := fake.ReadRest(t, s)
		if len(ports) == 0 || ports[0] != lateID || !bytes.Equal(numbers, []byte{7}) {
			t.Errorf("%s: ports %.4q, frames %v", name, ports, numbers)
		}
	}
	// A running capture gets other targets, and another filter.
	if err := other.Change(t.Context(), api.CaptureChange{Targets: &api.Targets{Endpoints: []string{lateID}}, Filter: &api.Filter{Expr: "ether[14] = 9"}}); err != nil {
		t.Fatal(err)
	}
	l.Send(3, 2, 8, 9)
	l.Send(1, 2, 9)
	if err := other.Change(t.Context(), api.CaptureChange{Filter: &api.Filter{Expr: "nonsense"}}); exit.Code(err) != exit.Usage {
		t.Errorf("a wrong filter: %v", err)
	}
	if err := other.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, numbers, _, _ := fake.ReadRest(t, other); !bytes.Equal(numbers, []byte{9}) {
		t.Errorf("after the change: frames %v", numbers)
	}
}

// A reader that does not read holds up no traffic; what it loses is counted for each port.
func TestCaptureStuck(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	s := l.Open(t, api.CaptureRequest{Ring: 1 << 18, Bytes: -1})
	const frames = 40_000 // more than ring and socket hold
	for i := range frames {
		l.Send(1+byte(i%2), 2-byte(i%2), byte(i))
	}
	if n := l.Sw.Tally()[vswitch.Forwarded]; n != frames {
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
	b, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var told uint64
	for _, n := range last {
		told += n
	}
	if b.Dropped == 0 || b.Seen != frames || b.Accepted != b.Delivered+b.Dropped || b.Delivered != packets || told != b.Dropped || drops > told {
		t.Errorf("%+v; in the stream %d packets, %d lost told by packets, %d by the counts", b, packets, drops, told)
	}
}

// When the reader closes the connection or the daemon ends, the capture ends.
func TestCaptureEnds(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	gone, left := l.Open(t, api.CaptureRequest{}), l.Open(t, api.CaptureRequest{})
	l.Send(1, 2, 1)
	testhost.Must(t, gone.Close())
	testhost.Eventually(t, testhost.Patience, func() error {
		b, err := gone.Stats(t.Context())
		testhost.Must(t, err)
		if b.State != "gone" {
			return fmt.Errorf("its reader is gone, and it is %s", b.State)
		}
		return nil
	})
	go l.End()
	if _, numbers, delivered, _ := fake.ReadRest(t, left); !bytes.Equal(numbers, []byte{1}) || delivered != 1 {
		t.Errorf("of the one that was left: frames %v, %d in its counts", numbers, delivered)
	}
	l.End()
	if !strings.Contains(l.Log.String(), "why=shutdown") {
		t.Error(l.Log.String())
	}
}

func TestCaptureRefused(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	for want, r := range map[string]api.CaptureRequest{
		"ring 5": {Ring: 5}, "snap -1": {Snap: -1}, `point "on"`: {Point: "on"}, `view "x"`: {View: "x"}, `offload mode "off"`: {Offload: "off"},
		`annotate "some"`: {Annotate: "some"}, `format "pcap"`: {Format: "pcap"}, `filter "host"`: {Filter: api.Filter{Expr: "host"}},
		`behind 192.0.2.2: filter "host"`: {Targets: api.Targets{Behind: []api.Behind{{Peer: "192.0.2.2", Expr: "host"}}}},
		`behind 192.0.2.2: want which`:    {Targets: api.Targets{Behind: []api.Behind{{Peer: "192.0.2.2"}}}},
		"1001 containers on other hosts":  {Targets: api.Targets{Behind: make([]api.Behind, 1001)}},
		`address of "web"`:                {Filter: api.Filter{Expr: "host web", Names: map[string][]string{"web": {"x"}}}},
	} {
		if _, err := l.Client.OpenStream(t.Context(), api.CapturesPath, r); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if err := l.Client.Call(t.Context(), http.MethodGet, "/v1/captures/77", nil, nil); exit.Code(err) != exit.NoTarget {
		t.Errorf("an unknown capture: %v", err)
	}
	var all []*client.Stream
	const most = 32 // at once
	for range most {
		all = append(all, l.Open(t, api.CaptureRequest{Ring: 1 << 18}))
	}
	if _, err := l.Client.OpenStream(t.Context(), api.CapturesPath, api.CaptureRequest{}); err == nil || !strings.Contains(err.Error(), "32 captures") {
		t.Errorf("one too many: %v", err)
	}
	var running []api.CaptureStats
	testhost.Must(t, l.Client.Call(t.Context(), http.MethodGet, "/v1/captures", nil, &running))
	if len(running) != most {
		t.Errorf("%d are listed", len(running))
	}
	for _, s := range all {
		testhost.Must(t, s.Close())
	}
	for range 4 {
		testhost.Eventually(t, testhost.Patience, func() error { // until those before have ended
			s, err := l.Client.OpenStream(t.Context(), api.CapturesPath, api.CaptureRequest{Ring: api.MaxRing})
			if err == nil {
				t.Cleanup(func() { s.Close() })
			}
			return err
		})
	}
	if _, err := l.Client.OpenStream(t.Context(), api.CapturesPath, api.CaptureRequest{Ring: 1 << 18}); err == nil || !strings.Contains(err.Error(), "1 GiB") {
		t.Errorf("more memory than there is: %v", err)
	}
}

func TestRecorderAPI(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	if _, err := l.Client.OpenStream(t.Context(), api.RecorderDumpPath, api.CaptureRequest{}); err == nil || !strings.Contains(err.Error(), "recorder is off") {
		t.Errorf("a dump of nothing: %v", err)
	}
	var state api.Recorder
	testhost.Must(t, l.Client.Call(t.Context(), http.MethodPut, "/v1/recorder", api.RecorderChange{Bytes: 1 << 21}, &state))
	if !state.On || state.Bytes != 1<<21 || state.Since == nil {
		t.Errorf("switched on: %+v", state)
	}
	l.Send(1, 2, 1)
	l.Send(1, 1, 2)
	l.Send(2, 9, 3)
	for name, c := range map[string]struct {
		want api.CaptureRequest
		got  []byte
	}{
		"all": {api.CaptureRequest{}, []byte{1, 2, 3}}, "drops": {api.CaptureRequest{Drops: true}, []byte{2}}, "one": {api.CaptureRequest{Frames: 1}, []byte{1}},
		"db": {api.CaptureRequest{Targets: api.Targets{Endpoints: []string{fake.FarID}}, Last: 3600}, []byte{1, 3}}, "filter": {api.CaptureRequest{Filter: api.Filter{Expr: "ether[14] != 3"}}, []byte{1, 2}},
	} {
		s, err := l.Client.OpenStream(t.Context(), api.RecorderDumpPath, c.want)
		testhost.Must(t, err)
		if _, numbers, _, _ := fake.ReadRest(t, s); !bytes.Equal(numbers, c.got) {
			t.Errorf("%s: %v, want %v", name, numbers, c.got)
		}
		testhost.Must(t, s.Close())
	}
	if err := l.Client.Call(t.Context(), http.MethodPut, "/v1/recorder", api.RecorderChange{Bytes: 3}, nil); exit.Code(err) != exit.Usage {
		t.Errorf("a wrong size: %v", err)
	}
	testhost.Must(t, l.Client.Call(t.Context(), http.MethodPut, "/v1/recorder", api.RecorderChange{}, &state))
	if state.On || l.Recorder.Size() != 0 {
		t.Errorf("switched off: %+v", state)
	}
}

// The stream as JSON, for programs that do not read pcapng.
func TestCaptureNDJSON(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	c, err := net.Dial("unix", l.Client.Socket)
	testhost.Must(t, err)
	defer c.Close()
	body := `{"format":"ndjson","frames":1}`
	fmt.Fprintf(c, "POST /v1/captures HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for running := false; !running; {
		running = len(l.Running()) > 0
	}
	l.Send(1, 1, 5)
	text, err := io.ReadAll(c)
	testhost.Must(t, err)
	for _, want := range []string{`"port":{"index":0,"name":"9b1d4`, `"verdict":"drop","reason":"hairpin"`, `"books":{"port":0,"delivered":1,"dropped":0}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// An ended capture frees its memory; its counts stay. A change of a running one is in the log, with who asked.
func TestCaptureLeavesNothing(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	s := l.Open(t, api.CaptureRequest{Targets: api.Targets{Endpoints: []string{fake.WebID}}, Ring: 1 << 22})
	l.Send(1, 2, 1)
	testhost.Must(t, s.Change(t.Context(), api.CaptureChange{Targets: &api.Targets{}, Filter: &api.Filter{Expr: "ether[14] = 7"}}))
	l.Send(2, 9, 7)
	testhost.Must(t, s.Stop(t.Context()))
	if _, numbers, _, _ := fake.ReadRest(t, s); !bytes.Equal(numbers, []byte{1, 7}) {
		t.Errorf("frames %v", numbers)
	}
	who := fmt.Sprintf("uid=%d pid=%d", os.Getuid(), os.Getpid())
	if want := `msg="capture changed" capture=1 ` + who + ` targets=all filter="ether[14] = 7"`; !strings.Contains(l.Log.String(), want) {
		t.Errorf("no %s in\n%s", want, l.Log.String())
	}
	l.AwaitLog(t, "capture ended")
	if n := daemon.Memories(l.Captures)["1"]; n != 0 {
		t.Errorf("an ended capture keeps %d bytes", n)
	}
	if b, err := s.Stats(t.Context()); err != nil || b.Delivered != 2 || b.Seen != 2 || b.State != "stopped" {
		t.Errorf("its counts are %+v, %v", b, err)
	}
}

// Names in a filter are bounded: each address is looked for in every frame.
func TestCaptureNames(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	var many []string
	for i := range 600 {
		many = append(many, fmt.Sprintf("10.0.%d.%d", i/250, i%250))
	}
	names := map[string][]string{"web": many}
	s := l.Open(t, api.CaptureRequest{Filter: api.Filter{Expr: "host web", Names: names}})
	testhost.Must(t, s.Close())
	_, err := l.Client.OpenStream(t.Context(), api.CapturesPath, api.CaptureRequest{Filter: api.Filter{Expr: "src web or dst web", Names: names}})
	if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "1024 at most") {
		t.Errorf("twice 600 addresses: %v", err)
	}
}

// A super-frame is cut even if only the first bytes of its segments are kept.
func TestCaptureSegmentSnap(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	s := l.Open(t, api.CaptureRequest{Offload: "segment", Snap: 100, Frames: 1})
	const payload = 10 * 1000
	room := append(make([]byte, ether.Headroom), packets.Packet{Payload: make([]byte, payload)}.Partial()...)
	l.Ports[1].Ingress([]ether.Frame{ether.Lend(room, ether.Offload{Kind: ether.TCP4, Segment: 1000, Head: 54, PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 16})})
	n := 0
	for {
		b, err := s.Next()
		if err == io.EOF {
			break
		}
		testhost.Must(t, err)
		if p, ok := b.(*pcapng.Packet); ok {
			if n++; p.Len != 1054 || len(p.Data) != 100 {
				t.Errorf("segment %d: %d bytes, %d kept", n, p.Len, len(p.Data))
			}
		}
	}
	if n != 10 {
		t.Errorf("%d segments, want 10", n)
	}
	if _, err := l.Client.OpenStream(t.Context(), api.CapturesPath, api.CaptureRequest{Offload: "segment", Headers: true}); exit.Code(err) != exit.Usage {
		t.Errorf("headers cannot be cut: %v", err)
	}
}

// The recorder's frames of a container include those from before a restart, which gave it another endpoint with the same address.
func TestRecorderRestart(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	testhost.Must(t, l.Recorder.Resize(1<<21))
	defer l.Recorder.Close()
	port := func(id string, addr string) *vswitch.Port {
		p := l.Sw.Attach(id, fake.DiscardPort{}, false, 1514)
		p.Pin(ether.MAC{2, 0, 0, 0, 0, 7})
		l.Hub.Plug(capture.Port{Number: p.Number, Network: fake.WideID, Name: id, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}})
		return p
	}
	for i, end := range []struct{ id, addr string }{{"0ther", "10.0.0.8/24"}, {"first", "10.0.0.7/24"}, {"again", "10.0.0.7/24"}} {
		p := port(end.id, end.addr)
		l.Ports[3] = p
		room := make([]byte, ether.Headroom+60)
		copy(room[ether.Headroom:], []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 7, 0x08, 0x06, byte(i)})
		p.Ingress([]ether.Frame{ether.Lend(room, ether.Offload{})})
		if i < 2 {
			p.Detach()
			l.Hub.Unplug(p.Number)
		}
	}
	s, err := l.Client.OpenStream(t.Context(), api.RecorderDumpPath, api.CaptureRequest{Targets: api.Targets{Endpoints: []string{"again"}}})
	testhost.Must(t, err)
	if _, numbers, _, _ := fake.ReadRest(t, s); !bytes.Equal(numbers, []byte{1, 2}) {
		t.Errorf("frames %v, want those of both endpoints", numbers)
	}
	testhost.Must(t, s.Close())
}
