package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// Where commands look for a daemon that no --api-socket names: at the usual path, then where the daemon of a managed
// plugin of Docker listens, which is PluginDir/ID/PluginSocketName.
const (
	DefaultSocket    = "/run/tapestry/tapestry.sock"
	PluginDir        = "/run/docker/plugins"
	PluginSocketName = "tapestry-api.sock" // as the plugin's config.json says
)

// SearchPaths are where to look for a daemon: DefaultSocket and PluginDir; tests have others. With both "" only --api-socket is tried.
type SearchPaths struct{ Socket, PluginDir string }

// ErrNoDaemon: no daemon listens; errSeveral: more than one does.
var (
	ErrNoDaemon = errors.New("no daemon answers")
	errSeveral  = errors.New("several daemons run on this host")
)

// dial connects to the daemon: to --api-socket if there is one, else to the first that is found. The search is the first
// connection itself, so an ordinary command asks nothing twice; later connections go to the same daemon.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if at := c.SocketPath(); at != "" {
		return DialUnix(ctx, at)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.foundSocket != "" { // meanwhile
		return DialUnix(ctx, c.foundSocket)
	}
	conn, at, err := c.search(ctx)
	c.foundSocket = at
	return conn, err
}

// SocketPath is where the daemon is: --api-socket, or where it was found; "" before the first call.
func (c *Client) SocketPath() string {
	if c.Socket != "" {
		return c.Socket
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.foundSocket
}

// search connects to the usual path, or to the only plugin's socket where somebody listens. With an error, at is the
// socket that is in the way, if one is.
func (c *Client) search(ctx context.Context) (conn net.Conn, at string, err error) {
	if c.SearchPaths.Socket != "" {
		conn, err = DialUnix(ctx, c.SearchPaths.Socket)
		if !noListener(err) {
			return conn, c.SearchPaths.Socket, err
		}
	}
	sockets, unseen := c.SearchPaths.pluginSockets()
	var open []string
	for _, path := range sockets {
		next, err := DialUnix(ctx, path)
		switch {
		case noListener(err):
			continue
		case err != nil:
			return nil, path, err
		case conn != nil:
			next.Close()
		default:
			conn = next
		}
		open = append(open, path)
	}
	switch {
	case len(open) == 1:
		return conn, open[0], nil
	case len(open) > 1:
		conn.Close()
		return nil, "", c.several(ctx, open)
	case unseen != nil:
		return nil, "", exit.Errorf(exit.NoDaemon, "%w at %s, and whether one runs as a plugin of Docker only root sees: run this as root; or start one: %s",
			ErrNoDaemon, c.SearchPaths.Socket, howToStart)
	}
	return nil, "", exit.Errorf(exit.NoDaemon, "%w at %s, nor as a plugin of Docker (%s): start one: %s", ErrNoDaemon, c.SearchPaths.Socket,
		filepath.Join(c.SearchPaths.PluginDir, "*", PluginSocketName), howToStart)
}

const howToStart = "`tapestry run` as root, `systemctl start tapestry`, or `docker plugin enable tapestry`"

// pluginSockets are where daemons of managed plugins may listen, in order. The error: the directory cannot be read.
func (p SearchPaths) pluginSockets() (paths []string, err error) {
	if p.PluginDir == "" {
		return nil, nil
	}
	all, err := os.ReadDir(p.PluginDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range all {
		if e.IsDir() {
			paths = append(paths, filepath.Join(p.PluginDir, e.Name(), PluginSocketName))
		}
	}
	return paths, err
}

// OtherSockets are the paths where daemons may listen, without that of this client's.
func (c *Client) OtherSockets() []string {
	sockets, _ := c.SearchPaths.pluginSockets() // a user who may not list them cannot use them either
	return slices.DeleteFunc(append([]string{c.SearchPaths.Socket}, sockets...), func(path string) bool { return path == "" || path == c.SocketPath() })
}

// noListener tells whether a connection failed since nobody listens: there is no socket, or one whose daemon has ended.
func noListener(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ECONNREFUSED)
}

// DialUnix connects to the Unix socket at path.
func DialUnix(ctx context.Context, path string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", path)
}

// several names the daemons that answer, as far as it is known what Docker's plugins are called.
func (c *Client) several(ctx context.Context, paths []string) error {
	named := paths
	if c.PluginNames != nil {
		names, err := c.PluginNames(ctx, api.Map(paths, PluginID))
		if err != nil {
			return err
		}
		named = nil
		for i, path := range paths {
			if names[i] != "" {
				path += " (plugin " + names[i] + ")"
			}
			named = append(named, path)
		}
	}
	return exit.Errorf(exit.Usage, "%w: %s: name one by --api-socket PATH", errSeveral, strings.Join(named, ", "))
}

// PluginID is the id of the managed plugin whose daemon listens at path, "" of another daemon.
func PluginID(path string) string {
	id := filepath.Base(filepath.Dir(path))
	if filepath.Base(path) != PluginSocketName || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(id) {
		return ""
	}
	return id
}
