package bed

import (
	"context"
	"fmt"
)

// VDE is a switch of Virtual Distributed Ethernet on one host, with a TAP for each container.
type VDE struct{}

func (VDE) Name() string    { return "VDE" }
func (VDE) Missing() string { return lacks("vde2", "vde_switch") }

func (VDE) Create(ctx context.Context, h Host) error {
	return h.launch(ctx, "vde_switch --daemon --sock /run/vde --tap c1 --tap c2")
}

func (VDE) AddContainer(ctx context.Context, h Host, n int) (*Node, error) {
	return h.addContainer(ctx, n, fmt.Sprintf("c%d", n))
}
