package plugin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// pluginDir is a directory for sockets: t.TempDir is too long for some of them.
func pluginDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// start serves h on dir/tapestry.sock; stop ends it and returns what Serve returned.
func start(t *testing.T, dir string, h http.Handler) (path string, stop func() error) {
	t.Helper()
	l, err := Listen(dir, "tapestry")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, h) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return l.Addr().String(), stop
}

// send writes one raw request and returns the raw reply, up to the end of the connection.
func send(path, request string) (string, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// The bytes that dockerd sends: no Content-Type, a meaningless Host, no body for a method without arguments.
func TestOddButLegalRequests(t *testing.T) {
	path, _ := start(t, pluginDir(t), serving(t, &fakeBackend{}))
	const headers = "User-Agent: Go-http-client/1.1\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\nAccept-Encoding: gzip\r\n"
	for _, tc := range []struct{ name, request, want string }{
		{"29", "POST /Plugin.Activate HTTP/1.1\r\nHost: plugin.moby.localhost\r\n" + headers + "Content-Length: 0\r\n\r\n", `{"Implements":["NetworkDriver","IpamDriver"]}`},
		{"20.10", "POST /NetworkDriver.GetCapabilities HTTP/1.1\r\nHost: %2Frun%2Fdocker%2Fplugins%2Ftapestry.sock\r\n" + headers + "Content-Length: 0\r\n\r\n", `{"Scope":"local","ConnectivityScope":"global","GwAllocChecker":true}`},
		{"chunked", "POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\n" + headers + "Transfer-Encoding: chunked\r\n\r\n22\r\n{\"NetworkID\":\"a\",\"EndpointID\":\"b\"}\r\n0\r\n\r\n", "{}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := send(path, tc.request)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 200 || strings.TrimSpace(string(body)) != tc.want || resp.Header.Get("Content-Type") != contentType {
				t.Errorf("got %s", got)
			}
		})
	}
}

// A client that writes all of its 2 MiB before it reads gets the reply too.
func TestLargeBodyOverSocket(t *testing.T) {
	path, _ := start(t, pluginDir(t), newHandler(&Driver{backend: &fakeBackend{}}, testIPAM(t), nil, deadline))
	got, err := send(path, fmt.Sprintf("POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", 2<<20, bytes.Repeat([]byte("a"), 2<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got, "HTTP/1.1 413 ") || !strings.Contains(got, `{"Err":"`) {
		t.Errorf("got %s", got)
	}
}

func TestSocketFile(t *testing.T) {
	dir := filepath.Join(pluginDir(t), "docker", "plugins")
	l, err := Listen(dir, "tapestry")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Stat(filepath.Join(dir, "tapestry.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fs.ModeSocket | 0o600; file.Mode() != want {
		t.Errorf("mode %v, want %v", file.Mode(), want)
	}
	if d, err := os.Stat(dir); err != nil || d.Mode().Perm() != 0o755 {
		t.Errorf("directory: %v, %v; want mode 0755", d, err)
	}
	onlyFiles(t, dir, "tapestry.sock")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	onlyFiles(t, dir)
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v, want %v", err, net.ErrClosed)
	}
}

// onlyFiles checks that dir holds these names and nothing else.
func onlyFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, names)
	}
}

// The socket never exists under its name with another mode, nor without a listener.
func TestSocketIsBornComplete(t *testing.T) {
	dir := pluginDir(t)
	path := filepath.Join(dir, "tapestry.sock")
	var stop atomic.Bool
	watched := make(chan error, 1)
	go func() {
		for !stop.Load() {
			file, err := os.Lstat(path)
			if err == nil && file.Mode() != fs.ModeSocket|0o600 {
				watched <- fmt.Errorf("mode %v was seen", file.Mode())
				return
			}
		}
		watched <- nil
	}()
	for range 50 {
		l, err := Listen(dir, "tapestry")
		if err != nil {
			t.Error(err)
			break
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	if err := <-watched; err != nil {
		t.Error(err)
	}
}

func TestDeadSocketIsReplaced(t *testing.T) {
	dir := pluginDir(t)
	path := filepath.Join(dir, "tapestry.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil { // as kill -9 leaves it
		t.Fatal(err)
	}
	start(t, dir, serving(t, &fakeBackend{}))
	got, err := send(path, "POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	if err != nil || !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestLiveSocketIsLeftAlone(t *testing.T) {
	dir := pluginDir(t)
	path, _ := start(t, dir, serving(t, &fakeBackend{}))
	_, err := Listen(dir, "tapestry")
	if err == nil || !strings.Contains(err.Error(), "already served by another process") {
		t.Errorf("second Listen: %v", err)
	}
	onlyFiles(t, dir, "tapestry.sock")
	if got, err := send(path, "POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil || !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %s, %v", got, err)
	}
}

// Of many that start at once with a stale socket in place, exactly one serves.
func TestOneOfManyListens(t *testing.T) {
	dir := pluginDir(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			l, err := Listen(dir, "tapestry")
			if err == nil {
				won.Add(1)
				t.Cleanup(func() { l.Close() })
			} else if !strings.Contains(err.Error(), "already served") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d listen", won.Load())
	}
}

// A file that has replaced our socket is not unlinked.
func TestOtherSocketIsNotUnlinked(t *testing.T) {
	dir := pluginDir(t)
	path := filepath.Join(dir, "tapestry.sock")
	first, err := Listen(dir, "tapestry")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(dir, "tapestry")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	onlyFiles(t, dir, "tapestry.sock")
}

func TestListenRefuses(t *testing.T) {
	dir := pluginDir(t)
	file := filepath.Join(dir, "file.sock")
	if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, dir, driver, want string }{
		{"no name", dir, "", "driver name"},
		{"slash", dir, "../x", "driver name"},
		{"long path", dir, strings.Repeat("a", 100), "longer than 107 bytes"},
		{"file in the way", dir, "file", "something else than a socket"},
		{"directory is a file", file, "tapestry", "not a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := Listen(tc.dir, tc.driver)
			if err == nil {
				l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}

// A request that is being answered when the daemon stops gets its answer; then the socket is gone.
func TestDrain(t *testing.T) {
	dir := pluginDir(t)
	entered, release := make(chan struct{}), make(chan struct{})
	r := &fakeBackend{hook: func(ctx context.Context) error {
		close(entered)
		<-release
		return ctx.Err()
	}}
	path, stop := start(t, dir, newHandler(&Driver{backend: r}, testIPAM(t), nil, testhost.Patience))
	type answer struct {
		got string
		err error
	}
	answered := make(chan answer, 1)
	body := bodies()["/NetworkDriver.Leave"]
	go func() {
		got, err := send(path, fmt.Sprintf("POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		answered <- answer{got, err}
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for { // until no new request is taken
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		c.Close()
	}
	select {
	case err := <-stopped:
		t.Fatalf("Serve returned %v with a request unanswered", err)
	default:
	}
	close(release)
	if a := <-answered; a.err != nil || !strings.HasPrefix(a.got, "HTTP/1.1 200 ") || strings.Contains(a.got, "Err") {
		t.Errorf("got %s, %v", a.got, a.err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	onlyFiles(t, dir)
}

func TestServeEndsWithItsListener(t *testing.T) {
	l, err := Listen(pluginDir(t), "tapestry")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), l, serving(t, &fakeBackend{})); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
}

// Many requests at once, each on a connection of its own, as dockerd sends them for many containers.
func TestParallelRequests(t *testing.T) {
	r := &fakeBackend{}
	path, stop := start(t, pluginDir(t), newHandler(&Driver{backend: r}, testIPAM(t), nil, deadline))
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			resp, err := client.Post("http://plugin/NetworkDriver.CreateEndpoint", "", strings.NewReader(fmt.Sprintf(`{"NetworkID":"a","EndpointID":"e%d"}`, i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), `"MacAddress":"02:`) {
				t.Errorf("%d %s, %v", resp.StatusCode, b, err)
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if len(r.endpoints) != 50 {
		t.Errorf("%d endpoints, want 50", len(r.endpoints))
	}
}
