package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fault"
)

// faulter is what the API asks of *fabric.Fabric about faults.
type faulter interface {
	Faults() []fabric.FaultView
	SetFault(ctx context.Context, name string, d fabric.Direction, s fault.Spec) error
	ClearFault(ctx context.Context, name string, d fabric.Direction) (int, error)
}

// faultSpec is fault.Spec in JSON, and the body of PUT.
type faultSpec struct {
	DelaySeconds  float64 `json:"delay_seconds"`
	JitterSeconds float64 `json:"jitter_seconds"`
	Loss          float64 `json:"loss"`
	Burst         float64 `json:"burst"`
	Duplicate     float64 `json:"duplicate"`
	Reorder       float64 `json:"reorder"`
	Corrupt       float64 `json:"corrupt"`
	RateBits      int64   `json:"rate_bits"`
	Seed          uint64  `json:"seed"`
	ForSeconds    float64 `json:"for_seconds"`
}

type faultReply struct {
	Network     string `json:"network"`
	NetworkName string `json:"network_name,omitempty"`
	VNI         uint32 `json:"vni"`
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Container   string `json:"container,omitempty"`
	Direction   string `json:"direction"`
	faultSpec
	LeftSeconds  *float64 `json:"left_seconds"` // null: it does not end by itself
	Frames       uint64   `json:"frames"`
	Passed       uint64   `json:"passed"`
	Lost         uint64   `json:"lost"`
	OverRate     uint64   `json:"over_rate"`
	Overflow     uint64   `json:"overflow"`
	Duplicated   uint64   `json:"duplicated"`
	Delayed      uint64   `json:"delayed"`
	Reordered    uint64   `json:"reordered"`
	Corrupted    uint64   `json:"corrupted"`
	Refused      uint64   `json:"refused"`
	Waiting      int      `json:"waiting"`
	WaitingBytes int      `json:"waiting_bytes"`
}

// clearedReply is the answer to DELETE.
type clearedReply struct {
	Cleared int `json:"cleared"`
}

func (a *api) faultRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/faults", a.faults)
	mux.HandleFunc("PUT /v1/faults/{endpoint}/{direction}", a.setFault)
	mux.HandleFunc("DELETE /v1/faults/{endpoint}/{direction}", a.clearFault)
}

func (a *api) faults(w http.ResponseWriter, _ *http.Request) {
	all := each(a.host.Faults(), toFault)
	slices.SortFunc(all, func(x, y faultReply) int {
		return cmp.Or(strings.Compare(x.Network, y.Network), strings.Compare(x.Name, y.Name),
			strings.Compare(x.Direction, y.Direction))
	})
	reply(w, http.StatusOK, all)
}

// setFault puts a fault on one direction of a port, or on both, in place of what was there.
func (a *api) setFault(w http.ResponseWriter, r *http.Request) {
	var body faultSpec
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	err := d.Decode(&body)
	if err != nil {
		err = fmt.Errorf("read the request: %w", err)
	}
	directions, bad := parseDirection(r.PathValue("direction"))
	spec := body.spec()
	if err = cmp.Or(err, bad); err == nil {
		err = spec.Check()
	}
	if err != nil {
		reply(w, http.StatusBadRequest, errorReply{err.Error()})
		return
	}
	name := r.PathValue("endpoint")
	for _, d := range directions {
		if err = a.host.SetFault(r.Context(), name, d, spec); err != nil {
			break
		}
	}
	a.changed(w, r, err, "")
}

// clearFault takes faults away: from one port, or from "all".
func (a *api) clearFault(w http.ResponseWriter, r *http.Request) {
	name, sum := r.PathValue("endpoint"), 0
	if name == "all" {
		name = ""
	}
	directions, err := parseDirection(r.PathValue("direction"))
	if err != nil {
		reply(w, http.StatusBadRequest, errorReply{err.Error()})
		return
	}
	for _, d := range directions {
		n, err := a.host.ClearFault(r.Context(), name, d)
		if err != nil {
			a.changed(w, r, err, "")
			return
		}
		sum += n
	}
	reply(w, http.StatusOK, clearedReply{sum})
}

// parseDirection reads from, to or both.
func parseDirection(s string) ([]fabric.Direction, error) {
	switch d := fabric.Direction(s); d {
	case fabric.From, fabric.To:
		return []fabric.Direction{d}, nil
	case "both":
		return []fabric.Direction{fabric.From, fabric.To}, nil
	}
	return nil, fmt.Errorf("direction %q: want from, to, both", s)
}

func (s faultSpec) spec() fault.Spec {
	return fault.Spec{Delay: fromSeconds(s.DelaySeconds), Jitter: fromSeconds(s.JitterSeconds), Loss: s.Loss,
		Burst: s.Burst, Duplicate: s.Duplicate, Reorder: s.Reorder, Corrupt: s.Corrupt, Rate: s.RateBits, Seed: s.Seed,
		For: fromSeconds(s.ForSeconds)}
}

// fromSeconds keeps what a Duration cannot hold out of bounds.
func fromSeconds(s float64) time.Duration {
	if ns := math.Round(s * float64(time.Second)); math.Abs(ns) < math.MaxInt64 {
		return time.Duration(ns)
	}
	return math.MinInt64
}

func toFaultSpec(s fault.Spec) faultSpec {
	return faultSpec{DelaySeconds: s.Delay.Seconds(), JitterSeconds: s.Jitter.Seconds(), Loss: s.Loss, Burst: s.Burst,
		Duplicate: s.Duplicate, Reorder: s.Reorder, Corrupt: s.Corrupt, RateBits: s.Rate, Seed: s.Seed,
		ForSeconds: s.For.Seconds()}
}

func toFault(v fabric.FaultView) faultReply {
	s := v.Stats
	r := faultReply{Network: v.Network, VNI: v.VNI, Kind: v.Kind, Name: v.Name, Direction: string(v.Direction),
		faultSpec: toFaultSpec(v.Spec), Frames: s.Frames, Passed: s.Passed, Lost: s.Lost, OverRate: s.OverRate,
		Overflow: s.Overflow, Duplicated: s.Duplicated, Delayed: s.Delayed, Reordered: s.Reordered, Corrupted: s.Corrupted,
		Refused: v.Refused, Waiting: s.Waiting, WaitingBytes: s.WaitingBytes}
	if v.Left > 0 {
		left := v.Left.Seconds()
		r.LeftSeconds = &left
	}
	return r
}
