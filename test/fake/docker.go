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

// DockerNetwork is the reply to GET /networks/ID, as far as it is needed.
type DockerNetwork struct {
	ID         string `json:"Id"`
	Name       string
	Driver     string
	Scope      string
	Options    map[string]string
	Peers      []struct{ IP string }
	Containers map[string]DockerEndpoint // by container id, or "ep-" and the endpoint's id
}

// DockerEndpoint is a container's end of a network.
type DockerEndpoint struct{ Name, EndpointID, IPv4Address, IPv6Address string }

// LiveDocker is a Docker whose networks and containers a test can change, and which sends events. It answers GET /networks,
// /networks/ID, /containers/NAME/json and /events.
type LiveDocker struct {
	At   string        // its address, as DOCKER_HOST has it
	Came chan struct{} // receives a token for each client that begins to read events

	Mu         sync.Mutex               // guards what is below
	Networks   map[string]DockerNetwork // by id
	Containers map[string]string        // replies to GET /containers/NAME/json, by name
	Past       []string                 // replies to GET /events with until: one event a line
	Down       bool                     // it answers each request with 503
	asked      []string                 // paths of all requests, in order
	listeners  map[chan string]bool     // one for each client that reads events
}

// NewLiveDocker returns a LiveDocker with the networks wide and mynet, without containers. It ends with the test.
func NewLiveDocker(t testing.TB) *LiveDocker {
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

// Tell sends an event to all clients that read events.
func (d *LiveDocker) Tell(kind, action, id string) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	for l := range d.listeners {
		l <- `{"Type":"` + kind + `","Action":"` + action + `","Actor":{"ID":"` + id + `","Attributes":{}},"time":1}`
	}
}

// HangUp closes the connections of all clients that read events.
func (d *LiveDocker) HangUp() {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	for l := range d.listeners {
		close(l)
		delete(d.listeners, l)
	}
}

// Join connects a container to a network, without an event.
func (d *LiveDocker) Join(network, container, name, endpoint, addr string) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	d.Networks[network].Containers[container] = DockerEndpoint{Name: name, EndpointID: endpoint, IPv4Address: addr}
}

// Leave disconnects a container from a network, without an event.
func (d *LiveDocker) Leave(network, container string) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	delete(d.Networks[network].Containers, container)
}

// Count is the number of requests for a path.
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

// Docker serves a Docker with these networks until the test ends; without any: wide, mynet and a bridge, so that OtherID of the daemon's
// is unknown to it. It returns its address, as DOCKER_HOST has it.
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

// NewSharedNetworkDocker returns a LiveDocker with the container side in the network namespace of web, and late in that of off, which
// does not run.
func NewSharedNetworkDocker(t *testing.T) *LiveDocker {
	d := NewLiveDocker(t)
	d.Join(WideID, WebContainer, "web", WebID, "10.80.1.2/16")
	d.Containers["side"] = `{"Id":"ab15","Name":"/side","State":{"Running":true},"HostConfig":{"NetworkMode":"container:` + WebContainer + `"}}`
	d.Containers["late"] = `{"Id":"ab16","Name":"/late","HostConfig":{"NetworkMode":"container:off"}}`
	d.Containers[WebContainer] = `{"Id":"` + WebContainer + `","Name":"/web","State":{"Running":true},"HostConfig":{"NetworkMode":"wide"}}`
	d.Containers["off"] = `{"Id":"ab17","Name":"/off","HostConfig":{"NetworkMode":"wide"}}`
	return d
}
