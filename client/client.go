// Package client is how a command finds the daemon, sends requests to it and reads its streams.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// Client sends a command's requests to the daemon. Its fields are the flags that say where the daemon and Docker are.
type Client struct {
	Socket      string // --api-socket; "": the daemon is looked for in SearchPaths
	SearchPaths SearchPaths
	DockerHost  string // --docker-host

	// PluginNames gives what Docker calls managed plugins, by their ids, in the same order, "" for one that it does not
	// know; nil: they stay unknown. The error: Docker cannot be asked.
	PluginNames func(ctx context.Context, ids []string) ([]string, error)

	mu          sync.Mutex
	foundSocket string // the socket in SearchPaths at which the daemon is; "": none yet; guarded by mu
	pid         int    // of the daemon, as this command sees it; guarded by mu
}

// Status asks for the daemon's state. Its PID is that of the host's namespace, also where the daemon has another in its own.
func (c *Client) Status(ctx context.Context) (s api.Status, err error) {
	if err := c.Call(ctx, http.MethodGet, api.StatusPath, nil, &s); err != nil {
		return s, err
	}
	if s.RxDropped == nil { // a daemon before v0.2.0
		s.RxDropped = s.Strangers
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid > 0 {
		s.PID = c.pid // a plugin's has another one in its own namespace
	}
	return s, nil
}

// Networks lists the daemon's networks, sorted by id.
func (c *Client) Networks(ctx context.Context) (n []api.Network, err error) {
	return n, c.Call(ctx, http.MethodGet, api.NetworksPath, nil, &n)
}

// Recorder asks for the flight recorder's state.
func (c *Client) Recorder(ctx context.Context) (r api.Recorder, err error) {
	return r, c.Call(ctx, http.MethodGet, api.RecorderPath, nil, &r)
}

// List gets one of the API's lists, such as that at api.PortsPath: of the network with this id, or of all when network is "".
func List[R any](ctx context.Context, c *Client, path, network string) (r []R, err error) {
	if network != "" {
		path += "?network=" + url.QueryEscape(network)
	}
	return r, c.Call(ctx, http.MethodGet, path, nil, &r)
}

// ChangePeer adds a peer to a network, or removes it. The verb is add or rm.
func (c *Client) ChangePeer(ctx context.Context, verb string, change api.PeerChange) error {
	return c.Call(ctx, http.MethodPost, api.PeerChangePath(verb), change, nil)
}

// TestPeers has the daemon send test frames to its peers, and waits some seconds for what comes of it.
func (c *Client) TestPeers(ctx context.Context) (r api.PeerTests, err error) {
	return r, c.Call(ctx, http.MethodPost, api.PeersTestPath, nil, &r)
}

// ForgetNetwork has the daemon forget a network that Docker does not have any more, by its whole id.
func (c *Client) ForgetNetwork(ctx context.Context, id string) error {
	return c.Call(ctx, http.MethodDelete, api.NetworkPath(id), nil, nil)
}

// Call sends body as JSON and reads the answer into answer; nil: there is none to read. Errors carry exit codes: NoDaemon if nobody
// answers, Usage of a request that is wrong (HTTP 400), NoTarget of something that is not there (404), else Failure.
func (c *Client) Call(ctx context.Context, method, path string, body, answer any) error {
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://tapestry"+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	// 12 s: a daemon's own calls end after 10.
	h := &http.Client{Timeout: 12 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := c.dial(ctx)
			if err == nil {
				c.mu.Lock()
				c.pid = api.CredentialsOf(conn).PID
				c.mu.Unlock()
			}
			return conn, err
		}}}
	resp, err := h.Do(r)
	if err != nil {
		return c.noDaemon(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return c.noDaemon(err)
	}
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp.StatusCode, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("what answers at %s is no tapestry of this version: %w", c.SocketPath(), err)
	}
	return nil
}

// noDaemon explains a call that got no answer, and what to do.
func (c *Client) noDaemon(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	if f := (*exit.Error)(nil); errors.As(err, &f) {
		return f // of the search
	}
	at := c.SocketPath()
	if errors.Is(err, fs.ErrPermission) {
		return exit.Errorf(exit.NoDaemon, "no permission to talk to the daemon at %s: run this as root, or as a member of its --api-group", at)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return exit.Errorf(exit.NoDaemon, "the daemon at %s does not answer in time: see its log (%s)", at, c.LogCommand())
	}
	var dial *net.OpError
	if !errors.As(err, &dial) || dial.Op != "dial" {
		return exit.Errorf(exit.NoDaemon, "what answers at %s hangs up: see the daemon's log (%s): %w", at, c.LogCommand(), exit.WithoutURL(err))
	}
	return exit.Errorf(exit.NoDaemon, "%w at %s: start one: %s", ErrNoDaemon, at, howToStart)
}

// LogCommand is where the log of this client's daemon is.
func (c *Client) LogCommand() string { return LogCommand(PluginID(c.SocketPath())) }

// LogCommand is where the log of a daemon is: of a managed plugin's by its id, else ("") of the unit.
func LogCommand(plugin string) string {
	if plugin == "" {
		return "journalctl -u tapestry"
	}
	return "journalctl -u docker | grep plugin=" + api.ShortID(plugin)
}

// errorOf turns the daemon's refusal into an error with its exit code.
func errorOf(status int, text []byte) error {
	var e api.Error
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("the daemon does not understand this command (HTTP %d): is it of another version?", status)
	}
	switch status {
	case http.StatusBadRequest:
		return exit.WithCode(exit.Usage, errors.New(e.Error))
	case http.StatusNotFound:
		return exit.WithCode(exit.NoTarget, errors.New(e.Error))
	}
	return exit.WithCode(exit.Failure, errors.New(e.Error))
}

// Nodes are the nodes of the Swarm that the daemon knows.
func (c *Client) Nodes(ctx context.Context) (all []netip.Addr, err error) {
	var r api.Nodes
	if err := c.Call(ctx, http.MethodGet, api.NodesPath, nil, &r); err != nil {
		return nil, err
	}
	for _, text := range r.Nodes {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("what answers at %s is no tapestry of this version: %w", c.SocketPath(), err)
		}
		all = append(all, a)
	}
	return all, nil
}
