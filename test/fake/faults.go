package fake

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fault"
)

// FaultTable is a fabric's table of faults. It takes faults at two ports: web's endpoint, and the remote Remote.
type FaultTable struct {
	mu  sync.Mutex // guards Set while the fabric is served
	Set []fabric.FaultView
}

// Remote is the name of the remote port that takes faults.
const Remote = "192.0.2.2:4789"

// Faults returns a copy of Set.
func (h *FaultTable) Faults() []fabric.FaultView {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.Set)
}

// SetFault replaces the fault of a port in one direction.
func (h *FaultTable) SetFault(_ context.Context, name string, d fabric.Direction, s fault.Spec) error {
	if name != WebID && name != Remote {
		return fmt.Errorf("port %s: %w", name, fabric.ErrNoEndpoint)
	}
	if _, err := h.ClearFault(context.Background(), name, d); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	v := fabric.FaultView{Network: WideID, VNI: 80, Kind: "container", Name: name, Direction: d, Spec: s, Left: s.For}
	if name == Remote {
		v.Kind = "remote"
	}
	h.Set = append(h.Set, v)
	return nil
}

// ClearFault removes faults, and returns how many; "" means all ports, or both directions.
func (h *FaultTable) ClearFault(_ context.Context, name string, d fabric.Direction) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if name != "" && name != WebID && name != Remote {
		return 0, fmt.Errorf("port %s: %w", name, fabric.ErrNoEndpoint)
	}
	before := len(h.Set)
	h.Set = slices.DeleteFunc(h.Set, func(v fabric.FaultView) bool {
		return (name == "" || v.Name == name) && (d == "" || v.Direction == d)
	})
	return before - len(h.Set), nil
}
