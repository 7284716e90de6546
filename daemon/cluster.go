package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cluster"
)

const noCluster = "this host is in no cluster"

// Addresses is what the API asks of *ipam.Manager.
type Addresses interface {
	Used(key string, block netip.Prefix) int // how many addresses of a block are in use
}

// shared is what the API shows of the cluster that this host is in.
type shared interface {
	Info() cluster.Info
	Status() cluster.Status
	Cluster() string
	Own() cluster.Record
	Others() []cluster.Entry
	Problems() []string
	Forget(ctx context.Context, id cluster.HostID) error
}

// cluster is the one that this host is in: the one that it has joined, or else Docker's Swarm; nil: it is in none.
func (a *API) cluster() shared {
	switch {
	case a.Cluster != nil:
		return a.Cluster
	case a.Swarm != nil && a.Swarm.told():
		return a.Swarm
	}
	return nil
}

func (a *API) clusterRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.ClusterPath, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, toCluster(a.cluster(), a.Addresses))
	})
	mux.HandleFunc("POST "+api.ClusterForgetPath, a.forgetHost)
}

// forgetHost answers `cluster forget`.
func (a *API) forgetHost(w http.ResponseWriter, r *http.Request) {
	var asked api.ClusterForget
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&asked); err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: "read the request: " + err.Error()})
		return
	}
	c := a.cluster()
	if c == nil {
		reply(w, http.StatusConflict, api.Error{Error: noCluster})
		return
	}
	err := c.Forget(r.Context(), cluster.HostID(asked.Host))
	switch {
	case errors.Is(err, cluster.ErrNoHost):
		reply(w, http.StatusNotFound, api.Error{Error: err.Error()})
	case err != nil:
		reply(w, http.StatusConflict, api.Error{Error: err.Error()})
	default:
		a.Log.Info("host forgotten", "host", asked.Host)
		reply(w, http.StatusOK, struct{}{})
	}
}

// toCluster is what a cluster says; of nil it has no kind.
func toCluster(m shared, addresses Addresses) api.Cluster {
	c := api.Cluster{Hosts: []api.ClusterHost{}, Networks: []api.ClusterNetwork{}, Blocks: []api.ClusterBlock{}, Problems: []string{}}
	if m == nil {
		return c
	}
	info, status, own := m.Info(), m.Status(), m.Own()
	c.Kind, c.Name, c.Consistency, c.Host = info.Name, m.Cluster(), info.Consistency.String(), string(own.ID)
	if c.Reachable, c.Since = status.Err == nil, status.Since; !c.Reachable {
		c.Why = status.Err.Error()
	}
	networks := make(map[string]*api.ClusterNetwork)
	add := func(r cluster.Record, state string, here bool) {
		h := api.ClusterHost{ID: string(r.ID), Name: r.Name, State: state, Epoch: r.Epoch, Networks: []string{}}
		if r.VTEP.IsValid() {
			h.VTEP = r.VTEP.String()
		}
		for _, n := range r.Members {
			h.Networks = append(h.Networks, n.Key)
			shared := networks[n.Key]
			if shared == nil {
				shared = &api.ClusterNetwork{Key: n.Key, VNI: n.VNI, Subnets: api.Map(n.Subnets, netip.Prefix.String)}
				networks[n.Key] = shared
			}
			shared.Hosts, shared.Here = append(shared.Hosts, r.Name), shared.Here || here
			for _, b := range n.Blocks {
				block := api.ClusterBlock{Network: n.Key, Block: b.String(), Host: r.Name, State: state}
				if here && addresses != nil {
					used := addresses.Used(n.Key, b)
					block.Used = &used
				}
				c.Blocks = append(c.Blocks, block)
			}
		}
		c.Hosts = append(c.Hosts, h)
	}
	add(own, "this", true)
	for _, e := range m.Others() {
		add(e.Record, e.State.String(), false)
	}
	for _, key := range slices.Sorted(maps.Keys(networks)) {
		c.Networks = append(c.Networks, *networks[key])
	}
	slices.SortStableFunc(c.Blocks, func(a, b api.ClusterBlock) int {
		if n := strings.Compare(a.Network, b.Network); n != 0 {
			return n
		}
		return cluster.ComparePrefix(netip.MustParsePrefix(a.Block), netip.MustParsePrefix(b.Block))
	})
	c.Problems = append(c.Problems, m.Problems()...)
	return c
}
