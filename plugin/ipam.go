package plugin

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/ipam"

	addresses "github.com/tapestry-net/tapestry/ipam"
)

// Address spaces of Docker's IPAM protocol: of networks of one host, and of the Swarm's. Pools of both are apart.
const (
	localSpace  = "tapestry"
	globalSpace = "tapestry-swarm"
)

// Options by which Docker says what an address is for. Only the leading manager of a Swarm says how it is to be chosen.
const (
	optPurpose     = "RequestAddressType"
	purposeGateway = "com.docker.network.gateway"
	optSerial      = "com.docker.network.ipam.serial"
)

// pools is the methods of ipam.Manager that the protocol needs.
type pools interface {
	Begin()
	RequestPool(ctx context.Context, r addresses.Request) (addresses.Pool, error)
	ReleasePool(ctx context.Context, id string) error
	RequestAddress(ctx context.Context, id string, want netip.Addr, use addresses.Use) (netip.Prefix, error)
	ReleaseAddress(ctx context.Context, id string, a netip.Addr) error
}

var _ pools = (*addresses.Manager)(nil)

// IPAM answers Docker's requests for addresses, as Driver does those for networks.
type IPAM struct{ pools pools }

// NewIPAM returns the IPAM driver of m.
func NewIPAM(m *addresses.Manager) *IPAM { return &IPAM{m} }

// ipamCapabilities is ipam.CapabilitiesResponse with a field that the library has not: whether Docker shall repeat all requests
// when it starts.
type ipamCapabilities struct {
	ipam.CapabilitiesResponse
	RequiresRequestReplay bool
}

func (i *IPAM) methods() map[string]method {
	return map[string]method{
		// Without replay: what was given out is on the disk, and a repeated request is no different from that of a user who wants an address in use.
		"/IpamDriver.GetCapabilities": func(context.Context, []byte) (any, error) {
			i.pools.Begin()
			return ipamCapabilities{}, nil
		},
		"/IpamDriver.GetDefaultAddressSpaces": constant(ipam.AddressSpacesResponse{LocalDefaultAddressSpace: localSpace, GlobalDefaultAddressSpace: globalSpace}),
		"/IpamDriver.RequestPool":             withReply(i.RequestPool),
		"/IpamDriver.ReleasePool":             withoutReply(i.ReleasePool),
		"/IpamDriver.RequestAddress":          withReply(i.RequestAddress),
		"/IpamDriver.ReleaseAddress":          withoutReply(i.ReleaseAddress),
	}
}

// RequestPool opens a pool.
func (i *IPAM) RequestPool(ctx context.Context, req *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	r := addresses.Request{V6: req.V6}
	switch req.AddressSpace {
	case localSpace:
	case globalSpace:
		r.Global = true
	default:
		return nil, fmt.Errorf("AddressSpace %s: want %s or %s", show(req.AddressSpace), localSpace, globalSpace)
	}
	var err error
	if r.Subnet, err = parsePool("--subnet", req.Pool); err != nil {
		return nil, err
	}
	if r.Range, err = parsePool("--ip-range", req.SubPool); err != nil {
		return nil, err
	}
	for key, value := range req.Options {
		if key == optPurpose || key == optSerial { // of the gateway of the network's first subnet, left in there by the manager of a Swarm
			continue
		}
		if key != optNetwork {
			return nil, fmt.Errorf("--ipam-opt %s: unknown: tapestry's IPAM takes %s only", show(key), optNetwork)
		}
		r.Key = value
		if value == "" {
			return nil, fmt.Errorf("--ipam-opt %s: want the network's name, the same one on every host", optNetwork)
		}
	}
	p, err := i.pools.RequestPool(ctx, r)
	if err != nil {
		return nil, err
	}
	reply := &ipam.RequestPoolResponse{PoolID: p.ID, Pool: p.Subnet.String()}
	if p.Gateway.IsValid() {
		reply.Data = map[string]string{purposeGateway: netip.PrefixFrom(p.Gateway, p.Subnet.Bits()).String()}
	}
	return reply, nil
}

func parsePool(flag, text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%s %s: want a subnet such as 10.77.0.0/24", flag, show(text))
	}
	return p, nil
}

// ReleasePool closes a pool; an unknown one is no error.
func (i *IPAM) ReleasePool(ctx context.Context, req *ipam.ReleasePoolRequest) error {
	return i.pools.ReleasePool(ctx, req.PoolID)
}

// RequestAddress gives out an address.
func (i *IPAM) RequestAddress(ctx context.Context, req *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	var want netip.Addr
	if req.Address != "" {
		var err error
		if want, err = parseAddress(req.Address); err != nil {
			return nil, err
		}
	}
	a, err := i.pools.RequestAddress(ctx, req.PoolID, want,
		addresses.Use{Gateway: req.Options[optPurpose] == purposeGateway, Swarm: req.Options[optSerial] != ""})
	if err != nil {
		return nil, err
	}
	return &ipam.RequestAddressResponse{Address: a.String()}, nil
}

// ReleaseAddress takes an address back; one that is not given out is no error.
func (i *IPAM) ReleaseAddress(ctx context.Context, req *ipam.ReleaseAddressRequest) error {
	a, err := parseAddress(req.Address)
	if err != nil {
		return err
	}
	return i.pools.ReleaseAddress(ctx, req.PoolID, a)
}

func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("address %s: want an IP address", show(text))
	}
	return a.Unmap(), nil
}
