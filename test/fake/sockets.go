package fake

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// ServeUnix serves h on a Unix socket called name, in a directory of its own, until the test ends. It returns the socket's path.
func ServeUnix(t testing.TB, name string, h http.Handler) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// ShortDir makes a directory with a path so short that a socket's path below it can contain a plugin's id (107 bytes at most, unix(7)).
// It is removed when the test ends.
func ShortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "t")
	testhost.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ServeAt serves h on a Unix socket at path until the test ends. It returns a counter of its connections.
func ServeAt(t *testing.T, path string, h http.Handler) *atomic.Int64 {
	t.Helper()
	testhost.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.Listen("unix", path)
	testhost.Must(t, err)
	n := new(atomic.Int64)
	s := &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			n.Add(1)
		}
	}}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return n
}

// LeaveStaleSocket makes a socket at path at which nobody listens, as a killed process leaves one.
func LeaveStaleSocket(t *testing.T, path string) {
	t.Helper()
	testhost.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	testhost.Must(t, err)
	l.SetUnlinkOnClose(false)
	testhost.Must(t, l.Close())
}
