package main

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
	"net/url"
	"sync"
	"time"
)

// client is a command's way to the daemon, and the flags that say where it and Docker are.
type client struct {
	socket     string // --api-socket; "": the daemon is looked for in places
	places     places
	dockerHost string // --docker-host
	json       bool   // --json

	mu    sync.Mutex
	found string // the socket in places at which the daemon is; "": none yet; guarded by mu
	pid   int    // of the daemon, as this command sees it; guarded by mu
}

func (c *client) status(ctx context.Context) (s statusReply, err error) {
	if err := c.call(ctx, http.MethodGet, "/v1/status", nil, &s); err != nil {
		return s, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid > 0 {
		s.PID = c.pid // a plugin's has another one in its own namespace
	}
	return s, nil
}

func (c *client) networks(ctx context.Context) (n []networkReply, err error) {
	return n, c.call(ctx, http.MethodGet, "/v1/networks", nil, &n)
}

// of reads "ports", "fdb" or "peers" of a network, or of all when network is "".
func of[R any](ctx context.Context, c *client, what, network string) (r []R, err error) {
	path := "/v1/" + what
	if network != "" {
		path += "?network=" + url.QueryEscape(network)
	}
	return r, c.call(ctx, http.MethodGet, path, nil, &r)
}

func (c *client) changePeer(ctx context.Context, verb string, change peerChange) error {
	return c.call(ctx, http.MethodPost, "/v1/peers/"+verb, change, nil)
}

// testPeers has the daemon send test frames to its peers, and waits some seconds for what comes of it.
func (c *client) testPeers(ctx context.Context) (r testsReply, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/peers/test", nil, &r)
}

func (c *client) forgetNetwork(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/networks/"+url.PathEscape(id), nil, nil)
}

func (c *client) call(ctx context.Context, method, path string, body, answer any) error {
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
				c.pid = credentialsOfConn(conn).pid
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
		return refused(resp.StatusCode, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("what answers at %s is no tapestry of this version: %w", c.at(), err)
	}
	return nil
}

// noDaemon explains a call that got no answer, and what to do.
func (c *client) noDaemon(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return f // of the search
	}
	at := c.at()
	if errors.Is(err, fs.ErrPermission) {
		return failf(exitNoDaemon, "no permission to talk to the daemon at %s: run this as root, or as a member of its --api-group", at)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return failf(exitNoDaemon, "the daemon at %s does not answer in time: see its log (%s)", at, c.log())
	}
	var dial *net.OpError
	if !errors.As(err, &dial) || dial.Op != "dial" {
		return failf(exitNoDaemon, "what answers at %s hangs up: see the daemon's log (%s): %w", at, c.log(), bare(err))
	}
	return failf(exitNoDaemon, "%w at %s: start one: %s", errNoDaemon, at, startOne)
}

// log is where the log of this client's daemon is.
func (c *client) log() string { return supervisor{dockerPlugin{ID: pluginOf(c.at())}}.log() }

// refused turns the daemon's refusal into an error with its exit code.
func refused(status int, text []byte) error {
	var e errorReply
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("the daemon does not understand this command (HTTP %d): is it of another version?", status)
	}
	switch status {
	case http.StatusBadRequest:
		return &failure{exitUsage, errors.New(e.Error)}
	case http.StatusNotFound:
		return &failure{exitNoTarget, errors.New(e.Error)}
	}
	return &failure{exitNo, errors.New(e.Error)}
}
