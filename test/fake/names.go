package fake

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/tapestry-net/tapestry/api"
)

// NamesDaemon is a daemon that has only the names of a cluster.
type NamesDaemon struct {
	Socket string
	Told   chan []api.Name // receives what each PUT has told

	mu      sync.Mutex // guards what follows
	run     int
	version int
	names   []api.Name
	news    chan struct{} // closed with the next version
}

// NewNamesDaemon starts one on the network blue. It ends with the test.
func NewNamesDaemon(t *testing.T) *NamesDaemon {
	d := &NamesDaemon{Told: make(chan []api.Name, 1000), run: 1, version: 1, news: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.NamesPath, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then a client that hangs up is noticed
		for {
			d.mu.Lock()
			now, names, news := strconv.Itoa(d.run)+"."+strconv.Itoa(d.version), d.names, d.news
			answer := api.Names{Version: now, Run: strconv.Itoa(d.run), Keys: []string{"blue", "green"}, Changed: []string{"blue", "green"}, Names: names}
			d.mu.Unlock()
			if r.URL.Query().Get("after") != now {
				WriteJSON(w, answer)
				return
			}
			select {
			case <-news:
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("PUT "+api.NamesPath, func(w http.ResponseWriter, r *http.Request) {
		var told api.OwnNames
		if json.NewDecoder(r.Body).Decode(&told) != nil {
			http.Error(w, "no names", http.StatusBadRequest)
			return
		}
		d.Told <- told.Names
		WriteJSON(w, struct{}{})
	})
	d.Socket = ServeUnix(t, "tapestry.sock", mux)
	return d
}

// Set replaces the names of other hosts' containers.
func (d *NamesDaemon) Set(names ...api.Name) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = names
	d.next()
}

// Restart is as if the daemon were another one, of the same names.
func (d *NamesDaemon) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run++
	d.next()
}

func (d *NamesDaemon) next() {
	d.version++
	close(d.news)
	d.news = make(chan struct{})
}
