package fake

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// DockerNetwork is what GET /networks/ID answers, as far as it is needed.
type DockerNetwork struct {
	ID         string `json:"Id"`
	Name       string
	Driver     string
	Scope      string
	Peers      []struct{ IP string }
	Containers map[string]DockerEndpoint // by container id, or "ep-" and the endpoint's id
}

// DockerEndpoint is a container's end of a network.
type DockerEndpoint struct{ Name, EndpointID, IPv4Address, IPv6Address string }

// LiveDocker is a Docker that changes.
type LiveDocker struct {
	At string

	Mu         sync.Mutex
	Networks   map[string]DockerNetwork // by id
	Containers map[string]string        // GET /containers/NAME/json, by name
	Past       []string                 // events that it remembers
	asked      []string                 // paths
	listeners  map[chan string]bool
	Down       bool
	Came       chan struct{} // a token for each that reads events
}

// NewLiveDocker has the networks wide and mynet, without containers.
func NewLiveDocker(t *testing.T) *LiveDocker {
	d := &LiveDocker{Networks: make(map[string]DockerNetwork), Containers: make(map[string]string), listeners: make(map[chan string]bool),
		Came: make(chan struct{}, 100)}
	for id, name := range map[string]string{WideID: "wide", LocalID: "mynet"} {
		d.Networks[id] = DockerNetwork{ID: id, Name: name, Driver: "tapestry", Containers: map[string]DockerEndpoint{}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /networks", d.serve(func(*http.Request) (any, bool) {
		return slices.Collect(maps.Values(d.Networks)), true
	}))
	mux.HandleFunc("GET /networks/{id}", d.serve(func(r *http.Request) (any, bool) {
		n, ok := d.Networks[r.PathValue("id")]
		return n, ok
	}))
	mux.HandleFunc("GET /containers/{name}/json", d.serve(func(r *http.Request) (any, bool) {
		text, ok := d.Containers[r.PathValue("name")]
		return json.RawMessage(text), ok
	}))
	mux.HandleFunc("GET /events", d.events)
	d.At = "unix://" + ServeUnix(t, "docker.sock", mux)
	t.Cleanup(d.HangUp)
	return d
}

func (d *LiveDocker) serve(answer func(*http.Request) (any, bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.Mu.Lock()
		defer d.Mu.Unlock()
		d.asked = append(d.asked, r.URL.Path)
		x, ok := answer(r)
		switch {
		case d.Down:
			w.WriteHeader(http.StatusServiceUnavailable)
		case !ok:
			http.NotFound(w, r)
		default:
			_ = json.NewEncoder(w).Encode(x)
		}
	}
}

func (d *LiveDocker) events(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("until") != "" {
		d.Mu.Lock()
		defer d.Mu.Unlock()
		for _, line := range d.Past {
			_, _ = w.Write([]byte(line + "\n"))
		}
		return
	}
	lines := make(chan string, 100)
	d.Mu.Lock()
	down := d.Down
	d.listeners[lines] = true
	d.Mu.Unlock()
	if down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if !strings.Contains(r.FormValue("filters"), `"rename"`) || r.FormValue("since") == "" {
		http.Error(w, "filters and since?", http.StatusBadRequest)
		return
	}
	_ = http.NewResponseController(w).Flush()
	d.Came <- struct{}{}
	for {
		select {
		case <-r.Context().Done():
			return
		case line, ok := <-lines:
			if !ok {
				return
			}
			_, _ = w.Write([]byte(line + "\n"))
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// Tell tells an event to all who listen.
func (d *LiveDocker) Tell(kind, action, id string) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	for l := range d.listeners {
		l <- `{"Type":"` + kind + `","Action":"` + action + `","Actor":{"ID":"` + id + `","Attributes":{}},"time":1}`
	}
}

// HangUp ends the connections of those who listen.
func (d *LiveDocker) HangUp() {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	for l := range d.listeners {
		close(l)
		delete(d.listeners, l)
	}
}

// Join puts a container's end onto a network; leave takes it away. Neither tells.
func (d *LiveDocker) Join(network, container, name, endpoint, addr string) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Networks[network].Containers[container] = DockerEndpoint{Name: name, EndpointID: endpoint, IPv4Address: addr}
}

// Leave takes a container off a network, without an event.
func (d *LiveDocker) Leave(network, container string) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	delete(d.Networks[network].Containers, container)
}

// Count is how often a path was asked for.
func (d *LiveDocker) Count(path string) (n int) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	for _, p := range d.asked {
		if p == path {
			n++
		}
	}
	return n
}

// Docker knows three networks; "other" of the daemon's is not among them. It gives its address.
func Docker(t *testing.T, networks ...DockerNetwork) (dockerHost string) {
	if networks == nil {
		networks = []DockerNetwork{{ID: WideID, Name: "wide", Driver: "tapestry"}, {ID: LocalID, Name: "mynet", Driver: "tapestry"},
			{ID: "dddd" + strings.Repeat("5", 60), Name: "bridge", Driver: "bridge"}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(networks) })
	mux.HandleFunc("GET /networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == WideID {
			_, _ = w.Write([]byte(`{"Id":"` + WideID + `","Name":"wide","Containers":{"c0":{"Name":"web","EndpointID":"` + WebID + `","IPv4Address":"10.80.1.2/16"},` +
				`"c1":{"Name":"db","EndpointID":"` + DbID + `","IPv4Address":"10.80.1.3/16"}}}`))
			return
		}
		http.NotFound(w, r)
	})
	return "unix://" + ServeUnix(t, "docker.sock", mux)
}

// NewSharedNetworkDocker is a Docker with the container side in the network namespace of web, and late in that of off, which does not run.
func NewSharedNetworkDocker(t *testing.T) *LiveDocker {
	d := NewLiveDocker(t)
	d.Join(WideID, WebContainer, "web", WebID, "10.80.1.2/16")
	d.Containers["side"] = `{"Id":"ab15","Name":"/side","State":{"Running":true},"HostConfig":{"NetworkMode":"container:` + WebContainer + `"}}`
	d.Containers["late"] = `{"Id":"ab16","Name":"/late","HostConfig":{"NetworkMode":"container:off"}}`
	d.Containers[WebContainer] = `{"Id":"` + WebContainer + `","Name":"/web","State":{"Running":true},"HostConfig":{"NetworkMode":"wide"}}`
	d.Containers["off"] = `{"Id":"ab17","Name":"/off","HostConfig":{"NetworkMode":"wide"}}`
	return d
}
