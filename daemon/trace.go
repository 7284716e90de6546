package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
)

// tracer is what the API asks of *fabric.Fabric for this.
type tracer interface {
	Trace(context.Context, fabric.TraceRequest) (fabric.TraceView, error)
}

func (a *API) traceRoutes(mux *http.ServeMux) { mux.HandleFunc("POST "+api.TracePath, a.trace) }

// trace answers with what would become of a frame, and lets it come in if that is asked for.
func (a *API) trace(w http.ResponseWriter, r *http.Request) {
	var t api.TraceRequest
	const most = 2*ether.MaxFrame + 4<<10 // base64 takes 4/3
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(&t); err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: "read the request: " + err.Error()})
		return
	}
	off, err := parseOffload(t.Offload)
	if err == nil && (len(t.Frame) == 0 || len(t.Frame) > ether.MaxFrame) {
		err = fmt.Errorf("frame has %d bytes, want 1 to %d", len(t.Frame), ether.MaxFrame)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	v, err := a.Fabric.Trace(ctx, fabric.TraceRequest{Network: t.Network, Port: t.Port, Frame: t.Frame, Off: off,
		Inject: t.Inject})
	switch {
	case errors.Is(err, fabric.ErrNoNetwork), errors.Is(err, fabric.ErrNoPeer), errors.Is(err, fabric.ErrNoEndpoint):
		reply(w, http.StatusNotFound, api.Error{Error: err.Error()})
	case err != nil:
		reply(w, http.StatusConflict, api.Error{Error: err.Error()})
	default:
		if v.Injected != "" {
			a.Log.Info("frame injected", "network", v.Network, "port", v.In.Name, "bytes", len(t.Frame),
				"verdict", v.Injected)
		}
		reply(w, http.StatusOK, toTrace(v))
	}
}

// parseOffload gives the offload that is asked for.
func parseOffload(o api.TraceOffload) (ether.Offload, error) {
	off := ether.Offload{Segment: o.Segment, Inner: o.Inner, PartialChecksum: o.PartialChecksum, ChecksumStart: o.ChecksumStart, ChecksumOffset: o.ChecksumOffset}
	for k := range ether.Kinds {
		if o.Kind == k.String() || o.Kind == "" {
			off.Kind = k
			return off, nil
		}
	}
	return off, fmt.Errorf("offload.kind is %q, want none, tcp4, tcp6, udp, or tunnel_ and one of the last three", o.Kind)
}

func toTrace(v fabric.TraceView) api.Trace {
	toEgress := func(w fabric.TraceEgress) api.TraceEgress {
		return api.TraceEgress{TracePort: toTracePort(w.TracePort), Verdict: w.Verdict, Limit: w.Limit}
	}
	return api.Trace{Network: v.Network, VNI: v.VNI, Down: v.Down, In: toTracePort(v.In), Notes: []string{},
		Bytes: v.Bytes, Steps: api.Map(v.Steps, toTraceStep), Egress: api.Map(v.Egress, toEgress),
		Verdict: v.Verdict, Drop: v.Drop, Injected: v.Injected}
}

func toTraceStep(s fabric.TraceStep) api.TraceStep {
	t := api.TraceStep{Check: s.Check, Found: s.Found, Drop: s.Drop, Why: s.Why, Port: s.Port,
		AgeSeconds: int64(s.Age / time.Second), Limit: s.Limit}
	if s.Check == "source" || s.Check == "destination" || s.Check == "answer" && s.Port != "" {
		t.MAC = s.MAC.String()
	}
	if s.Addr.IsValid() {
		t.Address = s.Addr.String()
	}
	if !s.Evict.MAC.IsZero() {
		e := toEntry(s.Evict)
		t.Evicts = &e
	}
	return t
}

func toTracePort(p fabric.TracePort) api.TracePort {
	t := api.TracePort{Port: p.Name, Kind: p.Kind, Link: p.Link, MTU: p.MTU, Faults: p.Faults, Down: p.Down, PathMTU: p.PathMTU,
		Overhead: p.Overhead, GSO: p.GSO, GSOWhy: p.GSOWhy, RemoteSum: p.RemoteSum, Sparse: p.Sparse}
	if p.Addr.IsValid() {
		t.Addr = p.Addr.String()
	}
	if p.Health != nil {
		t.Probes, t.Lost = p.Health.Sent.There, p.Health.Lost.There
	}
	return t
}
