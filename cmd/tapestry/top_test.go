package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/show"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"

	vswitch "github.com/tapestry-net/tapestry/switch"
)

// top runs until the stream ends: one interval.
func top(t *testing.T, e *fakeRecorder, args ...string) result {
	return tapestry(t, append([]string{"top", "--every", "1h", "--api-socket", e.serve(t), "--docker-host", fake.Docker(t)}, args...)...)
}

func TestTop(t *testing.T) {
	for by, want := range map[string]string{
		"flow": `wide +web +10.80.2.9 +tcp 40000→80 +\d+/\d+ +[0-9.]+ [kMG]?b/s / [0-9.]+ [kMG]?b/s +mtu 1`,
		"pair": `wide +web +10.80.2.9 +\d+/\d+ +[0-9.]+ [kMG]?b/s / [0-9.]+ [kMG]?b/s +mtu 1`,
		"port": `wide +web +\d+ +[0-9.]+ [kMG]?b/s +\d+ +[0-9.]+ [kMG]?b/s +mtu 1`,
	} {
		e := newFakeRecorder(conversation()...)
		e.lost = 3
		r := top(t, e, "--by", by)
		if r.code != exit.OK || !regexp.MustCompile(want).MatchString(r.out) || !strings.Contains(r.out, "2 of 2 rows") ||
			strings.Contains(r.out, "\x1b") || strings.Count(r.out, "3 frames LOST") != 2 {
			t.Errorf("by %s: exit %d\n%s%s", by, r.code, r.out, r.stderr)
		}
		if !strings.Contains(r.out, "5 frames, 4.8 kB; 3 frames LOST") {
			t.Errorf("no sum at the end of\n%s", r.out)
		}
		if asked := e.asked[0]; !asked.Headers || asked.Snap != 128 || asked.Bytes >= 0 || asked.Seconds >= 0 {
			t.Errorf("asked for %+v", asked)
		}
	}
}

func TestTopJSON(t *testing.T) {
	read := func(by string) (r api.Top) {
		t.Helper()
		out := top(t, newFakeRecorder(conversation()...), "--json", "--by", by)
		if err := json.Unmarshal([]byte(out.out), &r); err != nil || strings.Count(out.out, "\n") != 1 {
			t.Fatalf("%v in %q %s", err, out.out, out.stderr)
		}
		if r.Total != (api.Counts{Frames: 5, WireFrames: 7, Bytes: 54 + 54 + 3*1054 + 1514 + 42}) || r.Seconds <= 0 {
			t.Errorf("%+v", r)
		}
		return r
	}
	if r := read("pair"); len(r.Flows) != 2 || r.Flows[0].Proto != "" || r.Flows[0].A.Port != 0 || r.Flows[0].Out.Frames != 3 || r.Flows[0].Back.Frames != 1 {
		t.Errorf("pairs %+v", r.Flows)
	}
	r := read("port")
	if len(r.Ports) != 2 || r.Flows != nil {
		t.Fatalf("ports %+v", r)
	}
	web := r.Ports[0]
	if web.Container == "" {
		web = r.Ports[1]
	}
	if web.Name != fake.WebID || web.Container != "web" || web.From != (api.Counts{Frames: 4, WireFrames: 6, Bytes: 54 + 3*1054 + 1514 + 42}) || web.To != (api.Counts{Frames: 1, WireFrames: 1, Bytes: 54}) || web.Drops["mtu"] != 1 {
		t.Errorf("web is %+v", web)
	}
}

// A frame that is dropped, or a stream that breaks off: what was seen is shown.
func TestTopBreaksOff(t *testing.T) {
	e := newFakeRecorder(conversation()...)
	e.breaksOff = true
	if r := top(t, e); r.code != exit.Failure || !strings.Contains(r.stderr, "broke off") || !strings.Contains(r.out, "tcp 40000→80") {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.stderr)
	}
}

func TestTopOnce(t *testing.T) {
	docker := fake.Docker(t)
	testhost.Until(t, "with the frames", func() bool { // which on a busy machine take longer than the interval
		e := newFakeRecorder(conversation()...)
		e.stays = true
		r := tapestry(t, "top", "--once", "--every", "300ms", "--api-socket", e.serve(t), "--docker-host", docker)
		if r.code != exit.OK || strings.Count(r.out, "NETWORK") != 1 {
			t.Fatalf("exit %d, %s%s", r.code, r.out, r.stderr)
		}
		return strings.Contains(r.out, "tcp 40000→80")
	})
}

// terminal makes a pseudo-terminal of so many rows and columns: shows is its master side, has the program's side.
func terminal(t *testing.T, rows, columns uint16) (shows, has *os.File) {
	t.Helper()
	shows, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shows.Close() })
	fd := int(shows.Fd())
	testhost.Must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	testhost.Must(t, err)
	resize(t, shows, rows, columns)
	if has, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = has.Close() })
	return shows, has
}

func resize(t *testing.T, shows *os.File, rows, columns uint16) {
	t.Helper()
	testhost.Must(t, unix.IoctlSetWinsize(int(shows.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
}

// On a terminal it draws in place, in the size of the window, and restores the terminal after an interrupt.
func TestTopOnTerminal(t *testing.T) {
	e := newFakeRecorder(conversation()...)
	e.stays = true
	socket, docker := e.serve(t), fake.Docker(t)
	shows, has := terminal(t, 10, 40)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"top", "--every", "100ms", "--api-socket", socket, "--docker-host", docker}, has, &stderr)
	}()
	var text []byte
	// until reads on until the terminal shows a text.
	until := func(want string) []byte {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			if before, after, ok := bytes.Cut(text, []byte(want)); ok {
				text = after
				return before
			}
			if time.Now().After(deadline) {
				t.Fatalf("no %q in %q", want, text)
			}
			b := make([]byte, 1<<16)
			n, err := shows.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, b[:n]...)
		}
	}
	until("\x1b[?1049h\x1b[?25l")
	until("wide     web  10.80.2.9")
	until("\x1b[H")
	picture := until("\x1b[H")
	for line := range strings.Lines(strings.NewReplacer("\x1b[K", "", "\x1b[J", "").Replace(string(picture))) {
		if n := len([]rune(strings.TrimRight(line, "\r\n"))); n > 40 {
			t.Errorf("a line of %d columns in a window of 40: %q", n, line)
		}
	}
	resize(t, shows, 2, 20)
	testhost.Must(t, unix.Kill(os.Getpid(), unix.SIGWINCH)) // the kernel tells only the terminal's own processes
	for n := 9; n > 1; {
		n = bytes.Count(until("\x1b[H"), []byte("\r\n"))
	}
	interrupt()
	until("\x1b[?25h\x1b[?1049l")
	until("5 frames, 4.8 kB")
	if got := <-code; got != exit.OK || stderr.Len() > 0 {
		t.Errorf("exit %d, %s", got, stderr.String())
	}
	select {
	case <-e.stopped:
	default:
		t.Error("the capture was not stopped")
	}
}

// What a frame costs top, from the daemon's bytes to the row.
func BenchmarkTally(b *testing.B) {
	var file bytes.Buffer
	w := pcapng.NewWriter(&file, pcapng.Section{})
	_, err := w.AddInterface(&pcapng.Interface{Name: fake.WebID, Description: "port=1 kind=container network=" + fake.WideID, SnapLen: 128, LinkType: pcapng.Ethernet})
	if err != nil {
		b.Fatal(err)
	}
	const frames = 10000
	for i := range frames {
		p := seen(0, i, vswitch.Forwarded, 1514, fake.TCPFrame(true, 16))
		p.Data[34] = byte(i)
		if err := w.WritePacket(&p); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		o := show.NewTop("flow", nil)
		if err := o.Count(pcapng.NewReader(bytes.NewReader(file.Bytes()))); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/frames, "ns/frame")
}

// A frame that a fault changes at the egress port is captured twice, and counted once.
func TestTallyFaulted(t *testing.T) {
	tl := show.NewCounter()
	for i, name := range []string{fake.WebID, fake.DbID} {
		tl.Add(&pcapng.Interface{Name: name, Description: fmt.Sprintf("port=%d kind=container network=%s vni=0", i+1, fake.WideID)})
	}
	in, out := capture.Detail{Out: 1}, capture.Detail{Out: 1, Fault: ether.FaultDelayed}
	for i, p := range []*pcapng.Packet{
		{Interface: 0, Time: 1, ID: 1, Flags: pcapng.Inbound, Verdict: in.AppendTo(nil)},
		{Interface: 0, Time: 2, ID: 2, Flags: pcapng.Inbound, Verdict: in.AppendTo(nil)},
		{Interface: 1, Time: 3, ID: 1, Flags: pcapng.Outbound, Verdict: out.AppendTo(nil)},
	} {
		p.Data, p.Len = fake.UDPFrame(100), 100
		tl.Add(p)
		if n := tl.Ports[0].From.Frames; n != uint64(min(i+1, 2)) || tl.Ports[1].From.Frames != 0 || tl.Ports[1].To.Frames != n {
			t.Errorf("packet %d: %d from web, %d from db, %d to db", i, n, tl.Ports[1].From.Frames, tl.Ports[1].To.Frames)
		}
	}
}
