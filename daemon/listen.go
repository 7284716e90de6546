package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/plugin"
)

// lockState takes the state directory for this process, until the file is closed.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at the state directory: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return nil, fmt.Errorf("others than root can write into --state-dir %s (mode %o): chmod 700 it", dir, mode)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid := make([]byte, 16)
		n, _ := f.Read(pid)
		f.Close()
		return nil, fmt.Errorf("tapestry is already running with --state-dir %s (pid %s)", dir, strings.TrimSpace(string(pid[:n])))
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), writePID(f))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// lockName takes the driver's name in this network namespace: two daemons of one name would take each
// other's links for their own. Nothing is served at the socket, which lives in no directory (unix(7),
// abstract sockets) and goes with the process.
func lockName(name string) (net.Listener, error) {
	l, err := net.Listen("unix", "@tapestry/"+name)
	if errors.Is(err, unix.EADDRINUSE) {
		other := " or choose another name"
		if InPlugin() {
			other = "" // it has its name by its configuration
		}
		return nil, fmt.Errorf("a tapestry with --name %s runs on this host already, as a unit, a process or a plugin of Docker: stop that one%s", name, other)
	}
	if err != nil {
		return nil, fmt.Errorf("take the name %s: %w", name, err)
	}
	return l, nil
}

// ListenAPI makes the API socket, as that of the plugin is made: open to root only, and to a group if there is one.
func ListenAPI(path, group string) (net.Listener, error) {
	gid := -1
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("--api-group %q: there is no such group on this host", group)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, fmt.Errorf("--api-group %q: its number is %q", group, g.Gid)
		}
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("another daemon answers at --api-socket %s: stop that one or choose another socket", path)
	}
	l, err := plugin.Listen(filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), ".sock"))
	if err != nil {
		return nil, fmt.Errorf("open --api-socket %s: %w", path, err)
	}
	if gid >= 0 {
		if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o660)); err != nil {
			return nil, errors.Join(fmt.Errorf("open --api-socket %s to group %s: %w", path, group, err), l.Close())
		}
	}
	return credentialListener{l}, nil
}

// credentialListener is a listener whose connections have their client's credentials for a remote address: those of a Unix socket
// have none.
type credentialListener struct{ net.Listener }

// Accept is that of net.Listener.
func (n credentialListener) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return credentialConn{c, api.CredentialsOf(c)}, nil
}

type credentialConn struct {
	net.Conn
	who api.Credentials
}

// RemoteAddr is that of net.Conn.
func (c credentialConn) RemoteAddr() net.Addr { return c.who }

// credentialsOf reads who sent a request.
func credentialsOf(r *http.Request) api.Credentials {
	c := api.Credentials{}
	if n, err := fmt.Sscanf(r.RemoteAddr, "uid=%d pid=%d", &c.UID, &c.PID); n != 2 || err != nil {
		return api.Credentials{UID: -1, PID: -1}
	}
	return c
}

// tellReady tells systemd that the unit is up (sd_notify(3)); elsewhere NOTIFY_SOCKET is not set.
func tellReady() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte("READY=1"))
	return err
}
