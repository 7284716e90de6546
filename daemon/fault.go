package daemon

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

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fault"
)

// faulter is what the API asks of *fabric.Fabric about faults.
type faulter interface {
	Faults() []fabric.FaultView
	SetFault(ctx context.Context, name string, d fabric.Direction, s fault.Spec) error
	ClearFault(ctx context.Context, name string, d fabric.Direction) (int, error)
}

func (a *API) faultRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.FaultsPath, a.faults)
	mux.HandleFunc("PUT "+api.FaultsPath+"/{endpoint}/{direction}", a.setFault)
	mux.HandleFunc("DELETE "+api.FaultsPath+"/{endpoint}/{direction}", a.clearFault)
}

func (a *API) faults(w http.ResponseWriter, _ *http.Request) {
	all := api.Map(a.Fabric.Faults(), toFault)
	slices.SortFunc(all, func(x, y api.Fault) int {
		return cmp.Or(strings.Compare(x.Network, y.Network), strings.Compare(x.Name, y.Name),
			strings.Compare(x.Direction, y.Direction))
	})
	reply(w, http.StatusOK, all)
}

// setFault puts a fault on one direction of a port, or on both, in place of what was there.
func (a *API) setFault(w http.ResponseWriter, r *http.Request) {
	var body api.FaultSpec
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	err := d.Decode(&body)
	if err != nil {
		err = fmt.Errorf("read the request: %w", err)
	}
	directions, bad := parseDirection(r.PathValue("direction"))
	spec := FaultFromAPI(body)
	if err = cmp.Or(err, bad); err == nil {
		err = spec.Check()
	}
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
		return
	}
	name := r.PathValue("endpoint")
	for _, d := range directions {
		if err = a.Fabric.SetFault(r.Context(), name, d, spec); err != nil {
			break
		}
	}
	a.changed(w, r, err, "")
}

// clearFault takes faults away: from one port, or from "all".
func (a *API) clearFault(w http.ResponseWriter, r *http.Request) {
	name, sum := r.PathValue("endpoint"), 0
	if name == "all" {
		name = ""
	}
	directions, err := parseDirection(r.PathValue("direction"))
	if err != nil {
		reply(w, http.StatusBadRequest, api.Error{Error: err.Error()})
		return
	}
	for _, d := range directions {
		n, err := a.Fabric.ClearFault(r.Context(), name, d)
		if err != nil {
			a.changed(w, r, err, "")
			return
		}
		sum += n
	}
	reply(w, http.StatusOK, api.Cleared{Cleared: sum})
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

// FaultFromAPI reads a specification that came as JSON. It is not checked: see fault.Spec.Check.
func FaultFromAPI(s api.FaultSpec) fault.Spec {
	return fault.Spec{Delay: fromSeconds(s.DelaySeconds), Jitter: fromSeconds(s.JitterSeconds), Loss: s.Loss,
		Burst: s.Burst, Duplicate: s.Duplicate, Reorder: s.Reorder, Corrupt: s.Corrupt, Rate: s.RateBits, Seed: s.Seed,
		For: fromSeconds(s.ForSeconds)}
}

// fromSeconds converts seconds; a value that a Duration cannot hold becomes one that Spec.Check refuses.
func fromSeconds(s float64) time.Duration {
	if ns := math.Round(s * float64(time.Second)); math.Abs(ns) < math.MaxInt64 {
		return time.Duration(ns)
	}
	return math.MinInt64
}

// FaultToAPI is a specification for JSON.
func FaultToAPI(s fault.Spec) api.FaultSpec {
	return api.FaultSpec{DelaySeconds: s.Delay.Seconds(), JitterSeconds: s.Jitter.Seconds(), Loss: s.Loss, Burst: s.Burst,
		Duplicate: s.Duplicate, Reorder: s.Reorder, Corrupt: s.Corrupt, RateBits: s.Rate, Seed: s.Seed,
		ForSeconds: s.For.Seconds()}
}

func toFault(v fabric.FaultView) api.Fault {
	s := v.Stats
	r := api.Fault{Network: v.Network, VNI: v.VNI, Kind: v.Kind, Name: v.Name, Direction: string(v.Direction),
		FaultSpec: FaultToAPI(v.Spec), Frames: s.Frames, Passed: s.Passed, Lost: s.Lost, OverRate: s.OverRate,
		Overflow: s.Overflow, Duplicated: s.Duplicated, Delayed: s.Delayed, Reordered: s.Reordered, Corrupted: s.Corrupted,
		Refused: v.Refused, Waiting: s.Waiting, WaitingBytes: s.WaitingBytes}
	if v.Left > 0 {
		left := v.Left.Seconds()
		r.LeftSeconds = &left
	}
	return r
}
