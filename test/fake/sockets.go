package fake

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// ServeUnix serves h on a socket of its own until the test ends.
func ServeUnix(t *testing.T, name string, h http.Handler) (path string) {
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

// ShortDir is a directory whose path leaves room for a plugin's id in a socket's (107 bytes, unix(7)).
func ShortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "t")
	Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ServeAt serves h at path until the test ends, and counts the connections.
func ServeAt(t *testing.T, path string, h http.Handler) *atomic.Int64 {
	t.Helper()
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.Listen("unix", path)
	Must(t, err)
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

// LeaveStaleSocket leaves a socket at which nobody listens.
func LeaveStaleSocket(t *testing.T, path string) {
	t.Helper()
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	Must(t, err)
	l.SetUnlinkOnClose(false)
	Must(t, l.Close())
}
