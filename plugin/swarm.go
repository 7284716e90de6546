package plugin

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strconv"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/tapestry-net/tapestry/fabric"
)

// Docker's Swarm. The leading manager allocates a network once, and again whenever a manager becomes the leader. Only the options
// that AllocateNetwork returns reach the nodes' CreateNetwork.

// AllocateNetwork checks a network of the Swarm before any node creates it, and assigns a VNI if it asks for none. Docker shows
// an error in its log only, and tries again after some minutes: by then docker network create has succeeded. The option
// optAllocated in the reply marks the network as allocated: Docker repeats it to a manager that becomes the leader.
func (d *Driver) AllocateNetwork(ctx context.Context, req *network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	_, again := req.Options[optAllocated]
	n, err := parseAllocation(req)
	if err != nil {
		return nil, err
	}
	asked := n.VNI
	vni, err := d.backend.Allocate(ctx, n, again)
	if err != nil {
		return nil, err
	}
	options := maps.Clone(req.Options)
	if options == nil {
		options = make(map[string]string)
	}
	options[optAllocated] = "true"
	if asked == 0 {
		options[optVNI] = strconv.FormatUint(uint64(vni), 10)
	}
	return &network.AllocateNetworkResponse{Options: options}, nil
}

// parseAllocation parses the request like the CreateNetwork that each node will get.
func parseAllocation(req *network.AllocateNetworkRequest) (fabric.Network, error) {
	given := make(map[string]any, len(req.Options))
	for k, v := range req.Options {
		given[k] = v
	}
	create := &network.CreateNetworkRequest{NetworkID: req.NetworkID, Options: map[string]any{generic: given}}
	for i := range req.IPv4Data {
		create.IPv4Data = append(create.IPv4Data, &req.IPv4Data[i])
	}
	for i := range req.IPv6Data {
		create.IPv6Data = append(create.IPv6Data, &req.IPv6Data[i])
	}
	if host, ok := given[optHostPort]; ok && host != "off" {
		return fabric.Network{}, fmt.Errorf("%s=%v: every node of the Swarm would have the same address; leave the option away, and join the hosts that need one by a config-only network (docs/swarm.md)", optHostPort, host)
	}
	if given[optVNI] != nil || given[optVNIList] != nil {
		return parseNetwork(create)
	}
	given[optVNI] = "1" // it will get one: the other options are parsed as those of a network with a VNI
	n, err := parseNetwork(create)
	n.VNI = 0
	return n, err
}

// FreeNetwork forgets a network that was removed from the Swarm; an unknown one is no error.
func (d *Driver) FreeNetwork(ctx context.Context, req *network.FreeNetworkRequest) error {
	if err := checkID("NetworkID", req.NetworkID); err != nil {
		return err
	}
	return d.backend.Free(ctx, req.NetworkID)
}

// A discovery is a notification about a node of the Swarm (libnetwork, discoverapi.NodeDiscoveryData).
type discovery struct {
	DiscoveryType int
	DiscoveryData struct {
		Address string // of this host: that of the data path; of others: the one they advertise
		Self    bool
	}
}

// nodeDiscovery is the DiscoveryType of nodes. The others are for drivers inside dockerd.
const nodeDiscovery = 1

// DiscoverNew is called for each node of the Swarm, this host included.
func (d *Driver) DiscoverNew(ctx context.Context, req *discovery) error {
	addr, err := req.addr()
	if err != nil || !addr.IsValid() {
		return err
	}
	return d.backend.NodeJoined(ctx, addr, req.DiscoveryData.Self)
}

// DiscoverDelete is called when a node has left the Swarm, or when Docker cannot reach it any more.
func (d *Driver) DiscoverDelete(ctx context.Context, req *discovery) error {
	addr, err := req.addr()
	if err != nil || !addr.IsValid() || req.DiscoveryData.Self {
		return err
	}
	return d.backend.NodeLeft(ctx, addr)
}

// addr is the node's address; zero: the notification is not about a node.
func (r *discovery) addr() (netip.Addr, error) {
	if r.DiscoveryType != nodeDiscovery {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(r.DiscoveryData.Address)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("DiscoveryData.Address %s: want an IP address", show(r.DiscoveryData.Address))
	}
	return a.Unmap(), nil
}
