package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const dockerWait = 2 * time.Second

// docker is what Docker calls the things that the daemon knows by id. Without an answer from Docker it is empty.
type docker struct {
	at         string // where it was asked
	answered   bool
	networks   []dockerNetwork
	containers map[string]string // endpoint id → container name
	get        func(ctx context.Context, path string, answer any) error
}

// dockerNetwork is what is needed of Docker's GET /networks and /networks/ID (Docker Engine API, Network).
type dockerNetwork struct {
	ID         string `json:"Id"`
	Name       string
	Driver     string
	Containers map[string]struct{ Name, EndpointID string } // by container id; only in /networks/ID
}

// askDocker reads Docker's list of networks. That Docker is away is no error; a --docker-host that cannot be is.
func (c *client) askDocker(ctx context.Context) (*docker, error) {
	at := c.dockerHost
	if at == "" {
		at = os.Getenv("DOCKER_HOST")
	}
	if at == "" {
		at = "unix:///var/run/docker.sock"
	}
	d := &docker{at: at, containers: map[string]string{}}
	network, address, err := dockerAddress(at)
	if err != nil && c.dockerHost != "" {
		return nil, failf(exitUsage, "--docker-host %q: %w", at, err)
	}
	if err != nil {
		return d, nil // a DOCKER_HOST over ssh or the like: names stay unknown
	}
	h := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}}}
	d.get = func(ctx context.Context, path string, answer any) error { return getJSON(ctx, h, path, answer) }
	ctx, cancel := context.WithTimeout(ctx, dockerWait)
	defer cancel()
	d.answered = d.get(ctx, "/networks", &d.networks) == nil
	return d, nil
}

func dockerAddress(at string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(at, "unix://"); ok && path != "" {
		return "unix", path, nil
	}
	if address, ok := strings.CutPrefix(at, "tcp://"); ok {
		address = strings.TrimSuffix(address, "/")
		if _, _, err := net.SplitHostPort(address); err == nil {
			return "tcp", address, nil
		}
	}
	return "", "", errors.New("want unix:///PATH or tcp://HOST:PORT (without TLS)")
}

func getJSON(ctx context.Context, h *http.Client, path string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	resp, err := h.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask Docker for %s: HTTP %d", path, resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// nameContainers learns the container names on these networks, as far as Docker answers in time.
func (d *docker) nameContainers(ctx context.Context, ids map[string]bool) {
	if !d.answered {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dockerWait)
	defer cancel()
	for id := range ids {
		var n dockerNetwork
		if d.known(id) && d.get(ctx, "/networks/"+url.PathEscape(id), &n) == nil {
			for _, c := range n.Containers {
				d.containers[c.EndpointID] = c.Name
			}
		}
	}
}

func (d *docker) known(network string) bool { return d.name(network) != "" }

// name is Docker's name of a network, "" when not known.
func (d *docker) name(network string) string {
	for _, n := range d.networks {
		if n.ID == network {
			return n.Name
		}
	}
	return ""
}

// label is what a table shows for a network.
func (d *docker) label(network string) string {
	if name := d.name(network); name != "" {
		return name
	}
	return short(network)
}

// portLabel is what a table shows for a port: the container's name, the remote's address, or a short id.
func (d *docker) portLabel(port string) string {
	if name := d.containers[port]; name != "" {
		return name
	}
	if strings.ContainsAny(port, ".:") {
		return port // an address
	}
	return short(port)
}

// short is an id as Docker prints it.
func short(id string) string { return id[:min(len(id), 12)] }
