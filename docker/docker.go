// Package docker is what Docker calls things: it finds the networks and ports that words name, follows a running capture's
// containers, and knows who supervises a daemon. Only commands use it.
package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/exit"
)

// Timeout is how long a command waits for one answer of Docker. Only tests change it: on a busy machine a fake Docker is slow.
var Timeout = 2 * time.Second

// Engine is what Docker calls the things that the daemon knows by id. Without an answer from Docker it is empty.
type Engine struct {
	Address    string // where it was asked
	Answered   bool
	Networks   []Network
	Containers map[string]string // endpoint id → container name
	HTTP       *http.Client      // nil: where it is cannot be asked

	elsewhere func(network string) string // of the client that asked it; nil: none
}

// Network is what is needed of Docker's GET /networks and /networks/ID (Docker Engine API, Network).
type Network struct {
	ID     string `json:"Id"`
	Name   string
	Driver string
	Scope  string // local, swarm, global

	Options map[string]string // those of -o

	// Peers is only in /networks/ID, of a network of the Swarm that has containers on this host: the nodes that have some.
	Peers []struct{ IP string }

	// Containers is only in /networks/ID: by container id, or by "ep-" and the endpoint's id while it joins or leaves.
	Containers map[string]Endpoint
}

// Endpoint is a container's end of a network, which Docker shows from before the driver's Join until it has gone.
type Endpoint struct {
	Name        string // the container's
	EndpointID  string
	IPv4Address string // with the length of its prefix
	IPv6Address string
}

// containerInfo is what is needed of Docker's GET /containers/ID/json.
type containerInfo struct {
	Created time.Time
	ID      string `json:"Id"`
	Name    string // with a leading /
	State   struct {
		Running, Restarting   bool      // also Running while it waits to be started again
		StartedAt, FinishedAt time.Time // of the last run; zero: there was none
	}
	HostConfig      struct{ NetworkMode string } // container:ID or container:NAME: it is in that one's network namespace
	NetworkSettings struct {
		SandboxKey string                     // path of its network namespace, also of one that has gone, before Docker 27; else ""
		Networks   map[string]networkSettings // by name; also those that it will have
	}
}

// networkSettings are a container's of one network.
type networkSettings struct {
	NetworkID  string                                     // "" before the first start
	IPAMConfig *struct{ IPv4Address, IPv6Address string } // those that it has each time; nil: none
	Aliases    []string                                   // of --network-alias; before Docker 25 also the id's beginning
	DNSNames   []string                                   // all names there, from Docker 25 on
}

// errNotInDocker: Docker has no such object (HTTP 404), or cannot be asked at all.
var errNotInDocker = errors.New("not known to Docker")

// Load reads Docker's list of networks. An unreachable Docker is no error; an invalid --docker-host is.
func Load(ctx context.Context, c *client.Client) (*Engine, error) {
	d, err := New(c)
	if err != nil || d.HTTP == nil {
		return d, err
	}
	d.Answered = d.Get(ctx, "/networks", &d.Networks) == nil
	d.elsewhere = func(network string) string { return d.daemonOf(ctx, c, network) }
	return d, nil
}

// New returns an Engine for the Docker at c.DockerHost, without a request. It fails if DockerHost is invalid.
func New(c *client.Client) (*Engine, error) {
	at := c.DockerHost
	if at == "" {
		at = os.Getenv("DOCKER_HOST")
	}
	if at == "" {
		at = "unix:///var/run/docker.sock"
	}
	d := &Engine{Address: at, Containers: map[string]string{}}
	network, address, err := parseHost(at)
	if err != nil && c.DockerHost != "" {
		return nil, exit.Errorf(exit.Usage, "--docker-host %q: %w", at, err)
	}
	if err != nil {
		return d, nil // a DOCKER_HOST over ssh or the like: names stay unknown
	}
	d.HTTP = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}}}
	return d, nil
}

func parseHost(at string) (network, address string, err error) {
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

// Get reads Docker's answer to a GET of path, within Timeout. Of HTTP 404 the error is errNotInDocker.
func (d *Engine) Get(ctx context.Context, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	body, err := d.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(answer)
}

// Info is what is needed of Docker's GET /info.
type Info struct {
	ServerVersion   string
	DockerRootDir   string
	FirewallBackend struct{ Driver string } // iptables, iptables+firewalld or nftables; "" of a Docker that does not tell (before 28.2)
	Swarm           struct {
		LocalNodeState   string // active: a node of a Swarm
		NodeID, NodeAddr string // the address that the other nodes know
		ControlAvailable bool   // a manager
		RemoteManagers   []struct{ NodeID, Addr string }
		Cluster          *struct{ DataPathPort uint16 } // nil: not a manager
	}
}

// Info is zero of a Docker that does not answer.
func (d *Engine) Info(ctx context.Context) (i Info) {
	if !d.Answered || d.Get(ctx, "/info", &i) != nil {
		return Info{}
	}
	return i
}

// open asks on a connection of its own, and leaves the answer to be read.
func (d *Engine) open(ctx context.Context, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	resp.Body.Close()
	err = fmt.Errorf("ask Docker for %s: HTTP %d", path, resp.StatusCode)
	if resp.StatusCode == http.StatusNotFound {
		err = fmt.Errorf("%w: %w", errNotInDocker, err)
	}
	return nil, err
}

// container reads a container, by its name or id.
func (d *Engine) container(ctx context.Context, word string) (x containerInfo, err error) {
	return x, d.Get(ctx, "/containers/"+url.PathEscape(word)+"/json", &x)
}

// maxShared is how many containers in a row may each be in the next one's network namespace.
const maxShared = 8

// owner returns the container whose network namespace x is in, and a sentence that says so; x itself and "" if x has its own.
func (d *Engine) owner(ctx context.Context, x containerInfo) (owner containerInfo, shares string, err error) {
	owner = x
	for range maxShared {
		of, shared := strings.CutPrefix(owner.HostConfig.NetworkMode, "container:")
		if !shared {
			return owner, shares, nil
		}
		member := owner.name()
		owner, err = d.container(ctx, of)
		switch {
		case errors.Is(err, errNotInDocker):
			return owner, "", exit.Errorf(exit.NoTarget, "container %s shares the network of container %s, which is removed: make %s again",
				member, api.ShortID(of), member)
		case err != nil:
			return owner, "", exit.Errorf(exit.Failure, "container %s shares the network of container %s, and Docker does not tell what that is: "+
				"try again: %w", member, api.ShortID(of), err)
		}
		shares = x.name() + " shares the network of " + owner.name()
	}
	return owner, "", exit.Errorf(exit.NoTarget, "container %s shares the network of another, and that one of the next, more than %d in a row: "+
		"name the one that is on the network", x.name(), maxShared)
}

func (x *containerInfo) name() string { return strings.TrimPrefix(x.Name, "/") }

// network reads a network with its containers.
func (d *Engine) network(ctx context.Context, id string) (n Network, err error) {
	return n, d.Get(ctx, "/networks/"+url.PathEscape(id), &n)
}

// An event is what is needed of Docker's GET /events.
type event struct {
	Type, Action string
	TimeNano     int64 `json:"timeNano"` // since 1970
	Actor        struct {
		ID         string                     // of the network, or of the container
		Attributes struct{ Container string } // id, in a network's
	}
}

// events opens the stream of what changes names: containers that come to networks, leave them (also by being started
// and stopped), and are renamed. It begins with what has happened since.
func (d *Engine) events(ctx context.Context, since time.Time) (io.ReadCloser, error) {
	q := url.Values{"since": {eventTime(since)}, "filters": {`{"type":["network","container"],"event":["connect","disconnect","rename"]}`}}
	return d.open(ctx, "/events?"+q.Encode())
}

// watch reads Docker's events until ctx ends. Each time that it begins to read, missed is called, for events may have been; so it
// is of a Docker that gives no events now and then.
func (d *Engine) watch(ctx context.Context, missed func(), happened func(event)) {
	pause := eventsAgain
	for ctx.Err() == nil {
		began := time.Now()
		events, err := d.events(ctx, began)
		missed()
		if err == nil {
			readEvents(events, happened)
		}
		if time.Since(began) > eventsSeldom {
			pause = eventsAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, eventsSeldom)
	}
}

func readEvents(events io.ReadCloser, happened func(event)) {
	defer events.Close()
	for d := json.NewDecoder(events); ; {
		var e event
		if d.Decode(&e) != nil {
			return
		}
		happened(e)
	}
}

// pastEvents gives what Docker still remembers of containers that came to networks and left them since then: it keeps its
// last 256 events, of all kinds.
func (d *Engine) pastEvents(ctx context.Context, since time.Time) (all []event) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	q := url.Values{"since": {eventTime(since)}, "until": {eventTime(time.Now())},
		"filters": {`{"type":["network"],"event":["connect","disconnect"]}`}}
	body, err := d.open(ctx, "/events?"+q.Encode())
	if err != nil {
		return nil
	}
	defer body.Close()
	for from := json.NewDecoder(body); ; {
		var e event
		if from.Decode(&e) != nil {
			return all
		}
		all = append(all, e)
	}
}

// eventTime is a time as GET /events takes it.
func eventTime(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// nameContainers learns the container names on these networks, as far as Docker answers in time.
func (d *Engine) nameContainers(ctx context.Context, ids map[string]bool) {
	if !d.Answered {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	for id := range ids {
		if !d.known(id) {
			continue
		}
		n, err := d.network(ctx, id)
		if err != nil {
			continue
		}
		for _, c := range n.Containers {
			d.Containers[c.EndpointID] = c.Name
		}
	}
}

func (d *Engine) known(network string) bool { return d.NetworkName(network) != "" }

// NetworkName is Docker's name of a network, "" when not known.
func (d *Engine) NetworkName(network string) string {
	for _, n := range d.Networks {
		if n.ID == network {
			return n.Name
		}
	}
	return ""
}

// NetworkLabel is what a table shows for a network.
func (d *Engine) NetworkLabel(network string) string {
	if name := d.NetworkName(network); name != "" {
		return name
	}
	return api.ShortID(network)
}

// PortLabel is what a table shows for a port: the container's name, the remote's address, the host's word, or a short id.
func (d *Engine) PortLabel(port string) string {
	if id := hostNetwork(port); id != "" {
		return api.HostPrefix + d.NetworkLabel(id)
	}
	if name := d.Containers[port]; name != "" {
		return name
	}
	if strings.ContainsAny(port, ".:") {
		return api.RemoteLabel(port)
	}
	return api.ShortID(port)
}

// OneOn returns the name and the addresses of one container of this host on a network; "": it has none, or Docker does not tell.
func (d *Engine) OneOn(ctx context.Context, id string) (name string, addrs []netip.Addr) {
	n, err := d.network(ctx, id)
	if err != nil {
		return "", nil
	}
	for id, c := range n.Containers {
		if addrs = parseAddrs(c.IPv4Address, c.IPv6Address); len(addrs) > 0 && !strings.HasPrefix(id, "ep-") {
			return c.Name, addrs
		}
	}
	return "", nil
}

// InUse tells whether containers of this host are on a network.
func (d *Engine) InUse(ctx context.Context, id string) (bool, error) {
	n, err := d.network(ctx, id)
	if err != nil {
		return false, err
	}
	return len(n.Containers) > 0, nil
}
