package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const maxPath = 107 // bytes of a Unix socket's path, unix(7)

// drain is how long the last requests may take. Only tests change it.
var drain = 10 * time.Second

// socket is a listener that removes its file when it is closed.
type socket struct {
	*net.UnixListener
	path string
	file os.FileInfo
	once sync.Once
}

// Listen listens on the Unix socket dir/NAME.sock, where dockerd looks for the driver NAME. It creates dir if it is missing.
// When the socket's name appears, its mode is 0600 and it is listening. A socket that nobody listens on is replaced; one that
// another process serves is an error. Close unlinks the socket, unless another process has replaced it.
func Listen(dir, name string) (net.Listener, error) {
	path := filepath.Join(dir, name+".sock")
	if !linkName(name, maxPath) {
		return nil, fmt.Errorf("driver name %s: want 1 to %d letters, digits, '.', '_' or '-'", quote(name), maxPath)
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("listen on %s: the path is longer than %d bytes", path, maxPath)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the plugin directory: %w", explainDir(err))
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := checkFree(path); err != nil {
		return nil, err
	}
	l, err := bind(dir, path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, explainDir(err))
	}
	return l, nil
}

// explainDir adds to an error of the directory what to do about it.
func explainDir(err error) error {
	for errno, text := range map[syscall.Errno]string{
		syscall.EACCES:  "this process may not write there",
		syscall.EPERM:   "this process may not write there: see lsattr, SELinux and AppArmor",
		syscall.EROFS:   "the file system is read-only there: mount -o remount,rw, or ReadWritePaths= in a systemd unit",
		syscall.ENOSPC:  "no room is left there: make some (df -h, df -i)",
		syscall.ENOTDIR: "a part of that path is a file: move it away",
		syscall.EMFILE:  "this process has as many files open as it may: raise ulimit -n, in a systemd unit LimitNOFILE=",
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%s (%w)", text, err)
		}
	}
	return err
}

// lock keeps other processes out of Listen for the same dir: else two could both find a dead socket, and replace each other's.
func lock(dir string) (unlock func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the plugin directory: %w", explainDir(err))
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), d.Close())
	}
	return d.Close, nil
}

// checkFree returns an error unless path does not exist or is a socket that nobody listens on.
func checkFree(path string) error {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if file.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on %s: there is something else than a socket; move it away", path)
	}
	c, err := net.Dial("unix", path) // it never waits: of a full queue it is EAGAIN
	switch {
	case err == nil:
		_ = c.Close() // nothing was sent
		return fmt.Errorf("listen on %s: already served by another process; stop that one or choose another --name", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("find out who serves %s: %w", path, err)
}

// bind creates the socket in a private directory, and moves it to path when its mode is set: bind(2) takes the mode from the
// umask, which is that of the whole process.
func bind(dir, path string) (*socket, error) {
	private, err := os.MkdirTemp(dir, ".t")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private) // if that fails, an empty directory is left
	temp := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	file, err := publish(temp, path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{UnixListener: l, path: path, file: file}, nil
}

// publish sets the mode of the socket at temp, and moves it to path.
func publish(temp, path string) (os.FileInfo, error) {
	if err := os.Chmod(temp, 0o600); err != nil {
		return nil, err
	}
	file, err := os.Lstat(temp)
	if err != nil {
		return nil, err
	}
	return file, os.Rename(temp, path)
}

// Addr is the path that dockerd sees.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close unlinks the socket and then stops listening: while it listens, no other process replaces it.
func (s *socket) Close() error {
	var unlink error
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
			unlink = os.Remove(s.path)
		}
	})
	return errors.Join(unlink, s.UnixListener.Close())
}

// Serve serves l until ctx ends. Then it accepts no new requests, waits up to 10 s for the present ones, and returns nil; l is
// closed in any case.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // only of broken connections; h logs requests
	}
	// One connection for each request: if an idle one were closed while dockerd writes to it, dockerd would send the request
	// again without its body.
	srv.SetKeepAlivesEnabled(false)

	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("serve %s: %w", l.Addr(), err), srv.Close())
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := srv.Shutdown(ctx)
	<-failed // http.ErrServerClosed
	if err != nil {
		return errors.Join(fmt.Errorf("wait for the last requests on %s: %w", l.Addr(), err), srv.Close())
	}
	return nil
}
