package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/packets"
	"github.com/tapestry-net/tapestry/test/testhost"
)

const canary = "CANARY"

// hasCanary reports whether the canary is in b: as it is, in hexadecimal, or in base64 at any offset.
func hasCanary(b []byte) bool {
	if bytes.Contains(b, []byte(canary)) || bytes.Contains(b, []byte(hex.EncodeToString([]byte(canary)))) {
		return true
	}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte("\x00\x00\x00"[:shift] + canary + "\x00\x00\x00"))
		if bytes.Contains(b, []byte(text[(shift*8+5)/6:][:7])) {
			return true
		}
	}
	return false
}

// canaryFrames are frames of station 1 to station 2 with the canary in all that is no header.
func canaryFrames() (frames [][]byte) {
	secret := bytes.Repeat([]byte(canary), 20)
	zeros := func(n int) []byte { return make([]byte, n) }
	be := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	add := func(typ int, parts ...[]byte) {
		frames = append(frames, packets.Ethernet(uint16(typ), parts...))
	}
	four := func(proto byte, fragment int, parts ...[]byte) []byte {
		return packets.IPv4(proto, uint16(fragment), nil, parts...)
	}
	six := packets.IPv6
	tcp := slices.Concat(zeros(12), []byte{8 << 4, 16, 0, 0, 0, 0, 0, 0, 1, 1, 8, 10}, zeros(8))
	vxlan := slices.Concat([]byte{200, 1, 0x12, 0xb5}, be(300), zeros(2), []byte{8, 0, 0, 0, 0, 0})
	arp := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 1}, zeros(20))

	for _, packet := range [][]byte{
		four(6, 0, tcp, secret), four(17, 0, zeros(8), secret), four(17, 0, vxlan, []byte{80, 0}, secret), four(17, 0, vxlan, []byte{0, 0}, secret),
		four(1, 0, []byte{8}, zeros(7), secret), four(1, 0, []byte{3, 3}, zeros(6), four(17, 0, zeros(8), secret)),
		four(1, 0, []byte{11}, zeros(7), four(6, 0, tcp, secret)), four(2, 0, []byte{0x16}, zeros(7), secret),
		four(2, 0, []byte{0x22, 0, 0, 0, 0, 0, 0, 1, 1, 30, 0, 0, 224, 0, 0, 1}, secret), four(47, 0, []byte{0, 0, 8, 0}, secret),
		four(50, 0, zeros(8), secret), four(51, 0, zeros(12), secret), four(132, 0, zeros(12), []byte{0, 3}, be(136), zeros(12), secret),
		four(33, 0, zeros(12), secret), four(4, 0, four(17, 0, secret)), four(89, 0, secret),
		four(17, 0x2000, zeros(8), secret), four(17, 0x2010, secret), four(6, 0x10, secret), append(four(6, 0, tcp), secret...),
	} {
		add(0x0800, packet)
	}
	for _, packet := range [][]byte{
		six(6, tcp, secret), six(17, zeros(8), secret), six(0, []byte{17, 0, 5, 2, 0, 0, 1, 0}, zeros(8), secret), six(60, []byte{58, 0}, zeros(6), secret),
		six(58, []byte{128}, zeros(7), secret), six(58, []byte{1}, zeros(7), six(17, zeros(8), secret)),
		six(58, []byte{135}, zeros(23), []byte{1, 1}, zeros(6), []byte{14, 15}, secret), six(58, []byte{134}, zeros(15), []byte{31, 15}, secret),
		six(58, []byte{143}, zeros(6), []byte{1, 1, 30, 0, 0}, zeros(16), secret), six(43, []byte{17, 2, 0, 0}, zeros(20), zeros(8), secret),
		six(44, []byte{17, 0, 0, 1}, zeros(4), zeros(8), secret), six(44, []byte{17, 0, 0, 9}, zeros(4), secret), append(six(17, zeros(8)), secret...),
	} {
		add(0x86dd, packet)
	}
	add(0x0806, arp, secret)
	add(0x0806, []byte{0, 1, 8, 0, 6, 200, 0, 1}, secret)
	add(0x88cc, secret)
	add(0x88b5, secret)
	add(0x8100, be(5), be(0x0800), four(17, 0, zeros(8), secret))
	add(0x88a8, be(5), be(0x8100), be(6), be(0x88b5), secret)
	add(len(secret)+3, []byte{0x42, 0x42, 3}, secret)
	add(len(secret)+8, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, secret)
	return frames
}

// The flight recorder and --headers keep no payload, in any output format. Half of the frames are dropped: the recorder has a
// separate ring for these.
func TestNoPayload(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	testhost.Must(t, l.Recorder.Resize(1<<21))
	defer l.Recorder.Close()
	socket := fake.ServeUnix(t, "all.sock", (&daemon.API{Fabric: fake.NewFabric(), Log: slog.New(slog.DiscardHandler), Captures: l.Captures}).Handler())
	frames := canaryFrames()
	send := func() {
		for i, b := range frames {
			b = slices.Clone(b)
			if i%2 == 0 {
				b[5] = 1 // to itself
			}
			l.Ports[1].Ingress([]ether.Frame{ether.Lend(append(make([]byte, ether.Headroom), b...), ether.Offload{})})
		}
	}
	send()
	run := func(args ...string) []byte {
		path := filepath.Join(t.TempDir(), "x.pcapng")
		for i, a := range args {
			if a == "FILE" {
				args[i] = path
			}
		}
		r := tapestry(t, append(args, "--api-socket", socket, "--docker-host", "unix:///nowhere")...)
		if r.code != exit.OK {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
		file, err := os.ReadFile(path)
		if err != nil && slices.Contains(args, path) {
			t.Error(err)
		}
		return append([]byte(r.out), file...)
	}
	stream := func(path string, want api.CaptureRequest) (all []byte) {
		s, err := l.Client.OpenStream(t.Context(), path, want)
		testhost.Must(t, err)
		defer s.Close()
		if path == "/v1/captures" {
			send()
		}
		b := make([]byte, 1<<20)
		for n := 0; err == nil; all = append(all, b[:n]...) {
			n, err = s.Body.Read(b)
		}
		return all
	}
	n := uint64(len(frames))
	live := func(args ...string) []byte {
		done := make(chan []byte)
		go func() { done <- run(append(args, "-n", strconv.FormatUint(n, 10))...) }()
		l.AwaitLog(t, "capture ended") // those before
		for len(l.Running()) == 0 {
			if b, ok := tryReceive(done); ok {
				return b
			}
		}
		send()
		return <-done
	}
	if all := stream("/v1/captures", api.CaptureRequest{Frames: n}); strings.Count(string(all), canary) < 10*len(frames) {
		t.Error("the frames carry no canary")
	}
	for _, format := range []string{"pcapng", "ndjson"} {
		for name, all := range map[string][]byte{
			"the recorder": stream("/v1/recorder/dump", api.CaptureRequest{Format: format, Detail: true, Annotate: "all"}),
			"a capture":    stream("/v1/captures", api.CaptureRequest{Format: format, Frames: n, Headers: true, View: "both", Detail: true}),
			"a raw one":    stream("/v1/captures", api.CaptureRequest{Format: format, Frames: n, Headers: true, Offload: "raw", Point: "both"}),
		} {
			if hasCanary(all) || len(all) < 40*len(frames) {
				t.Errorf("%s as %s: %d bytes, and the canary sings: %v", name, format, len(all), hasCanary(all))
			}
		}
	}
	for _, args := range [][]string{{"recorder", "dump"}, {"recorder", "dump", "-w", "FILE"}, {"recorder", "dump", "-w", "-"}, {"flows", "--json"}} {
		if all := run(args...); hasCanary(all) || len(all) < 1000 {
			t.Errorf("%v: the canary sings: %v, in\n%s", args, hasCanary(all), all)
		}
	}
	for _, args := range [][]string{{"capture", "--headers"}, {"capture", "--headers", "-w", "FILE"}, {"capture", "--headers", "-w", "FILE", "--pcap"}} {
		if all := live(args...); hasCanary(all) || len(all) < 1000 {
			t.Errorf("%v: the canary sings: %v, in\n%s", args, hasCanary(all), all)
		}
	}
	for _, shift := range []string{"", "x", "xx"} { // a canary that is not heard proves nothing
		if !hasCanary([]byte(base64.StdEncoding.EncodeToString([]byte(shift+canary+shift)))) || !hasCanary([]byte(hex.EncodeToString([]byte(canary)))) {
			t.Error("nobody hears the canary")
		}
	}
}

func tryReceive[T any](c <-chan T) (x T, ok bool) {
	select {
	case x = <-c:
		return x, true
	default:
		return x, false
	}
}
