package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/ether"
)

// capturing is a daemon that sends what a test makes of a capture.
type capturing struct {
	socket string
	feed   func(f *feed)

	mu      sync.Mutex
	asked   []captureRequest
	books   captureBooks
	stopped chan struct{} // closed by DELETE
	stop    sync.Once
	gone    chan struct{} // closed when the last feed has ended
}

// feed is one stream.
type feed struct {
	*pcapng.Writer
	t     *testing.T
	d     *capturing
	want  captureRequest
	flush func()
	hang  func() // up, in the middle of a block if one was begun
	gone  <-chan struct{}
	raw   io.Writer
	n     uint64
}

func newCapturing(t *testing.T, run func(f *feed)) *capturing {
	t.Helper()
	d := &capturing{feed: run, stopped: make(chan struct{}), gone: make(chan struct{}), books: captureBooks{ID: "c1", State: "stopped"}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/captures", func(w http.ResponseWriter, r *http.Request) {
		var want captureRequest
		if err := json.NewDecoder(r.Body).Decode(&want); err != nil {
			t.Error(err)
		}
		d.mu.Lock()
		d.asked = append(d.asked, want)
		d.mu.Unlock()
		w.Header().Set("X-Capture-Id", "c1")
		control := http.NewResponseController(w)
		_ = control.Flush()
		f := &feed{Writer: pcapng.NewWriter(w, pcapng.Section{Application: "daemon"}), t: t, d: d, want: want, gone: r.Context().Done(), raw: w}
		f.flush = func() { _, _ = f.Writer.Flush(), control.Flush() }
		f.hang = func() { _ = control.Flush(); panic(http.ErrAbortHandler) }
		defer f.flush()
		d.feed(f)
	})
	mux.HandleFunc("DELETE /v1/captures/c1", func(w http.ResponseWriter, _ *http.Request) {
		d.stop.Do(func() { close(d.stopped) })
		_, _ = w.Write([]byte("{}"))
	})
	mux.HandleFunc("GET /v1/captures/c1", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		_ = json.NewEncoder(w).Encode(d.books)
	})
	d.socket = serveUnix(t, "tapestry.sock", mux)
	return d
}

func (d *capturing) tell(b captureBooks) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.books = b
}

// ports tells of a container on two networks and of a remote host.
func (f *feed) ports() {
	for i, p := range []struct{ name, text string }{
		{webID, "port=1 kind=container network=" + wideID + " vni=80 link=tp9b1d"},
		{webID, "port=2 kind=container network=" + localID + " vni=0 link=tp9b1e"},
		{"192.0.2.2:4789", "port=3 kind=remote network=" + wideID + " vni=80"},
	} {
		_, err := f.AddInterface(&pcapng.Interface{Name: p.name, Description: p.text, SnapLen: f.want.Snap, LinkType: pcapng.Ethernet,
			MAC: ether.MAC{2, 0x42, 10, 80, 1, byte(i)}, Addrs: []netip.Prefix{netip.MustParsePrefix("10.80.1.2/16")}})
		if err != nil {
			f.t.Error(err)
		}
	}
}

const feedStart = 1_780_000_000_123456789

// packet sends a frame of UDP from 10.80.1.2 to 10.80.1.3.
func (f *feed) packet(length int, change func(*pcapng.Packet)) {
	f.n++
	p := pcapng.Packet{Time: feedStart + int64(f.n)*1e6, Data: udpFrame(length), ID: f.n, Queue: -1}
	if change != nil {
		change(&p)
	}
	if err := f.WritePacket(&p); err != nil {
		f.t.Error(err)
	}
}

func (f *feed) stats(received, dropped uint64) {
	_ = f.Statistics(&pcapng.Stats{Interface: 0, Start: feedStart, End: feedStart + 9e9, Received: received, Accepted: f.n + dropped,
		Delivered: f.n, Dropped: dropped})
}

func udpFrame(length int) []byte {
	b := make([]byte, length)
	copy(b, []byte{2, 0x42, 10, 80, 1, 3, 2, 0x42, 10, 80, 1, 2, 8, 0,
		0x45, 0, byte((length - 14) >> 8), byte(length - 14), 0, 1, 0, 0, 64, 17, 0, 0, 10, 80, 1, 2, 10, 80, 1, 3,
		0x9d, 0x14, 0x1f, 0x90, byte((length - 34) >> 8), byte(length - 34), 0, 0})
	return b
}

func named(t *testing.T) (dockerHost string) {
	stubNames = pcapng.Names{{Addr: netip.MustParseAddr("10.80.1.2"), Name: "web"}, {Addr: netip.MustParseAddr("10.80.1.3"), Name: "db"}}
	t.Cleanup(func() { stubNames = nil })
	return fakeDocker(t)
}

func (d *capturing) args(t *testing.T, words ...string) []string {
	at := len(words)
	for i, w := range words {
		if w == "--" {
			at = i
			break
		}
	}
	all := append([]string{}, words[:at]...)
	return append(append(all, "--api-socket", d.socket, "--docker-host", named(t)), words[at:]...)
}

// blocksOf reads a file, which must be complete.
func blocksOf(t *testing.T, path string) (all []pcapng.Block) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := pcapng.NewReader(f); ; {
		b, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if p, ok := b.(*pcapng.Packet); ok {
			q := *p
			q.Data = bytes.Clone(p.Data)
			b = &q
		}
		all = append(all, b)
	}
}

func pick[B pcapng.Block](all []pcapng.Block) (some []B) {
	for _, b := range all {
		if x, ok := b.(B); ok {
			some = append(some, x)
		}
	}
	return some
}

func TestCaptureFile(t *testing.T) {
	d := newCapturing(t, func(f *feed) {
		f.ports()
		f.packet(100, nil)
		f.packet(100, func(p *pcapng.Packet) { p.Comment = "verdict=drop reason=mtu: too long for its way" })
		f.packet(100, func(p *pcapng.Packet) {
			p.Drops, p.Comment = 2, "verdict=forwarded out="+webID+" fault=delay: on purpose"
		})
		f.stats(17, 2)
	})
	d.tell(captureBooks{State: "stopped", Seen: 17, Filtered: 12, Accepted: 5, Delivered: 3, Dropped: 2})
	path := filepath.Join(t.TempDir(), "db.pcapng")
	r := tapestry(t, d.args(t, "capture", "web", "-w", path, "--", "host", "web", "and", "udp")...)
	want := "capturing web, filter: host web and udp, into " + path + ", at most 1 GiB and 1h (Ctrl-C ends it)\n" +
		"2 frames lost: more came than was read in time (--ring gives more memory, -s or -f take less of it)\n" +
		"captured 3 frames (12 filtered, 2 lost) into " + path + "\n"
	if r.code != exitFine || r.out != "" || r.stderr != want {
		t.Errorf("exit %d, stdout %q, stderr\n%s\nwant\n%s", r.code, r.out, r.stderr, want)
	}
	asked := d.asked[0]
	if got := fmt.Sprint(asked.Filter, asked.Targets.Endpoints, asked.Detail, asked.Bytes, asked.Seconds); got !=
		fmt.Sprint(captureFilter{"host web and udp", map[string][]string{"web": {"10.80.1.2"}}}, []string{webID}, false, 0, 0) {
		t.Errorf("the daemon was asked for %s", got)
	}
	if i, err := os.Stat(path); err != nil || i.Mode() != 0o600 {
		t.Errorf("%v, %v", i.Mode(), err)
	}
	all := blocksOf(t, path)
	s := all[0].(*pcapng.Section)
	if s.Application != "tapestry "+buildVersion().Version || s.Comment != "tapestry capture --write "+path+" web -- host web and udp" {
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
		books      captureBooks
		code       int
		want       string
	}{
		{"strict", "--strict", one, captureBooks{State: "stopped", Delivered: 1, Dropped: 7}, exitLost, "tapestry: 7 frames lost\n"},
		{"strict without loss", "--strict", one, captureBooks{State: "stopped", Delivered: 1}, exitFine, "captured 1 frame (0 filtered, 0 lost)"},
		{"an hour", "", one, captureBooks{State: "limit", Seconds: 3600, Delivered: 1}, exitFine, "ended by the limit of 1h: --for sets another"},
		{"a GiB", "", one, captureBooks{State: "limit", Bytes: 1<<30 - 70}, exitFine, "ended by the limit of 1 GiB: --no-limit lifts it"},
		{"asked for", "--for 2h", one, captureBooks{State: "limit", Seconds: 7200}, exitFine, "0 lost) into"},
		{"many", "", func(f *feed) { f.ports(); f.packet(100, nil) }, captureBooks{State: "stopped", Delivered: 1234567, Filtered: 12}, exitFine,
			"captured 1,234,567 frames (12 filtered, 0 lost) into"},
		{"shutdown", "", one, captureBooks{State: "shutdown"}, exitNo, "the daemon was stopped; what came until then is in"},
		{"failed", "", one, captureBooks{State: "failed"}, exitNo, "the capture failed in the daemon"},
		{"killed", "", func(f *feed) { one(f); f.flush(); f.hang() }, captureBooks{State: "running"}, exitNo, "the daemon went away in the middle; what came"},
		{"killed in a block", "", func(f *feed) { one(f); f.flush(); _, _ = f.raw.Write([]byte{6, 0, 0, 0, 200, 0, 0, 0, 1, 2}); f.hang() },
			captureBooks{State: "running"}, exitNo, "the daemon went away in the middle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newCapturing(t, c.feed)
			d.tell(c.books)
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
	r := tapestry(t, "capture", "-w", path, "--api-socket", filepath.Join(t.TempDir(), "dead.sock"), "--docker-host", fakeDocker(t))
	if r.code != exitNoDaemon || !strings.Contains(r.stderr, "no daemon answers") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if b, _ := os.ReadFile(path); len(b) != 5 {
		t.Error("a capture that never began has replaced a file")
	}
}

// Ctrl-C: the daemon is told, what is on its way still comes, and the file is complete.
func TestCaptureInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	d := newCapturing(t, func(f *feed) {
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
	d.tell(captureBooks{State: "stopped", Delivered: 2})
	path := filepath.Join(t.TempDir(), "x.pcapng")
	var stderr bytes.Buffer
	begun := writing(func(b []byte) { stderr.Write(b); interrupt() })
	code := execute(ctx, d.args(t, "capture", "-w", path), io.Discard, begun)
	if code != exitFine || !strings.Contains(stderr.String(), "captured 2 frames") {
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

// A reader that goes away ends a capture at once, also if no frame comes any more, and that is fine.
func TestCaptureReaderGone(t *testing.T) {
	for _, busy := range []bool{false, true} {
		ended := make(chan struct{})
		d := newCapturing(t, func(f *feed) {
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
		if code != exitFine || strings.Contains(stderr.String(), "tapestry:") {
			t.Errorf("busy %v: exit %d, %s", busy, code, stderr.String())
		}
		<-ended
	}
}

func TestCaptureStdout(t *testing.T) {
	d := newCapturing(t, func(f *feed) { f.ports(); f.packet(100, nil); f.packet(60, nil); f.stats(2, 0) })
	r := tapestry(t, d.args(t, "capture", "-w", "-")...)
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, []byte(r.out), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := blocksOf(t, path); len(pick[*pcapng.Packet](all)) != 2 || len(pick[*pcapng.Stats](all)) != 1 || r.code != exitFine {
		t.Errorf("exit %d, %v", r.code, all)
	}
	if out := tool(t, "tshark", "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.len"); out != "web@wide\t100\nweb@wide\t60\n" {
		t.Errorf("tshark reads %q", out)
	}
}

// tool runs a program that reads captures, and skips the test where there is none.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("TAPESTRY_MUST") == "1" {
			t.Fatal(err)
		}
		t.Skip("needs " + name)
	}
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

func TestCaptureTerminal(t *testing.T) {
	master, slave := openTerminal(t)
	defer master.Close()
	defer slave.Close()
	var stderr bytes.Buffer
	if code := execute(t.Context(), []string{"capture", "web", "-w", "-"}, slave, &stderr); code != exitUsage ||
		!strings.Contains(stderr.String(), "stdout is a terminal: want a pipe or a file, such as: tapestry capture --write - web | wireshark -k -i -") {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
}

func TestCaptureListen(t *testing.T) {
	d := newCapturing(t, func(f *feed) {
		f.ports()
		f.packet(100, nil)
		f.flush()
		select {
		case <-f.gone:
		case <-f.d.stopped:
			f.packet(100, nil)
		}
	})
	ctx, interrupt := context.WithCancel(t.Context())
	news, told := io.Pipe()
	code := make(chan int)
	args := d.args(t, "capture", "--listen", "127.0.0.1:0", "web")
	go func() { code <- execute(ctx, args, io.Discard, told) }()
	lines := make(chan string, 100)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := news.Read(b)
			if err != nil {
				return
			}
			lines <- string(b[:n])
		}
	}()
	at := regexp.MustCompile(`TCP@(\S+)`).FindStringSubmatch(<-lines)
	read := func(count int) net.Conn {
		conn, err := net.Dial("tcp", at[1])
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		r := pcapng.NewReader(conn)
		for n := 0; n < count; {
			b, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := b.(*pcapng.Packet); ok {
				n++
			}
		}
		return conn
	}
	first, second := read(1), read(1)
	if len(d.asked) != 2 || d.asked[1].Targets.Endpoints[0] != webID {
		t.Errorf("asked %+v", d.asked)
	}
	first.Close()
	interrupt()
	rest, err := io.ReadAll(second)
	if err != nil || len(rest) == 0 {
		t.Errorf("after the end %d bytes, %v", len(rest), err)
	}
	second.Close()
	if c := <-code; c != exitFine {
		t.Errorf("exit %d", c)
	}
	told.Close()
}

func TestCaptureUsage(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"capture -w a -f tcp -- udp", "both in --filter and behind --"},
		{"capture -r a web", `"web" with --read: a file has no targets, want a filter, such as -f 'host web'`},
		{"capture -r a --strict", "--strict with --read"},
		{"watch -r a --for 3s", "--for with --read"},
		{"capture -C 1MB", "--max-size without --write"},
		{"capture -w - -G 60s", "--every with --write -: want a file's name"},
		{"capture -w a -W 3", "--keep without --max-size or --every"},
		{"capture -w a --listen 127.0.0.1:1", "--listen with --write"},
		{"capture --listen 0.0.0.0:1", "want an address of this host only"},
		{"capture --listen 1", "want ADDR:PORT"},
		{"capture --headers -s 9", "--headers with --snap"},
		{"capture -w a.pcapng --pcap --annotate all", "classic pcap has no comments"},
		{"capture -n 0", "want a number of frames from 1 on"},
		{"capture -s -1", "want a number of bytes"},
		{"capture -w a -C 100XB", "want a size such as 100MB"},
		{"capture -w a -C 12", "want 4096 bytes or more"},
		{"capture --for 5", "want a duration of 1s or more"},
		{"capture --ring 1", "want a size from 64KiB"},
		{"capture --offload cut", "want fix, segment, raw"},
		{"watch --color blue", "want auto, always, never"},
		{"capture -w ", "the file's name is empty"},
		{"watch --jsn", "did you mean --json?"},
	} {
		args := strings.Split(c.args, " ")
		r := tapestry(t, append(args[:1:1], append([]string{"--api-socket", filepath.Join(dir, "none")}, args[1:]...)...)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, want %q", c.args, r.code, r.stderr, c.want)
		}
	}
	d := newCapturing(t, func(*feed) { t.Error("a daemon was asked with a filter that cannot be read") })
	r := tapestry(t, d.args(t, "watch", "-f", "tcp prot 80")...)
	if want := "tapestry: the filter cannot be read:\ntcp prot 80\n    ^ "; r.code != exitUsage || !strings.HasPrefix(r.stderr, want) {
		t.Errorf("exit %d, %q, want %q", r.code, r.stderr, want)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"100MB": 1e8, "1GiB": 1 << 30, "4096": 4096, "1.5k": 1500, "2 MiB": 2 << 20} {
		if n, err := parseSize(text); n != want || err != nil {
			t.Errorf("%s is %d, %v, want %d", text, n, err, want)
		}
	}
	if n, err := parseRing("10MB"); n != 16<<20 || err != nil {
		t.Errorf("10MB of ring are %d, %v", n, err)
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Second: "1m30s", 2 * time.Minute: "2m", 100 * time.Minute: "1h40m", 10 * time.Second: "10s"} {
		if got := spanText(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a pseudo-terminal: ", err)
	}
	slave, err = grantTerminal(master)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func grantTerminal(master *os.File) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
}
