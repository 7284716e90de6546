package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/plugin"
)

// swarmer is what the API asks of *fabric.Fabric about the other nodes of Docker's Swarm.
type swarmer interface {
	Nodes() []netip.Addr
	NodeJoined(ctx context.Context, addr netip.Addr, self bool) error
}

// maxNodes is how many a request may name: more than a Swarm can have.
const maxNodes = 4096

func (a *API) nodeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.NodesPath, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, api.Nodes{Nodes: api.Map(a.Fabric.Nodes(), netip.Addr.String)})
	})
	mux.HandleFunc("POST "+api.NodesPath, a.learn)
}

// learn answers `peers learn`. If one address is invalid, none is added.
func (a *API) learn(w http.ResponseWriter, r *http.Request) {
	var asked api.Nodes
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 256<<10)).Decode(&asked); err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: "read the request: " + err.Error()})
		return
	}
	if len(asked.Nodes) > maxNodes {
		reply(w, http.StatusBadRequest, api.Error{Error: fmt.Sprintf("%d nodes: want %d at most", len(asked.Nodes), maxNodes)})
		return
	}
	var nodes []netip.Addr
	for _, text := range asked.Nodes {
		addr, err := plugin.ParseVTEP(text)
		if err != nil {
			reply(w, http.StatusBadRequest, api.Error{Error: fmt.Sprintf("node %q: %v", text, err)})
			return
		}
		nodes = append(nodes, addr)
	}
	before := a.Fabric.Nodes()
	for _, addr := range nodes {
		if err := a.Fabric.NodeJoined(r.Context(), addr, false); err != nil {
			a.changed(w, r, err, "")
			return
		}
	}
	answer := api.Learned{Found: []string{}, New: []string{}, Nodes: []string{}}
	for _, addr := range a.Fabric.Nodes() {
		answer.Nodes = append(answer.Nodes, addr.String())
		if !slices.Contains(before, addr) {
			answer.New = append(answer.New, addr.String())
		}
	}
	reply(w, http.StatusOK, answer)
}
