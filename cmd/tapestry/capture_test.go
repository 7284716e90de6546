package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

func TestCaptureFile(t *testing.T) {
	d := newCaptureDaemon(t, func(f *feed) {
		f.ports()
		f.packet(100, nil)
		f.packet(100, func(p *pcapng.Packet) { p.Comment = "verdict=drop reason=mtu: too long for its path" })
		f.packet(100, func(p *pcapng.Packet) {
			p.Drops, p.Comment = 2, "verdict=forwarded out="+fake.WebID+" fault=delay: on purpose"
		})
		f.stats(17, 2)
	})
	d.setCounts(api.CaptureStats{State: "stopped", Seen: 17, Filtered: 12, Accepted: 5, Delivered: 3, Dropped: 2})
	path := filepath.Join(t.TempDir(), "db.pcapng")
	r := tapestry(t, d.args(t, "capture", "all", "-w", path, "--", "host", "web", "and", "udp")...)
	want := "capturing all, filter: host web and udp, into " + path + ", at most 1 GiB and 1h (Ctrl-C ends it)\n" +
		"2 frames lost: more came than was read in time (--ring gives more memory, -s or -f take less of it)\n" +
		"captured 3 frames (12 filtered, 2 lost) into " + path + "\n"
	if r.code != exit.OK || r.out != "" || r.stderr != want {
		t.Errorf("exit %d, stdout %q, stderr\n%s\nwant\n%s", r.code, r.out, r.stderr, want)
	}
	asked := d.asked[0]
	if got := fmt.Sprint(asked.Filter, asked.Detail, asked.Bytes, asked.Seconds); got !=
		fmt.Sprint(api.Filter{Expr: "host web and udp", Names: map[string][]string{"web": {"10.80.1.2"}}}, false, 0, 0) {
		t.Errorf("the daemon was asked for %s", got)
	}
	if i, err := os.Stat(path); err != nil || i.Mode() != 0o600 {
		t.Errorf("%v, %v", i.Mode(), err)
	}
	all := blocksOf(t, path)
	s := all[0].(*pcapng.Section)
	if s.Application != "tapestry "+buildVersion().Version || s.Comment != "tapestry capture --write "+path+" all -- host web and udp" {
		t.Errorf("section %+v", s)
	}
	var ports []string
	for _, i := range pick[*pcapng.Interface](all) {
		ports = append(ports, i.Name+"|"+i.Description+"|"+i.Filter)
	}
	wantPorts := "web@wide|port=1 kind=container network=wide vni=80 link=tp9b1d endpoint=9b1d44444444|host web and udp\n" +
		"web@mynet|port=2 kind=container network=mynet vni=0 link=tp9b1e endpoint=9b1d44444444|host web and udp\n" +
		"peer 192.0.2.2@wide|port=3 kind=remote network=wide vni=80|host web and udp"
	if got := strings.Join(ports, "\n"); got != wantPorts {
		t.Errorf("interfaces\n%s\nwant\n%s", got, wantPorts)
	}
	if names := pick[pcapng.Names](all); len(names) != 1 || len(names[0]) != 2 {
		t.Errorf("names %v", names)
	}
	packets := pick[*pcapng.Packet](all)
	if len(packets) != 3 || packets[2].Comment != "verdict=forwarded out=web fault=delay: on purpose" || packets[2].Drops != 2 || packets[2].ID != 3 {
		t.Errorf("packets %+v", packets)
	}
	stats := pick[*pcapng.Stats](all)
	if len(stats) != 3 || stats[0].Received != 17 || stats[0].Delivered != 3 || stats[0].Dropped != 2 {
		t.Errorf("statistics %+v", stats)
	}
}

func TestCaptureOutcomes(t *testing.T) {
	one := func(f *feed) { f.ports(); f.packet(100, nil) }
	for _, c := range []struct {
		name, args string
		feed       func(*feed)
		counts     api.CaptureStats
		code       int
		want       string
	}{
		{"strict", "--strict", one, api.CaptureStats{State: "stopped", Delivered: 1, Dropped: 7}, exit.Lost, "tapestry: 7 frames lost\n"},
		{"strict without loss", "--strict", one, api.CaptureStats{State: "stopped", Delivered: 1}, exit.OK, "captured 1 frame (0 filtered, 0 lost)"},
		{"an hour", "", one, api.CaptureStats{State: "limit", Seconds: 3600, Delivered: 1}, exit.OK, "ended by the limit of 1h: --for sets another"},
		{"a GiB", "", one, api.CaptureStats{State: "limit", Bytes: 1<<30 - 70}, exit.OK, "ended by the limit of 1 GiB: --no-limit lifts it"},
		{"asked for", "--for 2h", one, api.CaptureStats{State: "limit", Seconds: 7200}, exit.OK, "0 lost) into"},
		{"many", "", func(f *feed) { f.ports(); f.packet(100, nil) }, api.CaptureStats{State: "stopped", Delivered: 1234567, Filtered: 12}, exit.OK,
			"captured 1 frame (12 filtered, 0 lost) into"},
		{"shutdown", "", one, api.CaptureStats{State: "shutdown"}, exit.Failure, "the daemon was stopped; what came until then is in"},
		{"failed", "", one, api.CaptureStats{State: "failed"}, exit.Failure, "the capture failed in the daemon"},
		{"killed", "", func(f *feed) { one(f); f.flush(); f.hang() }, api.CaptureStats{State: "running"}, exit.Failure, "the daemon went away in the middle; what came"},
		{"killed in a block", "", func(f *feed) { one(f); f.flush(); _, _ = f.raw.Write([]byte{6, 0, 0, 0, 200, 0, 0, 0, 1, 2}); f.hang() },
			api.CaptureStats{State: "running"}, exit.Failure, "the daemon went away in the middle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newCaptureDaemon(t, c.feed)
			d.setCounts(c.counts)
			path := filepath.Join(t.TempDir(), "x.pcapng")
			r := tapestry(t, d.args(t, append([]string{"capture", "-w", path}, strings.Fields(c.args)...)...)...)
			if r.code != c.code || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit %d, want %d; %q, want %q", r.code, c.code, r.stderr, c.want)
			}
			if c.name == "asked for" && strings.Contains(r.stderr, "ended by") {
				t.Errorf("told of a limit that was asked for: %s", r.stderr)
			}
			all := blocksOf(t, path)
			if n, s := len(pick[*pcapng.Packet](all)), len(pick[*pcapng.Stats](all)); n != 1 || s != 3 {
				t.Errorf("%d packets and %d statistics are left, want 1 and 3", n, s)
			}
		})
	}
}

func TestCaptureNoDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, []byte{0x0a, 0x0d, 0x0d, 0x0a, 1}, 0o600); err != nil {
		t.Fatal(err)
	}
	r := tapestry(t, "capture", "-w", path, "--api-socket", filepath.Join(t.TempDir(), "dead.sock"), "--docker-host", fake.Docker(t))
	if r.code != exit.NoDaemon || !strings.Contains(r.stderr, "no daemon answers") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if b, _ := os.ReadFile(path); len(b) != 5 {
		t.Error("a capture that never began has replaced a file")
	}
}

// After Ctrl-C the daemon stops the capture, the frames that it has seen still come, and the file is complete.
func TestCaptureInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	d := newCaptureDaemon(t, func(f *feed) {
		f.ports()
		f.packet(100, nil)
		f.flush()
		select {
		case <-f.d.stopped:
		case <-f.gone:
			t.Error("the daemon was not told")
		}
		f.packet(100, nil)
		f.stats(2, 0)
	})
	d.setCounts(api.CaptureStats{State: "stopped", Delivered: 2})
	path := filepath.Join(t.TempDir(), "x.pcapng")
	var stderr bytes.Buffer
	begun := writing(func(b []byte) { stderr.Write(b); interrupt() })
	code := execute(ctx, d.args(t, "capture", "-w", path), io.Discard, begun)
	if code != exit.OK || !strings.Contains(stderr.String(), "captured 2 frames") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
	if all := blocksOf(t, path); len(pick[*pcapng.Packet](all)) != 2 || pick[*pcapng.Stats](all)[0].Delivered != 2 {
		t.Errorf("%v", all)
	}
}

type writing func([]byte)

func (w writing) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// A reader that closes the pipe ends a capture at once, even if no frame comes any more, and the exit code is 0.
func TestCaptureReaderGone(t *testing.T) {
	for _, busy := range []bool{false, true} {
		ended := make(chan struct{})
		d := newCaptureDaemon(t, func(f *feed) {
			defer close(ended)
			f.ports()
			f.packet(100, nil)
			f.flush()
			for busy && f.t.Context().Err() == nil {
				select {
				case <-f.gone:
					return
				default:
					f.packet(1000, nil)
					f.flush()
				}
			}
			<-f.gone
		})
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.ReadFull(r, make([]byte, 200))
			r.Close()
		}()
		var stderr bytes.Buffer
		code := execute(t.Context(), d.args(t, "capture", "-w", "-"), w, &stderr)
		w.Close()
		if code != exit.OK || strings.Contains(stderr.String(), "tapestry:") {
			t.Errorf("busy %v: exit %d, %s", busy, code, stderr.String())
		}
		<-ended
	}
}

func TestCaptureStdout(t *testing.T) {
	d := newCaptureDaemon(t, func(f *feed) { f.ports(); f.packet(100, nil); f.packet(60, nil); f.stats(2, 0) })
	r := tapestry(t, d.args(t, "capture", "-w", "-")...)
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, []byte(r.out), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := blocksOf(t, path); len(pick[*pcapng.Packet](all)) != 2 || len(pick[*pcapng.Stats](all)) != 1 || r.code != exit.OK {
		t.Errorf("exit %d, %v", r.code, all)
	}
	if out := testhost.Output(t, "tshark", "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.len"); out != "web@wide\t100\nweb@wide\t60\n" {
		t.Errorf("tshark reads %q", out)
	}
}
