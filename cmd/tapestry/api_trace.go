package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
)

// traceRequest is the body of POST /v1/trace.
type traceRequest struct {
	Network string       `json:"network"` // whole id
	Port    string       `json:"port"`    // whole endpoint id, or the peer's address
	Frame   []byte       `json:"frame"`   // from the destination address on
	Offload traceOffload `json:"offload"`
	Inject  bool         `json:"inject"`
}

// traceOffload is ether.Offload. Its zero value is a finished ordinary frame.
type traceOffload struct {
	Kind      string `json:"kind"`      // none or "", tcp4, tcp6, udp; tunnel_tcp4, tunnel_tcp6, tunnel_udp
	Segment   uint16 `json:"segment"`   // payload bytes of each segment
	Inner     uint16 `json:"inner"`     // where the IP header inside a UDP tunnel begins
	NeedsSum  bool   `json:"needs_sum"` //
	SumStart  uint16 `json:"sum_start"`
	SumOffset uint16 `json:"sum_offset"`
}

// traceReply is what becomes of a frame. About, Notes and Request are known to who asks, who fills them in.
type traceReply struct {
	Network     string       `json:"network"`
	NetworkName string       `json:"network_name,omitempty"`
	VNI         uint32       `json:"vni"`
	Down        string       `json:"down"`
	In          tracePort    `json:"in"`
	About       string       `json:"about"` // the frame in words
	Notes       []string     `json:"notes"` // what else to know of it
	Bytes       int          `json:"bytes"`
	Steps       []traceStep  `json:"steps"`
	Ways        []traceWay   `json:"ways"`
	Verdict     string       `json:"verdict"`
	Drop        bool         `json:"drop"`
	Injected    string       `json:"injected"`
	Request     traceRequest `json:"request"`
}

type traceStep struct {
	Check      string      `json:"check"`
	Found      string      `json:"found"`
	Drop       bool        `json:"drop"`
	Why        string      `json:"why"`
	MAC        string      `json:"mac"`
	Port       string      `json:"port"`
	Container  string      `json:"container,omitempty"`
	AgeSeconds int64       `json:"age_seconds"`
	Evicts     *entryReply `json:"evicts"` // null: there is room
	Limit      int         `json:"limit"`
}

type traceWay struct {
	tracePort
	Verdict string `json:"verdict"`
	Limit   int    `json:"limit"`
}

type tracePort struct {
	Port      string `json:"port"`
	Container string `json:"container,omitempty"`
	Kind      string `json:"kind"`
	Link      string `json:"link"`
	MTU       int    `json:"mtu"`
	Faults    string `json:"faults"`
	Addr      string `json:"addr"`
	Down      string `json:"down"`
	PathMTU   int    `json:"path_mtu"`
	Overhead  int    `json:"overhead"`
	GSO       bool   `json:"gso"`
	GSOWhy    string `json:"gso_why"`
	RemoteSum bool   `json:"remote_checksum"`
	Sparse    bool   `json:"sparse"`
}

// tracer is what the API asks of *fabric.Fabric for this.
type tracer interface {
	Trace(context.Context, fabric.TraceRequest) (fabric.TraceView, error)
}

func (a *api) traceRoutes(mux *http.ServeMux) { mux.HandleFunc("POST /v1/trace", a.trace) }

// trace answers with what would become of a frame, and lets it come in if that is asked for.
func (a *api) trace(w http.ResponseWriter, r *http.Request) {
	var t traceRequest
	const most = 2*ether.MaxFrame + 4<<10 // base64 takes 4/3
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(&t); err != nil {
		reply(w, http.StatusBadRequest, errorReply{"read the request: " + err.Error()})
		return
	}
	off, err := t.Offload.read()
	if err == nil && (len(t.Frame) == 0 || len(t.Frame) > ether.MaxFrame) {
		err = fmt.Errorf("frame has %d bytes, want 1 to %d", len(t.Frame), ether.MaxFrame)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, errorReply{err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	v, err := a.host.Trace(ctx, fabric.TraceRequest{Network: t.Network, Port: t.Port, Frame: t.Frame, Off: off,
		Inject: t.Inject})
	switch {
	case errors.Is(err, fabric.ErrNoNetwork), errors.Is(err, fabric.ErrNoPeer), errors.Is(err, fabric.ErrNoEndpoint):
		reply(w, http.StatusNotFound, errorReply{err.Error()})
	case err != nil:
		reply(w, http.StatusConflict, errorReply{err.Error()})
	default:
		if v.Injected != "" {
			a.log.Info("frame injected", "network", v.Network, "port", v.In.Name, "bytes", len(t.Frame),
				"verdict", v.Injected)
		}
		reply(w, http.StatusOK, toTrace(v))
	}
}

// read gives the offload that is asked for.
func (o traceOffload) read() (ether.Offload, error) {
	off := ether.Offload{Segment: o.Segment, Inner: o.Inner, PartialChecksum: o.NeedsSum, ChecksumStart: o.SumStart, ChecksumOffset: o.SumOffset}
	for k := range ether.Kinds {
		if o.Kind == k.String() || o.Kind == "" {
			off.Kind = k
			return off, nil
		}
	}
	return off, fmt.Errorf("offload.kind is %q, want none, tcp4, tcp6, udp, or tunnel_ and one of the last three", o.Kind)
}

func toTrace(v fabric.TraceView) traceReply {
	way := func(w fabric.TraceEgress) traceWay { return traceWay{toTracePort(w.TracePort), w.Verdict, w.Limit} }
	return traceReply{Network: v.Network, VNI: v.VNI, Down: v.Down, In: toTracePort(v.In), Notes: []string{},
		Bytes: v.Bytes, Steps: each(v.Steps, toTraceStep), Ways: each(v.Egress, way),
		Verdict: v.Verdict, Drop: v.Drop, Injected: v.Injected}
}

func toTraceStep(s fabric.TraceStep) traceStep {
	t := traceStep{Check: s.Check, Found: s.Found, Drop: s.Drop, Why: s.Why, Port: s.Port,
		AgeSeconds: int64(s.Age / time.Second), Limit: s.Limit}
	if s.Check == "source" || s.Check == "destination" {
		t.MAC = s.MAC.String()
	}
	if !s.Evict.MAC.IsZero() {
		e := toEntry(s.Evict)
		t.Evicts = &e
	}
	return t
}

func toTracePort(p fabric.TracePort) tracePort {
	t := tracePort{Port: p.Name, Kind: p.Kind, Link: p.Link, MTU: p.MTU, Faults: p.Faults, Down: p.Down, PathMTU: p.PathMTU,
		Overhead: p.Overhead, GSO: p.GSO, GSOWhy: p.GSOWhy, RemoteSum: p.RemoteSum, Sparse: p.Sparse}
	if p.Addr.IsValid() {
		t.Addr = p.Addr.String()
	}
	return t
}
