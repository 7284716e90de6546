package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// Where commands look for a daemon that no --api-socket names: at the usual path, then where the daemon of a managed
// plugin of Docker listens, which is pluginSockets/ID/pluginAPI.
const (
	usualSocket   = "/run/tapestry/tapestry.sock"
	pluginSockets = "/run/docker/plugins"
	pluginAPI     = "tapestry-api.sock" // as the plugin's config.json says
)

// places are usualSocket and pluginSockets; tests have others. Without any, only --api-socket is looked at.
type places struct{ usual, plugins string }

// errNoDaemon is where nobody listens, errSeveral where more than one does.
var (
	errNoDaemon = errors.New("no daemon answers")
	errSeveral  = errors.New("several daemons run on this host")
)

// dial connects to the daemon: to --api-socket if there is one, else to the first that is found. The search is the first
// connection itself, so an ordinary command asks nothing twice; later connections go to the same daemon.
func (c *client) dial(ctx context.Context) (net.Conn, error) {
	if at := c.at(); at != "" {
		return dialUnix(ctx, at)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found != "" { // meanwhile
		return dialUnix(ctx, c.found)
	}
	conn, at, err := c.search(ctx)
	c.found = at
	return conn, err
}

// at is where the daemon is: --api-socket, or where it was found; "" before the first call.
func (c *client) at() string {
	if c.socket != "" {
		return c.socket
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found
}

// search connects to the usual path, or to the only plugin's socket where somebody listens. With an error, at is the
// socket that is in the way, if one is.
func (c *client) search(ctx context.Context) (conn net.Conn, at string, err error) {
	if c.places.usual != "" {
		conn, err = dialUnix(ctx, c.places.usual)
		if !nobody(err) {
			return conn, c.places.usual, err
		}
	}
	sockets, unseen := c.places.sockets()
	var open []string
	for _, path := range sockets {
		next, err := dialUnix(ctx, path)
		switch {
		case nobody(err):
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
		return nil, "", failf(exitNoDaemon, "%w at %s, and whether one runs as a plugin of Docker only root sees: run this as root; or start one: %s",
			errNoDaemon, c.places.usual, startOne)
	}
	return nil, "", failf(exitNoDaemon, "%w at %s, nor as a plugin of Docker (%s): start one: %s", errNoDaemon, c.places.usual,
		filepath.Join(c.places.plugins, "*", pluginAPI), startOne)
}

const startOne = "`tapestry run` as root, `systemctl start tapestry`, or `docker plugin enable tapestry`"

// sockets are where daemons of managed plugins may listen, in order. The error is that they cannot be seen.
func (p places) sockets() (paths []string, err error) {
	if p.plugins == "" {
		return nil, nil
	}
	all, err := os.ReadDir(p.plugins)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range all {
		if e.IsDir() {
			paths = append(paths, filepath.Join(p.plugins, e.Name(), pluginAPI))
		}
	}
	return paths, err
}

// nobody tells whether a connection failed since nobody listens: there is no socket, or one whose daemon has ended.
func nobody(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ECONNREFUSED)
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", path)
}

// several names the daemons that answer, as far as Docker tells what its plugins are called.
func (c *client) several(ctx context.Context, paths []string) error {
	d, err := c.docker()
	if err != nil {
		return err
	}
	named := each(paths, func(path string) string {
		if p, err := d.plugin(ctx, pluginOf(path)); err == nil {
			return path + " (plugin " + p.Name + ")"
		}
		return path
	})
	return failf(exitUsage, "%w: %s: name one by --api-socket PATH", errSeveral, strings.Join(named, ", "))
}

// elsewhere says which other daemon of this host has a network, as the end of a sentence; "" if none has.
func (c *client) elsewhere(ctx context.Context, d *docker, network string) string {
	ctx, cancel := context.WithTimeout(ctx, dockerWait)
	defer cancel()
	sockets, _ := c.places.sockets() // who may not see them can use none of them
	for _, path := range append([]string{c.places.usual}, sockets...) {
		if path == "" || path == c.at() {
			continue
		}
		all, err := (&client{socket: path}).networks(ctx)
		if err != nil {
			continue
		}
		for _, n := range all {
			if n.ID != network {
				continue
			}
			return fmt.Sprintf(": %s has it, say --api-socket %s", supervisorAt(ctx, path, d).who(), path)
		}
	}
	return ""
}

// pluginOf is the id of the managed plugin whose daemon listens at path, "" of another daemon.
func pluginOf(path string) string {
	id := filepath.Base(filepath.Dir(path))
	if filepath.Base(path) != pluginAPI || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(id) {
		return ""
	}
	return id
}
