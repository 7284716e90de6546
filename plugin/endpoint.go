package plugin

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
)

// optIfName is a `--driver-opt` of an endpoint: the whole name of its link in the container.
const optIfName = "com.docker.network.endpoint.ifname"

// parseEndpoint reads a CreateEndpoint request. The endpoint's MAC is the one that was asked for,
// else one that follows from its address or its id.
// Docker repeats the MAC in the options as base64; only the readable one counts.
func parseEndpoint(req *network.CreateEndpointRequest) (fabric.Endpoint, error) {
	e := fabric.Endpoint{ID: req.EndpointID}
	if err := checkPair(req.NetworkID, req.EndpointID); err != nil {
		return fabric.Endpoint{}, err
	}
	if own := sortedOwn(req.Options); len(own) > 0 {
		return fabric.Endpoint{}, fmt.Errorf("%s: tapestry has no options of its own for one container; give them to docker network create", show(own[0]))
	}
	name, ok, err := text(req.Options, optIfName)
	if err != nil {
		return fabric.Endpoint{}, err
	}
	if ok && !linkName(name, maxName) {
		return fabric.Endpoint{}, fmt.Errorf("%s=%s: want 1 to %d letters, digits, '.', '_' or '-', as in eth0", optIfName, show(name), maxName)
	}
	e.IfName = name

	in := network.EndpointInterface{}
	if req.Interface != nil {
		in = *req.Interface
	}
	if e.Addrs, err = parseAddrs(in); err != nil {
		return fabric.Endpoint{}, err
	}
	if absent(in.MacAddress) {
		e.MAC = makeMAC(e)
		return e, nil
	}
	if e.MAC, err = ether.ParseMAC(in.MacAddress); err != nil || e.MAC.Group() || e.MAC.IsZero() {
		return fabric.Endpoint{}, fmt.Errorf("MacAddress %s: want one station's Ethernet address, as in 02:42:0a:4d:00:02", show(in.MacAddress))
	}
	return e, nil
}

// parseAddrs reads the addresses of an endpoint, IPv4 first. None at all is fine: null IPAM.
func parseAddrs(in network.EndpointInterface) ([]netip.Prefix, error) {
	var addrs []netip.Prefix
	for _, f := range []struct {
		field, value, example string
		v4                    bool
	}{
		{"Address", in.Address, "10.77.0.2/24", true},
		{"AddressIPv6", in.AddressIPv6, "fd77::2/64", false},
	} {
		if absent(f.value) {
			continue
		}
		p, err := netip.ParsePrefix(f.value)
		if err != nil || p.Addr().Is4() != f.v4 || p.Addr().Is4In6() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() {
			return nil, fmt.Errorf("%s %s: want a container's address and mask, as in %s", f.field, show(f.value), f.example)
		}
		addrs = append(addrs, p)
	}
	return addrs, nil
}

// makeMAC gives e the MAC that Docker's users know: 02:42 and the four bytes of the IPv4 address, so that a container
// that takes over an address also takes over what its neighbours remember. Without IPv4 it is 02 and a hash of the
// endpoint's id, kept out of 02:42.
func makeMAC(e fabric.Endpoint) ether.MAC {
	if len(e.Addrs) > 0 && e.Addrs[0].Addr().Is4() {
		a := e.Addrs[0].Addr().As4()
		return ether.MAC{0x02, 0x42, a[0], a[1], a[2], a[3]}
	}
	h := sha256.Sum256([]byte(e.ID))
	if h[0] == 0x42 {
		h[0] = ^h[0]
	}
	return ether.MAC{0x02, h[0], h[1], h[2], h[3], h[4]}
}

// checkPair checks the two ids that nearly every request carries.
func checkPair(network, endpoint string) error {
	if err := checkID("NetworkID", network); err != nil {
		return err
	}
	return checkID("EndpointID", endpoint)
}
