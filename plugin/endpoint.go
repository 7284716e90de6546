package plugin

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/vlan"
)

// Keys of an endpoint's `--driver-opt`. docs/options.md explains them.
const (
	optIfName  = "com.docker.network.endpoint.ifname" // the whole name of its link in the container
	optMAC     = "tapestry.mac"
	optCapture = "tapestry.capture"
	optVLAN    = "tapestry.vlan"

	// optDockerMAC is where Docker repeats the MAC, as base64. A user's value has the form of a MAC, and Docker ignores it.
	optDockerMAC = "com.docker.network.endpoint.macaddress"
)

const maxFilter = 4096 // bytes

// endpointOptions are the options of an endpoint but its MAC, which Docker may give as well, and the name of its link.
func endpointOptions() []option[fabric.Endpoint] {
	return slices.Concat([]option[fabric.Endpoint]{{optCapture, setCapture}, {optVLAN, setVLAN}},
		within(func(e *fabric.Endpoint) *fabric.Guards { return &e.Guards }, guardOptions),
		within(func(e *fabric.Endpoint) *fabric.Limits { return &e.Limits }, limitOptions))
}

func setCapture(e *fabric.Endpoint, value string) error {
	if strings.TrimSpace(value) == "" || len(value) > maxFilter {
		return fmt.Errorf("want a filter as of tcpdump in at most %d bytes, or all for every frame", maxFilter)
	}
	e.Capture = value
	return nil
}

func setVLAN(e *fabric.Endpoint, value string) error {
	e.VLAN = value
	_, err := vlan.Parse(value)
	return err
}

// parseEndpoint parses a CreateEndpoint request. The endpoint's MAC is the one that Docker or an option asks for, else one that
// is derived from its address or id.
func parseEndpoint(req *network.CreateEndpointRequest) (fabric.Endpoint, error) {
	e := fabric.Endpoint{ID: req.EndpointID}
	if err := checkPair(req.NetworkID, req.EndpointID); err != nil {
		return fabric.Endpoint{}, err
	}
	if err := refuseUnknownEndpoint(req.Options); err != nil {
		return fabric.Endpoint{}, err
	}
	name, ok, err := stringOption(req.Options, optIfName)
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
	if err := apply(&e, endpointOptions(), req.Options); err != nil {
		return fabric.Endpoint{}, err
	}
	if e.MAC, err = wantedMAC(req.Options, in.MacAddress); err != nil {
		return fabric.Endpoint{}, err
	}
	if e.MAC.IsZero() {
		e.MAC = makeMAC(e)
	}
	return e, nil
}

// refuseUnknownEndpoint refuses keys that begin with "tapestry." and are no option of an endpoint.
func refuseUnknownEndpoint(given map[string]any) error {
	known := []string{optMAC}
	for _, o := range endpointOptions() {
		known = append(known, o.key)
	}
	slices.Sort(known)
	for _, k := range sortedOwn(given) {
		if slices.Contains(known, k) {
			continue
		}
		hint := ""
		if near := nearest(strings.ToLower(k), known); near != "" {
			hint = fmt.Sprintf("; did you mean %s?", near)
		} else if slices.Contains(ownKeys(), k) {
			hint = ": it is the network's, give it to docker network create."
		}
		return fmt.Errorf("%s: no such option for one container%s Known are %s", show(k), cmp.Or(hint, "."), strings.Join(known, ", "))
	}
	return nil
}

// wantedMAC is the MAC that was asked for; zero: none. It is Docker's own field, or an option, which is needed where Docker has
// no field for it: with 20.10 for a container's second network, and with docker network connect.
func wantedMAC(given map[string]any, docker string) (want ether.MAC, err error) {
	from := ""
	named, ok, err := stringOption(given, optMAC)
	if err != nil {
		return ether.MAC{}, err
	}
	if ok && named == "" {
		named = "none"
	}
	if absent(docker) {
		docker = ""
	}
	repeated, _ := given[optDockerMAC].(string)
	if !strings.ContainsAny(repeated, ":-.") { // base64
		repeated = ""
	}
	for _, o := range [][2]string{{"MacAddress", docker}, {optMAC, named}, {optDockerMAC, repeated}} {
		key, value := o[0], o[1]
		if value == "" {
			continue
		}
		mac, err := ether.ParseMAC(value)
		if err != nil || mac.Group() || mac.IsZero() {
			return ether.MAC{}, fmt.Errorf("%s %s: want one station's Ethernet address, as in 02:42:0a:4d:00:02", key, show(value))
		}
		if from != "" && mac != want {
			return ether.MAC{}, fmt.Errorf("%s %s: %s says %s; give only one of the two, or both the same", key, mac, from, want)
		}
		want, from = mac, key
	}
	return want, nil
}

// parseAddrs parses the addresses of an endpoint, IPv4 first. With null IPAM there is none.
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

// makeMAC derives an endpoint's MAC as Docker's drivers do: 02:42 and the four bytes of the IPv4 address. So a container that
// takes over an address has the MAC that its neighbours have cached. Without IPv4 it is 02 and a hash of the endpoint's id,
// outside of 02:42.
func makeMAC(e fabric.Endpoint) ether.MAC {
	if len(e.Addrs) > 0 && e.Addrs[0].Addr().Is4() {
		return ether.DockerMAC(e.Addrs[0].Addr())
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
