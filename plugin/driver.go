// Package plugin implements libnetwork's remote driver protocol, and nothing else.
//
// Requests come as JSON over a Unix socket, from every dockerd since 20.10. This package parses, checks and answers them;
// package fabric carries them out. No Docker type, and no address as a string, is passed on.
// It never calls Docker: during a request dockerd holds locks, and at boot it waits for this plugin.
package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
)

// Backend is the methods of fabric.Fabric that the protocol needs.
type Backend interface {
	CreateNetwork(ctx context.Context, n fabric.Network) error
	DeleteNetwork(ctx context.Context, id string) error
	CreateEndpoint(ctx context.Context, network string, e fabric.Endpoint) (ether.MAC, error)
	DeleteEndpoint(ctx context.Context, network, id string) error
	Join(ctx context.Context, network, id, sandbox string) (fabric.Attachment, error)
	Leave(ctx context.Context, network, id string) error
	Allocate(ctx context.Context, n fabric.Network, again bool) (vni uint32, err error)
	Free(ctx context.Context, id string) error
	NodeJoined(ctx context.Context, addr netip.Addr, self bool) error
	NodeLeft(ctx context.Context, addr netip.Addr) error
}

var _ Backend = (*fabric.Fabric)(nil)

// Driver answers Docker's requests. Its methods may be called by several goroutines at a time. Their errors are texts for the
// user of the docker command.
type Driver struct {
	backend Backend
	scope   string
}

// Scopes of the driver's networks. Docker creates local ones on the host of the request, and assigns addresses there. Global
// ones are the Swarm's: the leading manager assigns addresses, and every node gets the options. Docker before 24 creates no
// global ones outside of a Swarm.
const (
	Local  = network.LocalScope
	Global = network.GlobalScope
)

// New returns the driver of b, whose networks have that scope.
func New(b Backend, scope string) *Driver { return &Driver{backend: b, scope: scope} }

// capabilities is network.CapabilitiesResponse with a field of dockerd 28.0: whether GwAllocCheck is answered.
type capabilities struct {
	network.CapabilitiesResponse
	GwAllocChecker bool
}

// gwAllocRequest and gwAllocResponse belong to a call that dockerd makes since 28.0, before it assigns a network's addresses.
type (
	gwAllocRequest  struct{ Options map[string]any } // as in CreateNetwork
	gwAllocResponse struct{ SkipIPv4, SkipIPv6 bool }
)

// GetCapabilities tells the networks' scope, that Docker shall tell of the Swarm's nodes, and that GwAllocCheck is answered.
func (d *Driver) GetCapabilities(context.Context, []byte) (any, error) {
	return capabilities{network.CapabilitiesResponse{Scope: d.scope, ConnectivityScope: network.GlobalScope}, true}, nil
}

// GwAllocCheck tells dockerd to reserve no gateway address, since nobody would answer there. dockerd still reserves one with
// --gateway, and this answer asks for it if the host port takes that address.
func (d *Driver) GwAllocCheck(_ context.Context, req *gwAllocRequest) (*gwAllocResponse, error) {
	given, err := genericOptions(req.Options)
	if err != nil {
		return nil, err
	}
	host, ok := given[optHostPort]
	skip := !ok || host == "off"
	return &gwAllocResponse{SkipIPv4: skip, SkipIPv6: skip}, nil
}

// explain adds to an error what to do about a network or endpoint that tapestry does not know.
func explain(err error) error {
	switch {
	case errors.Is(err, fabric.ErrNoNetwork):
		return fmt.Errorf("%w: Docker has it, and tapestry's state directory does not: bring that back, or docker network rm it and create it again", err)
	case errors.Is(err, fabric.ErrNoEndpoint):
		return fmt.Errorf("%w: it was removed while the container was being started: start the container again", err)
	}
	return err
}

// CreateNetwork creates a network. It may be repeated with equal data.
func (d *Driver) CreateNetwork(ctx context.Context, req *network.CreateNetworkRequest) error {
	n, err := parseNetwork(req)
	if err != nil {
		return err
	}
	return d.backend.CreateNetwork(ctx, n)
}

// DeleteNetwork removes a network; an unknown one is no error.
func (d *Driver) DeleteNetwork(ctx context.Context, req *network.DeleteNetworkRequest) error {
	if err := checkID("NetworkID", req.NetworkID); err != nil {
		return err
	}
	return d.backend.DeleteNetwork(ctx, req.NetworkID)
}

// CreateEndpoint creates an endpoint. Its MAC is in the reply only if the request has none: dockerd removes an endpoint whose
// driver repeats a MAC that it was given.
func (d *Driver) CreateEndpoint(ctx context.Context, req *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	e, err := parseEndpoint(req)
	if err != nil {
		return nil, err
	}
	mac, err := d.backend.CreateEndpoint(ctx, req.NetworkID, e)
	if err != nil {
		return nil, explain(err)
	}
	reply := &network.CreateEndpointResponse{}
	if req.Interface == nil || absent(req.Interface.MacAddress) {
		reply.Interface = &network.EndpointInterface{MacAddress: mac.String()}
	}
	return reply, nil
}

// DeleteEndpoint removes an endpoint; an unknown one is no error.
func (d *Driver) DeleteEndpoint(ctx context.Context, req *network.DeleteEndpointRequest) error {
	if err := checkPair(req.NetworkID, req.EndpointID); err != nil {
		return err
	}
	return d.backend.DeleteEndpoint(ctx, req.NetworkID, req.EndpointID)
}

// joinResponse is network.JoinResponse with the name of the link in the container, which dockerd uses since moby#52866. It has
// no gateway and no route to one: containers reach the outside by docker_gwbridge.
type joinResponse struct {
	InterfaceName         interfaceName
	StaticRoutes          []staticRoute `json:",omitempty"`
	DisableGatewayService bool
}

// connected is the RouteType of a destination that is reached on the link, without a gateway.
const connected = 1

type staticRoute struct {
	Destination netip.Prefix
	RouteType   int
	NextHop     string // of connected ones ""
}

type interfaceName struct {
	SrcName   string
	DstPrefix string
	DstName   string `json:",omitempty"`
}

// Join returns the link that dockerd moves into the container.
func (d *Driver) Join(ctx context.Context, req *network.JoinRequest) (*joinResponse, error) {
	if err := checkPair(req.NetworkID, req.EndpointID); err != nil {
		return nil, err
	}
	a, err := d.backend.Join(ctx, req.NetworkID, req.EndpointID, req.SandboxKey)
	if err != nil {
		return nil, explain(err)
	}
	var routes []staticRoute
	for _, p := range a.Routes {
		routes = append(routes, staticRoute{p, connected, ""})
	}
	return &joinResponse{
		StaticRoutes: routes,
		InterfaceName: interfaceName{
			SrcName:   a.Link,
			DstPrefix: cmp.Or(a.Prefix, "eth"),
			DstName:   a.IfName,
		},
		DisableGatewayService: !a.External,
	}, nil
}

// Leave is called before dockerd takes an endpoint's link out of its container; an unknown one is no error.
func (d *Driver) Leave(ctx context.Context, req *network.LeaveRequest) error {
	if err := checkPair(req.NetworkID, req.EndpointID); err != nil {
		return err
	}
	return d.backend.Leave(ctx, req.NetworkID, req.EndpointID)
}
