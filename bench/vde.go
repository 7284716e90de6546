package bench

import (
	"context"
	"fmt"
)

// vde is a switch of Virtual Distributed Ethernet on one host, with a TAP for each container.
type vde struct{}

func (vde) name() string    { return "VDE" }
func (vde) missing() string { return lacks("vde2", "vde_switch") }

func (vde) open(ctx context.Context, s site) error {
	return s.launch(ctx, "vde_switch --daemon --sock /run/vde --tap c1 --tap c2")
}

func (vde) container(ctx context.Context, s site, n int) (*host, error) {
	return s.container(ctx, n, fmt.Sprintf("c%d", n))
}
