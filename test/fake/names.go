package fake

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/daemon"
)

// NamesDaemon is a daemon that has only the names of a cluster.
type NamesDaemon struct {
	Socket string
	Told   chan []api.Name // receives what each PUT has told

	mu      sync.Mutex // guards what follows
	run     int
	version int
	names   []api.Name
	places  map[string]api.Place // by address
	news    chan struct{}        // closed with the next version
}

// NewNamesDaemon starts one on the network blue. It ends with the test.
func NewNamesDaemon(t testing.TB) *NamesDaemon {
	d, mux := newNamesDaemon()
	d.Socket = ServeUnix(t, "tapestry.sock", mux)
	return d
}

// NewClusterDaemon starts one that has h's networks, too. It ends with the test.
func NewClusterDaemon(t *testing.T, h daemon.Fabric) *NamesDaemon {
	d, mux := newNamesDaemon()
	mux.Handle("/", (&daemon.API{Fabric: h, Log: slog.New(slog.DiscardHandler), Name: "tapestry", Version: "devel", Started: time.Now().Add(-90 * time.Minute)}).Handler())
	d.Socket = ServeUnix(t, "tapestry.sock", mux)
	return d
}

func newNamesDaemon() (*NamesDaemon, *http.ServeMux) {
	d := &NamesDaemon{Told: make(chan []api.Name, 1000), run: 1, version: 1, places: make(map[string]api.Place), news: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.ClusterPlacePath, func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		p, ok := d.places[r.FormValue("addr")]
		if !ok || r.FormValue("key") != "blue" {
			w.WriteHeader(http.StatusNotFound)
			WriteJSON(w, api.Error{Error: "no other host has said that it has it"})
			return
		}
		WriteJSON(w, p)
	})
	mux.HandleFunc("GET "+api.NamesPath, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then a client that hangs up is noticed
		for {
			d.mu.Lock()
			now, names, news := strconv.Itoa(d.run)+"."+strconv.Itoa(d.version), slices.Clone(d.names), d.news
			names = slices.DeleteFunc(names, func(n api.Name) bool { return n.Gone && r.FormValue("gone") != "yes" })
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
	return d, mux
}

// SetPlace has the daemon know where an address is, on the network blue.
func (d *NamesDaemon) SetPlace(addr string, p api.Place) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.places[addr] = p
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
