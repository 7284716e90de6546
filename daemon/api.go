package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cluster/member"
	"github.com/tapestry-net/tapestry/events"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/plugin"
)

// Fabric is what the API needs of *fabric.Fabric.
type Fabric interface {
	Status() fabric.Status
	Networks() []fabric.NetworkView
	Ports(network string) []fabric.PortView
	Entries(network string) []fabric.EntryView
	Peers(network string) []fabric.PeerView
	AddPeer(ctx context.Context, network string, p netip.AddrPort) error
	RemovePeer(ctx context.Context, network string, p netip.AddrPort) error
	AddPeerName(ctx context.Context, network string, p fabric.PeerName) error
	RemovePeerName(ctx context.Context, network string, p fabric.PeerName) error
	ForgetNetwork(ctx context.Context, id string) error
	TestPeers(ctx context.Context) ([]fabric.PeerTest, error)
	faulter
	tracer
	swarmer
}

// API answers the commands on this host. Networks are named by their whole id; answers are sorted.
type API struct {
	Fabric  Fabric
	Log     *slog.Logger
	Name    string // of the driver
	Scope   string // of its networks: local or global
	Version string // of this binary
	Started time.Time

	Captures  *Captures      // nil: none
	Cluster   *member.Member // nil: this host has joined none
	Swarm     *SwarmNode     // nil: none
	Addresses Addresses      // nil: none
	Events    *events.Bus    // nil: none
	Metrics   http.Handler   // what Prometheus reads; nil: nothing

	Ending <-chan struct{} // closed when requests that wait must be answered; nil: never
}

// Handler serves every path of the API.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.StatusPath, a.status)
	mux.HandleFunc("GET "+api.NetworksPath, a.networks)
	mux.HandleFunc("DELETE "+api.NetworksPath+"/{id}", a.forget)
	mux.HandleFunc("GET "+api.PortsPath, list(a, a.Fabric.Ports, toPort, func(x, y api.Port) int {
		return cmp.Or(strings.Compare(x.Network, y.Network), strings.Compare(x.Kind, y.Kind), strings.Compare(x.Name, y.Name))
	}))
	mux.HandleFunc("GET "+api.EntriesPath, list(a, a.Fabric.Entries, toEntry, func(x, y api.Entry) int {
		return cmp.Or(strings.Compare(x.Network, y.Network), slices.Compare(x.MAC[:], y.MAC[:]))
	}))
	mux.HandleFunc("GET "+api.PeersPath, list(a, a.Fabric.Peers, toPeer, func(x, y api.Peer) int {
		return cmp.Or(strings.Compare(x.Network, y.Network), strings.Compare(x.Addr, y.Addr))
	}))
	mux.HandleFunc("POST "+api.PeerChangePath("add"), a.change(a.Fabric.AddPeer, a.Fabric.AddPeerName))
	mux.HandleFunc("POST "+api.PeerChangePath("rm"), a.change(a.Fabric.RemovePeer, a.Fabric.RemovePeerName))
	mux.HandleFunc("POST "+api.PeersTestPath, a.test)
	if a.Captures != nil {
		a.Captures.Register(mux)
	}
	if a.Metrics != nil {
		mux.Handle("GET "+api.MetricsPath, a.Metrics)
	}
	if a.Events != nil {
		mux.HandleFunc("GET "+api.EventsPath, a.events)
	}
	a.nodeRoutes(mux)
	a.clusterRoutes(mux)
	a.nameRoutes(mux)
	a.faultRoutes(mux)
	a.traceRoutes(mux)
	return mux
}

func (a *API) status(w http.ResponseWriter, _ *http.Request) {
	s := a.Fabric.Status()
	r := api.Status{Name: a.Name, Scope: a.Scope, Version: a.Version, StartedAt: a.Started.Truncate(time.Second),
		UptimeSeconds: int64(time.Since(a.Started) / time.Second), PID: os.Getpid(), Workers: s.Workers,
		Goroutines: runtime.NumGoroutine(), VXLANPort: s.Port, Tunnel: s.Tunnel, Why: s.Why,
		Networks: s.Networks, Endpoints: s.Endpoints,
		RxDropped: counts(s.RxDropped), KernelDropped: counts(s.KernelDropped), Offloads: api.Map(s.Offloads, toOffload), Conflicts: api.Map(s.Conflicts, toConflict), Guards: api.Map(s.Trips, toTrip),
		Faults: s.Faults, PortsDown: s.Down, Captures: []api.CaptureStats{}}
	r.Strangers = r.RxDropped
	if s.VTEP.IsValid() {
		r.VTEP = s.VTEP.String()
	}
	if s.Second.IsValid() {
		r.SecondVTEP, r.SecondWhy = s.Second.String(), s.SecondWhy
	}
	if a.Captures != nil {
		r.Captures, r.Recorder = a.Captures.Running(), a.Captures.recorderReply()
	}
	reply(w, http.StatusOK, r)
}

func (a *API) networks(w http.ResponseWriter, _ *http.Request) {
	all := api.Map(a.Fabric.Networks(), toNetwork)
	slices.SortFunc(all, func(x, y api.Network) int { return strings.Compare(x.ID, y.ID) })
	reply(w, http.StatusOK, all)
}

// list answers with what read finds on one network, or on all.
func list[V, R any](a *API, read func(network string) []V, to func(V) R, order func(x, y R) int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		network := r.URL.Query().Get("network")
		if network != "" && !slices.ContainsFunc(a.Fabric.Networks(), func(n fabric.NetworkView) bool { return n.ID == network }) {
			reply(w, http.StatusNotFound, api.Error{Error: "no network " + api.ShortID(network)})
			return
		}
		all := api.Map(read(network), to)
		slices.SortFunc(all, order)
		reply(w, http.StatusOK, all)
	}
}

// change answers a POST that adds or removes a peer.
func (a *API) change(do func(ctx context.Context, network string, p netip.AddrPort) error, byName func(ctx context.Context, network string, p fabric.PeerName) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var c api.PeerChange
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&c); err != nil {
			reply(w, http.StatusBadRequest, api.Error{Error: "read the request: " + err.Error()})
			return
		}
		p, name, err := plugin.ParsePeer(c.Addr)
		if err != nil {
			reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
			return
		}
		if name.Host != "" {
			err = byName(r.Context(), c.Network, name)
		} else {
			err = do(r.Context(), c.Network, p)
		}
		a.changed(w, r, err, c.Network)
	}
}

// forget answers the DELETE of a network.
func (a *API) forget(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	a.changed(w, r, a.Fabric.ForgetNetwork(r.Context(), id), id)
}

// test sends test frames to the peers and answers what came of it, within the time that a client waits.
func (a *API) test(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	tests, err := a.Fabric.TestPeers(ctx)
	answer := api.PeerTests{Tests: api.Map(tests, toTest)}
	if err != nil {
		answer.Why = err.Error()
	}
	reply(w, http.StatusOK, answer)
}

// changed answers a change with what came of it.
func (a *API) changed(w http.ResponseWriter, r *http.Request, err error, network string) {
	switch {
	case errors.Is(err, fabric.ErrNoNetwork), errors.Is(err, fabric.ErrNoPeer), errors.Is(err, fabric.ErrNoEndpoint):
		reply(w, http.StatusNotFound, api.Error{Error: err.Error()})
	case err != nil:
		a.Log.Info("request refused", "method", r.URL.Path, "network", network, "err", err)
		reply(w, http.StatusConflict, api.Error{Error: err.Error()})
	default:
		reply(w, http.StatusOK, struct{}{})
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readWait)) // a client that does not read must not hold memory
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only when the client is gone
}
