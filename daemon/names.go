package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/ether"
)

// namesWait is how long a question for names that have not changed waits: less than clients do.
const namesWait = 8 * time.Second

func (a *API) nameRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.NamesPath, a.inCluster(a.names))
	mux.HandleFunc("PUT "+api.NamesPath, a.inCluster(a.tellNames))
	mux.HandleFunc("GET "+api.ClusterPlacePath, a.inCluster(a.place))
}

// place tells where the container is that has an address.
func (a *API) place(w http.ResponseWriter, r *http.Request) {
	key := r.FormValue("key")
	addr, err := netip.ParseAddr(r.FormValue("addr"))
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: "addr: " + err.Error()})
		return
	}
	h, state, mac, ok := a.Cluster.Directory.Place(key, addr.Unmap())
	if !ok {
		reply(w, http.StatusNotFound, api.Error{Error: fmt.Sprintf("no other host has said that it has %s on network %s", addr, key)})
		return
	}
	reply(w, http.StatusOK, api.Place{Host: h.Name, VTEP: h.VTEP.Addr().String(), MAC: macText(mac), Gone: state == cluster.Gone})
}

// macText is "" of a MAC that is not known.
func macText(mac ether.MAC) string {
	if mac.IsZero() {
		return ""
	}
	return mac.String()
}

// inCluster refuses requests on a host that is in no cluster.
func (a *API) inCluster(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a.Cluster == nil {
			reply(w, http.StatusConflict, api.Error{Error: noCluster})
			return
		}
		h(w, r)
	}
}

// names answers when the names of other hosts' containers are others than those of the version that was asked for.
func (a *API) names(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), namesWait)
	defer cancel()
	go func() {
		select {
		case <-a.Ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	answer := api.Names{Keys: []string{}, Changed: []string{}, Names: []api.Name{}}
	version, keys, changed := a.Cluster.NamesAfter(ctx, r.URL.Query().Get("after"))
	answer.Version, answer.Run = version, strconv.FormatUint(a.Cluster.Self.Epoch, 10)
	answer.Keys, answer.Changed = append(answer.Keys, keys...), append(answer.Changed, changed...)
	for _, key := range changed {
		for _, n := range a.Cluster.Directory.Names(key) {
			if n.State != cluster.Gone || r.URL.Query().Get("gone") == "yes" { // nobody answers there
				answer.Names = append(answer.Names, api.Name{Key: key, Name: n.Name.Name, Addrs: n.Addrs, Host: n.Host.Name,
					VTEP: n.Host.VTEP.Addr().String(), MAC: macText(n.MAC), Gone: n.State == cluster.Gone})
			}
		}
	}
	reply(w, http.StatusOK, answer)
}

// tellNames takes the names of this host's containers. If one is invalid, all stay as they were.
func (a *API) tellNames(w http.ResponseWriter, r *http.Request) {
	var told api.OwnNames
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, api.MaxNamesBody)).Decode(&told); err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: "read the request: " + err.Error()})
		return
	}
	if len(told.Names) > api.MaxNames {
		reply(w, http.StatusBadRequest, api.Error{Error: fmt.Sprintf("%d names: want %d at most", len(told.Names), api.MaxNames)})
		return
	}
	names := make([]cluster.Name, 0, len(told.Names))
	for _, n := range told.Names {
		one := cluster.Name{Key: n.Key, Name: n.Name, Addrs: n.Addrs}
		err := cluster.CheckKey(n.Key)
		if err == nil {
			err = one.Check()
		}
		if err != nil {
			reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
			return
		}
		names = append(names, one)
	}
	a.Cluster.TellNames(names, time.Now())
	reply(w, http.StatusOK, struct{}{})
}
