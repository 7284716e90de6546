package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// withDetail marks a packet as the daemon does.
func withDetail(d capture.Detail) func(*pcapng.Packet) {
	return func(p *pcapng.Packet) { p.Flags, p.Verdict = pcapng.Inbound, d.AppendTo(nil) }
}

// packetsOf sends packets of all kinds until the capture is stopped or has its number of frames.
func packetsOf(changes ...func(*pcapng.Packet)) func(*feed) {
	return func(f *feed) {
		f.ports()
		for _, change := range changes {
			f.packet(100, change)
		}
		f.flush()
		f.stats(f.n, 0)
	}
}

func TestTraceLive(t *testing.T) {
	h := &traceHost{Fabric: fake.NewFabric(), answer: forwarded()}
	d := newCaptureDaemonOf(t, h, func(f *feed) {
		f.ports()
		f.packet(100, func(p *pcapng.Packet) {
			withDetail(capture.Detail{Verdict: vswitch.Forwarded, Out: -1})(p)
			p.Comment = "verdict=forwarded out=" + fake.DbID
		})
		f.packet(100, withDetail(capture.Detail{Verdict: vswitch.Flooded, Out: -1}))
		f.packet(3000, func(p *pcapng.Packet) {
			withDetail(capture.Detail{Verdict: vswitch.Forwarded, Out: 2, Kind: ether.UDP, Segment: 1400})(p)
			p.Flags |= pcapng.ChecksumNotReady
			p.Drops, p.Comment = 3, "verdict=forwarded out=192.0.2.2:4789"
		})
		f.packet(100, withDetail(capture.Detail{Verdict: vswitch.Fault, Fault: ether.FaultLost, Out: -1}))
		f.packet(100, func(p *pcapng.Packet) {
			withDetail(capture.Detail{Verdict: vswitch.Fault, Fault: ether.FaultLost, Out: -1})(p)
			p.Flags = pcapng.Outbound
		})
		f.packet(100, func(p *pcapng.Packet) {
			withDetail(capture.Detail{Verdict: vswitch.Forwarded, Out: -1})(p)
			p.Interface = 2
		})
		f.packet(100, func(p *pcapng.Packet) {
			withDetail(capture.Detail{Verdict: vswitch.Forwarded, Out: -1})(p)
			p.Data = p.Data[:60]
			p.Len = 100
		})
		if _, err := f.AddInterface(&pcapng.Interface{Name: "port 9", Description: "port=9 kind=container network= vni=0",
			LinkType: pcapng.Ethernet}); err != nil {
			t.Error(err)
		}
		f.packet(100, func(p *pcapng.Packet) {
			withDetail(capture.Detail{Verdict: vswitch.Spoofed, Out: -1})(p)
			p.Interface = 3
		})
	})
	r := tapestry(t, d.args(t, "trace", "--live", "-n", "8", "--", "udp")...)
	blocks := strings.Split(r.out, "\n\n")
	if r.code != exit.Failure || r.stderr != "tapestry: 3 of 8 frames dropped\n" || len(blocks) != 8 {
		t.Fatalf("exit %d, %s, %d frames:\n%s", r.code, r.stderr, len(blocks), r.out)
	}
	for i, words := range [][]string{
		{" web → db  UDP", "\nswitch       forwarded to db\noffload      100 bytes", "\nverdict      forwarded to db"},
		{"\nswitch       flooded\n", "\nverdict      forwarded to db\ndiffers      the switch's verdict was flooded, and asked a moment later it is forwarded:"},
		{"\nswitch       forwarded to peer 192.0.2.2@wide\nnote         3 frames before it came faster",
			"differs      the switch's verdict was forwarded to peer 192.0.2.2@wide, and asked a moment later it is forwarded to db:"},
		{"DROP fault", "FAULT loss", "\nswitch       dropped (fault)\n", "\nnote         it was lost on purpose (loss); without that it would be forwarded"},
		{"\nnote         this frame was leaving by web@wide: the switch had decided about it before"},
		{"\nverdict      forwarded to db"},
		{"\nnote         it was not kept whole"},
		{"DROP spoofed", "\nswitch       dropped (spoofed)\nnote         the port that it came in by has gone"},
	} {
		for _, want := range words {
			if !strings.Contains(blocks[i], want) {
				t.Errorf("frame %d: no %q in\n%s", i+1, want, blocks[i])
			}
		}
	}
	if strings.Contains(blocks[0], "differs") || strings.Contains(blocks[5], "differs") || strings.Contains(blocks[4], "verdict ") {
		t.Errorf("differs where it does not, or explained what cannot be:\n%s", r.out)
	}
	asked := d.asked[0]
	if asked.Frames != 8 || asked.Snap != 0 || asked.Headers || !asked.Detail || asked.Offload != "raw" || asked.Annotate != "all" || asked.Drops || asked.Seconds != -1 ||
		asked.Filter.Expr != "udp" || asked.Name != "tapestry trace --count 8 --live -- udp" {
		t.Errorf("asked for %+v", asked)
	}
	train := ether.Offload{Kind: ether.UDP, Segment: 1400, PartialChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}
	if len(h.asked) != 5 || h.asked[0].Off != (ether.Offload{}) || len(h.asked[0].Frame) != 100 || h.asked[2].Off != train ||
		h.asked[0].Port != fake.WebID || h.asked[0].Network != fake.WideID || h.asked[4].Port != "192.0.2.2" {
		t.Errorf("the daemon was asked about %+v", h.asked)
	}
}

// If the daemon no longer has a port, or explains nothing, trace --live goes on.
func TestTraceLiveUnanswered(t *testing.T) {
	h := &traceHost{Fabric: fake.NewFabric(), err: fabric.ErrNoEndpoint}
	fine := withDetail(capture.Detail{Verdict: vswitch.Forwarded, Out: -1})
	r := tapestry(t, newCaptureDaemonOf(t, h, packetsOf(fine, fine)).args(t, "trace", "--live", "-n", "2")...)
	if r.code != exit.OK || strings.Count(r.out, "note         the port that it came in by cannot be asked any more: ") != 2 {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
	r = tapestry(t, newCaptureDaemon(t, packetsOf(fine)).args(t, "trace", "--live", "--for", "1s")...)
	if r.code != exit.OK || !strings.Contains(r.out, "this host traces nothing") {
		t.Errorf("--for: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	r = tapestry(t, newCaptureDaemon(t, packetsOf()).args(t, "trace", "--live", "--for", "1s", "--drops")...)
	if r.code != exit.OK || r.out != "" || r.stderr != "no such frame has passed\n" {
		t.Errorf("nothing: exit %d, %s%s", r.code, r.out, r.stderr)
	}
	ends := newCaptureDaemon(t, packetsOf(fine))
	ends.setCounts(api.CaptureStats{State: "shutdown"})
	r = tapestry(t, ends.args(t, "trace", "--live")...)
	if r.code != exit.Failure || !strings.Contains(r.stderr, "the daemon was stopped") {
		t.Errorf("a daemon that ends: exit %d, %s", r.code, r.stderr)
	}
}

// A stoppingHost is interrupted while it explains.
type stoppingHost struct {
	*traceHost
	interrupt func()
}

func (h *stoppingHost) Trace(ctx context.Context, r fabric.TraceRequest) (fabric.TraceView, error) {
	h.interrupt()
	return h.traceHost.Trace(ctx, r)
}

// Ctrl-C ends it, and is no error.
func TestTraceLiveInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := &stoppingHost{&traceHost{Fabric: fake.NewFabric(), answer: forwarded()}, cancel}
	d := newCaptureDaemonOf(t, h, func(f *feed) {
		f.ports()
		f.packet(100, withDetail(capture.Detail{Verdict: vswitch.Forwarded, Out: -1}))
		f.flush()
		<-f.gone
	})
	var out, stderr bytes.Buffer
	code := execute(ctx, d.args(t, "trace", "--live", "web"), &out, &stderr)
	if code != exit.OK || out.Len() > 0 || stderr.String() != "no such frame has passed\n" {
		t.Errorf("exit %d, %s%s", code, out.String(), stderr.String())
	}
}

func TestTraceLiveUsage(t *testing.T) {
	for args, says := range map[string]string{
		"web db --drops":             "--drops is of real frames: want --live, too",
		"web db -n 3":                "--count is of real frames",
		"--live web --tcp 80":        "--tcp is of a frame that is made up, --live is of real ones",
		"--live --inject":            "--inject is of a frame that is made up",
		"--live -n 0":                "want a number of frames from 1 on",
		"--live -f udp -- tcp":       "want one",
		"--live -- host":             "the filter cannot be read",
		"web":                        "too few arguments",
		"web db more":                `"more" is one argument too many`,
		"--live peer:":               "peer: names none",
		"--live web db --network no": "--network is of a frame that is made up",
	} {
		h := &traceHost{Fabric: fake.NewFabric()}
		d := newCaptureDaemonOf(t, h, packetsOf())
		if r := tapestry(t, d.args(t, strings.Fields("trace "+args)...)...); r.code != exit.Usage || !strings.Contains(r.stderr, says) || len(h.asked) != 0 {
			t.Errorf("trace %s: exit %d, %q, want %q", args, r.code, r.stderr, says)
		}
	}
}

// Every key that trace --live prints is documented, and every documented key is printed.
func TestTraceLiveJSON(t *testing.T) {
	h := &traceHost{Fabric: fake.NewFabric(), answer: forwarded()}
	r := tapestry(t, newCaptureDaemonOf(t, h, packetsOf(withDetail(capture.Detail{Verdict: vswitch.Forwarded, Out: -1}))).
		args(t, "trace", "--live", "-n", "1", "--json")...)
	var x struct {
		Frame struct {
			Verdict string
			SrcName string `json:"src_name"`
		}
		Trace   api.Trace
		Differs bool
	}
	var keys map[string]any
	if err := json.Unmarshal([]byte(r.out), &x); err != nil || r.code != exit.OK || strings.Count(r.out, "\n") != 1 {
		t.Fatalf("exit %d, %v, %s%s", r.code, err, r.out, r.stderr)
	}
	if x.Frame.Verdict != "forwarded" || x.Frame.SrcName != "web" || x.Trace.Verdict != "forwarded" || x.Trace.In.Container != "web" || x.Differs {
		t.Errorf("%s", r.out)
	}
	if err := json.Unmarshal([]byte(r.out), &keys); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(fake.DocumentedKeys(t)["trace --live"]))
	if got := slices.Sorted(maps.Keys(keys)); !slices.Equal(got, want) {
		t.Errorf("trace --live --json has %v, docs/json.md says %v", got, want)
	}
}
