package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

const conversationTable = `
NETWORK  A    B                  PROTO/PORTS   FRAMES  BYTES   RATE      DROPS  LAST
wide     web  10.80.2.9          tcp 40000→80  3/1     4.8 kB  3.1 kb/s  mtu 1  6s ago
wide     web  ff:ff:ff:ff:ff:ff  arp           1/0     42 B    27 b/s    -      3s ago
`

func TestFlows(t *testing.T) {
	docker := fake.Docker(t)
	e := newFakeRecorder(conversation()...)
	socket := e.serve(t)
	for _, c := range []struct{ args, last string }{
		{"", "the last 12.4 s (older frames were overwritten)"},
		{"--last 30s", "asked for the last 30 s, have 12.4 s (older frames were overwritten)"},
		{"--last 12400ms", "the last 12.4 s"},
	} {
		r := tapestry(t, append(strings.Fields("flows "+c.args), "--api-socket", socket, "--docker-host", docker)...)
		want := conversationTable + "\n2 flows, 5 frames, 4.8 kB in the flight recorder: " + c.last
		if r.code != exit.OK || trimmed(r.out) != trimmed(want) || r.stderr != "" {
			t.Errorf("%q: exit %d, %s\n%s\nwant\n%s", c.args, r.code, r.stderr, trimmed(r.out), trimmed(want))
		}
	}
	asked := e.asked[1]
	if asked.Last != 30 || !asked.Headers || asked.Snap != 128 || !asked.Detail || asked.Targets.Some {
		t.Errorf("asked for %+v", asked)
	}
	r := tapestry(t, "flows", "--sort", "last", "-n", "1", "web", "--api-socket", socket, "--docker-host", docker, "--", "host", "web", "and", "tcp")
	if !strings.Contains(r.out, "arp") || strings.Contains(r.out, "tcp 4") || !strings.Contains(r.out, "\n1 of 2 flows, 5 frames") {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	asked = e.asked[3]
	if f := asked.Filter; f.Expr != "host web and tcp" || !slices.Equal(f.Names["web"], []string{"10.80.1.2"}) || !slices.Equal(asked.Targets.Endpoints, []string{fake.WebID}) {
		t.Errorf("asked for %+v", asked)
	}
	e.recorder.Since = ago(e.covers)
	if r := tapestry(t, "flows", "--last", "1m", "--api-socket", socket, "--docker-host", docker); !strings.Contains(r.out, "asked for the last 1m 0s, have 12.4 s (since the recorder was switched on)") {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
}

func TestFlowsRecorderOff(t *testing.T) {
	e := newFakeRecorder()
	e.recorder = api.Recorder{}
	r := tapestry(t, "flows", "--api-socket", e.serve(t), "--docker-host", fake.Docker(t))
	if r.code != exit.Failure || !strings.Contains(r.stderr, "tapestry recorder on") || !strings.Contains(r.stderr, "--for 10s") || len(e.asked) > 0 {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

func TestFlowsLive(t *testing.T) {
	e := newFakeRecorder(conversation()...)
	e.lost = 3
	socket, docker := e.serve(t), fake.Docker(t)
	r := tapestry(t, "flows", "--for", "10s", "--json", "--api-socket", socket, "--docker-host", docker)
	var got api.Flows
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != exit.OK {
		t.Fatalf("exit %d, %v, %s", r.code, err, r.stderr)
	}
	if got.Source != "live" || got.Lost != 3 || got.Total != (api.Counts{Frames: 5, WireFrames: 7, Bytes: 54 + 54 + 3*1054 + 1514 + 42}) || len(got.Flows) != 2 {
		t.Fatalf("%+v", got)
	}
	if e.asked[0].Seconds != 10 {
		t.Errorf("asked for %+v", e.asked[0])
	}
	f := got.Flows[0]
	if f.A != (api.FlowEnd{Address: "10.80.1.2", Port: 40000, Name: "web"}) || f.B != (api.FlowEnd{Address: "10.80.2.9", Port: 80, Name: ""}) || f.Out != (api.Counts{Frames: 3, WireFrames: 5, Bytes: 54 + 3*1054 + 1514}) ||
		f.Forwarded != 3 || f.Drops["mtu"] != 1 || f.Proto != "tcp" || f.EtherType != "0x0800" || !slices.Equal(f.TCP, []string{"SYN"}) || f.NetworkName != "wide" ||
		!f.Last.Equal(recordingEnd.Add(-6*time.Second)) {
		t.Errorf("%+v", f)
	}
	r = tapestry(t, "flows", "--for", "10s", "--api-socket", socket, "--docker-host", docker)
	if !strings.Contains(r.out, "; 3 frames LOST") {
		t.Errorf("lost frames are not told: %s", r.out)
	}
	e.breaksOff = true
	r = tapestry(t, "flows", "--for", "10s", "--api-socket", socket, "--docker-host", docker)
	if r.code != exit.Failure || !strings.Contains(r.stderr, "broke off") || !strings.Contains(r.out, "tcp 40000→80") {
		t.Errorf("a daemon that died: exit %d, %s%s", r.code, r.out, r.stderr)
	}
}

// An interrupt prints what was seen up to then, and ends the capture in the daemon.
func TestFlowsInterrupted(t *testing.T) {
	e := newFakeRecorder(slices.Repeat(conversation(), 10000)...) // so much that they are sent only when most of it has been read
	e.stays = true
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		<-e.sent
		interrupt()
	}()
	var out, stderr bytes.Buffer
	code := execute(ctx, []string{"flows", "--for", "1h", "--api-socket", e.serve(t), "--docker-host", fake.Docker(t)}, &out, &stderr)
	if code != exit.OK || !strings.Contains(out.String(), "2 flows, 50000 frames") || !strings.Contains(out.String(), "(interrupted)") {
		t.Errorf("exit %d, %s%s", code, out.String(), stderr.String())
	}
	select {
	case <-e.stopped:
	default:
		t.Error("the capture was not stopped")
	}
}

func TestFlowsOfFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.pcapng")
	e := newFakeRecorder(conversation()...)
	socket, docker := e.serve(t), fake.Docker(t)
	for i := range e.packets {
		e.packets[i].Verdict, e.packets[i].ID = nil, uint64(i+1)
	}
	e.packets[3].Comment = "verdict=drop reason=mtu: too long"
	again := e.packets[0]
	again.Interface = 0 // the same frame, where it left
	e.packets = slices.Insert(e.packets, 1, again)
	if r := tapestry(t, "recorder", "dump", "-w", path, "--api-socket", socket, "--docker-host", docker); r.code != exit.OK {
		t.Fatal(r.stderr)
	}
	r := tapestry(t, "flows", "-r", path, "-f", "tcp", "--api-socket", socket, "--docker-host", docker)
	// Without details a super-frame is one long frame.
	if want := "wide     web  10.80.2.9  tcp 40000→80  3/1     4.7 kB"; !strings.Contains(r.out, want) || !strings.Contains(r.out, "mtu 1") ||
		!strings.Contains(r.out, "\n1 flow, 4 frames, 4.7 kB in 3 s\n") {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	dead := filepath.Join(t.TempDir(), "dead.sock")
	// Names in the filter are those of the file.
	if r := tapestry(t, "flows", "-r", path, "-f", "host web", "--api-socket", dead, "--docker-host", docker); r.code != exit.OK || !strings.Contains(r.out, "tcp 40000→80") {
		t.Errorf("of a host by the file's name: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	if r := tapestry(t, "flows", "-r", path, "--api-socket", dead, "--docker-host", docker); r.code != exit.OK || !strings.Contains(r.out, "web  10.80.2.9") {
		t.Errorf("without a daemon: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	b, err := os.ReadFile(path)
	testhost.Must(t, err)
	testhost.Must(t, os.WriteFile(path, b[:len(b)-5], 0o600))
	if r := tapestry(t, "flows", "-r", path, "--api-socket", dead, "--docker-host", docker); r.code != exit.Failure || !strings.Contains(r.stderr, path) || !strings.Contains(r.out, "web  10.80.2.9") {
		t.Errorf("of a file that is cut off: exit %d, %s%s", r.code, r.out, r.stderr)
	}
}

func TestStates(t *testing.T) {
	const fin, syn, rst, ack = 1, 2, 4, 16
	for want, frames := range map[string][]pcapng.Packet{
		"tcp 40000→80 no answer": {seen(0, 2, vswitch.Forwarded, 54, fake.TCPFrame(true, syn))},
		"tcp 40000→80 refused":   {seen(0, 2, vswitch.Forwarded, 54, fake.TCPFrame(true, syn)), seen(1, 1, vswitch.Forwarded, 54, fake.TCPFrame(false, rst|ack))},
		"tcp 80→40000 reset":     {seen(1, 1, vswitch.Forwarded, 54, fake.TCPFrame(false, rst|ack))},
		"tcp 80→40000 closed":    {seen(1, 1, vswitch.Forwarded, 54, fake.TCPFrame(false, fin|ack)), seen(0, 1, vswitch.Forwarded, 54, fake.TCPFrame(true, fin|ack))},
		"tcp 80→40000 ":          {seen(1, 1, vswitch.Forwarded, 54, fake.TCPFrame(false, ack))},
	} {
		r := tapestry(t, "flows", "--api-socket", newFakeRecorder(frames...).serve(t), "--docker-host", fake.Docker(t))
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s%s", want, r.out, r.stderr)
		}
	}
}

func TestFlowTexts(t *testing.T) {
	evicted := api.Evicted{Flows: 1, Counts: api.Counts{Frames: 2, WireFrames: 3, Bytes: 4000}}
	if got := show.Missing(5, evicted); got != "; 1 flow more had no room in the table (2 frames, 4.0 kB); 5 frames LOST, more came than were read in time" || show.Missing(0, api.Evicted{}) != "" {
		t.Errorf("missing are told as %q", got)
	}
	for d, want := range map[time.Duration]string{0: "0 s", 1: "1 ms", 40 * time.Millisecond: "40 ms", 12449 * time.Millisecond: "12.4 s", 30 * time.Second: "30 s", 90 * time.Second: "1m 30s"} {
		if got := human.Duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for rate, want := range map[float64]string{0: "0 b/s", 100: "800 b/s", 125: "1.0 kb/s", 1.25e6: "10 Mb/s", 1.25e9: "10 Gb/s"} {
		if got := human.Rate(rate); got != want {
			t.Errorf("%v bytes a second are %q, want %q", rate, got, want)
		}
	}
	for n, want := range map[int]string{2 << 20: "2 MiB", 32 << 20: "32 MiB", 1 << 30: "1 GiB", 8 << 30: "8 GiB"} {
		if got := memoryText(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}

func TestViewErrors(t *testing.T) {
	socket, docker := newFakeRecorder().serve(t), fake.Docker(t)
	t.Setenv("DOCKER_HOST", docker)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"flows nowhere", exit.NoTarget, "nowhere"},
		{"flows --last 30s --for 10s", exit.Usage, "--last looks back and --for ahead"},
		{"flows -r x --last 3s", exit.Usage, "-r looks into a file"},
		{"flows -r /nonexistent", exit.Failure, "/nonexistent"},
		{"flows -r /dev/null web", exit.Usage, "a file has no targets"},
		{"flows -r /dev/null", exit.Failure, "want a pcapng or pcap file"},
		{"flows --sort rate", exit.Usage, "want bytes, frames, drops, last"},
		{"flows --last 30", exit.Usage, "want a duration of 1s or more"},
		{"flows -n 0", exit.Usage, "want a number of rows"},
		{"flows -f tcp -- udp", exit.Usage, "want one"},
		{"top --by host", exit.Usage, "want flow, port, pair"},
		{"top --every 1ms", exit.Usage, "want a duration of 100ms or more"},
		{"recorder dmp", exit.Usage, "did you mean dump?"},
		{"recorder size 9GiB", exit.Usage, "want a size from 2MB to 1GiB"},
		{"recorder size 1kB", exit.Usage, "want a size from 2MB to 1GiB"},
		{"recorder size 9999999GiB", exit.Usage, "want a size from 2MB"},
		{"recorder size much", exit.Usage, "want a size from 2MB"},
		{"recorder size -1", exit.Usage, "tapestry recorder size --help"},
	} {
		r := tapestry(t, append([]string{"--api-socket", socket}, strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) || r.out != "" {
			t.Errorf("%s: exit %d, want %d; %q, want %q; stdout %q", c.args, r.code, c.code, r.stderr, c.want, r.out)
		}
	}
	dead := filepath.Join(t.TempDir(), "dead.sock")
	for _, command := range []string{"flows", "flows --for 3s", "top", "recorder dump", "recorder on", "recorder status"} {
		if r := tapestry(t, append(strings.Fields(command), "--api-socket", dead)...); r.code != exit.NoDaemon || !strings.Contains(r.stderr, dead) {
			t.Errorf("%s without a daemon: exit %d, %s", command, r.code, r.stderr)
		}
	}
	for _, command := range []string{"flows", "top", "recorder dump"} {
		r := tapestry(t, append(strings.Fields(command), "-f", "tcp and and", "--api-socket", socket)...)
		if r.code != exit.Usage || !strings.Contains(r.stderr, "\ntcp and and\n") || !strings.Contains(r.stderr, "^") {
			t.Errorf("%s: exit %d, %s", command, r.code, r.stderr)
		}
	}
}

// What flows, top and recorder status print is documented.
func TestViewKeys(t *testing.T) {
	docs, docker := fake.DocumentedKeys(t), fake.Docker(t)
	for command, runs := range map[string][]string{
		"flows":           {"flows --json"},
		"top":             {"top --every 1h --json", "top --every 1h --by port --json"},
		"recorder status": {"recorder status --json"},
	} {
		var got []string
		for _, args := range runs {
			t.Setenv("DOCKER_HOST", docker)
			frames := conversation()
			frames[0].Data = slices.Clone(frames[0].Data)
			copy(frames[0].Data[26:], frames[1].Data[26:34]) // from web to itself, so that B has a name
			copy(frames[0].Data[30:], frames[0].Data[26:30])
			r := tapestry(t, append(strings.Fields(args), "--api-socket", newFakeRecorder(frames...).serve(t))...)
			var v any
			if err := json.Unmarshal([]byte(r.out), &v); err != nil {
				t.Fatalf("%s: %v, %s", args, err, r.stderr)
			}
			got = append(got, fake.JSONKeys(v, "")...)
		}
		slices.Sort(got)
		got = slices.Compact(got)
		if want := slices.Sorted(slices.Values(docs[command])); !slices.Equal(got, want) {
			t.Errorf("%s has\n%v\ndocs/json.md says\n%v", command, got, want)
		}
	}
}
