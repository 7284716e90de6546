package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// liveDocker is a Docker that changes.
type liveDocker struct {
	at string

	mu         sync.Mutex
	networks   map[string]dockerNetwork // by id
	containers map[string]string        // GET /containers/NAME/json, by name
	past       []string                 // events that it remembers
	asked      []string                 // paths
	listeners  map[chan string]bool
	down       bool
	came       chan struct{} // a token for each that reads events
}

func newLiveDocker(t *testing.T) *liveDocker {
	d := &liveDocker{networks: make(map[string]dockerNetwork), containers: make(map[string]string), listeners: make(map[chan string]bool),
		came: make(chan struct{}, 100)}
	for id, name := range map[string]string{wideID: "wide", localID: "mynet"} {
		d.networks[id] = dockerNetwork{ID: id, Name: name, Driver: "tapestry", Containers: map[string]dockerEndpoint{}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /networks", d.serve(func(*http.Request) (any, bool) {
		return slices.Collect(maps.Values(d.networks)), true
	}))
	mux.HandleFunc("GET /networks/{id}", d.serve(func(r *http.Request) (any, bool) {
		n, ok := d.networks[r.PathValue("id")]
		return n, ok
	}))
	mux.HandleFunc("GET /containers/{name}/json", d.serve(func(r *http.Request) (any, bool) {
		text, ok := d.containers[r.PathValue("name")]
		return json.RawMessage(text), ok
	}))
	mux.HandleFunc("GET /events", d.events)
	d.at = "unix://" + serveUnix(t, "docker.sock", mux)
	t.Cleanup(d.hangUp)
	return d
}

func (d *liveDocker) serve(answer func(*http.Request) (any, bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked = append(d.asked, r.URL.Path)
		x, ok := answer(r)
		switch {
		case d.down:
			w.WriteHeader(http.StatusServiceUnavailable)
		case !ok:
			http.NotFound(w, r)
		default:
			_ = json.NewEncoder(w).Encode(x)
		}
	}
}

func (d *liveDocker) events(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("until") != "" {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, line := range d.past {
			_, _ = w.Write([]byte(line + "\n"))
		}
		return
	}
	lines := make(chan string, 100)
	d.mu.Lock()
	down := d.down
	d.listeners[lines] = true
	d.mu.Unlock()
	if down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if !strings.Contains(r.FormValue("filters"), `"rename"`) || r.FormValue("since") == "" {
		http.Error(w, "filters and since?", http.StatusBadRequest)
		return
	}
	_ = http.NewResponseController(w).Flush()
	d.came <- struct{}{}
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

// tell tells an event to all who listen.
func (d *liveDocker) tell(kind, action, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.listeners {
		l <- `{"Type":"` + kind + `","Action":"` + action + `","Actor":{"ID":"` + id + `","Attributes":{}},"time":1}`
	}
}

// hangUp ends the connections of those who listen.
func (d *liveDocker) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.listeners {
		close(l)
		delete(d.listeners, l)
	}
}

// join puts a container's end onto a network; leave takes it away. Neither tells.
func (d *liveDocker) join(network, container, name, endpoint, addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.networks[network].Containers[container] = dockerEndpoint{Name: name, EndpointID: endpoint, IPv4Address: addr}
}

func (d *liveDocker) leave(network, container string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.networks[network].Containers, container)
}

func (d *liveDocker) count(path string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.asked {
		if p == path {
			n++
		}
	}
	return n
}
